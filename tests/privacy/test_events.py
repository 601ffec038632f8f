"""The event algebra and its normal form."""

import copy
import math
import pickle
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drdp.errors import InvalidArgumentError
from drdp.privacy import outside, releases
from drdp.privacy.events import (
    NOTHING,
    Adjacency,
    ApproxDP,
    Composed,
    Event,
    FixedSizeSampled,
    Gaussian,
    Laplace,
    NonPrivate,
    PoissonSampled,
    Repeated,
    Sampled,
    adjacency_of,
    atoms,
)
from drdp.privacy.sampling import (  # noqa: F401 - what a repr may name
    FixedSizeZeroOut,
    RandomlyAllocated,
    Scheduled,
    Shuffled,
    TruncatedPoissonSampled,
)
from tests.privacy.strategies import events, events_under

REPLACE = Adjacency.REPLACE_ONE
ROUND = PoissonSampled(0.05, Gaussian(1.0))


def same(left: Counter, right: Counter) -> bool:
    """Equal normal forms, but for rounding in a merged noise multiplier."""
    if left == right:
        return True
    return left.total() == right.total() and all(
        any(_near(a, b) and n == m for b, m in right.items()) for a, n in left.items()
    )


def _near(left: object, right: object) -> bool:
    match left, right:
        case Gaussian(noise_multiplier=a), Gaussian(noise_multiplier=b):
            return math.isclose(a, b, rel_tol=1e-12)
        case PoissonSampled(), PoissonSampled():
            return left.adjacency is right.adjacency and (
                math.isclose(left.rate, right.rate, rel_tol=1e-12)
                and _near(left.event, right.event)
            )
        case FixedSizeSampled(), FixedSizeSampled():
            return left.rate == right.rate and _near(left.event, right.event)
        case (Sampled(), Sampled()) if type(left) is type(right):
            alike = replace(left, event=right.event) == right
            return alike and _near(left.event, right.event)
        case Repeated(), Repeated():
            return left.count == right.count and _near(left.event, right.event)
        case Composed(events=one), Composed(events=two):
            return len(one) == len(two) and all(map(_near, one, two))
    return left == right


# Construction ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "name", "value"),
    [
        (lambda: Gaussian(-1.0), "noise_multiplier", "-1.0"),
        (lambda: Gaussian(math.nan), "noise_multiplier", "nan"),
        (lambda: Gaussian(math.inf), "noise_multiplier", "inf"),
        (lambda: Gaussian("1"), "noise_multiplier", "'1'"),
        (lambda: Gaussian(None), "noise_multiplier", "None"),
        (lambda: Gaussian(True), "noise_multiplier", "True"),
        (lambda: Laplace(-2.0), "noise_multiplier", "-2.0"),
        (lambda: Laplace(math.inf), "noise_multiplier", "inf"),
        (lambda: ApproxDP(-1.0), "epsilon", "-1.0"),
        (lambda: ApproxDP(math.inf), "epsilon", "inf"),
        (lambda: ApproxDP(1.0, 1.5), "delta", "1.5"),
        (lambda: ApproxDP(1.0, -1e-9), "delta", "-1e-09"),
        (lambda: PoissonSampled(1.7, Gaussian(1)), "rate", "1.7"),
        (lambda: PoissonSampled(-0.1, Gaussian(1)), "rate", "-0.1"),
        (lambda: PoissonSampled(math.nan, Gaussian(1)), "rate", "nan"),
        (lambda: PoissonSampled(0.1, 3), "event", "3"),
        (lambda: PoissonSampled(0.1, Gaussian), "event", "Gaussian"),
        (lambda: PoissonSampled(0.1, Gaussian(1), "other"), "adjacency", "'other'"),
        (lambda: PoissonSampled(0.1, Gaussian(1), None), "adjacency", "None"),
        (lambda: PoissonSampled(0.1, Gaussian(1), []), "adjacency", r"\[\]"),
        (lambda: FixedSizeSampled(5, 4, Gaussian(1)), "sample_size", "5"),
        (lambda: FixedSizeSampled(-1, 4, Gaussian(1)), "sample_size", "-1"),
        (lambda: FixedSizeSampled(1.5, 4, Gaussian(1)), "sample_size", "1.5"),
        (lambda: FixedSizeSampled(0, 0, Gaussian(1)), "population", "0"),
        (lambda: FixedSizeSampled(1, 4.0, Gaussian(1)), "population", "4.0"),
        (lambda: FixedSizeSampled(1, 4, "g"), "event", "'g'"),
        (lambda: Repeated(Gaussian(1), -1), "count", "-1"),
        (lambda: Repeated(Gaussian(1), 1.5), "count", "1.5"),
        (lambda: Repeated(Gaussian(1), True), "count", "True"),
        (lambda: Repeated("x", 2), "event", "'x'"),
        (lambda: Composed((Gaussian(1), 7)), "event", "7"),
        (lambda: Composed(5), "events", "5"),
        (lambda: Composed(Gaussian(1)), "events", "Gaussian"),
        (lambda: Gaussian(1) * 1.5, "count", "1.5"),
        (lambda: Gaussian(1) * "2", "count", "'2'"),
        (lambda: -1 * Gaussian(1), "count", "-1"),
        (lambda: atoms(3), "event", "3"),
        (lambda: adjacency_of("x"), "event", "'x'"),
    ],
)
def test_a_bad_argument_is_named_with_its_value(build, name, value):
    with pytest.raises(InvalidArgumentError, match=rf"{name}.*{value}"):
        build()


