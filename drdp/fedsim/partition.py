"""Which client holds which examples: at random, skewed by label, or by a key."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from drdp import _check
from drdp.errors import DataError, InvalidArgumentError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["CLIENTS", "Partition", "by_key", "dirichlet", "iid", "one_each", "skew"]

CLIENTS = 100
"""How many clients there are by default, as in the DR-Encoder paper."""

Partition: TypeAlias = "tuple[NDArray[np.int64], ...]"
"""Per client, the places of its examples, in increasing order."""


def iid(
    examples: int, clients: int = CLIENTS, *, minimum: int = 1, seed: int
) -> Partition:
    """Examples dealt out at random; sizes differ by at most one.

    Args:
        examples: How many examples there are.
        clients: How many clients there are.
        minimum: The fewest examples a client may have.
        seed: Decides who gets which.

    Raises:
        DataError: Too few examples for that many clients.

    >>> [part.tolist() for part in iid(5, 2, seed=0)]
    [[2, 3, 4], [0, 1]]
    """
    import numpy as np

    sizes = _sizes(examples, clients, minimum)
    order = np.random.default_rng(_check.count(seed=seed)).permutation(examples)
    ends = np.cumsum(sizes)
    return tuple(np.sort(part) for part in np.split(order, ends[:-1]))


def dirichlet(
    labels: Sequence[Hashable],
    clients: int = CLIENTS,
    *,
    alpha: float,
    minimum: int = 1,
    seed: int,
) -> Partition:
    """Label skew: each client has its own mix of labels, drawn from a Dirichlet law.

    A client's mix is drawn from Dirichlet(alpha * p), where p are the shares of the
    labels in the data.  Clients then take turns; each draws a label by its mix among
    those that are left, and one example of it.  Sizes differ by at most one.  The
    smaller `alpha`, the fewer labels a client sees; as it grows, the partition
    becomes `iid`.

    Args:
        labels: One label per example, such as its category.
        clients: How many clients there are.
        alpha: Concentration, positive.
        minimum: The fewest examples a client may have.
        seed: Decides mixes and draws.

    Raises:
        DataError: Too few examples for that many clients, or only one label.

    References: Hsu, Qi, Brown, arXiv:1909.06335.  There, clients draw one after
    another, so that the last ones are left with the rest; here they take turns.

    >>> parts = dirichlet(["a", "b"] * 8, 4, alpha=0.01, seed=0)
    >>> sorted(place for part in parts for place in part.tolist()) == list(range(16))
    True
    """
    import numpy as np

    alpha = _check.positive(alpha=alpha)
    sizes = _sizes(len(labels), clients, minimum)
    kinds = list(dict.fromkeys(labels))
    if len(kinds) < 2:
        raise DataError(
            f"all {len(labels)} examples have the label {kinds[0]!r}: a skew by label"
            " needs two labels; use iid"
        )
    rng = np.random.default_rng(_check.count(seed=seed))
    places = {kind: index for index, kind in enumerate(kinds)}
    index = np.array([places[label] for label in labels])
    pools = [rng.permutation(np.flatnonzero(index == k)) for k in range(len(kinds))]
    left = np.array([len(pool) for pool in pools])
    mixes = _mixes(rng, alpha * left / left.sum(), len(sizes))
    parts: list[list[int]] = [[] for _ in sizes]
    for turn in range(int(sizes[0])):
        for client in range(len(sizes)):
            if turn < sizes[client]:
                label = _draw(rng, mixes[client], left)
                left[label] -= 1
                parts[client].append(int(pools[label][left[label]]))
    return tuple(np.sort(np.array(part, dtype=np.int64)) for part in parts)


def by_key(
    keys: Sequence[Hashable],
    clients: int | None = None,
    *,
    minimum: int = 1,
    seed: int = 0,
) -> Partition:
    """One client per key, such as the author of a row.

    Args:
        keys: One key per example.
        clients: How many of the keys to keep, drawn by `seed`; None keeps all.
        minimum: Keys with fewer examples are left out, with their examples.
        seed: Decides which keys are kept.

    Raises:
        DataError: Fewer keys with `minimum` examples than `clients`, or none.

    >>> [part.tolist() for part in by_key(["ann", "bob", "ann", "eve"], minimum=2)]
    [[0, 2]]
    """
    import numpy as np

    minimum = _check.count(minimum=minimum, least=1)
    groups: dict[Hashable, list[int]] = {}
    for place, key in enumerate(keys):
        groups.setdefault(key, []).append(place)
    kept = [group for group in groups.values() if len(group) >= minimum]
    wanted = len(kept) if clients is None else _check.count(clients=clients, least=1)
    if not kept or len(kept) < wanted:
        raise DataError(
            f"{len(kept)} of {len(groups)} keys have {minimum} or more examples,"
            f" too few for {max(wanted, 1)} clients; lower minimum or clients"
        )
    rng = np.random.default_rng(_check.count(seed=seed))
    chosen = np.sort(rng.permutation(len(kept))[:wanted])
    return tuple(np.array(kept[which], dtype=np.int64) for which in chosen)


def one_each(examples: int, clients: int | None = None, *, seed: int = 0) -> Partition:
    """One example per client: the privacy unit is the example.

    Args:
        examples: How many examples there are.
        clients: How many of them become clients, drawn by `seed`; None takes all.
        seed: Decides which.

    >>> [part.tolist() for part in one_each(3)]
    [[0], [1], [2]]
    """
    import numpy as np

    wanted = examples if clients is None else clients
    _sizes(examples, wanted, 1)
    rng = np.random.default_rng(_check.count(seed=seed))
    chosen = np.sort(rng.permutation(examples)[:wanted])
    return tuple(np.array([place], dtype=np.int64) for place in chosen)


def skew(labels: Sequence[Hashable], partition: Partition) -> float:
    """How far clients' labels are from the whole data's: 0 for alike, towards 1.

    The mean over clients of the total variation distance between the shares of the
    labels at the client and in the data of all clients.

    >>> import numpy as np
    >>> skew(["a", "a", "b", "b"], (np.array([0, 1]), np.array([2, 3])))
    0.5
    """
    import numpy as np

    if not partition:
        raise InvalidArgumentError("partition must hold at least one client")
    places = {label: index for index, label in enumerate(dict.fromkeys(labels))}
    index = np.array([places[label] for label in labels])
    counts = np.array(
        [np.bincount(index[part], minlength=len(places)) for part in partition]
    )
    whole = counts.sum(axis=0) / counts.sum()
    shares = counts / counts.sum(axis=1, keepdims=True)
    return float(np.mean(0.5 * np.abs(shares - whole).sum(axis=1)))


def _sizes(examples: int, clients: int, minimum: int) -> NDArray[np.int64]:
    import numpy as np

    examples = _check.count(examples=examples)
    clients = _check.count(clients=clients, least=1)
    minimum = _check.count(minimum=minimum, least=1)
    if examples < clients * minimum:
        raise DataError(
            f"{examples} examples are too few for {clients} clients with at least"
            f" {minimum} each; lower clients or bring more data"
        )
    sizes = np.full(clients, examples // clients, dtype=np.int64)
    sizes[: examples % clients] += 1
    return sizes


def _mixes(
    rng: np.random.Generator, concentrations: NDArray[np.float64], clients: int
) -> NDArray[np.float64]:
    """Rows of Dirichlet draws; in logarithms, so that no small alpha gives 0/0."""
    import numpy as np

    # Gamma(a) has the law of Gamma(a + 1) U^(1/a) (Marsaglia and Tsang 2000).
    shape = (clients, len(concentrations))
    logs = np.log(rng.gamma(concentrations + 1.0, size=shape))
    logs += np.log(rng.random(shape)) / concentrations
    weights = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _draw(
    rng: np.random.Generator, mix: NDArray[np.float64], left: NDArray[np.int64]
) -> int:
    """A label by the client's mix among those left; by what is left if it has none."""
    import numpy as np

    weights = np.where(left > 0, mix, 0.0)
    if weights.sum() <= 0.0:
        weights = left.astype(np.float64)
    labels = np.flatnonzero(weights)
    edges = np.cumsum(weights[labels])
    place = np.searchsorted(edges, rng.random() * edges[-1], side="right")
    return int(labels[min(int(place), len(labels) - 1)])
