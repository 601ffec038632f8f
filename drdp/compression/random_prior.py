"""Synthetic updates drawn from moments: what the autoencoder is fitted on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, final

from drdp import _check
from drdp.compression import draws
from drdp.compression.laws import shaped
from drdp.compression.layout import Layout
from drdp.compression.moments import PAPER, Algorithm1, Statistics, collect
from drdp.compression.source import Origin, Source
from drdp.errors import InvalidArgumentError
from drdp.privacy.events import Event

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["RandomPrior", "Spread", "prior_from", "public_prior"]


class Spread(StrEnum):
    """Whether s in ``N(m, s)`` is a standard deviation or a variance."""

    STD = "std"
    VARIANCE = "variance"


@final
@dataclass(frozen=True, slots=True, eq=False)
class RandomPrior:
    """A law of synthetic updates: one set of moments at random, then N(m, s).

    Args:
        layout: Which part of an update is which matrix.
        components: The sets of moments, one for each client and epoch.
        source: Where they came from.
        algorithm: How they were collected.
        spread: What their s is.

    Guarantees:
        Sample i of a seed depends on the seed, i and the components alone, for one
        version of numpy.
    """

    layout: Layout
    components: tuple[Statistics, ...]
    source: Source
    algorithm: Algorithm1 = PAPER
    spread: Spread = Spread.STD

    def __post_init__(self) -> None:
        if not self.components:
            raise InvalidArgumentError("components must hold at least one, got none")
        try:
            object.__setattr__(self, "spread", Spread(self.spread))
        except ValueError:
            raise InvalidArgumentError(
                f"spread must be one of {', '.join(Spread)}, got {self.spread!r}"
            ) from None

    @property
    def event(self) -> Event:
        """What collecting the moments released."""
        return self.source.event

    def samples(self, count: int | None = None, *, seed: int = 0) -> Iterator[Any]:
        """Synthetic updates, flat float32; without end where count is None.

        Where standard deviations were not collected (detail "mean"), the middle
        of their public range stands in for them.
        """
        seed = _check.count(seed=seed)
        numbers = itertools.count() if count is None else range(count)
        for number in numbers:
            yield self._sample(seed, number)

    def _sample(self, seed: int, number: int) -> NDArray[np.float32]:
        import numpy as np

        rng = np.random.Generator(
            np.random.PCG64(np.random.SeedSequence((seed, number)))
        )
        chosen = self.components[int(rng.integers(len(self.components)))]
        sizes = [slot.size for slot in self.layout.slots]
        std = chosen.std
        if std is None:
            std = np.full(len(sizes), self.algorithm.public_std)
        elif self.spread is Spread.VARIANCE:
            std = np.sqrt(std)
        mean = chosen.mean
        if len(mean) != self.layout.length and mean.any():
            mean = np.repeat(mean, sizes)
        if chosen.skewness is None or chosen.kurtosis is None:
            noise = rng.standard_normal(self.layout.length, dtype=np.float32)
        else:
            moments = zip(sizes, chosen.skewness, chosen.kurtosis, strict=True)
            noise = np.concatenate(
                [shaped(rng, n, float(a), float(b)) for n, a, b in moments]
            ).astype(np.float32)
        for slot, size in zip(self.layout.slots, std.astype(np.float32), strict=True):
            noise[slot.offset : slot.stop] *= size
        if mean.any():
            return (noise + mean).astype(np.float32)
        return np.asarray(noise, dtype=np.float32)


def public_prior(
    layout: Layout,
    *,
    components: int = 256,
    seed: int = 0,
    h1: float = 1e-5,
    h2: float = 1e-3,
) -> RandomPrior:
    """The prior that needs no data and costs nothing: the default.

    Algorithm 1 clamps variances to [h1, h2] and shrinks means to a fifth and
    less, so its prior is N(0, s) with s between their roots whatever the data;
    this one draws s of each matrix log-uniformly from that range.

    Args:
        layout: Which part of an update is which matrix.
        components: How many sets of standard deviations are drawn.
        seed: Public.
        h1: Least variance.
        h2: Largest variance.

    >>> prior = public_prior(Layout.of_shapes([("w", (4, 4))]))
    >>> prior.event == Source(Origin.PUBLIC).event
    True
    >>> next(prior.samples(1)).shape
    (16,)
    """
    import numpy as np

    algorithm = Algorithm1(h1=h1, h2=h2)
    number = _check.count(least=1, components=components)
    matrices = len(layout.slots)
    uniform = draws.uniform(number * matrices, _check.count(seed=seed), 6)
    low, high = 0.5 * math.log(h1), 0.5 * math.log(h2)
    std = np.exp(low + (high - low) * uniform).reshape(number, matrices)
    found = tuple(Statistics(np.zeros(matrices), row) for row in std)
    return RandomPrior(layout, found, Source(Origin.PUBLIC), algorithm)


def prior_from(
    updates: Iterable[Iterable[Any]],
    layout: Layout,
    *,
    source: Source,
    algorithm: Algorithm1 = PAPER,
    spread: Spread = Spread.STD,
) -> RandomPrior:
    """The prior of Algorithm 1 as printed, from updates of clients or proxies.

    Args:
        updates: For each client, its flat update of each epoch.
        layout: Which part of an update is which matrix.
        source: ``PROXY`` for public updates; ``AS_PRINTED`` for those of the
            protected clients, which is not private.  Private moments come from
            `drdp.compression.released.released_prior`.
        algorithm: The reading of Algorithm 1.
        spread: What s is.
    """
    if source.origin not in {Origin.PUBLIC, Origin.PROXY, Origin.AS_PRINTED}:
        raise InvalidArgumentError(
            "source must be public, proxy or as-printed for moments that are"
            f" collected as they are, got {source.origin}"
        )
    found = tuple(collect(updates, layout, algorithm))
    return RandomPrior(layout, found, source, algorithm, spread)