def test_numbers_are_normalised():
    assert Gaussian(1) == Gaussian(1.0)
    assert type(Gaussian(1).noise_multiplier) is float
    assert PoissonSampled(1, Gaussian(1), "zero-out").adjacency is Adjacency.ZERO_OUT
    assert Composed([Gaussian(1)]) == Composed((Gaussian(1),))


def test_only_events_add():
    for other in (0, 1.0, None, "x", [Gaussian(1)]):
        with pytest.raises(TypeError):
            Gaussian(1) + other
        with pytest.raises(TypeError):
            other + Gaussian(1)


@pytest.mark.parametrize(
    "event",
    [Gaussian(1), Laplace(1), ApproxDP(1), NonPrivate(), ROUND, ROUND * 2, NOTHING],
)
def test_an_event_is_frozen(event):
    for name in [*event.__dataclass_fields__, "novel"]:
        with pytest.raises((AttributeError, TypeError)):
            setattr(event, name, 1)


def test_different_mechanisms_with_equal_numbers_differ():
    assert Gaussian(1.0) != Laplace(1.0)
    assert len({Gaussian(1.0), Laplace(1.0), ApproxDP(1.0), NonPrivate()}) == 4


def test_the_default_relation_is_left_out_of_the_text():
    assert repr(ROUND) == (
        "PoissonSampled(rate=0.05, event=Gaussian(noise_multiplier=1.0))"
    )
    assert "replace-one" in repr(PoissonSampled(0.05, Gaussian(1), REPLACE))


def test_a_fixed_size_sample_has_a_rate_and_one_relation():
    event = FixedSizeSampled(5, 100, Gaussian(1))
    assert event.rate == 0.05
    assert event.adjacency is REPLACE


@given(events(), events())
def test_equality_and_hash_go_by_value(left, right):
    assert left == copy.deepcopy(left)
    assert hash(left) == hash(copy.deepcopy(left))
    assert pickle.loads(pickle.dumps(left)) == left
    assert (left == right) == (repr(left) == repr(right))
    assert eval(repr(left), {**vars(releases), **vars(outside), **globals()}) == left  # noqa: S307 - text is source code


# Algebra --------------------------------------------------------------------


@given(st.data(), st.sampled_from(Adjacency))
def test_composition_is_associative_and_commutative(data, relation):
    a, b, c = (data.draw(events_under(relation)) for _ in range(3))
    assert a + (b + c) == (a + b) + c
    assert atoms(a + b) == atoms(b + a) == atoms(a) + atoms(b)


