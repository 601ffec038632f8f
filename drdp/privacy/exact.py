"""Certified answers from the contour sum, where it converges.

Both directions are answered; the "add" direction only where Chernoff's bound
does not already show that "remove" is the worse one.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Literal, NamedTuple, final

from drdp.privacy._special import log_normal_cdf
from drdp.privacy.curves import Interval
from drdp.privacy.events import (
    Adjacency,
    Event,
    Gaussian,
    Laplace,
    PoissonSampled,
)
from drdp.privacy.kernel import gear

__all__ = ["exact_interval", "is_narrow"]

Question = Literal["epsilon", "delta"]

_CONTOUR = "drdp.privacy.contour"
_SADDLE = "drdp.privacy.saddle"
_FINEST = 1e-12  # relative error of delta
_CHEAP_CAP = 1e6  # passes of the inner loop, a fifth of a second in plain Python
_CAP = 6e7
_NO_CONVERGENCE, _AT_ZERO = 4, 5  # statuses of the kernel
_CUT_EFFORT = 34.0


@final
class _Terms(NamedTuple):
    """A composition as the kernels want it."""

    kinds: list[float]
    rates: list[float]
    sigmas: list[float]
    counts: list[float]

    def arrays(self, cuts: list[float], module: ModuleType) -> tuple[object, ...]:
        columns = (*self, cuts)
        if module.__name__ in (_CONTOUR, _SADDLE):
            return columns
        import numpy as np

        return tuple(np.array(column) for column in columns)


@final
class _Point(NamedTuple):
    epsilon: float
    log_delta: float
    error: float
    slope: float


def exact_interval(
    parts: tuple[tuple[Event, int], ...],
    question: Question,
    given: float,
    tolerance: float,
) -> Interval | None:
    """The certified interval from the contour sum, or None where it fails.

    Args:
        parts: Atoms and their counts.
        question: What is asked; the other of the two is `given`.
        given: delta for ``"epsilon"``, epsilon for ``"delta"``.
        tolerance: Width to aim for, in epsilon, relative where that is above 1.
    """
    terms = _terms(parts)
    if terms is None:
        return None
    found = None
    for aim in (0.3 * min(1e-3, tolerance), _FINEST):
        found = _both(terms, question, given, max(aim, _FINEST))
        if found is None or is_narrow(found, question, tolerance):
            break
    return found


def is_narrow(found: Interval, question: Question, tolerance: float) -> bool:
    """Whether an answer is as precise as was asked for."""
    width = found.upper - found.lower
    if question == "delta":
        return width <= tolerance * found.upper
    return width <= tolerance * max(1.0, found.upper)


def _both(
    terms: _Terms, question: Question, given: float, aim: float
) -> Interval | None:
    """The worse of both directions."""
    remove = _direction(terms, question, given, aim, remove=True)
    if remove is None:
        return None
    low, high = _bounds(remove, question)
    if terms.kinds.count(0.0) == 0:
        return Interval(low, high, "contour")
    if question == "epsilon":
        if _add_is_below(terms, low, math.log(given)):
            return Interval(low, high, "contour")
    elif low > 0.0 and _add_is_below(terms, given, math.log(low)):
        return Interval(low, high, "contour")
    add = _direction(terms, question, given, aim, remove=False)
    if add is None:
        return None
    add_low, add_high = _bounds(add, question)
    return Interval(max(low, add_low), max(high, add_high), "contour")


def _terms(parts: tuple[tuple[Event, int], ...]) -> _Terms | None:
    rows = []
    for atom, times in parts:
        match atom:
            case Gaussian(noise_multiplier=z):
                rows.append((1.0, 1.0, z, float(times)))
            case Laplace(noise_multiplier=z):
                rows.append((2.0, 1.0, z, float(times)))
            case PoissonSampled(
                rate=rate, event=Gaussian(noise_multiplier=z), adjacency=relation
            ) if relation is not Adjacency.REPLACE_ONE:
                rows.append((0.0, rate, z, float(times)))
            case _:
                return None
    if all(row[0] == 2.0 for row in rows):
        return None
    return _Terms(*(list(column) for column in zip(*rows, strict=True)))


def _bounds(point: _Point, question: Question) -> tuple[float, float]:
    if question == "delta":
        value = math.exp(point.log_delta)
        return (
            max(0.0, value * (1.0 - point.error)),
            min(1.0, value * (1.0 + point.error)),
        )
    if point.epsilon == 0.0:
        return 0.0, 0.0
    # log delta is concave enough at this scale that a tenth more covers its bend
    shift = 1.1 * math.log1p(point.error) / -point.slope
    shift += 4e-16 * point.epsilon
    return max(0.0, point.epsilon - shift), point.epsilon + shift


def _direction(
    terms: _Terms, question: Question, given: float, aim: float, *, remove: bool
) -> _Point | None:
    """One direction's answer: cheap tries first, then expensive ones."""
    asked = math.log(given) if question == "epsilon" else given
    start = _guess(terms, question, given, remove)
    ask = _Ask(terms, question == "epsilon", asked, start, aim, remove)
    if question == "epsilon":
        ask = ask._replace(hint=asked)
    best: _Point | None = None
    for cap in (_CHEAP_CAP, _CAP):
        found = _try(ask, cap)
        if isinstance(found, _Point):
            return found
        if question == "delta":
            continue
        ask_delta = ask._replace(ask_epsilon=False, asked=0.0, hint=asked)
        if found == _AT_ZERO:
            at_zero = _try(ask_delta, cap)
            if isinstance(at_zero, _Point) and (
                at_zero.log_delta + math.log1p(at_zero.error) <= asked
            ):
                return _Point(0.0, asked, 0.0, -1.0)
        point = _search(ask_delta, asked, cap)
        if point is not None and (best is None or point.error < best.error):
            best = point
        if best is not None and best.error <= 10.0 * aim:
            break
    return best


