"""dp-accounting's events convert both ways, and its code gets our curves."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

dp = pytest.importorskip("dp_accounting")

from dp_accounting import dp_event  # noqa: E402
from dp_accounting.pld import PLDAccountant  # noqa: E402
from dp_accounting.rdp import RdpAccountant  # noqa: E402

from drdp.errors import InvalidArgumentError, UnsupportedEventError  # noqa: E402
from drdp.privacy.adapters.dp_accounting import (  # noqa: E402
    CertifiedAccountant,
    from_dp_event,
    neighboring_relation,
    to_dp_event,
)
from drdp.privacy.events import (  # noqa: E402
    NOTHING,
    Adjacency,
    ApproxDP,
    Composed,
    FixedSizeSampled,
    Gaussian,
    Laplace,
    NonPrivate,
    PoissonSampled,
    Repeated,
    atoms,
)
from drdp.privacy.pld import epsilon_interval, pld_curve  # noqa: E402
from drdp.privacy.releases import (  # noqa: E402
    DiscreteGaussian,
    MixtureOfGaussians,
    RandomisedResponse,
    Skellam,
    ZeroConcentrated,
)
from drdp.privacy.sampling import (  # noqa: E402
    FixedSizeZeroOut,
    RandomlyAllocated,
    Scheduled,
    Shuffled,
    TruncatedPoissonSampled,
)

ADD = dp.NeighboringRelation.ADD_OR_REMOVE_ONE
ONE = dp.NeighboringRelation.REPLACE_ONE
SPECIAL = dp.NeighboringRelation.REPLACE_SPECIAL
RELATIONS = [ADD, ONE, SPECIAL]

gaussian = dp.GaussianDpEvent
poisson = dp.PoissonSampledDpEvent
fixed = dp.SampledWithoutReplacementDpEvent
truncated = dp_event.TruncatedSubsampledGaussianDpEvent
mixture = dp_event.MixtureOfGaussiansDpEvent
answer = dp.RandomizedResponseDpEvent


def same(one, two):
    """Whether two events are the same releases; without protection all are equal."""
    parts = [atoms(event) for event in (one, two)]
    lost = [NonPrivate() in part for part in parts]
    return all(lost) or parts[0] == parts[1]


# --- what each event is --------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "relation", "ours"),
    [
        (dp.NoOpDpEvent(), ADD, NOTHING),
        (dp.NonPrivateDpEvent(), ADD, NonPrivate()),
        (gaussian(3.0), ADD, Gaussian(3.0)),
        (gaussian(3.0), SPECIAL, Gaussian(3.0)),
        (gaussian(3.0), ONE, Gaussian(1.5)),
        (dp.LaplaceDpEvent(3.0), ADD, Laplace(3.0)),
        (dp.LaplaceDpEvent(3.0), ONE, Laplace(1.5)),
        (poisson(0.1, gaussian(2.0)), ADD, PoissonSampled(0.1, Gaussian(2.0))),
        (
            poisson(0.1, gaussian(2.0)),
            ONE,
            PoissonSampled(0.1, Gaussian(2.0), "replace-one"),
        ),
        (
            poisson(0.1, gaussian(2.0)),
            SPECIAL,
            PoissonSampled(0.1, Gaussian(2.0), "zero-out"),
        ),
        (fixed(100, 5, gaussian(2.0)), ONE, FixedSizeSampled(5, 100, Gaussian(1.0))),
        (
            fixed(100, 5, gaussian(2.0)),
            SPECIAL,
            FixedSizeZeroOut(5, 100, Gaussian(2.0)),
        ),
        (
            truncated(100, 0.1, 20, 2.0),
            ADD,
            TruncatedPoissonSampled(0.1, 100, 20, Gaussian(2.0)),
        ),
        (truncated(100, 0.1, 0, 2.0), ADD, NOTHING),
        (
            mixture(2.0, [0, 1], [0.9, 0.1]),
            ADD,
            MixtureOfGaussians((0, 1), (0.9, 0.1), 2.0),
        ),
        (
            mixture(2.0, [0, 1], [0.9, 0.1]),
            SPECIAL,
            MixtureOfGaussians((0, 1), (0.9, 0.1), 2.0, "zero-out"),
        ),
        (mixture(2.0, [0], [1]), ADD, NOTHING),
        (mixture(0.0, [1], [1]), ADD, NonPrivate()),
        (dp.ZCDpEvent(0.5), ADD, ZeroConcentrated(0.5)),
        (answer(1.0, 4), ONE, NOTHING),
        (answer(0.0, 4), ONE, NonPrivate()),
        (answer(0.0, 1), ONE, NOTHING),
        (answer(0.5, 2), ONE, RandomisedResponse(math.log1p(2.0), 2)),
        (dp.SelfComposedDpEvent(gaussian(2.0), 7), ADD, Gaussian(2.0) * 7),
        (
            dp.ComposedDpEvent([gaussian(2.0), poisson(0.1, gaussian(1.0))]),
            ADD,
            Gaussian(2.0) + PoissonSampled(0.1, Gaussian(1.0)),
        ),
        (
            dp.SelfComposedDpEvent(
                dp.ComposedDpEvent(
                    [dp.SelfComposedDpEvent(poisson(0.1, gaussian(4.0)), 2)]
                ),
                3,
            ),
            ONE,
            PoissonSampled(0.1, Gaussian(4.0), "replace-one") * 6,
        ),
        (
            poisson(0.1, dp.ComposedDpEvent([gaussian(3.0), gaussian(4.0)])),
            ADD,
            PoissonSampled(0.1, Gaussian(2.4)),
        ),
    ],
)
def test_the_event_of_a_dp_event(theirs, relation, ours):
    found = from_dp_event(theirs, relation)
    assert same(found, ours)


def test_per_sensitivity_only_replacing_differs():
    event = dp.ComposedDpEvent([gaussian(2.0), poisson(0.1, gaussian(2.0))])
    for relation in (ADD, SPECIAL):
        assert from_dp_event(event, relation, noise_per="sensitivity") == from_dp_event(
            event, relation
        )
    found = from_dp_event(event, ONE, noise_per="sensitivity")
    assert found == Gaussian(2.0) + PoissonSampled(0.1, Gaussian(4.0), "replace-one")
    wor = from_dp_event(fixed(100, 5, gaussian(2.0)), ONE, noise_per="sensitivity")
    assert wor == FixedSizeSampled(5, 100, Gaussian(2.0))


@pytest.mark.parametrize(
    ("theirs", "relation", "message"),
    [
        (dp.UnsupportedDpEvent(), ADD, "without a description"),
        (dp_event.DiscreteLaplaceDpEvent(0.5, 2), ADD, "ApproxDP"),
        (dp.SampledWithReplacementDpEvent(9, 2, gaussian(1.0)), ONE, "replacement"),
        (dp.SingleEpochTreeAggregationDpEvent(1.0, 4), SPECIAL, "Gaussian events"),
        (dp_event.RepeatAndSelectDpEvent(gaussian(1.0), 1, 1), ADD, "selection"),
        (dp.ZCDpEvent(0.5, 0.1), ADD, "xi = 0"),
        (answer(0.5, 2), ADD, "REPLACE_ONE"),
        (mixture(2.0, [0, 1], [0.9, 0.1]), ONE, "ADD_OR_REMOVE_ONE"),
        (fixed(9, 2, gaussian(1.0)), ADD, "REPLACE_SPECIAL"),
        (poisson(0.1, poisson(0.1, gaussian(1.0))), ADD, "inside a sample"),
        (poisson(0.1, dp.ZCDpEvent(1.0)), ADD, "inside a sample"),
        (poisson(0.1, dp.UnsupportedDpEvent()), ADD, "inside a sample"),
    ],
)
def test_what_has_no_equal_is_refused_in_one_line(theirs, relation, message):
    with pytest.raises(UnsupportedEventError, match=message) as caught:
        from_dp_event(theirs, relation)
    assert "\n" not in str(caught.value)
    assert type(theirs).__name__ in str(caught.value) or "inside" in message
    accountant = CertifiedAccountant(relation)
    assert not accountant.supports(theirs)
    with pytest.raises(dp.UnsupportedEventError, match=message):
        accountant.compose(theirs)
    assert accountant.event == NOTHING


@pytest.mark.parametrize(
    ("theirs", "relation"),
    [
        ("gaussian", ADD),
        (Gaussian(1.0), ADD),
        (gaussian(-1.0), ADD),
        (gaussian(math.nan), ADD),
        (poisson(1.5, gaussian(1.0)), ADD),
        (fixed(5, 9, gaussian(1.0)), ONE),
        (dp.SelfComposedDpEvent(gaussian(1.0), -1), ADD),
        (dp.ZCDpEvent(-1.0), ADD),
        (mixture(1.0, [1, 2], [0.5, 0.2]), ADD),
        (answer(1.5, 2), ONE),
        (answer(0.5, 0), ONE),
        (gaussian(1.0), "add-remove"),
    ],
)
def test_a_bad_value_is_refused(theirs, relation):
    with pytest.raises(InvalidArgumentError):
        from_dp_event(theirs, relation)


def test_a_very_deep_event_is_refused():
    event = gaussian(1.0)
    for _ in range(300):
        event = dp.SelfComposedDpEvent(event, 1)
    with pytest.raises(UnsupportedEventError, match="nest deeper"):
        from_dp_event(event)


@pytest.mark.parametrize(
    "event",
    [
        ApproxDP(1.0, 1e-6),
        DiscreteGaussian(2.0),
        Skellam(9.0),
        RandomlyAllocated(5, Gaussian(1.0)),
        Shuffled(5, Gaussian(1.0)),
        RandomisedResponse(1.0),
        PoissonSampled(0.1, DiscreteGaussian(2.0)),
        PoissonSampled(0.1, PoissonSampled(0.1, Gaussian(1.0))),
        TruncatedPoissonSampled(0.1, 100, 20, Laplace(1.0)),
    ],
)
def test_what_dp_accounting_cannot_say_is_refused(event):
    with pytest.raises(UnsupportedEventError, match="is refused") as caught:
        to_dp_event(event)
    assert "\n" not in str(caught.value)


def test_a_relation_that_is_not_the_events_is_refused():
    run = PoissonSampled(0.1, Gaussian(1.0))
    assert neighboring_relation(run) is ADD
    assert neighboring_relation(Gaussian(1.0)) is ADD
    assert neighboring_relation(FixedSizeSampled(5, 9, Gaussian(1.0))) is ONE
    with pytest.raises(InvalidArgumentError, match="relation"):
        to_dp_event(run, ONE)
    assert to_dp_event(Gaussian(1.0), ONE) == gaussian(2.0)


# --- round trips ---------------------------------------------------------------

noise = st.floats(min_value=1e-3, max_value=1e3)
rates = st.floats(min_value=0.0, max_value=1.0)
counts = st.integers(min_value=0, max_value=1000)


def releases():
    plain = st.one_of(
        st.builds(Gaussian, noise),
        st.builds(Laplace, noise),
        st.just(NonPrivate()),
        st.just(NOTHING),
    )
    return st.recursive(
        plain,
        lambda inner: st.one_of(
            st.builds(Repeated, inner, st.integers(1, 1000)),
            st.lists(inner, max_size=3).map(tuple).map(Composed),
        ),
        max_leaves=4,
    )


def sized(kind):
    return st.builds(
        lambda a, b, event: kind(min(a, b), max(a, b), event),
        st.integers(1, 100),
        st.integers(1, 100),
        releases(),
    )


def events_under(relation):
    same = st.just(relation)
    kinds = [
        releases(),
        st.builds(PoissonSampled, rates, releases(), same),
        st.builds(Scheduled, counts, st.builds(Laplace, noise), same),
        st.builds(ZeroConcentrated, noise),
        st.builds(
            TruncatedPoissonSampled,
            rates,
            st.integers(1, 100),
            st.integers(1, 50),
            st.builds(Gaussian, noise),
            same,
        ),
    ]
    if relation is Adjacency.REPLACE_ONE:
        kinds.append(sized(FixedSizeSampled))
    else:
        kinds.append(
            st.builds(
                lambda share, z: MixtureOfGaussians(
                    (0.0, 1.0), (1.0 - share, share), z, relation
                ),
                st.floats(0.01, 0.99),
                noise,
            )
        )
    if relation is Adjacency.ZERO_OUT:
        kinds.append(sized(FixedSizeZeroOut))
    return st.recursive(
        st.one_of(kinds),
        lambda inner: st.one_of(
            st.builds(Repeated, inner, counts),
            st.lists(inner, max_size=3).map(tuple).map(Composed),
        ),
        max_leaves=4,
    )


@given(
    st.sampled_from(Adjacency).flatmap(
        lambda relation: st.tuples(st.just(relation), events_under(relation))
    )
)
@settings(max_examples=100)
def test_there_and_back_is_the_same_release(drawn):
    adjacency, event = drawn
    relation = {
        Adjacency.ADD_REMOVE: ADD,
        Adjacency.REPLACE_ONE: ONE,
        Adjacency.ZERO_OUT: SPECIAL,
    }[adjacency]
    theirs = to_dp_event(event, relation)
    assert isinstance(theirs, dp.DpEvent)
    assert same(from_dp_event(theirs, relation), event)


@given(noise, st.integers(2, 9))
def test_random_answers_there_and_back(epsilon, categories):
    event = RandomisedResponse(min(epsilon, 30.0), categories)
    found = from_dp_event(to_dp_event(event, ONE), ONE)
    assert found.categories == categories
    assert found.epsilon == pytest.approx(event.epsilon, rel=1e-9)


@given(st.sampled_from(RELATIONS), noise, rates, st.integers(1, 30), counts)
def test_their_events_there_and_back(relation, z, rate, size, count):
    parts = [gaussian(z), dp.LaplaceDpEvent(z), poisson(rate, gaussian(z))]
    if relation is not ADD:
        parts.append(fixed(30, size, gaussian(z)))
    event = dp.ComposedDpEvent([dp.SelfComposedDpEvent(p, count + 1) for p in parts])
    assert to_dp_event(from_dp_event(event, relation), relation) == event


# --- curves --------------------------------------------------------------------

CURVES = [
    (gaussian(1.7), 1, RELATIONS),
    (gaussian(5.0), 40, RELATIONS),
    (poisson(0.05, gaussian(1.0)), 20, RELATIONS),
    (poisson(0.3, gaussian(3.0)), 100, RELATIONS),
    (dp.LaplaceDpEvent(4.0), 10, [ADD, SPECIAL]),
    (poisson(0.2, dp.LaplaceDpEvent(2.0)), 10, [ADD, SPECIAL]),
    (
        dp.ComposedDpEvent(
            [gaussian(8.0), dp.SelfComposedDpEvent(poisson(0.1, gaussian(2.0)), 30)]
        ),
        1,
        RELATIONS,
    ),
]


@pytest.mark.parametrize(
    ("event", "count", "relation"),
    [(event, count, r) for event, count, among in CURVES for r in among],
)
def test_curves_agree_with_their_losses(event, count, relation):
    theirs = PLDAccountant(relation, value_discretization_interval=1e-4)
    theirs.compose(event, count)
    ours = CertifiedAccountant(relation).compose(event, count)
    for delta in (1e-2, 1e-5, 1e-8):
        other = theirs.get_epsilon(delta)
        assert ours.get_epsilon(delta) == pytest.approx(other, rel=3e-3, abs=1e-5)
    epsilon = ours.get_epsilon(1e-5)
    assert ours.get_delta(epsilon) == pytest.approx(1e-5, rel=1e-3)


@pytest.mark.parametrize("relation", RELATIONS)
def test_a_truncated_sample_agrees_where_it_is_rarely_cut(relation):
    event = truncated(1000, 0.05, 90, 2.0)
    theirs = PLDAccountant(relation).compose(event, 20)
    ours = CertifiedAccountant(relation).compose(event, 20)
    for delta in (1e-3, 1e-5):
        found, other = ours.get_epsilon(delta), theirs.get_epsilon(delta)
        assert found == pytest.approx(other, rel=0.02)
    # Where it is often cut, ours is the cruder of two upper bounds.
    often = truncated(1000, 0.05, 60, 2.0)
    ours = CertifiedAccountant(relation).compose(often, 20)
    theirs = PLDAccountant(relation).compose(often, 20)
    low, high, _ = epsilon_interval(ours.event, 1e-5, tolerance=1e-4)
    assert low <= theirs.get_epsilon(1e-5) * (1 + 1e-6)
    assert high <= CertifiedAccountant(ONE).compose(gaussian(2.0), 20).get_epsilon(1e-5)


def test_samples_of_fixed_size_against_their_renyi_bound():
    """Theirs takes the multiplier per sensitivity: so read, ours is below it."""
    event = dp.SelfComposedDpEvent(fixed(100, 5, gaussian(2.0)), 20)
    theirs = RdpAccountant(neighboring_relation=ONE).compose(event)
    ours = CertifiedAccountant(ONE, noise_per="sensitivity").compose(event)
    assert ours.get_epsilon(1e-5) <= theirs.get_epsilon(1e-5)
    # As the event documents it, per clip norm, it costs more than they say.
    documented = CertifiedAccountant(ONE).compose(event)
    low, _, _ = epsilon_interval(documented.event, 1e-5, tolerance=1e-4)
    assert theirs.get_epsilon(1e-5) < low


def test_their_two_readings_of_a_replaced_gaussian():
    """19.05 by Renyi divergences, 46.21 by losses: we side with the document."""
    losses = PLDAccountant(ONE).compose(gaussian(1.0), 10).get_epsilon(1e-5)
    renyi = RdpAccountant(neighboring_relation=ONE).compose(gaussian(1.0), 10)
    ours = CertifiedAccountant(ONE).compose(gaussian(1.0), 10).get_epsilon(1e-5)
    assert ours == pytest.approx(losses, rel=1e-3)
    assert ours == pytest.approx(46.21, abs=0.02)
    assert renyi.get_epsilon(1e-5) < 0.5 * ours
    other = CertifiedAccountant(ONE, noise_per="sensitivity").compose(gaussian(1.0), 10)
    assert other.get_epsilon(1e-5) <= renyi.get_epsilon(1e-5)


# --- where theirs under-reports ------------------------------------------------


@pytest.mark.parametrize("buckets", [2, 5])
@pytest.mark.parametrize("relation", [ONE, SPECIAL])
def test_ten_random_answers_cost_ten_times_one(relation, buckets):
    """Their accountant by losses forgets the count (version 0.6)."""
    once, ten = answer(0.5, buckets), dp.SelfComposedDpEvent(answer(0.5, buckets), 10)
    forgotten = PLDAccountant(relation).compose(ten).get_epsilon(1e-9)
    single = PLDAccountant(relation).compose(once).get_epsilon(1e-9)
    assert forgotten == pytest.approx(single)
    # Composed one by one it is right.
    theirs = PLDAccountant(relation)
    for _ in range(10):
        theirs.compose(once)
    ours = CertifiedAccountant(relation).compose(ten)
    assert ours.get_epsilon(1e-9) == pytest.approx(theirs.get_epsilon(1e-9), rel=2e-3)
    assert ours.get_epsilon(1e-9) > 8.0 * forgotten
    one = CertifiedAccountant(relation).compose(once).get_epsilon(1e-12)
    assert ours.get_epsilon(1e-14) == pytest.approx(10 * one, rel=1e-4)


# --- the accountant ------------------------------------------------------------


def test_the_accountant_keeps_their_promises():
    accountant = CertifiedAccountant()
    assert accountant.neighboring_relation is ADD
    assert accountant.ledger == dp.NoOpDpEvent()
    assert accountant.get_epsilon(1e-5) == 0.0
    step = poisson(0.01, gaussian(1.0))
    assert accountant.supports(step)
    assert accountant.ledger == dp.NoOpDpEvent()
    assert accountant.compose(step, 3).compose(step) is accountant
    assert accountant.ledger == dp.SelfComposedDpEvent(step, 4)
    assert atoms(accountant.event) == atoms(PoissonSampled(0.01, Gaussian(1.0)) * 4)
    assert accountant.get_delta(0.5) == pld_curve(accountant.event).delta(0.5)
    with pytest.raises(TypeError):
        accountant.compose(Gaussian(1.0))
    with pytest.raises(ValueError, match="count"):
        accountant.compose(step, 0)
    assert atoms(accountant.event) == atoms(PoissonSampled(0.01, Gaussian(1.0)) * 4)


def test_no_protection_is_told():
    accountant = CertifiedAccountant().compose(gaussian(0.0))
    assert accountant.get_epsilon(1e-5) == math.inf
    assert accountant.get_delta(3.0) == 1.0
    plain = CertifiedAccountant().compose(dp.NonPrivateDpEvent())
    assert plain.get_epsilon(0.5) == math.inf


def test_zcdp_is_accounted_by_renyi_divergences():
    ours = CertifiedAccountant().compose(dp.ZCDpEvent(0.1), 5)
    theirs = RdpAccountant().compose(dp.ZCDpEvent(0.1), 5)
    assert ours.get_epsilon(1e-5) <= theirs.get_epsilon(1e-5) * (1 + 1e-9)
    assert ours.get_epsilon(1e-5) > pld_curve(Gaussian(1 / math.sqrt(1.0))).epsilon(
        1e-5
    )


def test_what_no_accountant_can_add_is_no_longer_supported():
    accountant = CertifiedAccountant().compose(poisson(0.1, dp.LaplaceDpEvent(1.0)))
    assert not accountant.supports(dp.ZCDpEvent(0.1))
    with pytest.raises(dp.UnsupportedEventError):
        accountant.compose(dp.ZCDpEvent(0.1))
    assert accountant.get_epsilon(1e-5) < math.inf


@pytest.mark.parametrize("relation", RELATIONS)
def test_their_calibration_with_our_accountant(relation):
    def event(z):
        return dp.SelfComposedDpEvent(poisson(0.05, gaussian(z)), 20)

    found = dp.calibrate_dp_mechanism(
        lambda: CertifiedAccountant(relation),
        event,
        2.0,
        1e-5,
        dp.ExplicitBracketInterval(0.3, 20.0),
    )
    ours = CertifiedAccountant(relation).compose(event(found))
    assert 1.999 <= ours.get_epsilon(1e-5) <= 2.0
    if relation is ADD:
        assert found == pytest.approx(0.9968, abs=1e-4)


def test_their_calibration_of_a_count():
    found = dp.calibrate_dp_mechanism(
        CertifiedAccountant,
        lambda n: dp.SelfComposedDpEvent(poisson(0.05, gaussian(1.0)), n),
        2.0,
        1e-5,
        dp.ExplicitBracketInterval(1, 200),
        discrete=True,
    )
    fits = CertifiedAccountant().compose(poisson(0.05, gaussian(1.0)), found)
    more = CertifiedAccountant().compose(poisson(0.05, gaussian(1.0)), found + 1)
    assert fits.get_epsilon(1e-5) <= 2.0 < more.get_epsilon(1e-5)
