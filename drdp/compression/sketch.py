"""Count sketch: every coordinate into one random bucket of each row."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, final

from drdp import _check
from drdp.compression import draws
from drdp.compression.flat import flat
from drdp.errors import InvalidArgumentError
from drdp.privacy.events import NOTHING, Event

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["CountSketch", "Estimate"]


class Estimate(StrEnum):
    """How the rows' answers about one coordinate become one.

    - ``MEAN``: their mean; linear, and unbiased over the seeds.
    - ``MEDIAN``: their median; robust against a heavy coordinate that shares a
      bucket, but not linear, and to be used on sums only after they are summed.
    """

    MEAN = "mean"
    MEDIAN = "median"


@final
@dataclass(frozen=True, slots=True)
class CountSketch:
    """Rows of buckets with random signs, drawn from a public seed.

    In each row a coordinate is added with its sign to one bucket.  Rows are
    divided by ``sqrt(rows)``, so that over the seeds a code has the mean squared
    norm of its update.

    Args:
        update_length: d.
        code_length: Numbers in a code: rows times buckets a row.
        rows: How many rows; must divide `code_length`.
        seed: Public; client and server need the same.
        estimate: Mean or median of the rows.
        draw: Which of the seed's sketches; see `redrawn`.

    Guarantees:
        Mean estimate: over the seeds, the decoded update has the update as its
        mean, with squared error ``(d - 1)/code_length ||x||^2`` in the mean
        (each row errs by (d - 1)/buckets, and rows are independent).
        A code *can* be longer than its update: `expansion`, the root of the mean
        over rows of the fullest bucket's load, is about ``sqrt(d rows /
        code_length)`` and bounds it exactly.  Hence clip the code.

    References:
        Charikar, Chen and Farach-Colton, Finding frequent items in data
        streams, 2002; for federated updates: Rothchild et al. (FetchSGD),
        arXiv:2007.07682.

    >>> codec = CountSketch(update_length=100, code_length=20, rows=2, seed=1)
    >>> codec.encode([0.0] * 100).shape, codec.expansion > 1.0
    ((20,), True)
    """

    update_length: int
    code_length: int
    rows: int = 1
    seed: int = 0
    estimate: Estimate = Estimate.MEAN
    draw: int = 0
    _places: NDArray[np.int64] = field(init=False, repr=False, compare=False)
    _signs: NDArray[np.int8] = field(init=False, repr=False, compare=False)
    _expansion: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        import numpy as np

        length = _check.count(least=1, update_length=self.update_length)
        code = _check.count(least=1, code_length=self.code_length)
        number = _check.count(least=1, rows=self.rows)
        if code % number:
            raise InvalidArgumentError(
                f"rows must divide code_length={code}, got {number}"
            )
        seed, draw = _check.count(seed=self.seed), _check.count(draw=self.draw)
        try:
            estimate = Estimate(self.estimate)
        except ValueError:
            raise InvalidArgumentError(
                f"estimate must be one of {', '.join(Estimate)}, got {self.estimate!r}"
            ) from None
        width = code // number
        places = np.stack(
            [
                draws.buckets(length, width, seed, draw, 3, row) + row * width
                for row in range(number)
            ]
        )
        signs = np.stack([draws.signs(length, seed, draw, 4, r) for r in range(number)])
        loads = np.bincount(places.ravel(), minlength=code).reshape(number, width)
        # S_r S_r^T is diagonal and holds the loads of row r, so the squared norm
        # of the stacked rows / sqrt(rows) is at most the mean of their maxima.
        values = {
            "update_length": length,
            "code_length": code,
            "rows": number,
            "seed": seed,
            "draw": draw,
            "estimate": estimate,
            "_places": places,
            "_signs": signs,
            "_expansion": math.sqrt(float(loads.max(axis=1).mean())),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def redrawn(self, draw: int) -> CountSketch:
        """Another sketch of the same seed, for instance one each round."""
        return replace(self, draw=draw)

    @property
    def event(self) -> Event:
        """Nothing: buckets and signs depend on a public seed alone."""
        return NOTHING

    @property
    def expansion(self) -> float:
        """A bound that the buckets drawn meet; above 1 as a rule."""
        return self._expansion

    @property
    def linear_decode(self) -> bool:
        """Whether it is the mean estimate."""
        return self.estimate is Estimate.MEAN

    @property
    def noise_gain(self) -> float:
        """sqrt(update_length): decoded updates are longer than codes as well."""
        if self.estimate is Estimate.MEDIAN:
            return math.nan
        return math.sqrt(self.update_length)

    @property
    def message_bits(self) -> int:
        """32 for each number."""
        return 32 * self.code_length

    def encode(self, update: NDArray[np.float32]) -> NDArray[np.float32]:
        """The rows, one after the other."""
        import numpy as np

        vector = flat(self.update_length, update=update)
        code = np.zeros(self.code_length)
        for places, signs in zip(self._places, self._signs, strict=True):
            code += np.bincount(places, vector * signs, minlength=self.code_length)
        return (code / math.sqrt(self.rows)).astype(np.float32)

    def decode(self, code: NDArray[np.float64]) -> NDArray[np.float32]:
        """Mean or median over rows of a coordinate's bucket with its sign."""
        import numpy as np

        sums = flat(self.code_length, code=code) * math.sqrt(self.rows)
        if self.estimate is Estimate.MEDIAN:
            answers = sums[self._places] * self._signs
            return np.median(answers, axis=0).astype(np.float32)
        total = np.zeros(self.update_length)
        for places, signs in zip(self._places, self._signs, strict=True):
            total += sums[places] * signs
        return (total / self.rows).astype(np.float32)