def _try(ask: _Ask, cap: float) -> _Point | int:
    """The answer within a budget of work, or the kernel's status.

    A far mode of the tilted law can make the sum long for nothing; it is cut
    off where that costs a known and negligible part of delta.
    """
    found = ask.run([math.inf] * len(ask.terms.kinds), cap)
    if isinstance(found, _Point) or not ask.remove:
        return found
    log_delta = ask.least_log_delta() if ask.hint is None else ask.hint
    for _ in range(3):
        cuts, log_cost = _cut(ask.terms, log_delta)
        found = ask.run(cuts, cap)
        if not isinstance(found, _Point):
            break
        cost = math.exp(min(0.0, log_cost - found.log_delta))
        if cost < 1e-10:
            return found._replace(error=found.error + cost)
        log_delta = found.log_delta
        found = _NO_CONVERGENCE
    return found


def _search(ask: _Ask, wanted: float, cap: float) -> _Point | None:
    """epsilon at a given delta by bracketed Newton steps on delta itself.

    For compositions whose loss is a bulk and a few rare jumps: there the
    saddle point says little about delta, but delta can still be summed.
    """
    low, high = 0.0, math.inf
    coarse = max(ask.aim, 1e-4)
    square = _square(ask.terms)
    epsilon = math.sqrt(-2.0 * square * wanted) + 0.5 * square
    found: _Point | int = _NO_CONVERGENCE
    for share in (1.0, 0.6, 1.5, 0.3):
        found = _try(ask._replace(asked=share * epsilon, aim=coarse), cap)
        if isinstance(found, _Point):
            break
    if not isinstance(found, _Point):
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
        found = _try(ask._replace(asked=epsilon, aim=aim), cap)
        if isinstance(found, _Point):
            point = found
        gap = abs(point.log_delta - wanted)
        met = aim == ask.aim and gap < max(1e-11, 0.1 * aim)
        if met or not isinstance(found, _Point):
            error = point.error + math.expm1(min(gap, 1.0))
            return point._replace(error=error) if error < 0.3 else None
    return None


