"""One question to the kernels in one direction, by whatever works.

A composition is laid out as the kernels take it.  What they find too long or
too ill-placed is tried again with more work allowed, and by searching epsilon
on delta itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from types import ModuleType
from typing import NamedTuple, final

from drdp.privacy.events import (
    Adjacency,
    Event,
    Gaussian,
    Laplace,
    PoissonSampled,
)
from drdp.privacy.kernel import gear, is_plain

__all__ = ["Ask", "Composition", "Point", "composition", "direction"]

_WORST = "drdp.privacy.worst"
_CHEAP_CAP = 1e6  # passes of the inner loop, a fifth of a second in plain Python
_CAP = 6e7
_NO_CONVERGENCE, _AT_ZERO = 4, 5  # statuses of the kernel


@final
class Composition(NamedTuple):
    """A composition as the kernels want it."""

    kinds: list[float]
    rates: list[float]
    sigmas: list[float]
    counts: list[float]
    cuts: list[float]

    def buffers(self, module: ModuleType) -> tuple[object, ...]:
        """In the form that a gear takes."""
        if is_plain(module):
            return tuple(list(column) for column in self)
        import numpy as np

        return tuple(np.array(self))


@final
class Point(NamedTuple):
    """An answer, its relative error, and d log delta / d epsilon."""

    epsilon: float
    log_delta: float
    error: float
    slope: float


def composition(parts: Iterable[tuple[Event, int]]) -> Composition | None:
    """Atoms as the kernels take them, or None where they cannot."""
    rows = []
    for atom, times in parts:
        match atom:
            case Gaussian(noise_multiplier=z):
                rows.append((1.0, 1.0, z, float(times), math.inf))
            case Laplace(noise_multiplier=z):
                rows.append((2.0, 1.0, z, float(times), math.inf))
            case PoissonSampled(
                rate=rate, event=Gaussian(noise_multiplier=z), adjacency=relation
            ) if relation is not Adjacency.REPLACE_ONE:
                rows.append((0.0, rate, z, float(times), math.inf))
            case _:
                return None
    return Composition(*(list(column) for column in zip(*rows, strict=True)))


def direction(
    terms: Composition, question: str, given: float, aim: float, *, remove: bool
) -> Point | None:
    """One direction's answer: cheap tries first, then expensive ones."""
    asked = math.log(given) if question == "epsilon" else given
    hint = asked if question == "epsilon" else None
    ask = Ask(terms, question == "epsilon", asked, aim, remove, hint)
    best: Point | None = None
    for cap in (_CHEAP_CAP, _CAP):
        found = ask.run(cap)
        if isinstance(found, Point):
            return found
        if question == "delta":
            continue
        ask_delta = ask._replace(ask_epsilon=False, asked=0.0)
        if found == _AT_ZERO:
            at_zero = ask_delta.run(cap)
            if isinstance(at_zero, Point) and (
                at_zero.log_delta + math.log1p(at_zero.error) <= asked
            ):
                return Point(0.0, asked, 0.0, -1.0)
        point = _search(ask_delta, asked, cap)
        if point is not None and (best is None or point.error < best.error):
            best = point
        if best is not None and best.error <= 10.0 * aim:
            break
    return best


@final
class Ask(NamedTuple):
    """One question to the kernels; `hint` is what log delta is hardly below."""

    terms: Composition
    ask_epsilon: bool
    asked: float
    aim: float
    remove: bool
    hint: float | None

    def run(self, cap: float) -> Point | int:
        """The kernel's answer, or its status where it has none."""
        module = gear(_WORST, 2e4 if cap <= _CHEAP_CAP else math.inf)
        terms = self.terms.buffers(module)
        start = module.first_guess(terms, self.ask_epsilon, self.asked, self.remove)
        epsilon, log_delta, error, slope, _, work, status = module.answer(
            terms,
            self.remove,
            self.ask_epsilon,
            self.asked,
            start,
            self.aim,
            cap,
            self.hint if self.hint is not None else module.likely(terms, self.asked),
            -math.inf,
        )
        gear(_WORST, work)
        if status == 0:
            return Point(epsilon, log_delta, error, slope)
        return int(status)


def _search(ask: Ask, wanted: float, cap: float) -> Point | None:
    """epsilon at a given log delta by bracketed Newton steps on delta itself.

    For compositions whose loss is a bulk and a few rare jumps: there the
    saddle point says little about delta, but delta can still be summed.
    """
    low, high = 0.0, math.inf
    coarse = max(ask.aim, 1e-4)
    module = gear(_WORST, 0.0)
    square = module.like_gaussian(ask.terms.buffers(module))
    epsilon = math.sqrt(-2.0 * square * wanted) + 0.5 * square
    found: Point | int = _NO_CONVERGENCE
    for share in (1.0, 0.6, 1.5, 0.3):
        found = ask._replace(asked=share * epsilon, aim=coarse).run(cap)
        if isinstance(found, Point):
            break
    if not isinstance(found, Point):
        return None
    point = found
    for _ in range(60):
        gap = point.log_delta - wanted
        if gap > 0.0:
            low = point.epsilon
        else:
            high = point.epsilon
        aim = ask.aim if abs(gap) < 1e-5 else coarse
        epsilon = point.epsilon - gap / point.slope
        if not low < epsilon < high:
            epsilon = 0.5 * (low + high) if high < math.inf else 2.0 * low + 1e-3
        found = ask._replace(asked=epsilon, aim=aim).run(cap)
        if isinstance(found, Point):
            point = found
        gap = abs(point.log_delta - wanted)
        met = aim == ask.aim and gap < max(1e-11, 0.1 * aim)
        if met or not isinstance(found, Point):
            error = point.error + math.expm1(min(gap, 1.0))
            return point._replace(error=error) if error < 0.05 else None
    return None
