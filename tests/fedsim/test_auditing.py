"""Audits of the simulator: published numbers, tightness, views, and what is shown."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from drdp import Adjacency, Gaussian, PoissonSampled
from drdp.compression.pca import fit_pca
from drdp.compression.projection import RandomProjection
from drdp.compression.source import Source
from drdp.errors import InvalidArgumentError, UnsoundThreatModelError
from drdp.fedsim.attacks import outputs
from drdp.fedsim.auditing import audit_simulation, played, secret_of
from drdp.fedsim.canaries import Crowd, Planting, WithCanaries, craft, direction
from drdp.fedsim.cohort import AllocatedCohort
from drdp.fedsim.sight import Sight
from drdp.fedsim.simulate import Simulation, simulate
from drdp.privacy import black_box
from drdp.privacy.audit import gaussian_epsilon, two_sample
from drdp.privacy.threat import EveryClient, FixedCohort, Placement, PoissonCohort, View
from tests.fedsim.audited import DELTA, LENGTH, audited
from tests.fedsim.linear import Purse

SIGMA = 0.748028
CLAIMED_MU = 1.0 / SIGMA


def paper(share: float, view: View = View.SUM) -> Simulation:
    return audited(
        EveryClient(5),
        5,
        noise_multiplier=share,
        placement=Placement.DISTRIBUTED,
        view=view,
    )


def midpoint(simulation: Simulation, seed: int) -> float:
    """mu of 1,000 + 1,000 runs by the rule "in where the ratio is above 0"."""
    planting = Planting(simulation, 1, 1)
    inside = (np.arange(2000) % 2 == 0)[:, None]
    rest = Crowd(4, np.zeros(LENGTH, dtype=np.float32))
    scores = played(planting, rest, inside, secret_of(seed), seen="sum")[:, 0, 0]
    right = int((scores[::2] > 0.0).sum())
    wrong = int((scores[1::2] > 0.0).sum())
    return two_sample(right, 1000, wrong, 1000, delta=DELTA).mu


def test_expected_counts_of_the_canary_audit() -> None:
    """N82: 932 and 68 of 1,000 are expected, which proves mu >= 2.7391."""
    true = 2.0 / (2 * SIGMA / 5 * math.sqrt(5))
    right = round(1000 * norm.cdf(true / 2))
    assert right == 932
    found = two_sample(right, 1000, 1000 - right, 1000, delta=DELTA)
    assert found.mu == pytest.approx(2.7391, abs=1e-3)


def test_the_printed_noise_is_rejected_and_the_repaired_is_not() -> None:
    """N82, through the simulator's own rounds."""
    printed = midpoint(paper(2 * SIGMA / 5), seed=1)
    # sd of mu's estimate is 0.09: the expected bound is met within 4 of these.
    assert printed == pytest.approx(2.739, abs=0.36)
    assert printed > CLAIMED_MU + 1.0
    assert midpoint(paper(2 * SIGMA / math.sqrt(5)), seed=1) < CLAIMED_MU


def test_the_bound_on_the_sum_view_is_tight() -> None:
    """At least 70 % of the true epsilon, with as many trials as fit in a test."""
    true = 2.0 / (2 * SIGMA / 5 * math.sqrt(5))
    found = midpoint(paper(2 * SIGMA / 5), seed=2)
    assert gaussian_epsilon(found, DELTA) > 0.7 * gaussian_epsilon(true, DELTA)


def test_each_view_has_its_own_bound() -> None:
    """The same noise: a message shows sqrt 5 times as much as the sum of five."""
    share = 2 * SIGMA / math.sqrt(5)
    alone = audit_simulation(paper(share, View.MESSAGES), delta=DELTA, runs=400, seed=3)
    together = audit_simulation(
        paper(share, View.MESSAGES), delta=DELTA, runs=400, seed=3, seen="sum"
    )
    models = audit_simulation(
        paper(share), delta=DELTA, runs=400, seed=3, seen="models"
    )
    assert alone.verdict == together.verdict == models.verdict == "consistent"
    assert alone.mu > 1.5 * together.mu
    assert together.mu == pytest.approx(models.mu, rel=0.25)


