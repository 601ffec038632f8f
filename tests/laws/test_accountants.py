"""Laws of privacy that every accountant obeys, whatever its method."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest

from drdp.errors import DrdpError, UnsupportedEventError
from drdp.privacy.curves import PrivacyCurve
from drdp.privacy.edgeworth import edgeworth_curve
from drdp.privacy.events import (
    NOTHING,
    Adjacency,
    ApproxDP,
    Event,
    FixedSizeSampled,
    Gaussian,
    Laplace,
    NonPrivate,
    PoissonSampled,
)
from drdp.privacy.example_level import example_level
from drdp.privacy.gdp import gdp_curve
from drdp.privacy.pld import pld_curve
from drdp.privacy.prv import prv_curve
from drdp.privacy.rdp import rdp_curve
from drdp.privacy.releases import (
    DiscreteGaussian,
    MixtureOfGaussians,
    RandomisedResponse,
    Skellam,
    ZeroConcentrated,
)
from drdp.privacy.sampling import (
    FixedSizeZeroOut,
    RandomlyAllocated,
    Scheduled,
    Shuffled,
    TruncatedPoissonSampled,
)

REPLACE = Adjacency.REPLACE_ONE

# Each run is a function of its noise, its steps and its sampling rate.
RUNS: dict[str, Callable[[float, int, float], Event]] = {
    "gaussian": lambda z, n, _: Gaussian(z) * n,
    "laplace": lambda z, n, _: Laplace(z) * n,
    "poisson": lambda z, n, q: PoissonSampled(q, Gaussian(z)) * n,
    "zero-out": lambda z, n, q: PoissonSampled(q, Gaussian(z), "zero-out") * n,
    "replace": lambda z, n, q: PoissonSampled(q, Gaussian(z), REPLACE) * n,
    "fixed": lambda z, n, q: FixedSizeSampled(round(q * 1000), 1000, Gaussian(z)) * n,
    "poisson laplace": lambda z, n, q: PoissonSampled(q, Laplace(z)) * n,
    "discrete": lambda z, n, _: DiscreteGaussian(z) * n,
    "answers": lambda z, n, _: RandomisedResponse(1 / z, 3) * n,
    "sampled answers": lambda z, n, q: PoissonSampled(q, RandomisedResponse(1 / z)) * n,
    "mixture": lambda z, n, q: example_level(2, q, z) * n,
    "skellam": lambda z, n, _: Skellam(4 * z * z, 2.0, 9) * n,
    "concentrated": lambda z, n, _: ZeroConcentrated(0.5 / z**2) * n,
    "two stages": lambda z, n, q: PoissonSampled(q, Gaussian(z)) * n + Gaussian(4 * z),
    "fixed zero-out": lambda z, n, q: (
        FixedSizeZeroOut(round(q * 1000), 1000, Gaussian(z)) * n
    ),
    "allocated": lambda z, n, q: RandomlyAllocated(math.ceil(0.7 / q), Gaussian(z)) * n,
    "truncated": lambda z, n, q: (
        TruncatedPoissonSampled(q, 100, min(99, round(100 * q) + 45), Gaussian(z)) * n
    ),
    "shuffled": lambda z, n, q: Shuffled(math.ceil(0.7 / q), Gaussian(z)) * n,
    "scheduled": lambda z, n, _: Scheduled(n, Gaussian(z)),
}
SAMPLED = {
    "poisson",
    "zero-out",
    "replace",
    "fixed",
    "poisson laplace",
    "two stages",
    "fixed zero-out",
    "allocated",
    "truncated",
    "sampled answers",
    "mixture",
}
ONLY_RENYI = {"skellam", "concentrated"}


@dataclass(frozen=True)
class Subject:
    """An accountant, the runs it has a formula for, and how near it is."""

    name: str
    curve: Callable[[Event], PrivacyCurve]
    runs: tuple[str, ...]
    slack: float = 1e-9

    def __str__(self) -> str:
        return self.name


TOLERANCE = 1e-4  # a hundred times what is usual: laws need no more
LAWFUL = tuple(run for run in RUNS if run not in ONLY_RENYI)
FURTHER = ("laplace", "discrete", "answers", "sampled answers", "mixture")
SMOOTH = (
    *("gaussian", "laplace", "poisson", "zero-out", "replace", "poisson laplace"),
    "two stages",
)
GAUSSIANS = ("gaussian", "poisson", "zero-out", "fixed", "two stages")
DRAWN = ("fixed zero-out", "allocated", "truncated", "shuffled", "scheduled")
SUBJECTS = [
    Subject("gdp", gdp_curve, (*GAUSSIANS, "shuffled", "scheduled")),
    Subject("rdp", rdp_curve, (*GAUSSIANS, *FURTHER, *DRAWN, *sorted(ONLY_RENYI))),
    Subject("rdp classic", partial(rdp_curve, conversion="classic"), GAUSSIANS),
    Subject("pld upper", partial(pld_curve, tolerance=TOLERANCE), LAWFUL, 1e-3),
    Subject(
        "pld lower",
        partial(pld_curve, bound="lower", tolerance=TOLERANCE),
        tuple(run for run in LAWFUL if run not in DRAWN),
        1e-3,
    ),
    Subject("edgeworth", edgeworth_curve, SMOOTH),
    # their laws have edges, or are tables: from below that costs precision, or time
    Subject(
        "pld lower draws",
        partial(pld_curve, bound="lower", tolerance=100 * TOLERANCE),
        DRAWN,
        1e-2,
    ),
]
# The second opinion takes up to a second an answer: it meets the cheap laws.
PRV = Subject("prv", prv_curve, ("gaussian", "poisson", "laplace"), 0.05)
PAIRS = [
    pytest.param(subject, run, id=f"{subject}-{run}")
    for subject in SUBJECTS
    for run in subject.runs
]
ALL = [*PAIRS, *(pytest.param(PRV, run, id=f"prv-{run}") for run in PRV.runs)]
EVERY = [*SUBJECTS, PRV]


def rising(values: list[float], slack: float = 0.0) -> bool:
    return all(b >= a - slack * max(1.0, abs(a)) for a, b in itertools.pairwise(values))


# What costs nothing, and what costs everything ------------------------------


@pytest.mark.parametrize("subject", EVERY, ids=str)
def test_nothing_costs_nothing(subject):
    for event in (NOTHING, Gaussian(1.0) * 0, PoissonSampled(0.0, Gaussian(1.0))):
        curve = subject.curve(event)
        assert curve.epsilon(1e-5) == 0.0
        assert curve.delta(0.0) == curve.advantage == 0.0


@pytest.mark.parametrize("subject", EVERY, ids=str)
def test_no_protection_costs_everything(subject):
    for event in (NonPrivate(), Gaussian(0.0), Gaussian(1.0) * 9 + NonPrivate()):
        curve = subject.curve(event)
        assert curve.epsilon(0.5) == math.inf
        assert curve.delta(0.0) == curve.delta(1e6) == 1.0


# More costs more ------------------------------------------------------------


@pytest.mark.parametrize(("subject", "run"), PAIRS)
def test_more_noise_costs_less(subject, run):
    curves = [subject.curve(RUNS[run](z, 20, 0.05)) for z in (8.0, 3.0, 1.5, 0.8)]
    assert rising([curve.epsilon(1e-5) for curve in curves])
    assert rising([curve.delta(0.5) for curve in curves])


@pytest.mark.parametrize(("subject", "run"), PAIRS)
def test_more_steps_cost_more(subject, run):
    curves = [subject.curve(RUNS[run](1.2, n, 0.05)) for n in (1, 2, 10, 100)]
    assert rising([curve.epsilon(1e-5) for curve in curves])
    assert rising([curve.delta(0.5) for curve in curves])


@pytest.mark.parametrize(
    ("subject", "run"), [p for p in PAIRS if p.values[1] in SAMPLED]
)
def test_a_larger_sample_costs_more(subject, run):
    curves = [subject.curve(RUNS[run](1.2, 20, q)) for q in (0.002, 0.02, 0.2, 0.7)]
    assert rising([curve.epsilon(1e-5) for curve in curves])
    assert rising([curve.delta(0.5) for curve in curves])


@pytest.mark.parametrize(("subject", "run"), PAIRS)
def test_another_release_never_makes_it_cheaper(subject, run):
    once = subject.curve(RUNS[run](1.2, 20, 0.05))
    more = subject.curve(RUNS[run](1.2, 20, 0.05) + Gaussian(20.0))
    # to the rounding of the transforms, where a law is composed exactly
    assert more.epsilon(1e-5) >= once.epsilon(1e-5) * (1 - 1e-9)
    assert more.delta(0.5) >= once.delta(0.5) * (1 - 1e-9)


# Composition ----------------------------------------------------------------


@pytest.mark.parametrize(("subject", "run"), PAIRS)
def test_order_and_grouping_do_not_matter(subject, run):
    part, other = RUNS[run](1.2, 1, 0.05), Gaussian(7.0)
    one = subject.curve(part * 3 + other * 2)
    two = subject.curve(other + (part + part) + other + part * 1)
    assert one.epsilon(1e-5) == pytest.approx(two.epsilon(1e-5), rel=1e-9)
    assert one.delta(0.3) == pytest.approx(two.delta(0.3), rel=1e-9)


# The shape of a curve -------------------------------------------------------

EPSILONS = (0.0, 1e-6, 0.1, 1.0, 3.0, 12.0, 80.0)
DELTAS = (1e-12, 1e-6, 1e-3, 0.05, 0.4, 0.999)


@pytest.mark.parametrize(("subject", "run"), ALL)
def test_delta_is_a_probability_that_falls_with_epsilon(subject, run):
    curve = subject.curve(RUNS[run](0.8, 30, 0.05))
    values = [curve.delta(epsilon) for epsilon in EPSILONS]
    assert all(0.0 <= value <= 1.0 for value in values)
    assert rising(values[::-1], subject.slack)
    assert curve.delta(math.inf) == 0.0


@pytest.mark.parametrize(("subject", "run"), PAIRS)
def test_epsilon_is_no_less_than_zero_and_falls_with_delta(subject, run):
    curve = subject.curve(RUNS[run](0.8, 30, 0.05))
    values = [curve.epsilon(delta) for delta in DELTAS]
    assert all(0.0 <= value < math.inf for value in values)
    assert rising(values[::-1], subject.slack)


@pytest.mark.parametrize(("subject", "run"), ALL)
def test_epsilon_and_delta_are_inverse(subject, run):
    curve = subject.curve(RUNS[run](0.8, 30, 0.05))
    for epsilon in (0.2, 1.5):
        delta = curve.delta(epsilon)
        if 1e-8 < delta < 0.9:
            back = curve.epsilon(delta)
            assert back == pytest.approx(epsilon, rel=subject.slack * 10, abs=1e-7)


@pytest.mark.parametrize(("subject", "run"), PAIRS)
def test_the_delta_at_the_epsilon_reported_is_kept(subject, run):
    """epsilon() errs on the side that delta() confirms, up to its tolerance."""
    curve = subject.curve(RUNS[run](0.8, 30, 0.05))
    delta = curve.delta(curve.epsilon(1e-5))
    assert delta == pytest.approx(1e-5, rel=max(1e-6, 20 * subject.slack))


# The limits of sampling -----------------------------------------------------


@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_sampling_everybody_is_no_sampling(subject):
    plain = subject.curve(Gaussian(2.0) * 10)
    for event in (
        PoissonSampled(1.0, Gaussian(2.0)) * 10,
        PoissonSampled(1.0, Gaussian(4.0), REPLACE) * 10,
        FixedSizeSampled(30, 30, Gaussian(2.0)) * 10,
    ):
        assert subject.curve(event).epsilon(1e-5) == plain.epsilon(1e-5)


@pytest.mark.parametrize("subject", SUBJECTS[1:], ids=str)
def test_sampling_nearly_everybody_is_nearly_no_sampling(subject):
    """Not for the CLT, whose limit at rate 1 is another formula."""
    plain = subject.curve(Gaussian(2.0) * 10).epsilon(1e-5)
    near = subject.curve(PoissonSampled(1 - 1e-9, Gaussian(2.0)) * 10)
    assert near.epsilon(1e-5) == pytest.approx(plain, rel=max(1e-5, subject.slack))


@pytest.mark.parametrize("subject", [SUBJECTS[0], *SUBJECTS[3:]], ids=str)
def test_the_smallest_sample_costs_next_to_nothing(subject):
    """Not by RDP, which has a floor: orders stop paying off."""
    curve = subject.curve(PoissonSampled(1e-9, Gaussian(1.0)) * 20)
    assert 0.0 <= curve.delta(0.0) < 1e-7
    assert curve.epsilon(1e-5) < 0.02


@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_zeroing_out_costs_what_removing_does(subject):
    one = subject.curve(RUNS["poisson"](1.1, 20, 0.05))
    two = subject.curve(RUNS["zero-out"](1.1, 20, 0.05))
    assert one.epsilon(1e-5) == two.epsilon(1e-5)


# Nonsense never comes out ---------------------------------------------------

EXTREMES = [
    (z, n, q)
    for z in (0.05, 1.0, 500.0)
    for n, q in ((1, 1e-7), (1, 0.9999), (50, 0.5), (1_000_000, 1e-6))
]


@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
@pytest.mark.parametrize(("z", "n", "q"), EXTREMES)
def test_an_extreme_run_gets_a_number(subject, z, n, q):
    curve = subject.curve(PoissonSampled(q, Gaussian(z)) * n)
    for delta in (1e-15, 1e-5):
        assert 0.0 <= curve.epsilon(delta) <= math.inf
    for epsilon in (0.0, 2.0, 300.0):
        assert 0.0 <= curve.delta(epsilon) <= 1.0


@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
@pytest.mark.parametrize("z", [1e-200, 1e-9, 1e9, 1e200])
def test_absurd_noise_gets_a_number(subject, z):
    curve = subject.curve(Gaussian(z) * 3)
    epsilon, delta = curve.epsilon(1e-5), curve.delta(1.0)
    if z < 1:
        assert epsilon > 1e8
        assert delta == pytest.approx(1.0)
    else:
        assert 0.0 <= epsilon < 1e-3
        assert 0.0 <= delta < 1e-3


# Events without a formula ---------------------------------------------------


class Unheard(Event):
    """An event that no accountant knows."""


UNSUPPORTED = [
    ("gdp_curve", gdp_curve, Laplace(1.0)),
    ("gdp_curve", gdp_curve, ApproxDP(1.0, 1e-6)),
    ("gdp_curve", gdp_curve, PoissonSampled(0.1, Laplace(1.0))),
    ("gdp_curve", gdp_curve, PoissonSampled(0.1, Gaussian(1.0), REPLACE)),
    ("rdp_curve", rdp_curve, PoissonSampled(0.1, Laplace(1.0))),
    ("rdp_curve", rdp_curve, PoissonSampled(0.1, Gaussian(1.0), REPLACE)),
    ("edgeworth_curve", edgeworth_curve, ApproxDP(1.0, 1e-6)),
    ("edgeworth_curve", edgeworth_curve, FixedSizeSampled(1, 10, Gaussian(1.0))),
    ("gdp_curve", gdp_curve, DiscreteGaussian(1.0)),
    ("gdp_curve", gdp_curve, MixtureOfGaussians([1.0], [1.0], 2.0)),
    ("rdp_curve", rdp_curve, PoissonSampled(0.1, DiscreteGaussian(1.0), REPLACE)),
    ("rdp_curve", rdp_curve, PoissonSampled(0.1, Skellam(1.0, 2.0, 9))),
    ("pld_curve", pld_curve, PoissonSampled(0.1, ZeroConcentrated(0.1))),
    ("prv_curve", prv_curve, RandomisedResponse(1.0)),
    ("prv_curve", prv_curve, ApproxDP(1.0, 1e-6)),
    ("prv_curve", prv_curve, FixedSizeSampled(1, 10, Gaussian(1.0))),
    ("prv_curve", prv_curve, PoissonSampled(0.1, Gaussian(1.0), REPLACE)),
]


@pytest.mark.parametrize(("name", "accountant", "event"), UNSUPPORTED)
def test_an_event_without_a_formula_is_refused_with_advice(name, accountant, event):
    with pytest.raises(UnsupportedEventError) as caught:
        accountant(event + Gaussian(1.0)).epsilon(1e-5)
    message = str(caught.value)
    assert name in message
    assert type(event).__name__ in message
    assert "pld_curve" in message


@pytest.mark.parametrize(
    "accountant", [pld_curve, gdp_curve, prv_curve, edgeworth_curve]
)
@pytest.mark.parametrize("run", sorted(ONLY_RENYI))
def test_what_has_only_a_renyi_bound_is_sent_to_rdp_curve(accountant, run):
    with pytest.raises(UnsupportedEventError, match="use rdp_curve"):
        accountant(RUNS[run](1.0, 2, 0.1) + Gaussian(1.0))


@pytest.mark.parametrize("subject", EVERY, ids=str)
@pytest.mark.parametrize("event", [Unheard(), PoissonSampled(0.1, Unheard())])
def test_an_unknown_event_is_refused_at_once(subject, event):
    """When the curve is built, not when it is first read."""
    with pytest.raises(UnsupportedEventError, match="Unheard"):
        subject.curve(Gaussian(1.0) + event)


@pytest.mark.parametrize("subject", EVERY, ids=str)
def test_mixed_relations_are_refused(subject):
    mixture = PoissonSampled(0.1, Gaussian(1.0)) + FixedSizeSampled(1, 9, Gaussian(1.0))
    with pytest.raises(DrdpError, match="mixes"):
        subject.curve(mixture)


@pytest.mark.parametrize("subject", EVERY, ids=str)
@pytest.mark.parametrize("bad", [None, 1.0, "gaussian", Gaussian])
def test_what_is_no_event_is_refused(subject, bad):
    with pytest.raises(DrdpError, match="event"):
        subject.curve(bad)
