"""Partitions: every example at most once, sizes as promised, skew as named."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drdp.errors import DataError, InvalidArgumentError
from drdp.fedsim import partition
from drdp.fedsim.partition import Partition

LABELS = [f"label {place % 8}" for place in range(2000)]
SEEDS = st.integers(0, 2**32 - 1)


def places(parts: Partition) -> list[int]:
    return sorted(place for part in parts for place in part.tolist())


@given(st.integers(1, 60), st.integers(0, 200), SEEDS)
def test_iid_deals_out_everything_evenly(clients: int, more: int, seed: int) -> None:
    parts = partition.iid(clients + more, clients, seed=seed)
    assert places(parts) == list(range(clients + more))
    sizes = {len(part) for part in parts}
    assert max(sizes) - min(sizes) <= 1


@given(
    st.lists(st.sampled_from("abcde"), min_size=2, max_size=150),
    st.integers(1, 20),
    st.floats(1e-4, 1e4),
    SEEDS,
)
def test_label_skew_deals_out_everything_evenly(
    labels: list[str], clients: int, alpha: float, seed: int
) -> None:
    if len(set(labels)) < 2 or len(labels) < clients:
        with pytest.raises(DataError):
            partition.dirichlet(labels, clients, alpha=alpha, seed=seed)
        return
    parts = partition.dirichlet(labels, clients, alpha=alpha, seed=seed)
    assert places(parts) == list(range(len(labels)))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert all((np.diff(part) > 0).all() for part in parts)


@given(st.lists(st.integers(0, 9), min_size=1), st.integers(1, 4))
def test_keys_are_kept_whole(keys: list[int], minimum: int) -> None:
    frequent = {key for key in keys if keys.count(key) >= minimum}
    if not frequent:
        with pytest.raises(DataError, match="too few"):
            partition.by_key(keys, minimum=minimum)
        return
    parts = partition.by_key(keys, minimum=minimum)
    assert len(parts) == len(frequent)
    for part in parts:
        key = keys[part[0]]
        assert part.tolist() == [at for at, other in enumerate(keys) if other == key]


@given(st.integers(1, 50), SEEDS, st.data())
def test_one_each_gives_different_examples(
    examples: int, seed: int, data: st.DataObject
) -> None:
    clients = data.draw(st.integers(1, examples))
    parts = partition.one_each(examples, clients, seed=seed)
    assert [len(part) for part in parts] == [1] * clients
    assert len(set(places(parts))) == clients


def test_seeds_decide_and_nothing_else() -> None:
    for make in (
        lambda seed: partition.iid(500, 20, seed=seed),
        lambda seed: partition.dirichlet(LABELS, 20, alpha=0.5, seed=seed),
        lambda seed: partition.one_each(500, 20, seed=seed),
        lambda seed: partition.by_key(LABELS, 4, seed=seed),
    ):
        first, again, other = make(1), make(1), make(2)
        assert all(map(np.array_equal, first, again))
        assert not all(map(np.array_equal, first, other))


def test_skew_falls_as_alpha_grows_and_ends_at_iid() -> None:
    def mean_skew(alpha: float) -> float:
        found = [
            partition.skew(LABELS, partition.dirichlet(LABELS, alpha=alpha, seed=seed))
            for seed in range(3)
        ]
        return float(np.mean(found))

    skews = [mean_skew(alpha) for alpha in (0.01, 0.5, 5.0, 50.0, 1e6)]
    assert skews == sorted(skews, reverse=True)
    assert skews[0] > 0.7  # of at most 7/8, one label a client
    iid = partition.skew(LABELS, partition.iid(len(LABELS), seed=0))
    assert skews[-1] == pytest.approx(iid, abs=0.02)


def test_mixes_have_the_moments_of_their_dirichlet_law() -> None:
    # 100,000 examples and 400 clients: shares are as good as the mix itself.
    labels = np.tile(np.arange(4), 25_000).tolist()
    parts = partition.dirichlet(labels, 400, alpha=4.0, seed=3)
    index = np.array(labels)
    shares = np.array([np.bincount(index[p], minlength=4) / len(p) for p in parts])
    # Var = p (1 - p) / (alpha + 1), plus what 250 draws add.
    variance = 0.25 * 0.75 / 5.0
    expected = variance + (0.25 * 0.75 - variance) / 250
    assert shares.var(axis=0).mean() == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: partition.iid(99, seed=0),
            "99 examples are too few for 100 clients with at least 1 each",
        ),
        (
            lambda: partition.iid(199, minimum=2, seed=0),
            "199 examples are too few for 100 clients with at least 2 each",
        ),
        (
            lambda: partition.dirichlet(["a", "b"], 3, alpha=1.0, seed=0),
            "2 examples are too few for 3 clients",
        ),
        (
            lambda: partition.dirichlet(["a"] * 9, 3, alpha=1.0, seed=0),
            "all 9 examples have the label 'a'",
        ),
        (lambda: partition.one_each(3, 4), "3 examples are too few for 4 clients"),
        (
            lambda: partition.by_key("aab", 2, minimum=2),
            "1 of 2 keys have 2 or more examples, too few for 2 clients",
        ),
    ],
)
def test_too_little_data_is_one_clear_line(call, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_arguments_are_named() -> None:
    with pytest.raises(InvalidArgumentError, match="alpha must be"):
        partition.dirichlet("ab", 1, alpha=0.0, seed=0)
    with pytest.raises(InvalidArgumentError, match="clients must be"):
        partition.iid(10, 0, seed=0)
    with pytest.raises(InvalidArgumentError, match="partition must hold"):
        partition.skew("ab", ())
