"""How far one contribution reaches: the blocks it is clipped in, and its weight."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import final

from drdp import _check
from drdp.errors import InvalidArgumentError, UnsoundThreatModelError

__all__ = ["ONE_CLIP", "Clipping"]


@final
@dataclass(frozen=True, slots=True)
class Clipping:
    """The blocks in which a contribution is clipped, and how noise is spread.

    Args:
        norms: The clip norm of each block; one entry is one joint clip.
        noise_ratios: The noise of each block, relative to the noise standard
            deviation that is stated; empty for equal noise everywhere.

    Blocks that are clipped one by one add up: in units of their noise, a
    contribution has the norm ``sqrt(sum (C_b / r_b)^2)``, not the largest C_b.

    >>> Clipping((1.0,) * 256).norm
    16.0
    """

    norms: tuple[float, ...] = (1.0,)
    noise_ratios: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        norms = _positives("clip_norm", self.norms)
        ratios = _positives("noise_ratio", self.noise_ratios or (1.0,) * len(norms))
        if not norms or len(ratios) != len(norms):
            raise InvalidArgumentError(
                f"norms and noise_ratios must name the same blocks, at least one;"
                f" got {len(norms)} and {len(ratios)}"
            )
        object.__setattr__(self, "norms", norms)
        object.__setattr__(self, "noise_ratios", ratios)
        _check.positive(clip_norm=self.norm)

    @property
    def norm(self) -> float:
        """The largest norm of one contribution, in units of the noise ratios."""
        return math.hypot(
            *(c / r for c, r in zip(self.norms, self.noise_ratios, strict=True))
        )

    @classmethod
    def allocated(cls, norms: Sequence[float], dimensions: Sequence[int]) -> Clipping:
        """The noise ratios with the least total variance at the same privacy.

        Minimises ``sum d_b s_b^2`` for a fixed ``sum (C_b / s_b)^2``: by
        Lagrange, ``s_b`` is proportional to ``sqrt(C_b) d_b^(-1/4)``.  They are
        scaled so that `norm` is what it is with equal noise.

        Args:
            norms: The clip norm of each block.
            dimensions: The number of coordinates of each block.

        >>> split = Clipping.allocated((1.0, 1.0), (16, 1))
        >>> [round(ratio, 4) for ratio in split.noise_ratios], round(split.norm, 6)
        ([0.7906, 1.5811], 1.414214)
        """
        sizes = [_check.count(least=1, dimension=size) for size in dimensions]
        if len(sizes) != len(norms):
            raise InvalidArgumentError(
                f"dimensions must have one entry for each of {len(norms)} blocks,"
                f" got {len(sizes)}"
            )
        raw = cls(
            tuple(norms),
            tuple(
                math.sqrt(_check.positive(clip_norm=norm)) * size**-0.25
                for norm, size in zip(norms, sizes, strict=True)
            ),
        )
        scale = raw.norm / cls(tuple(norms)).norm
        return cls(raw.norms, tuple(ratio * scale for ratio in raw.noise_ratios))

    def weighted(self, largest: float, *, public_denominator: bool) -> Clipping:
        """The same blocks where each clipped contribution is multiplied by a weight.

        Args:
            largest: The largest weight; greater ones are cut down to it.
            public_denominator: Whether the weighted sum is divided by a number
                that does not depend on anyone's data.

        Guarantees:
            The sum has sensitivity ``kappa * largest * C``; divided by a public
            W, ``kappa * largest * C / W``, and the noise is divided likewise.

        Raises:
            UnsoundThreatModelError: If the weights have no cap, or the sum is
                divided by their own total: then one client's weight moves
                everybody's contribution.
        """
        if not public_denominator:
            raise UnsoundThreatModelError(
                "a weighted mean with private weights has no known sensitivity:"
                " dividing by the sum of the weights lets one client's weight move"
                " everybody's contribution; cap the weights at w_max and divide by"
                " a public number W, for a sensitivity of kappa * w_max * C / W"
            )
        if largest == math.inf:
            raise UnsoundThreatModelError(
                "weights without a cap undo the clipping; cap them at some w_max,"
                " for a sensitivity of kappa * w_max * C of the sum"
            )
        largest = _check.positive(largest=largest)
        return Clipping(tuple(largest * norm for norm in self.norms), self.noise_ratios)


def _positives(name: str, values: Iterable[float]) -> tuple[float, ...]:
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InvalidArgumentError(f"{name}s must be a sequence, got {values!r}")
    return tuple(_check.positive(**{name: value}) for value in values)


ONE_CLIP = Clipping()
"""One joint clip of norm 1."""
