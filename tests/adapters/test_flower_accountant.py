"""Flower's accountant protocol with certified answers, beside Flower's own."""

import inspect
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("flwr")

from flwr.serverapp import (
    GaussianPrivacyEvent,
    NeighboringRelation,
    PrivacyAccountant,
    PrivacyConfig,
    PrivacySpent,
    RdpAccountant,
    SamplingMethod,
)

from drdp.errors import BudgetExceededError, InvalidArgumentError
from drdp.privacy.adapters.flower import PldAccountant, event_of
from drdp.privacy.calibration import calibrate, within
from drdp.privacy.events import (
    NOTHING,
    FixedSizeSampled,
    Gaussian,
    PoissonSampled,
    atoms,
)
from drdp.privacy.fixed_budget import FixedBudget
from drdp.privacy.ledger import Ledger
from drdp.privacy.pld import epsilon_interval, pld_curve

POISSON = (SamplingMethod.POISSON, NeighboringRelation.ADD_OR_REMOVE_ONE)
FIXED = (SamplingMethod.WITHOUT_REPLACEMENT, NeighboringRelation.REPLACE_ONE)
PLAIN = (SamplingMethod.NO_AMPLIFICATION, NeighboringRelation.ADD_OR_REMOVE_ONE)
MODELS = [POISSON, FIXED, PLAIN]
GRID = [(1.0, 5, 20), (0.6, 20, 3), (4.0, 50, 300), (1.5, 1, 1000), (2.0, 100, 7)]


def config(model=POISSON, max_epsilon=None, delta=1e-5, population=100):
    sampling, relation = model
    return PrivacyConfig(
        target_delta=delta,
        population_size=population,
        neighboring_relation=relation,
        sampling_method=sampling,
        max_epsilon=max_epsilon,
    )


def event(noise=1.0, size=5, population=100):
    return GaussianPrivacyEvent(noise, size, population)


class Paid:
    """A ledger that remembers, and may refuse."""

    def __init__(self, most=math.inf):
        self.most, self.charges = most, []

    def charge(self, event, *, label="", run="", key=None):
        if len(self.charges) >= self.most:
            raise RuntimeError("no budget")
        self.charges.append((event, label, run))


# --- the protocol ----------------------------------------------------------------


def test_every_name_of_the_protocol_has_its_signature():
    for name, theirs in vars(PrivacyAccountant).items():
        if name.startswith("_"):
            continue
        ours = inspect.getattr_static(PldAccountant, name)
        if isinstance(theirs, property):
            assert isinstance(ours, property)
            continue
        mine = inspect.signature(ours).parameters.values()
        for here, there in zip(
            mine, inspect.signature(theirs).parameters.values(), strict=True
        ):
            assert (here.name, here.default, here.kind) == (
                there.name,
                there.default,
                there.kind,
            )


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("noise", "size", "count"), GRID)
@pytest.mark.parametrize("delta", [1e-5, 1e-2])
def test_never_above_flowers_own_and_never_below_the_truth(
    model, noise, size, count, delta
):
    ours, theirs = PldAccountant(config(model)), RdpAccountant(config(model))
    for accountant in (ours, theirs):
        accountant.compose(event(noise, size), count)
    found = ours.get_epsilon(delta)
    assert found <= theirs.get_epsilon(delta)
    low, _, _ = epsilon_interval(ours.event, delta)
    assert low <= found
    assert ours.get_delta(found) <= delta * (1 + 1e-5)
    assert ours.get_delta(1.0) <= theirs.get_delta(1.0)


@pytest.mark.parametrize(("noise", "size", "count"), [*GRID[:3], GRID[4]])
@pytest.mark.parametrize("model", [POISSON, PLAIN])
def test_what_dp_accounting_computes_by_losses(model, noise, size, count):
    dp = pytest.importorskip("dp_accounting")
    release = dp.GaussianDpEvent(noise)
    if model is POISSON:
        release = dp.PoissonSampledDpEvent(size / 100, release)
    theirs = dp.pld.PLDAccountant(value_discretization_interval=1e-4)
    theirs.compose(release, count)
    ours = PldAccountant(config(model))
    ours.compose(event(noise, size), count)
    found, other = ours.get_epsilon(1e-5), theirs.get_epsilon(1e-5)
    assert found == pytest.approx(other, rel=2e-3, abs=count * 1e-8)