@given(events())
def test_nothing_is_the_neutral_element(event):
    assert atoms(event + NOTHING) == atoms(NOTHING + event) == atoms(event)
    assert atoms(event * 0) == atoms(NOTHING) == Counter()
    assert atoms(event * 1) == atoms(event)


@given(events(), st.integers(0, 50), st.integers(0, 50))
def test_repeats_split_and_multiply(event, n, m):
    assert atoms(event * n + event * m) == atoms(event * (n + m))
    assert atoms((event * n) * m) == atoms(event * (n * m)) == atoms(n * event * m)


@given(events())
def test_composing_copies_is_repeating(event):
    assert atoms(event + event + event) == atoms(event * 3)


@given(st.data(), st.sampled_from(Adjacency))
def test_order_and_nesting_do_not_matter(data, relation):
    parts = data.draw(st.lists(events_under(relation, 3), max_size=5))
    mixed = data.draw(st.permutations(parts))
    flat = Composed(tuple(parts))
    cut = data.draw(st.integers(0, len(parts)))
    nested = Composed((Composed(tuple(mixed[:cut])), Composed(tuple(mixed[cut:])) * 1))
    assert atoms(nested) == atoms(flat)


@given(st.data(), st.sampled_from(Adjacency), st.floats(0.0, 1.0))
def test_order_does_not_matter_inside_a_sample(data, relation, rate):
    parts = data.draw(st.lists(events_under(relation, 3), max_size=4))
    mixed = data.draw(st.permutations(parts))
    sample = PoissonSampled(rate, Composed(tuple(parts)), relation)
    shuffled = PoissonSampled(rate, Composed(tuple(mixed)), relation)
    assert atoms(sample) == atoms(shuffled)


@given(events())
def test_the_normal_form_is_a_fixed_point(event):
    form = atoms(event)
    again = Composed(tuple(Repeated(atom, times) for atom, times in form.items()))
    assert same(atoms(again), form)
    assert all(times > 0 for times in form.values())
    assert not any(isinstance(atom, Repeated | Composed) for atom in form)


# Normal form ----------------------------------------------------------------


def test_equal_rounds_are_one_atom():
    assert atoms(ROUND * 100_000 + ROUND) == {ROUND: 100_001}


def test_a_long_run_is_quick_to_compose():
    event = sum([ROUND, Gaussian(5.0)] * 500, NOTHING)
    assert atoms(event) == {ROUND: 500, Gaussian(5.0): 500}


def test_no_noise_protects_nothing():
    assert atoms(Gaussian(0.0) + Laplace(0.0)) == {NonPrivate(): 2}
    assert atoms(Gaussian(-0.0)) == {NonPrivate(): 1}
    assert NonPrivate() in atoms(PoissonSampled(0.5, Gaussian(0.0)))


def test_pure_zero_dp_costs_nothing():
    assert atoms(ApproxDP(0.0, 0.0)) == {}
    assert atoms(ApproxDP(0.0, 1e-9)) == {ApproxDP(0.0, 1e-9): 1}


@pytest.mark.parametrize("relation", Adjacency)
def test_sampling_nobody_releases_nothing(relation):
    assert atoms(PoissonSampled(0.0, NonPrivate(), relation)) == {}
    assert atoms(PoissonSampled(0.3, NOTHING, relation)) == {}
    assert atoms(FixedSizeSampled(0, 10, NonPrivate())) == {}


@pytest.mark.parametrize("relation", [Adjacency.ADD_REMOVE, Adjacency.ZERO_OUT])
def test_sampling_everybody_is_no_sampling(relation):
    inner = Gaussian(2.0) + Laplace(3.0) * 2
    assert atoms(PoissonSampled(1.0, inner, relation)) == atoms(inner)
    assert atoms(FixedSizeSampled(7, 7, inner)) == atoms(inner)


