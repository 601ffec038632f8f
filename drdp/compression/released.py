"""The prior from clients' moments, released once with Gaussian noise."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from drdp import _check
from drdp.compression.layout import Layout
from drdp.compression.moments import PAPER, Algorithm1, Statistics
from drdp.compression.random_prior import RandomPrior
from drdp.compression.source import Origin, Source
from drdp.errors import InvalidArgumentError
from drdp.privacy.events import Adjacency
from drdp.privacy.stages import prior_noise

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "Normals",
    "Pool",
    "client_vector",
    "dimension",
    "moments_total",
    "prior_of_total",
    "released_prior",
]


class Normals(Protocol):
    """Where the noise comes from, such as a secure noise source."""

    def normal(self, count: int) -> NDArray[np.float64]:
        """`count` independent standard normal numbers."""
        ...


class Pool(StrEnum):
    """Which matrices share their moments; fewer numbers bear more noise.

    - ``SLOT``: none.  A pure loss with a hundred clients.
    - ``FAMILY``: the layers of one kind of matrix, such as q_proj's A.
    - ``ALL``: all.
    """

    SLOT = "slot"
    FAMILY = "family"
    ALL = "all"


def client_vector(
    statistics: Statistics,
    layout: Layout,
    *,
    pool: Pool = Pool.FAMILY,
    mean_bound: float = 1e-5**0.5,
    algorithm: Algorithm1 = PAPER,
) -> NDArray[np.float64]:
    """What one client sends: its pooled moments, scaled to [-1, 1].

    Args:
        statistics: Of its last epoch.  Collect them with ``bias_correction=True``,
            or the averages of few epochs fall below h1 and are cut off there.
        layout: Which part of an update is which matrix.
        pool: Which matrices share their moments.
        mean_bound: Means are cut off at plus and minus this; public.
        algorithm: Its h1 and h2 are the range of variances; public.

    Returns:
        ``mean / mean_bound`` of each pool, then ``(2 s^2 - (h1 + h2)) / (h2 -
        h1)`` of each where standard deviations were collected.  NaN counts as 0.
    """
    import numpy as np

    if statistics.kurtosis is not None:
        raise InvalidArgumentError(
            "statistics must be means or means and standard deviations: higher"
            " moments have no public bound; take them from proxy data"
        )
    bound = _check.positive(mean_bound=mean_bound)
    places, number = _pools(layout, pool)
    mean = statistics.mean
    if len(mean) == layout.length and len(mean) != len(places):
        mean = np.array([part.mean() for _, part in layout.parts(mean)])
    counts = np.bincount(places, minlength=number)
    vector = np.bincount(places, mean, minlength=number) / counts / bound
    if statistics.std is not None:
        square = np.bincount(places, statistics.std**2, minlength=number) / counts
        low, high = algorithm.h1, algorithm.h2
        if low == high:
            raise InvalidArgumentError("h1 must be below h2 for variances to be sent")
        vector = np.append(vector, (2.0 * square - (low + high)) / (high - low))
    return np.clip(np.nan_to_num(vector), -1.0, 1.0)


def released_prior(
    vectors: Iterable[NDArray[np.float64]],
    layout: Layout,
    *,
    clients: int,
    noise_multiplier: float,
    rng: Normals,
    adjacency: Adjacency = Adjacency.REPLACE_ONE,
    pool: Pool = Pool.FAMILY,
    mean_bound: float = 1e-5**0.5,
    algorithm: Algorithm1 = PAPER,
) -> RandomPrior:
    """The prior from a Gaussian release of all clients' moments.

    Args:
        vectors: Each client's `client_vector`, once.
        layout: Which part of an update is which matrix.
        clients: How many clients there are; public, and what the sum is divided
            by, whoever answered.
        noise_multiplier: Noise standard deviation / how far one client moves the
            sum; see `drdp.privacy.stages` for ways to choose it.
        rng: Source of the noise.  The guarantee is void where it is not secure, so
            name it in the run's provenance.
        adjacency: Which data sets are neighbours; has to be the relation of the
            whole run.  The noise for replace-one is enough for the others as well.
        pool: As in `client_vector`.
        mean_bound: As in `client_vector`.
        algorithm: As in `client_vector`.

    Returns:
        A prior of one component.  Values out of range are clamped, which is
        post-processing.  Its `event` is a Gaussian of `noise_multiplier`.

    Guarantees:
        Every vector is brought to [-1, 1] here, so its norm is at most R =
        ``sqrt(dimension)``; the noise on the sum is ``z kappa R`` with kappa 2
        under replace-one and 1 otherwise, on floats: not protected against
        attacks on their last bits (Mironov 2012).

    A `NoisyPriorWarning` says where the moments drown in the noise.
    """
    total = moments_total(vectors, layout, clients=clients, pool=pool)
    return prior_of_total(
        total,
        layout,
        clients=clients,
        noise_multiplier=noise_multiplier,
        rng=rng,
        adjacency=adjacency,
        pool=pool,
        mean_bound=mean_bound,
        algorithm=algorithm,
    )


def moments_total(
    vectors: Iterable[NDArray[np.float64]],
    layout: Layout,
    *,
    clients: int,
    pool: Pool = Pool.FAMILY,
) -> NDArray[np.float64]:
    """The sum of all clients' moments, before its noise: not to be released.

    For a caller whose noise is a function of what it hides, or who pays for the
    release under the name of what it hides; `prior_of_total` adds the noise.

    Arguments are those of `released_prior`.
    """
    import numpy as np

    population = _check.count(least=1, clients=clients)
    _, number = _pools(layout, pool)
    total: NDArray[np.float64] | None = None
    answered = 0
    for vector in vectors:
        sent = np.clip(np.nan_to_num(np.asarray(vector, dtype=np.float64)), -1.0, 1.0)
        expected = {number, 2 * number} if total is None else {len(total)}
        if sent.ndim != 1 or len(sent) not in expected:
            raise InvalidArgumentError(
                f"vectors must all have {' or '.join(map(str, sorted(expected)))}"
                f" numbers with pool {pool}, got shape {sent.shape}"
            )
        total = sent if total is None else total + sent
        answered += 1
    if total is None or answered > population:
        raise InvalidArgumentError(
            f"vectors must come from 1 to clients={population} clients, got {answered}"
        )
    return total


def prior_of_total(
    total: NDArray[np.float64],
    layout: Layout,
    *,
    clients: int,
    noise_multiplier: float,
    rng: Normals,
    adjacency: Adjacency = Adjacency.REPLACE_ONE,
    pool: Pool = Pool.FAMILY,
    mean_bound: float = 1e-5**0.5,
    algorithm: Algorithm1 = PAPER,
) -> RandomPrior:
    """The prior from what `moments_total` gave, with its noise.

    Arguments and guarantees are those of `released_prior`, which is both steps.
    """
    import numpy as np

    population = _check.count(least=1, clients=clients)
    bound = _check.positive(mean_bound=mean_bound)
    source = Source(Origin.RELEASED, noise_multiplier=noise_multiplier)
    places, number = _pools(layout, pool)
    level = prior_noise(
        noise_multiplier, dimension=len(total), clients=population, adjacency=adjacency
    )
    noisy = np.clip(total / population + level * rng.normal(len(total)), -1.0, 1.0)
    mean = noisy[:number] * bound
    std = None
    if len(noisy) > number:
        low, high = algorithm.h1, algorithm.h2
        std = np.sqrt(0.5 * (noisy[number:] * (high - low) + low + high))[places]
    component = Statistics(mean[places], std)
    return RandomPrior(layout, (component,), source, algorithm)


def dimension(layout: Layout, pool: Pool = Pool.FAMILY, *, stds: bool = True) -> int:
    """How many numbers a client sends.

    >>> shapes = [("a.0.q", (2, 2)), ("a.1.q", (2, 2)), ("a.0.v", (2, 2))]
    >>> dimension(Layout.of_shapes(shapes))
    4
    """
    return _pools(layout, pool)[1] * (2 if stds else 1)


def _pools(layout: Layout, pool: Pool) -> tuple[NDArray[np.int64], int]:
    """The pool of each matrix, and how many there are."""
    import numpy as np

    try:
        pool = Pool(pool)
    except ValueError:
        raise InvalidArgumentError(
            f"pool must be one of {', '.join(Pool)}, got {pool!r}"
        ) from None
    if pool is Pool.ALL:
        return np.zeros(len(layout.slots), dtype=np.int64), 1
    if pool is Pool.SLOT:
        return np.arange(len(layout.slots)), len(layout.slots)
    families = {name: i for i, name in enumerate(layout.families)}
    places = [families[slot.family] for slot in layout.slots]
    return np.array(places), len(families)
