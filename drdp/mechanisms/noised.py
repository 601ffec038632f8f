"""A total with noise: added in float64, then rounded to a grid of the noise's own.

The noise is added to doubles, and the result is rounded to a multiple of a power
of two near 2^-20 of the noise's scale.  Rounding sees only what is released, so
it costs no privacy; it takes away the last bits, by which one can tell sums of
floating-point numbers apart that should be alike.  It narrows that gap and does
not close it: the discrete mechanisms do.

References: Mironov, CCS 2012; Haney et al., arXiv:2207.13793; Jin et al., IEEE
S&P 2022 (arXiv:2112.05307).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from drdp.errors import InvalidArgumentError
from drdp.mechanisms.arrays import Opened, chunks
from drdp.privacy.adjacency import Adjacency

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["distance", "grid_step", "known_scale", "with_noise"]

GRID = 2.0**-20
"""The step of the grid, as a part of the noise's scale, is at least this."""

_LEAST, _MOST = 1e-30, 1e34  # the scales at which a float32 can hold the noise

Draw = Callable[[int], "NDArray[np.float64]"]


def distance(adjacency: Adjacency) -> float:
    """How far neighbouring contributions are apart, in units of their norm.

    2 where one replaces another, which may be its opposite; 1 where one of them
    is absent or zero.
    """
    return 2.0 if adjacency is Adjacency.REPLACE_ONE else 1.0


def grid_step(scale: float) -> float:
    """The step of the grid for noise of this scale: a power of two.

    >>> grid_step(1.0) == 2.0**-20, grid_step(1.5) == 2.0**-19
    (True, True)
    """
    mantissa, exponent = math.frexp(scale * GRID)
    return math.ldexp(1.0, exponent - 1 if mantissa == 0.5 else exponent)


def known_scale(scale: float, name: str) -> float:
    """A scale of noise, 0 or one that float32 can hold."""
    if scale != 0.0 and not _LEAST <= scale <= _MOST:
        raise InvalidArgumentError(
            f"the {name} must be 0 or lie in [{_LEAST}, {_MOST}], got {scale};"
            " scale the contributions, or change noise_multiplier or clip_norm"
        )
    return scale


def with_noise(shown: Opened, scales: Sequence[float], draw: Draw) -> Any:
    """The total plus independent noise in every entry.

    Args:
        shown: The total.
        scales: The scale of the noise of each array.
        draw: Gives that many independent draws of scale 1.

    Returns:
        The same structure: float32, or float64 where the total is.

    Raises:
        InvalidArgumentError: If the total holds an entry that is not finite,
            which no sum of bounded contributions does.
    """
    for name, array in zip(shown.names, shown.arrays, strict=True):
        if not all(np.isfinite(chunk).all() for chunk in chunks(array)):
            raise InvalidArgumentError(
                f"total{name} must be finite, got nan or inf; sum what bound returned,"
                " which never is, in a type that does not overflow"
            )
    return shown.closed(
        [
            _noised(array, scale, draw)
            for array, scale in zip(shown.arrays, scales, strict=True)
        ]
    )


def _noised(array: NDArray[Any], scale: float, draw: Draw) -> NDArray[Any]:
    released = np.empty(array.shape, array.dtype)
    step = grid_step(scale) if scale else 1.0
    inverse = 1.0 / step
    with np.errstate(over="ignore", under="ignore"):  # after the noise: harmless
        for target, part in zip(chunks(released), chunks(array), strict=True):
            if not scale:
                target[:] = part
                continue
            found = draw(part.size)
            found *= scale
            found += part
            found *= inverse  # exact: a power of two
            np.rint(found, out=found)
            found *= step
            target[:] = found
    return released