@pytest.mark.parametrize(
    ("inner", "doubled"),
    [
        (Gaussian(2.0), {Gaussian(1.0): 1}),
        (Laplace(2.0), {Laplace(1.0): 1}),
        (Laplace(2.0) * 3, {Laplace(1.0): 3}),
        (Gaussian(2.0) + Laplace(4.0), {Gaussian(1.0): 1, Laplace(2.0): 1}),
        (PoissonSampled(1.0, Gaussian(2.0), REPLACE), {Gaussian(1.0): 1}),
    ],
)
def test_replacing_someone_doubles_the_change(inner, doubled):
    """Under replace-one a Poisson sample states its noise per clip norm C, while
    two unsampled neighbours are 2C apart."""
    assert atoms(PoissonSampled(1.0, inner, REPLACE)) == doubled


def test_nested_poisson_sampling_multiplies_its_rates():
    event = PoissonSampled(0.5, PoissonSampled(0.1, Gaussian(1.0)))
    assert atoms(event) == {PoissonSampled(0.05, Gaussian(1.0)): 1}


def test_two_rounds_inside_one_sample_are_not_two_samples():
    event = PoissonSampled(0.5, PoissonSampled(0.1, Gaussian(1.0)) * 2)
    assert atoms(event) != atoms(PoissonSampled(0.05, Gaussian(1.0)) * 2)


def test_gaussians_about_one_sample_are_one_gaussian():
    event = PoissonSampled(0.1, Gaussian(3.0) + Gaussian(4.0))
    assert same(atoms(event), Counter({PoissonSampled(0.1, Gaussian(2.4)): 1}))
    many = PoissonSampled(0.1, Gaussian(10.0) * 100)
    assert same(atoms(many), Counter({PoissonSampled(0.1, Gaussian(1.0)): 1}))


@pytest.mark.parametrize("noise", [5e-324, 1e-200, 1e200, 1e308])
def test_extreme_noise_inside_a_sample_does_not_overflow(noise):
    (atom,) = atoms(PoissonSampled(0.1, Gaussian(noise) * 2))
    if isinstance(atom, PoissonSampled):
        assert atom.event.noise_multiplier <= noise
    else:
        assert atom == NonPrivate()


def test_a_tiny_rate_never_rounds_to_nothing():
    """Rounding may add cost, but must not make a release free."""
    nested = PoissonSampled(1e-200, PoissonSampled(1e-200, Gaussian(1.0)))
    (atom,) = atoms(nested)
    assert atom.rate > 0.0
    assert atoms(FixedSizeSampled(1, 10**400, Gaussian(1.0))) != {}


def test_a_fixed_size_sample_is_known_by_its_share():
    small = FixedSizeSampled(1, 20, Gaussian(1.0))
    assert atoms(FixedSizeSampled(5, 100, Gaussian(1.0)) + small) == {small: 2}


# Relations ------------------------------------------------------------------


def test_relations_do_not_mix():
    add = PoissonSampled(0.1, Gaussian(1.0))
    zero = PoissonSampled(0.1, Gaussian(1.0), Adjacency.ZERO_OUT)
    fixed = FixedSizeSampled(1, 10, Gaussian(1.0))
    for pair in (add + zero, add + fixed, zero * 3 + fixed):
        with pytest.raises(InvalidArgumentError, match="mixes"):
            atoms(pair)
    with pytest.raises(InvalidArgumentError, match="add-remove and replace-one"):
        atoms(FixedSizeSampled(1, 10, add))


def test_an_unsampled_release_goes_with_any_relation():
    for sampled in (
        ROUND,
        FixedSizeSampled(1, 10, Gaussian(1.0)),
        PoissonSampled(0.1, Gaussian(1.0), Adjacency.ZERO_OUT),
    ):
        assert adjacency_of(sampled + Gaussian(1.0) * 3) is sampled.adjacency
    assert adjacency_of(Gaussian(1.0) + Laplace(1.0)) is None
    assert adjacency_of(NOTHING) is None


@given(st.sampled_from(Adjacency).flatmap(events_under))
def test_an_event_has_at_most_one_relation(event):
    assert adjacency_of(event) in {None, *Adjacency}
    assert isinstance(event, Event)