def test_published_numbers_of_the_three_models():
    """sigma 1, 5 of 100 clients, 20 releases: Flower tells 30.13, 2.48 and 3.27."""
    found = {}
    for model in MODELS:
        accountant = PldAccountant(config(model))
        accountant.compose(event(), 20)
        found[model] = accountant.get_epsilon(1e-5)
    assert found[PLAIN] == pytest.approx(28.373, abs=0.001)
    assert found[POISSON] == pytest.approx(1.985, abs=0.001)
    assert found[FIXED] == pytest.approx(2.057, abs=0.001)


def test_the_events_behind_the_three_models():
    release = event(2.0, 5)
    assert event_of(config(POISSON), release) == PoissonSampled(0.05, Gaussian(2.0))
    assert event_of(config(FIXED), release) == FixedSizeSampled(5, 100, Gaussian(2.0))
    assert event_of(config(PLAIN), release) == Gaussian(2.0)


def test_nothing_released_costs_nothing():
    accountant = PldAccountant(config())
    assert accountant.num_releases == 0
    assert accountant.event == NOTHING
    spent = accountant.get_privacy_spent()
    assert spent == PrivacySpent(0.0, 1e-5, 0, "drdp-pld", None)


def test_releases_add_up_in_any_order_and_grouping():
    one, two = PldAccountant(config()), PldAccountant(config())
    one.compose(event(1.0), 3)
    one.compose(event(2.0, 7))
    one.compose(event(1.0))
    two.compose(event(2.0, 7))
    for _ in range(4):
        two.compose(event(1.0))
    assert one.num_releases == two.num_releases == 5
    assert atoms(one.event) == atoms(two.event)
    assert one.get_epsilon(1e-6) == two.get_epsilon(1e-6)


def test_two_hundred_equal_rounds_are_one_entry():
    accountant = PldAccountant(config())
    for _ in range(200):
        accountant.compose(event())
    assert len(accountant.state_dict()["compositions"]) == 1
    assert len(json.dumps(accountant.state_dict())) < 500


# --- budgets ---------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_a_budget_is_kept_and_used_up(model):
    accountant = PldAccountant(config(model, max_epsilon=3.0))
    release = event(3.0, 60)
    fits = accountant.releases_left(release)
    assert fits > 0
    assert not accountant.would_exceed(release, count=fits)
    assert accountant.would_exceed(release, count=fits + 1)
    while not accountant.would_exceed(release):
        accountant.compose(release)
    assert accountant.num_releases == fits
    assert accountant.get_privacy_spent().epsilon <= 3.0
    assert accountant.releases_left(release) == 0


def test_asking_changes_nothing():
    accountant = PldAccountant(config(max_epsilon=2.0))
    accountant.compose(event(), 5)
    before = accountant.state_dict()
    accountant.would_exceed(event(), count=1000)
    accountant.releases_left(event())
    accountant.get_privacy_spent(1e-7)
    assert accountant.state_dict() == before


def test_noise_calibrated_to_a_budget_meets_it():
    def run(noise):
        return PoissonSampled(0.05, Gaussian(noise)) * 20

    noise = calibrate(run, pld_curve, within(2.0, 1e-5))
    accountant = PldAccountant(config(max_epsilon=2.0))
    assert not accountant.would_exceed(event(noise), count=20)
    assert accountant.would_exceed(event(noise), count=21)


def test_a_limit_given_here_goes_before_the_configured_one():
    accountant = PldAccountant(config(max_epsilon=2.0))
    assert accountant.would_exceed(event(), max_epsilon=0.1)
    assert not accountant.would_exceed(event(), max_epsilon=50.0, count=30)
    with pytest.raises(InvalidArgumentError, match="max_epsilon must be given"):
        PldAccountant(config()).would_exceed(event())
    for bad in (0.0, -1.0, math.inf, math.nan, True):
        with pytest.raises(InvalidArgumentError, match="max_epsilon"):
            accountant.would_exceed(event(), max_epsilon=bad)


# --- the ledger ------------------------------------------------------------------


def test_the_ledger_is_charged_first():
    ledger = Paid(most=1)
    accountant = PldAccountant(config(), ledger=ledger, run="night")
    accountant.compose(event(), 3)
    assert ledger.charges == [
        (PoissonSampled(0.05, Gaussian(1.0)) * 3, "flower", "night")
    ]
    with pytest.raises(RuntimeError, match="no budget"):
        accountant.compose(event())
    assert accountant.num_releases == 3


