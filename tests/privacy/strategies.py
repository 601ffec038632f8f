"""Hypothesis strategies for events: any event, and its single relation."""

from hypothesis import strategies as st

from drdp.privacy.events import (
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
)
from drdp.privacy.outside import DominatingPair
from drdp.privacy.releases import (
    DiscreteGaussian,
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

noise = st.floats(min_value=1e-3, max_value=1e3)
rates = st.floats(min_value=0.0, max_value=1.0)
counts = st.integers(min_value=0, max_value=1000)


def releases() -> st.SearchStrategy[Event]:
    """Events without parts."""
    return st.one_of(
        st.builds(Gaussian, noise),
        st.builds(Laplace, noise),
        st.builds(ApproxDP, st.floats(0.0, 50.0), rates),
        st.builds(DiscreteGaussian, noise, st.integers(1, 50)),
        st.builds(Skellam, noise, st.floats(1.0, 9.0), st.integers(2, 50)),
        st.builds(ZeroConcentrated, noise),
        st.builds(RandomisedResponse, noise, st.integers(2, 9)),
        st.just(DominatingPair([0.5, 0.5], [0.25, 0.75])),
        st.just(NonPrivate()),
        st.just(Gaussian(0.0)),
        st.just(Composed()),
    )


sizes = st.tuples(st.integers(0, 50), st.integers(1, 100))


def _fixed_size(kind: type, inner: st.SearchStrategy[Event]) -> st.SearchStrategy:
    return st.builds(
        lambda pair, event: kind(min(pair), max(pair), event), sizes, inner
    )


def _draws(
    relation: Adjacency, inner: st.SearchStrategy[Event]
) -> list[st.SearchStrategy[Event]]:
    """The other ways to draw that have a meaning under a relation."""
    same = st.just(relation)
    kinds: list[st.SearchStrategy[Event]] = [
        st.builds(PoissonSampled, rates, inner, same),
        st.builds(Scheduled, counts, inner, same),
        st.builds(
            TruncatedPoissonSampled,
            rates,
            st.integers(1, 100),
            st.integers(1, 50),
            inner,
            same,
        ),
    ]
    if relation is Adjacency.REPLACE_ONE:
        kinds.append(_fixed_size(FixedSizeSampled, inner))
    else:
        kinds.append(
            st.builds(
                lambda pair, event: RandomlyAllocated(
                    max(pair), event, min(pair), relation
                ),
                sizes,
                inner,
            )
        )
    if relation is Adjacency.ZERO_OUT:
        kinds.append(_fixed_size(FixedSizeZeroOut, inner))
    if relation is not Adjacency.ADD_REMOVE:
        kinds.append(st.builds(Shuffled, st.integers(1, 50), inner, same))
    return kinds


def events_under(relation: Adjacency, leaves: int = 6) -> st.SearchStrategy[Event]:
    """Events all of whose parts are stated under one relation."""

    def grow(inner: st.SearchStrategy[Event]) -> st.SearchStrategy[Event]:
        kinds = [
            st.builds(Repeated, inner, counts),
            st.lists(inner, max_size=4).map(tuple).map(Composed),
            *_draws(relation, inner),
        ]
        return st.one_of(kinds)

    return st.recursive(releases(), grow, max_leaves=leaves)


def events(leaves: int = 6) -> st.SearchStrategy[Event]:
    """Any event that `atoms` accepts."""
    return st.sampled_from(Adjacency).flatmap(
        lambda relation: events_under(relation, leaves)
    )
