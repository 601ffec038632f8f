"""How a contribution is limited: jointly, block by block, in L2 or in L1 norm.

Each function returns a new contribution whose norm is at most the clip norm in
exact arithmetic, whatever the rounding of its own: it aims a 2^-20 below.  An
entry that is not a number, or infinite, becomes 0 before the norm is taken, and
is counted.

>>> import numpy as np
>>> found = clip_l2([np.array([3.0, np.nan]), np.array([4.0])], 1.0)
>>> [array.round(6).tolist() for array in found.value], found.norm, found.zeroed
([[0.599999, 0.0], [0.799999]], 5.0, 1)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np

from drdp import _check
from drdp.errors import InvalidArgumentError
from drdp.mechanisms.arrays import Opened, chunks, opened
from drdp.privacy.blocks import Clipping

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Bounded", "clip_blocks", "clip_l1", "clip_l2", "known_clipping"]

SAFETY = 1.0 - 2.0**-20
"""What a clip aims at, as a part of the clip norm.

The rest covers rounding: 2^-23 relative in every entry of a float32, and at most
n 2^-53 in a norm of n entries.
"""

SMALLEST_NORM, LARGEST_NORM = 1e-25, 1e30
"""Clip norms beyond these are refused: a float32 does not keep its precision."""

_FLOAT32_FACTOR = 1e-30  # below, a factor is not a normal float32

Order = Literal[1, 2]


@final
@dataclass(frozen=True, slots=True)
class Bounded:
    """A contribution after clipping, and what clipping did to it.

    Args:
        value: The contribution, clipped; at least float32.
        norms: The norm of each block before clipping, of its finite entries.
        clipped: Whether anything in it was changed.
        zeroed: How many entries were not finite.

    All but `value` tell about this contribution alone and are not private: keep
    them where the contribution itself may be seen.
    """

    value: Any
    norms: tuple[float, ...]
    clipped: bool
    zeroed: int

    @property
    def norm(self) -> float:
        """The norm before clipping: the largest where there are several blocks."""
        return max(self.norms)


def clip_l2(contribution: Any, clip_norm: float) -> Bounded:
    """Scale all arrays together so that their joint L2 norm is at most `clip_norm`.

    Args:
        contribution: An array or tensor, or a list, tuple or dict of them.
        clip_norm: The largest L2 norm, from 1e-25 to 1e30.

    Guarantees:
        The exact L2 norm of `value`, over all entries of all arrays, is at most
        clip_norm; a contribution whose norm is below (1 - 2^-20) clip_norm is
        unchanged but for its zeroed entries.

    Raises:
        InvalidArgumentError: If it holds something else than floating-point
            numbers.
    """
    return _clipped(opened(contribution), (_norm(clip_norm),), order=2)


def clip_l1(contribution: Any, clip_norm: float) -> Bounded:
    """Scale all arrays together so that their joint L1 norm is at most `clip_norm`.

    As `clip_l2`, for the sum of absolute values.
    """
    return _clipped(opened(contribution), (_norm(clip_norm),), order=1)


def clip_blocks(contribution: Any, clipping: Clipping) -> Bounded:
    """Clip each block to its own L2 norm.

    With one norm, all is one block.  With several, the blocks are the top-level
    entries of the contribution: of a list or tuple in its order, of a dict in
    that of its sorted keys.

    Guarantees:
        The exact L2 norm of block b of `value` is at most ``clipping.norms[b]``,
        so that the norm of the whole, in units of the noise ratios, is at most
        ``clipping.norm``, not the largest of the norms.

    Raises:
        InvalidArgumentError: If there are more or fewer entries than norms.
    """
    shown = opened(contribution)
    norms = known_clipping(clipping).norms
    check_blocks(shown, norms, "contribution")
    return _clipped(shown, norms, order=2)


def known_clipping(clipping: object) -> Clipping:
    """A clipping whose norms can be kept to in float32."""
    if not isinstance(clipping, Clipping):
        raise InvalidArgumentError(f"clipping must be a Clipping, got {clipping!r}")
    for norm in clipping.norms:
        _norm(norm)
    return clipping


def check_blocks(shown: Opened, norms: tuple[float, ...], name: str) -> None:
    """That there is one block, or as many as the contribution has entries."""
    if len(norms) not in (1, shown.block_count):
        raise InvalidArgumentError(
            f"{name} must have one entry for each of the {len(norms)} clipping blocks,"
            f" got {shown.block_count}"
        )


def _norm(clip_norm: float) -> float:
    clip_norm = _check.positive(clip_norm=clip_norm)
    if not SMALLEST_NORM <= clip_norm <= LARGEST_NORM:
        raise InvalidArgumentError(
            f"clip_norm must lie in [{SMALLEST_NORM}, {LARGEST_NORM}], where float32"
            f" keeps its precision, got {clip_norm}; scale the contributions"
        )
    return clip_norm


def _clipped(shown: Opened, limits: tuple[float, ...], order: Order) -> Bounded:
    results: list[Any] = [None] * len(shown.arrays)
    norms, clipped, zeroed = [], False, 0
    groups: list[list[int]] = [[] for _ in limits]
    for index, block in enumerate(shown.blocks):
        groups[block if len(limits) > 1 else 0].append(index)
    for members, limit in zip(groups, limits, strict=True):
        size = _measured([shown.arrays[index] for index in members], order)
        aim = SAFETY * limit
        factor = size.unit
        if size.norm > aim / size.unit:
            factor, clipped = aim / size.norm, True
        for index, array in zip(members, size.arrays, strict=True):
            results[index] = _scaled(array, factor, shown.arrays[index].dtype)
        norms.append(size.norm * size.unit)
        zeroed += size.zeroed
    return Bounded(
        value=shown.closed(results),
        norms=tuple(norms),
        clipped=clipped or zeroed > 0,
        zeroed=zeroed,
    )


@dataclass(frozen=True, slots=True)
class _Size:
    """Finite arrays in some unit, their norm in it, and what was set to 0."""

    arrays: list[NDArray[Any]]
    norm: float
    unit: float = 1.0
    zeroed: int = 0


def _measured(arrays: list[NDArray[Any]], order: Order) -> _Size:
    norm = _norm_of(arrays, order)
    if norm < math.inf:  # then every entry is finite
        return _Size(arrays, norm)
    finite = [np.isfinite(array) for array in arrays]
    zeroed = sum(array.size - int(np.count_nonzero(array)) for array in finite)
    arrays = [
        np.where(good, array, array.dtype.type(0))
        for array, good in zip(arrays, finite, strict=True)
    ]
    norm = _norm_of(arrays, order)
    if norm < math.inf:
        return _Size(arrays, norm, zeroed=zeroed)
    largest = max(float(np.max(np.abs(array), initial=0.0)) for array in arrays)
    arrays = [array / np.float64(largest) for array in arrays]
    return _Size(arrays, _norm_of(arrays, order), largest, zeroed)


def _norm_of(arrays: list[NDArray[Any]], order: Order) -> float:
    """The norm in float64; infinite where an entry is not finite or too large."""
    parts = []
    with np.errstate(over="ignore", invalid="ignore"):
        for array in arrays:
            for chunk in chunks(array):
                exact = chunk.astype(np.float64)
                part = np.abs(exact).sum() if order == 1 else np.dot(exact, exact)
                parts.append(float(part))
    if not all(part < math.inf for part in parts):  # nan is not below anything
        return math.inf
    try:
        total = math.fsum(parts)
    except OverflowError:
        return math.inf
    return total if order == 1 else math.sqrt(total)


def _scaled(array: NDArray[Any], factor: float, dtype: np.dtype[Any]) -> NDArray[Any]:
    """A new array, rounded once where a float32 would lose digits of the factor."""
    if array.dtype == np.float32 and factor < _FLOAT32_FACTOR:
        array = array.astype(np.float64)
    with np.errstate(under="ignore"):
        return np.asarray(array * array.dtype.type(factor)).astype(dtype, copy=False)