def test_a_claim_for_the_sum_is_refuted_by_the_messages() -> None:
    share = 2 * SIGMA / math.sqrt(5)
    found = audit_simulation(
        paper(share, View.MESSAGES),
        delta=DELTA,
        runs=200,
        seed=4,
        claimed=Gaussian(SIGMA),
    )
    assert found.verdict == "violated"
    assert "VIOLATED" in found.sentence()


def test_colluders_subtract_their_own_noise() -> None:
    """Four of five know theirs: what is left protects as one share, not as five."""
    told = audited(
        EveryClient(5),
        5,
        noise_multiplier=1.0,
        placement=Placement.DISTRIBUTED,
        view=View.COLLUDING,
        colluding=4,
    )
    naive = paper(1.0).protection.event(0)
    found = audit_simulation(told, delta=DELTA, runs=300, seed=5)
    assert found.verdict == "consistent"
    assert found.mu > 1.3  # of 2
    refuted = audit_simulation(told, delta=DELTA, runs=300, seed=5, claimed=naive)
    assert refuted.verdict == "violated"


@pytest.mark.parametrize(
    "cohort", [PoissonCohort(0.5), FixedCohort(3, 6), AllocatedCohort(3)], ids=str
)
def test_sampled_cohorts_keep_their_claims(cohort) -> None:  # type: ignore[no-untyped-def]
    simulation = audited(cohort, 6, noise_multiplier=0.4)
    found = audit_simulation(simulation, delta=DELTA, runs=200, rounds=3, seed=6)
    assert found.verdict == "consistent"
    assert found.mu > 0.3


def test_many_canaries_in_one_run() -> None:
    """One round of 600 canaries: consistent at the true noise, refuted at less."""
    simulation = audited(PoissonCohort(1.0), 600, length=600, noise_multiplier=0.5)
    said = {"delta": DELTA, "runs": 1, "canaries": 600, "kind": "dirac", "seed": 7}
    found = audit_simulation(simulation, **said)
    assert found.verdict == "consistent"
    assert 0.9 < found.mu <= 2.0
    false = audit_simulation(simulation, **said, claimed=Gaussian(2.0))
    assert false.verdict == "violated"


def test_nearly_orthogonal_canaries_share_a_run() -> None:
    simulation = audited(PoissonCohort(0.5), 100, length=2000, noise_multiplier=0.3)
    found = audit_simulation(
        simulation, delta=DELTA, runs=2, rounds=2, canaries=100, seed=8
    )
    assert found.verdict == "consistent"
    assert found.trials == 200


@pytest.mark.parametrize("name", ["projection", "pca"])
def test_canaries_meet_the_clip_through_any_codec(name: str) -> None:
    rng = np.random.default_rng(9)
    samples = rng.normal(size=(12, 40)).astype(np.float32)
    codec = (
        fit_pca(samples, 6, source=Source("public"))
        if name == "pca"
        else RandomProjection(40, 6, seed=1)
    )
    towards = direction("sphere", 0, 0, 6)
    made = craft(codec, towards, clip_norm=3.0)
    assert np.linalg.norm(codec.encode(made.update)) >= 3.0
    assert np.linalg.norm(made.contribution) == pytest.approx(3.0, rel=1e-6)
    assert made.contribution @ towards > 2.9


def test_an_observer_sees_only_what_was_paid_for() -> None:
    simulation = audited(EveryClient(4), 4, noise_multiplier=1.0, view=View.SUM)
    seen: list[Sight] = []
    rounds = simulate(
        simulation,
        rounds=5,
        randomness=secret_of(1)(0),
        payer=Purse(most=3),
        observe=seen.append,
    )
    with pytest.raises(RuntimeError, match="empty"):
        list(rounds)
    assert [one.round for one in seen] == [1, 2, 3]
    for one in seen:
        assert one.messages == {}
        assert np.abs(one.total).min() > 0.0  # the clients sent zeros: this is noise
        assert np.allclose(one.after - one.before, one.total / 4, atol=1e-6)


def test_messages_are_shown_to_those_who_may_see_them() -> None:
    def messages(view: View, **more: int) -> Sight:
        built = audited(
            EveryClient(4),
            4,
            noise_multiplier=1.0,
            placement=Placement.DISTRIBUTED,
            view=view,
            **more,
        )
        seen: list[Sight] = []
        list(
            simulate(
                built,
                rounds=1,
                randomness=secret_of(1)(0),
                payer=Purse(),
                observe=seen.append,
            )
        )
        return seen[0]

    every = messages(View.MESSAGES)
    assert set(every.messages) == {0, 1, 2, 3}
    assert np.allclose(sum(every.messages.values()), every.total)
    assert set(messages(View.COLLUDING, colluding=1).messages) == {3}
    assert messages(View.SUM).messages == {}