@final
class _Ask(NamedTuple):
    """One question to the kernels."""

    terms: _Terms
    ask_epsilon: bool
    asked: float
    start: float
    aim: float
    remove: bool
    hint: float | None = None  # roughly log delta, where it is known

    def run(self, cuts: list[float], cap: float) -> _Point | int:
        """The kernel's answer, or its status where it has none."""
        module = gear(_CONTOUR, 2e4 if cap <= _CHEAP_CAP else math.inf)
        arrays = self.terms.arrays(cuts, module)
        epsilon, log_delta, error, slope, _, work, status = module.answer(
            arrays, self.remove, self.ask_epsilon, self.asked, self.start, self.aim, cap
        )
        gear(_CONTOUR, work)
        if status == 0:
            return _Point(epsilon, log_delta, error, slope)
        return int(status)

    def least_log_delta(self) -> float:
        """A log delta that the answer will hardly be below."""
        module = gear(_SADDLE, 1e4)
        whole = [math.inf] * len(self.terms.kinds)
        arrays = self.terms.arrays(whole, module)
        order, moment, _ = module.saddle_for_epsilon(
            arrays, self.asked, True, self.start, 14.0
        )
        return float(min(0.0, module.chernoff(moment, order, self.asked, True)) - 12.0)


def _cut(terms: _Terms, log_delta: float) -> tuple[list[float], float]:
    """Where to cut each sampled atom, and log of what that costs in delta."""
    limit = log_delta - _CUT_EFFORT
    total = sum(terms.counts)
    cuts = []
    for kind, rate, sigma, _ in zip(*terms, strict=True):
        if kind != 0.0:
            cuts.append(math.inf)
            continue
        allowed = min(-1.0, limit - math.log(total) - math.log(rate))
        low, high = 0.0, 400.0
        while high - low > 1e-3:
            middle = 0.5 * (low + high)
            if log_normal_cdf(-middle) > allowed:
                low = middle
            else:
                high = middle
        # Q's own tail must be negligible as well
        plain = math.sqrt(max(0.0, -2.0 * (limit - math.log(total))))
        cuts.append(max(1.0 + sigma * high, sigma * plain))
    return cuts, limit + math.log(2.0)


def _square(terms: _Terms) -> float:
    """mu^2 of the Gaussian with the same divergence of order 2."""
    square = 0.0
    for kind, rate, sigma, count in zip(*terms, strict=True):
        ratio = 1.0 / (sigma * sigma)
        if kind != 0.0:
            square += count * ratio
        elif ratio < 600.0:
            square += count * math.log1p(rate * rate * math.expm1(ratio))
        else:
            square += count * max(ratio + 2.0 * math.log(rate), 1e-12)
    return max(square, 1e-12)


def _guess(terms: _Terms, question: Question, given: float, remove: bool) -> float:
    """A starting |order - 1| or |order|, from a Gaussian of like divergence."""
    square = _square(terms)
    if question == "epsilon":
        epsilon = math.sqrt(2.0 * square * -math.log(given)) + 0.5 * square
    else:
        epsilon = given
    order = 0.5 + epsilon / square
    return min(max(order - 1.0 if remove else order, 0.05), 1e5)


def _add_is_below(terms: _Terms, epsilon: float, log_delta: float) -> bool:
    """Whether Chernoff shows delta_add(epsilon) to be below e^log_delta."""
    reach = -math.fsum(
        count * math.log1p(-rate) if kind == 0.0 else -math.inf
        for kind, rate, _, count in zip(*terms, strict=True)
    )
    if epsilon >= reach:
        return True
    module = gear(_SADDLE, 5e3)
    cuts = [math.inf] * len(terms.kinds)
    arrays = terms.arrays(cuts, module)
    start = _guess(terms, "delta", epsilon, False)
    order, moment, _ = module.saddle_for_epsilon(arrays, -epsilon, False, start, 20.0)
    bound = module.chernoff(moment, order, -epsilon, False)
    return bool(bound + 1e-6 <= log_delta)
