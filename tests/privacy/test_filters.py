"""Budgets: golden values, what they admit, and what they never admit."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drdp.errors import (
    BudgetExceededError,
    CalibrationError,
    CodecError,
    InvalidArgumentError,
    UnplannedChargeError,
    UnsupportedEventError,
)
from drdp.privacy.allowance import Allowance, largest_count
from drdp.privacy.calibration import calibrate_count, within
from drdp.privacy.costs import epsilon_delta, rho, rho_within
from drdp.privacy.events import (
    NOTHING,
    Adjacency,
    ApproxDP,
    FixedSizeSampled,
    Gaussian,
    Laplace,
    NonPrivate,
    PoissonSampled,
    atoms,
)
from drdp.privacy.filters import (
    ApproxDPFilter,
    GaussianFilter,
    RenyiFilter,
    ZeroConcentratedFilter,
    best_order,
)
from drdp.privacy.fixed_budget import FixedBudget
from drdp.privacy.odometer import odometer, running_epsilon
from drdp.privacy.pld import pld_curve
from drdp.privacy.rdp import rdp_curve
from drdp.privacy.releases import (
    DiscreteGaussian,
    RandomisedResponse,
    ZeroConcentrated,
)
from drdp.privacy.sampling import Scheduled
from drdp.privacy.tally import Tally
from drdp.privacy.terms import Terms
from tests.privacy.strategies import events

ROUND = PoissonSampled(0.05, Gaussian(1.0))
REPLACE = Adjacency.REPLACE_ONE
BUDGETS = {
    "fixed": FixedBudget(2.0, 1e-5, ROUND),
    "renyi": RenyiFilter(2.0, 1e-5, 8.0),
    "renyi, two orders": RenyiFilter(2.0, 1e-5, (6.0, 20.0)),
    "zero-concentrated": ZeroConcentratedFilter(2.0, 1e-5),
    "gaussian": GaussianFilter(2.0, 1e-5),
    "approx": ApproxDPFilter(2.0, 1e-5),
}
# a release that each of them can count
COUNTED = {
    "fixed": ROUND,
    "renyi": PoissonSampled(0.02, Gaussian(1.2)),
    "renyi, two orders": PoissonSampled(0.02, Gaussian(1.2)),
    "zero-concentrated": Gaussian(30.0),
    "gaussian": Gaussian(30.0),
    "approx": ApproxDP(0.05, 1e-8),
}


# --- golden values ---------------------------------------------------------------


def test_n58_rho_of_a_budget():
    assert rho_within(1.0, 1e-5) == pytest.approx(0.0208199383, abs=1e-10)
    assert rho_within(8.0, 1e-5) == pytest.approx(1.0491362012, abs=1e-10)


def test_n59_gaussian_filter():
    assert GaussianFilter(1.0, 1e-5).mu == pytest.approx(0.2680511, abs=1e-7)
    assert GaussianFilter(8.0, 1e-5).mu == pytest.approx(1.6660306, abs=1e-7)
    assert GaussianFilter(1.0, 1e-5).remaining(Tally(), Gaussian(50.0)) == 179


def test_n60_advanced_composition():
    budget = ApproxDPFilter(8.0, 1e-6, slack=1e-6)
    spent = budget.spent_epsilon(Tally(ApproxDP(0.1) * 100))
    assert spent == pytest.approx(5.7565218, abs=1e-6)


def test_n61_odometer():
    assert odometer(5.0, 1e-5, scale=1.0) == pytest.approx(21.723074, abs=1e-5)


def test_the_filters_admit_exactly_what_their_formula_does():
    spent, event = Tally(), Gaussian(50.0)
    budget = GaussianFilter(1.0, 1e-5)
    for _ in range(179):
        budget.admit(spent, event)
        spent.add(event)
    with pytest.raises(BudgetExceededError, match="does not allow"):
        budget.admit(spent, event)
    assert budget.remaining(spent, event) == 0
    assert budget.used(spent) > 0.99


# --- the fixed budget ------------------------------------------------------------


@pytest.mark.parametrize(
    ("round_", "epsilon"),
    [
        (ROUND, 2.0),
        (Gaussian(50.0), 1.0),
        (PoissonSampled(0.01, Gaussian(0.8)) + Gaussian(60.0), 3.0),
        (FixedSizeSampled(5, 100, Gaussian(1.0)), 2.0),
        (DiscreteGaussian(30.0, 100.0, 64), 2.0),  # Renyi divergences only
    ],
    ids=repr,
)
def test_a_fixed_budget_holds_exactly_the_rounds_that_are_certified(round_, epsilon):
    budget = FixedBudget(epsilon, 1e-5, round_)
    curve = rdp_curve if isinstance(round_, DiscreteGaussian) else pld_curve
    most = calibrate_count(lambda n: round_ * n, curve, within(epsilon, 1e-5))
    assert budget.times == budget.remaining(Tally(), round_) == most
    budget.admit(Tally(round_ * (most - 1)), round_)
    with pytest.raises(BudgetExceededError):
        budget.admit(Tally(round_ * most), round_)


def test_a_round_of_several_releases_may_be_charged_one_by_one():
    first, second = PoissonSampled(0.05, Gaussian(1.0)), Gaussian(40.0)
    budget = FixedBudget(2.0, 1e-5, first + second * 2)
    times, spent = budget.times, Tally()
    for event in [second] * (2 * times) + [first] * times:
        budget.admit(spent, event)
        spent.add(event)
    assert budget.remaining(spent, first) == budget.remaining(spent, second) == 0
    with pytest.raises(BudgetExceededError):
        budget.admit(spent, second)
    assert budget.used(spent) == 1.0
    assert budget.spent_epsilon(spent) <= 2.0


def test_what_is_not_in_the_plan_is_refused_with_the_way_out():
    with pytest.raises(UnplannedChargeError, match=r"RenyiFilter or ZeroConc"):
        BUDGETS["fixed"].admit(Tally(), PoissonSampled(0.05, Gaussian(1.1)))
    with pytest.raises(UnplannedChargeError):  # more private, and not planned either
        BUDGETS["fixed"].admit(Tally(), PoissonSampled(0.01, Gaussian(1.0)))
    with pytest.raises(UnplannedChargeError):
        BUDGETS["fixed"].remaining(Tally(), Gaussian(1.0))


def test_a_plan_that_does_not_fit_is_refused():
    with pytest.raises(CalibrationError, match="even once"):
        FixedBudget(0.1, 1e-5, Gaussian(1.0)).require()
    for plan in (NOTHING, NonPrivate(), "20 rounds"):
        with pytest.raises(InvalidArgumentError, match="plan"):
            FixedBudget(1.0, 1e-5, plan)


def test_what_came_before_a_plan_counts():
    before = ROUND * 10
    budget = FixedBudget(2.0, 1e-5, PoissonSampled(0.05, Gaussian(1.2)), before)
    whole = budget.plan * budget.times + before
    assert pld_curve(whole).delta(2.0) <= 1e-5
    assert pld_curve(whole + budget.plan).delta(2.0) > 1e-5
    assert budget.remaining(Tally(before), budget.plan) == budget.times
    with pytest.raises(UnplannedChargeError):
        budget.admit(Tally(before), ROUND)


def test_a_plan_with_the_releases_from_before_goes_on():
    budget = FixedBudget(2.0, 1e-5, ROUND, before=ROUND * 10)
    assert budget.times == 10
    assert budget.remaining(Tally(ROUND * 15), ROUND) == 5


# --- laws ------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUDGETS)
def test_a_budget_is_used_up_one_release_at_a_time(name):
    budget, event = BUDGETS[name], COUNTED[name]
    most = budget.remaining(Tally(), event)
    assert 1 <= most < 10**6
    budget.admit(Tally(event * (most - 1)), event)
    budget.admit(Tally(), event * most)
    with pytest.raises(BudgetExceededError, match="epsilon 2, delta 1e-05"):
        budget.admit(Tally(event * most), event)
    with pytest.raises(BudgetExceededError):
        budget.admit(Tally(), event * (most + 1))
    full = Tally(event * most)
    assert budget.remaining(full, event) == 0
    assert 0.5 < budget.used(full) <= 1.0
    assert budget.spent_epsilon(full) <= 2.0
    assert budget.spent_epsilon(Tally(event * (most + 1))) > 2.0 - 1e-9
    assert budget.used(Tally()) == budget.spent_epsilon(Tally()) == 0.0


@pytest.mark.parametrize("name", BUDGETS)
def test_no_protection_is_never_admitted(name):
    for event in (NonPrivate(), Gaussian(0.0), ApproxDP(0.0, 1.0)):
        with pytest.raises((BudgetExceededError, UnplannedChargeError)):
            BUDGETS[name].admit(Tally(), event)


@pytest.mark.parametrize("name", ["renyi", "renyi, two orders"])
def test_a_renyi_filter_never_admits_what_is_certified_to_exceed(name):
    """Non-adaptively, the filter is no better than the certified accountant."""
    rng = random.Random(7)
    budget, spent = BUDGETS[name], Tally()
    kinds = [
        PoissonSampled(rng.uniform(0.01, 0.05), Gaussian(rng.uniform(1.0, 3.0)))
        for _ in range(12)
    ]
    for _ in range(600):
        event = rng.choice(kinds)
        try:
            budget.admit(spent, event)
        except BudgetExceededError:
            continue
        spent.add(event)
    assert budget.used(spent) > 0.95
    assert spent.counts.total() > 10
    assert pld_curve(spent.event).delta(2.0) <= 1e-5


@pytest.mark.parametrize("name", ["gaussian", "zero-concentrated", "approx"])
@settings(max_examples=30)
@given(st.lists(st.floats(5.0, 300.0), min_size=1, max_size=60))
def test_other_filters_keep_to_the_certified_budget(name, scales):
    budget, spent = BUDGETS[name], Tally()
    for scale in scales:
        event = Laplace(scale) if name == "approx" else Gaussian(scale)
        try:
            budget.admit(spent, event)
        except BudgetExceededError:
            continue
        spent.add(event)
    exact = pld_curve(spent.event).epsilon(1e-5) if spent.counts else 0.0
    assert exact <= budget.spent_epsilon(spent) * (1 + 1e-9) <= 2.0 * (1 + 1e-9)


@settings(max_examples=40)
@given(st.lists(events(), max_size=5))
def test_a_tally_does_not_depend_on_the_order(parts):
    if len({a for part in parts for a in _relations(part)}) > 1:
        return
    one, two = Tally(), Tally()
    for part in parts:
        one.add(part)
    for part in reversed(parts):
        two.add(part)
    assert one.counts == two.counts
    assert atoms(one.event) == one.counts


def _relations(event):
    from drdp.privacy.events import adjacency_of

    found = adjacency_of(event)
    return [] if found is None else [found]


def test_running_sums_are_exact_and_kept_up_to_date():
    spent = Tally(Gaussian(3.0))
    total = spent.total("rho", rho)
    for k in range(1, 200):
        spent.add(Gaussian(3.0 + k))
    fresh = Tally(spent.event).total("rho", rho)
    assert spent.total("rho", rho) == fresh > total


def test_the_hundred_thousandth_release_is_as_quick_as_the_second():
    """Counted in costs asked for: none for those that came before."""
    asked = []

    def cost(atom):
        asked.append(atom)
        return rho(atom)

    allowance, spent = Allowance("rho", cost, 1e9), Tally(Gaussian(7.0) * 100_000)
    allowance.excess(spent, Gaussian(7.0))
    for k in range(100):
        spent.add(Gaussian(5.0 + k))
    asked.clear()
    assert allowance.excess(spent, Gaussian(2.0)) is None
    assert asked == [Gaussian(2.0)]


# --- what each can count ---------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "event", "says"),
    [
        ("gaussian", ROUND, "unsampled Gaussian"),
        ("gaussian", Laplace(9.0), "unsampled Gaussian"),
        ("zero-concentrated", ROUND, "RenyiFilter"),
        ("zero-concentrated", ApproxDP(0.1, 1e-9), "ApproxDPFilter"),
        ("approx", Gaussian(9.0), "no single epsilon"),
        ("approx", PoissonSampled(0.1, Laplace(9.0), REPLACE), "no single epsilon"),
    ],
)
def test_what_a_filter_cannot_count_is_refused(name, event, says):
    with pytest.raises(UnsupportedEventError, match=says):
        BUDGETS[name].admit(Tally(), event)


@pytest.mark.parametrize(
    ("event", "value"),
    [
        (Gaussian(10.0), 0.005),
        (DiscreteGaussian(10.0, 5.0, 4), 0.005),
        (ZeroConcentrated(0.25), 0.25),
        (Laplace(2.0), 0.125),
        (RandomisedResponse(0.5), 0.125),
        (ApproxDP(0.5), 0.125),
    ],
    ids=repr,
)
def test_rho(event, value):
    assert rho(event) == pytest.approx(value, rel=1e-12)


def test_scheduled_rounds_are_counted_by_the_gaussian_filter():
    budget = GaussianFilter(1.0, 1e-5)
    budget.admit(Tally(), Scheduled(179, Gaussian(50.0), Adjacency.ADD_REMOVE))
    with pytest.raises(BudgetExceededError):
        budget.admit(Tally(), Scheduled(180, Gaussian(50.0), Adjacency.ADD_REMOVE))


def test_sampling_lowers_epsilon_and_delta():
    epsilon, delta = epsilon_delta(PoissonSampled(0.1, ApproxDP(1.0, 1e-6)))
    assert epsilon == pytest.approx(math.log(1 + 0.1 * (math.e - 1)), rel=1e-12)
    assert delta == pytest.approx(1e-7, rel=1e-12)
    assert epsilon_delta(FixedSizeSampled(1, 10, Laplace(1.0)))[0] == pytest.approx(
        epsilon, rel=1e-12
    )


def test_deltas_add_up_as_written():
    budget = ApproxDPFilter(8.0, 1e-5, slack=5e-6)
    assert budget.remaining(Tally(), ApproxDP(1e-3, 1e-6)) == 5


def test_the_best_order_is_the_best():
    event = PoissonSampled(0.01, Gaussian(1.0))
    best = best_order(2.0, 1e-5, event)
    rounds = {
        order: RenyiFilter(2.0, 1e-5, order).remaining(Tally(), event)
        for order in (best, best - 2.0, best + 2.0)
    }
    assert rounds[best] == max(rounds.values())


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: RenyiFilter(1.0, 1e-5, 1.0), "orders"),
        (lambda: RenyiFilter(1.0, 1e-5, ()), "orders"),
        (lambda: RenyiFilter(1.0, 1e-5, (8.0, 8.0)), "orders"),
        (lambda: RenyiFilter(0.1, 1e-5, 2.0), "larger orders leave more"),
        (lambda: GaussianFilter(0.0, 1e-5), "epsilon"),
        (lambda: ZeroConcentratedFilter(1.0, 1.0), "delta"),
        (lambda: ApproxDPFilter(1.0, 1e-6, slack=1e-5), "slack"),
        (lambda: odometer(1.0, 0.0, scale=1.0), "delta"),
    ],
)
def test_bad_arguments_are_named(make, says):
    with pytest.raises(InvalidArgumentError, match=says):
        make()


# --- the odometer ----------------------------------------------------------------


def test_the_odometer_is_above_the_fixed_time_cost_and_grows():
    values = [running_epsilon(Gaussian(50.0) * n, 1.0, 1e-5) for n in (0, 1, 10, 104)]
    assert values == sorted(values)
    assert values[0] == 0.0
    fixed = ZeroConcentratedFilter(1.0, 1e-5).spent_epsilon(Tally(Gaussian(50.0) * 104))
    assert fixed < values[-1] < 1.2


def test_the_odometer_is_rarely_passed_at_any_time():
    """1000 runs of 500 Gaussian releases; Ville: at most delta of them pass it."""
    rng, delta, mu, passed = random.Random(1), 0.05, 0.1, 0
    bounds = [odometer(0.5 * mu * mu * t, delta, scale=0.5) for t in range(1, 501)]
    for _ in range(1000):
        loss = 0.0
        for bound in bounds:
            loss += mu * rng.gauss(0.0, 1.0) + 0.5 * mu * mu
            if loss > bound:
                passed += 1
                break
    assert passed <= 50  # false alarm: none, the bound holds on average


# --- their documents -------------------------------------------------------------


@pytest.mark.parametrize("name", BUDGETS)
def test_terms_survive_json(name):
    terms = Terms(budget=BUDGETS[name], unit="example", population=60_000)
    assert Terms.loads(terms.dumps()) == terms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"drdp_ledger":2,"budget":null,"unit":"client","adjacency":"add-remove"}',
        '{"drdp_ledger":1,"budget":{"kind":"none"},"unit":"client"}',
        '{"drdp_ledger":1,"budget":null,"unit":"client","adjacency":"sideways"}',
        '{"drdp_ledger":1,"budget":null,"unit":"client","more":1}',
    ],
)
def test_terms_that_mean_nothing_are_refused(text):
    with pytest.raises(CodecError, match="ledger"):
        Terms.loads(text)


def test_a_budget_of_ones_own_has_no_document():
    with pytest.raises(InvalidArgumentError, match="budget must be one of"):
        Terms(budget=object())


def test_counting_stops_somewhere():
    assert largest_count(lambda _: True) == 10**9
    assert largest_count(lambda n: n <= 12345) == 12345
    assert largest_count(lambda _: False) == 0
    assert BUDGETS["gaussian"].remaining(Tally(), NOTHING) == 10**9
    assert BUDGETS["fixed"].remaining(Tally(), NOTHING) == 10**9