def test_watching_changes_nothing() -> None:
    simulation = audited(PoissonCohort(0.5), 9, noise_multiplier=1.0)

    def last(**more):  # type: ignore[no-untyped-def]
        *_, end = simulate(
            simulation, rounds=4, randomness=secret_of(2)(0), payer=Purse(), **more
        )
        return end.state.parameters

    assert np.array_equal(last(), last(observe=lambda sight: None))


def test_a_canary_that_is_out_adds_nothing_or_the_opposite() -> None:
    null = Planting(audited(PoissonCohort(1.0), 3, noise_multiplier=1.0), 1, 1)
    opposite = Planting(audited(EveryClient(3), 3, noise_multiplier=1.0), 1, 1)
    inside = opposite.contribution(0, 0, inside=True)
    assert np.allclose(opposite.contribution(0, 0, inside=False), -inside)
    assert not null.contribution(0, 0, inside=False).any()
    nobody = Crowd(2, np.zeros(LENGTH, dtype=np.float32))
    seed = next(iter(null.rounds_of))
    for planting, sent in ((null, 2), (opposite, 3)):
        trainer = WithCanaries(nobody, planting, [False])
        found = list(trainer.updates(trainer.initial(), [0, 1, 2], seed))
        assert trainer.num_clients == 3
        assert len(found) == sent


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda: audit_simulation(
                audited(EveryClient(3), 3, noise_multiplier=1.0),
                delta=DELTA,
                canaries=4,
            ),
            "at most the 3 clients",
        ),
        (
            lambda: audit_simulation(
                audited(PoissonCohort(1.0), 3, noise_multiplier=1.0, public=True),
                delta=DELTA,
            ),
            "all its data is public",
        ),
        (
            lambda: WithCanaries(
                Crowd(1, np.zeros(LENGTH, dtype=np.float32)),
                Planting(audited(EveryClient(2), 2, noise_multiplier=1.0), 1, 1),
                [],
            ),
            "inside must have 1",
        ),
        (
            lambda: outputs(
                Planting(audited(EveryClient(2), 2, noise_multiplier=1.0), 1, 1),
                [],
                "messages",
                2,
            ),
            "whose view is messages",
        ),
    ],
)
def test_what_cannot_be_audited_is_refused(call, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidArgumentError, match=said):
        call()


def test_the_claim_is_that_of_the_run() -> None:
    simulation = audited(PoissonCohort(0.5), 6, noise_multiplier=1.0)
    assert simulation.protection.event(0) == PoissonSampled(
        0.5, Gaussian(1.0), "zero-out"
    )
    found = audit_simulation(simulation, delta=DELTA, runs=40, rounds=3, seed=1)
    assert found.certified is not None
    assert found.certified.upper == pytest.approx(5.9, abs=1.0)


def test_add_remove_hides_the_number_of_clients() -> None:
    """Divided by a number that follows from how many there are, the noise tells."""
    plan = {"noise_multiplier": 5.0, "adjacency": Adjacency.ADD_REMOVE, "length": 1000}
    with pytest.raises(UnsoundThreatModelError, match="state size"):
        audited(PoissonCohort(1.0), 10, **plan)
    # What an error in `size` would give away: the divisor of ten clients or of nine.
    keys = iter(range(10**6))

    def model(clients: int, size: float) -> np.ndarray:
        simulation = audited(PoissonCohort(1.0), clients, size=size, **plan)
        randomness = secret_of(11)(next(keys))
        (report,) = simulate(simulation, rounds=1, randomness=randomness, payer=Purse())
        return report.state.parameters

    for sizes, verdict in (((10.0, 9.0), "violated"), ((10.0, 10.0), "vacuous")):
        found = black_box.audit(
            lambda case: model(*case),
            (10, sizes[0]),
            (9, sizes[1]),
            delta=DELTA,
            event=PoissonSampled(1.0, Gaussian(5.0)),
            trials=120,
            score=lambda parameters: -float(np.linalg.norm(parameters)),
        )
        assert found.verdict == verdict