def test_a_real_ledger_outlives_the_run_and_refuses(tmp_path):
    plan = PoissonSampled(0.05, Gaussian(1.0))
    path = tmp_path / "ledger.db"
    with Ledger.create(path, budget=FixedBudget(2.0, 1e-5, plan)) as ledger:
        accountant = PldAccountant(config(), ledger=ledger, run="first")
        accountant.compose(event(), 15)
    # The process is gone; the next one knows nothing but the ledger.
    with Ledger.open(path) as ledger:
        accountant = PldAccountant(config(), ledger=ledger, run="second")
        fits = ledger.remaining(plan)
        for _ in range(fits):
            accountant.compose(event())
        assert fits == 5
        with pytest.raises(BudgetExceededError):
            accountant.compose(event())
        assert accountant.num_releases == fits
        assert atoms(ledger.spent) == atoms(plan * 20)
        assert {entry.run for entry in ledger.entries()} >= {"first", "second"}


def test_a_refused_release_charges_nothing():
    ledger = Paid()
    accountant = PldAccountant(config(), ledger=ledger)
    with pytest.raises(InvalidArgumentError, match="population_size"):
        accountant.compose(event(population=99))
    for bad in (0, -1, True, 1.5, "2"):
        with pytest.raises(InvalidArgumentError, match="count"):
            accountant.compose(event(), bad)
    assert ledger.charges == []
    assert accountant.num_releases == 0


# --- state -----------------------------------------------------------------------


@given(
    st.sampled_from(MODELS),
    st.lists(
        st.tuples(st.floats(0.3, 20.0), st.integers(1, 100), st.integers(1, 50)),
        max_size=4,
    ),
)
@settings(max_examples=25)
def test_state_goes_through_json(model, releases):
    accountant = PldAccountant(config(model, 2.0))
    for noise, size, count in releases:
        accountant.compose(event(noise, size), count)
    state = json.loads(json.dumps(accountant.state_dict()))
    ledger = Paid()
    other = PldAccountant(config(model, 2.0), ledger=ledger)
    other.load_state_dict(state)
    assert other.state_dict() == accountant.state_dict()
    assert other.event == accountant.event
    assert other.num_releases == accountant.num_releases
    assert ledger.charges == []


def test_a_loaded_state_is_not_the_callers_dictionary():
    accountant = PldAccountant(config())
    accountant.compose(event())
    state = accountant.state_dict()
    other = PldAccountant(config())
    other.load_state_dict(state)
    state["compositions"].clear()
    assert other.num_releases == 1


def changed(**values):
    accountant = PldAccountant(config())
    accountant.compose(event(), 4)
    return accountant.state_dict() | values


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (None, "state must be a dictionary"),
        ({}, "state must be a dictionary"),
        (changed(more=1), "state must be a dictionary"),
        (changed(schema_version=2), "schema_version"),
        (changed(schema_version=True), "schema_version"),
        (changed(backend="rdp"), "backend"),
        (changed(config=PldAccountant(config(FIXED)).state_dict()["config"]), "config"),
        (changed(compositions={}), "must be a list"),
        (changed(compositions=[{"event": {}, "count": 1}]), "event must be"),
        (changed(compositions=[{"event": {}}]), "composition must be"),
    ],
)
def test_a_foreign_or_damaged_state_is_refused_and_changes_nothing(state, message):
    accountant = PldAccountant(config())
    accountant.compose(event(3.0), 2)
    before = accountant.state_dict()
    with pytest.raises(InvalidArgumentError, match=message):
        accountant.load_state_dict(state)
    assert accountant.state_dict() == before


@pytest.mark.parametrize(
    "damage",
    [{"count": 0}, {"count": 1.5}, {"noise": -1.0}, {"population": 99}],
)
def test_a_damaged_entry_is_refused(damage):
    entry = {
        "event": {
            "noise_multiplier": damage.get("noise", 1.0),
            "sample_size": 5,
            "population_size": damage.get("population", 100),
        },
        "count": damage.get("count", 1),
    }
    accountant = PldAccountant(config())
    with pytest.raises(ValueError, match=r"count|noise_multiplier|population_size"):
        accountant.load_state_dict(changed(compositions=[entry]))
    assert accountant.num_releases == 0


# --- in Flower's own wrapper -----------------------------------------------------


def test_flowers_own_wrapper_accepts_it():
    from flwr.serverapp.strategy import (
        DifferentialPrivacyServerSideFixedClipping,
        FedAvg,
    )

    accountant = PldAccountant(config(PLAIN, max_epsilon=8.0))
    wrapped = DifferentialPrivacyServerSideFixedClipping(
        FedAvg(), 1.0, 1.0, 5, accountant=accountant
    )
    accountant.compose(event())
    assert wrapped.privacy_spent().epsilon == accountant.get_epsilon(1e-5)
