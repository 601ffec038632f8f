"""Certified answers from the grid: which directions, which step, how often.

The upper bound is the worst direction's upper window, the lower bound the
worst direction's lower one.  The step follows from the predicted error
T h^2 c / 12 (T steps of size h at tilt c) and is refined on what was reached.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from drdp.privacy.composition import (
    LARGEST_TILT,
    Side,
    Tilt,
    compose,
    tilt_for_delta,
    tilt_for_epsilon,
)
from drdp.privacy.curves import Interval
from drdp.privacy.events import Event
from drdp.privacy.losses import Direction, Law, directions, law_of

__all__ = ["grid_interval", "one_direction"]

_FEWEST = 1 << 12
_MOST = 1 << 21

Question = Literal["epsilon", "delta"]


def grid_interval(
    parts: tuple[tuple[Event, int], ...],
    question: Question,
    given: float,
    tolerance: float,
    wanted: Literal["upper", "lower", "both"] = "both",
) -> Interval:
    """The certified interval for one question, from the grid.

    Args:
        parts: Atoms and their counts, none of them `NonPrivate`.
        question: What is asked; the other of the two is `given`.
        given: delta for ``"epsilon"``, epsilon for ``"delta"``.
        tolerance: Width to aim for, in epsilon.
        wanted: Which ends are needed; an end that is not is left trivial.
    """
    worst = math.inf if question == "epsilon" else 1.0
    upper, lower, finest = 0.0 if wanted != "lower" else worst, 0.0, math.inf
    uppers = _ways(parts, lower=False) if wanted != "lower" else ()
    lowers = _ways(parts, lower=True) if wanted != "upper" else ()
    for way in dict.fromkeys((*uppers, *lowers)):
        sides: list[Side] = []
        if way in uppers:
            sides.append("upper")
        if way in lowers:
            sides.append("lower")
        bounds, step = _one_way(parts, way, sides, question, given, tolerance)
        upper = max(upper, bounds.get("upper", 0.0))
        lower = max(lower, bounds.get("lower", 0.0))
        finest = min(finest, step)
    return Interval(min(lower, upper), upper, f"grid of step {finest:.1e}")


def one_direction(
    parts: tuple[tuple[Event, int], ...],
    way: Direction,
    question: Question,
    given: float,
    tolerance: float,
) -> Interval:
    """The certified interval of one direction alone, from the grid."""
    bounds, step = _one_way(parts, way, ["upper", "lower"], question, given, tolerance)
    return Interval(bounds["lower"], bounds["upper"], f"grid of step {step:.1e}")


def _ways(
    parts: tuple[tuple[Event, int], ...], *, lower: bool
) -> tuple[Direction, ...]:
    """The directions that the composition as a whole has."""
    found = {way for atom, _ in parts for way in directions(atom, lower=lower)}
    if Direction.EITHER in found and Direction.ADD not in found:
        return (Direction.EITHER,)
    found -= {Direction.EITHER}
    return tuple(sorted(found, key=lambda way: way.value, reverse=True))


def _laws(
    parts: tuple[tuple[Event, int], ...], way: Direction, side: Side
) -> tuple[tuple[Law, int], ...]:
    """The law of every part; one that dominates both directions serves either."""
    lower, laws = side == "lower", []
    for atom, times in parts:
        if Direction.EITHER in directions(atom, lower=lower):
            laws.append((law_of(atom, Direction.EITHER), times))
        else:
            laws.append((law_of(atom, way, lower=lower), times))
    return tuple(laws)


def _revealed(laws: tuple[tuple[Law, int], ...]) -> float:
    """The chance that the composition reveals everything."""
    return -math.expm1(
        math.fsum(n * math.log1p(-min(law.infinite, 1 - 1e-16)) for law, n in laws)
    )


def _one_way(
    parts: tuple[tuple[Event, int], ...],
    way: Direction,
    sides: list[Side],
    question: Question,
    given: float,
    tolerance: float,
) -> tuple[dict[Side, float], float]:
    by_side = {side: _laws(parts, way, side) for side in sides}
    laws = by_side[sides[0]]
    revealed = _revealed(laws)
    if question == "epsilon" and revealed >= given:
        surely = {side: _revealed(by_side[side]) >= given for side in sides}
        return {s: math.inf if s == "upper" or surely[s] else 0.0 for s in sides}, 0.0
    lattice, only = _lattice(laws)
    # a steeper tilt than this would only blur the next point of the lattice
    most = 8.0 / lattice if lattice is not None and only else LARGEST_TILT
    if question == "epsilon":
        tilt, outlines = tilt_for_delta(laws, given - revealed, most)
    else:
        tilt, outlines = tilt_for_epsilon(laws, given, most)
    steps = sum(times for _, times in laws)
    wanted = tolerance * max(1.0, abs(tilt.epsilon))
    step = math.sqrt(12.0 * 0.3 * wanted / (steps * tilt.order))
    scattered = (law for law in by_side.get("lower", ()) if _is_off(law[0], lattice))
    if tables := sum(times for _, times in scattered):
        # single points can but be rounded down, by half a step on average
        step = min(step, 0.5 * wanted / tables)
    found: dict[Side, float] = {}
    for _ in range(3):
        step, size = _fit(outlines, tilt, step, lattice, only)
        for side in sides:
            answer = _answer(
                by_side[side], outlines, tilt, step, size, side, question, given
            )
            better = min if side == "upper" else max
            found[side] = better(found.get(side, answer), answer)
        width = _width(found, question, tilt)
        if width <= wanted or size >= _MOST or len(found) == 1 or step == lattice:
            break
        step *= max(0.2, 0.7 * math.sqrt(wanted / width))
    return found, step


def _width(found: dict[Side, float], question: Question, tilt: Tilt) -> float:
    """The width reached, in epsilon."""
    if len(found) < 2 or found["upper"] == found["lower"]:
        return 0.0
    if question == "epsilon":
        return found["upper"] - found["lower"]
    if found["lower"] <= 0.0:
        return math.inf
    return math.log(found["upper"] / found["lower"]) / max(tilt.order - 1.0, 1e-3)


def _is_off(law: Law, lattice: float | None) -> bool:
    """Whether a law is one of single points that the lattice does not hold."""
    if law.pieces or law.masses[0].size < 2:
        return False
    return lattice is None or not _is_same(law.spacing, lattice)


def _is_same(spacing: float | None, lattice: float) -> bool:
    return spacing is not None and math.isclose(lattice, spacing, rel_tol=1e-15)


def _lattice(laws: Any) -> tuple[float | None, bool]:
    """The spacing of the losses that lie on a lattice; whether all lie on it."""
    spacings = [(times, law.spacing) for law, times in laws]
    known = [(times, spacing) for times, spacing in spacings if spacing is not None]
    if not known:
        return None, False
    lattice = max(known)[1]
    return lattice, all(_is_same(spacing, lattice) for _, spacing in spacings)


def _fit(
    outlines: Any, tilt: Tilt, step: float, lattice: float | None, only: bool
) -> tuple[float, int]:
    """A step no finer than the budget of points allows, and the points.

    Losses on a lattice are not rounded at all by a step that divides it.
    """
    reach = tilt.reach[0] + tilt.reach[1]
    span = max(float(np.ptp(part.loss)) for part, _ in outlines)
    if lattice is not None:
        most = min(lattice, 100.0 / tilt.order)
        finest = max(reach / (0.98 * _MOST), span / _MOST)
        aim = most if only else min(step, reach / _FEWEST, most)
        whole = min(math.ceil(lattice / aim), math.floor(lattice / finest))
        if whole >= 1 and lattice / whole <= most:
            step = lattice / whole
            return step, 1 << math.ceil(math.log2(max(reach / step + 2, 64)))
    step = min(step, reach / _FEWEST)
    step = max(step, reach / (0.98 * _MOST), span / _MOST)
    size = 1 << math.ceil(math.log2(max(reach / step + 2, 64)))
    step = max(reach / (size - 2), span / _MOST)
    # never so coarse that the tilt overflows from one point to the next
    return min(step, 100.0 / tilt.order), size


def _answer(
    laws: Any,
    outlines: Any,
    tilt: Tilt,
    step: float,
    size: int,
    side: Side,
    question: Question,
    given: float,
) -> float:
    """One side's answer; where the window does not reach, one that is safe."""
    window = compose(laws, outlines, tilt, step, size, side)
    if question == "delta":
        return window.delta(given)
    if side == "upper" and window.delta(0.0) <= given:
        return 0.0
    return max(0.0, window.epsilon(given))
