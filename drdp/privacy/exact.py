"""Certified answers from the contour sum, where it converges.

The kernels answer the usual case in one call (`worst.worst`); what they find
too long or too ill-placed for the saddle point is tried again here, with more
work allowed and by searching epsilon directly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from types import ModuleType
from typing import Literal, NamedTuple, final

from drdp.privacy.curves import Interval, in_both
from drdp.privacy.events import (
    Adjacency,
    Event,
    Gaussian,
    Laplace,
    PoissonSampled,
)
from drdp.privacy.kernel import compiled, gear, is_plain

__all__ = ["Composition", "composition", "exact_interval", "is_narrow"]

Question = Literal["epsilon", "delta"]

_WORST, _RARE = "drdp.privacy.worst", "drdp.privacy.rare"
_FINEST = 1e-12  # relative error of delta
_LEAST_DELTA = 1e-290
_NIL = math.log(_LEAST_DELTA) - 1.0
_CHEAP_CAP = 1e6  # passes of the inner loop, a fifth of a second in plain Python
_CAP = 6e7
_PLAIN_RARE, _CAP_RARE = 2e6, 4e8  # the same for rare losses
_BY_PARTS = "contour by parts"
_OUT_OF_WORK, _NO_CONVERGENCE, _AT_ZERO, _BELOW = 2, 4, 5, 6  # statuses of the kernel


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
    terms = composition(parts)
    if terms is None or all(kind == 2.0 for kind in terms.kinds):
        return None
    aim = max(0.3 * min(1e-3, tolerance), _FINEST)
    found = _quick(terms, question, given, aim)
    if found is not None and is_narrow(found, question, tolerance):
        return found
    if found is None and question == "delta" and _is_nil(terms, given):
        return Interval(0.0, _LEAST_DELTA, "Chernoff's bound")
    found = in_both(found, _quick(terms, question, given, _FINEST))
    if found is None and question == "epsilon":
        found = _next_to_nothing(terms, given, aim)
    for finer in (aim, 0.03 * aim, 1e-4):
        if found is not None and is_narrow(found, question, max(tolerance, finer)):
            return found
        found = in_both(found, _rare(parts, terms, question, given, tolerance, finer))
    if found is None:
        found = _patient(terms, question, given, aim)
    if found is None and question == "epsilon":
        return Interval(0.0, _chernoff_epsilon(terms, given), "Chernoff's bound")
    return found


def is_narrow(found: Interval, question: Question, tolerance: float) -> bool:
    """Whether an answer is as precise as was asked for."""
    width = found.upper - found.lower
    if question == "delta":
        return width <= tolerance * found.upper
    return width <= tolerance * max(1.0, found.upper)


def _next_to_nothing(terms: Composition, delta: float, aim: float) -> Interval | None:
    """The interval where delta(0), the same in both directions, is hardly above."""
    wanted = math.log(delta)
    found = _Ask(terms, False, 0.0, aim, True, wanted).run(_CHEAP_CAP)
    if not isinstance(found, _Point):
        return None
    gap = found.log_delta + math.log1p(found.error) - wanted
    if gap <= 0.0:
        return Interval(0.0, 0.0, "contour")
    if gap > 1e-3:
        return None
    module = gear(_WORST, 0.0)
    low, high = module.ends(True, 0.0, wanted, found.error + gap, found.slope)
    return Interval(low, high, "contour")


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
class _Point(NamedTuple):
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


def _quick(
    terms: Composition, question: Question, given: float, aim: float
) -> Interval | None:
    """Both directions by the kernels alone."""
    module = gear(_WORST, 2e4)
    buffers = terms.buffers(module)
    if question == "epsilon":
        asked = hint = math.log(given)
    else:
        asked, hint = given, module.likely(buffers, given)
    low, high, _, work, status = module.worst(
        buffers, question == "epsilon", asked, aim, _CHEAP_CAP, hint
    )
    gear(_WORST, work)
    return _interval(low, high, question) if status == 0 else None


def _chernoff_epsilon(terms: Composition, delta: float) -> float:
    """The least epsilon over all orders by Chernoff's bound.

    That is the Renyi bound, where "remove" is the worse direction at every
    order (Mironov, Talwar and Zhang, arXiv:1908.10530, Theorem 5).
    """
    module = gear(_WORST, 2e5)
    buffers = terms.buffers(module)
    low, high = -14.0, module.order_limit(buffers, True)

    def epsilon(position: float) -> float:
        order = 1.0 + math.exp(position)
        moment = module.cumulants(buffers, order, 38.0)[0]
        # chernoff() at epsilon 0, and solved for the epsilon at delta
        at_zero = module.chernoff(moment, order, 0.0, True)
        return float((at_zero - math.log(delta)) / (order - 1.0))

    best = math.inf
    for _ in range(40):
        a, b = low + 0.382 * (high - low), high - 0.382 * (high - low)
        at_a, at_b = epsilon(a), epsilon(b)
        best = min(best, at_a, at_b)
        if at_a < at_b:
            high = b
        else:
            low = a
    return max(0.0, best) * (1.0 + 1e-12)


def _is_nil(terms: Composition, epsilon: float) -> bool:
    """Whether Chernoff shows both directions' delta to be below any double."""
    if epsilon > 1.0:
        # any order will do, and a small one is soon tried: "remove" is the worse
        # direction at each (Mironov, Talwar and Zhang, arXiv:1908.10530, Theorem 5)
        module = gear(_WORST, 1e4)
        buffers = terms.buffers(module)
        order = 1.0 + min(800.0 / epsilon, math.exp(module.order_limit(buffers, True)))
        moment = module.cumulants(buffers, order, 38.0)[0]
        if module.chernoff(moment, order, epsilon, True) < _NIL:
            return True
    module = gear(_WORST, 1e4)
    buffers = terms.buffers(module)
    for remove in (True, False):
        start = module.first_guess(buffers, False, epsilon, remove)
        *_, status = module.answer(
            buffers, remove, False, epsilon, start, 1e-3, 0.0, _NIL, _NIL
        )
        if status != _BELOW:
            return False
    return True


def _interval(low: float, high: float, question: Question) -> Interval:
    if question == "delta":
        low, high = math.exp(low), min(1.0, max(math.exp(high), _LEAST_DELTA))
    return Interval(low, high, "contour")


def _rare(
    parts: tuple[tuple[Event, int], ...],
    terms: Composition,
    question: Question,
    given: float,
    tolerance: float,
    aim: float,
) -> Interval | None:
    """Both directions where delta comes from rare large losses, if they do.

    Then "remove" is summed part by part, and "add" hardly ever matters.
    """
    if terms.kinds.count(0.0) == 0:
        return None
    asked = math.log(given) if question == "epsilon" else given
    module = gear(_RARE, _PLAIN_RARE)
    for cap in (_PLAIN_RARE, _CAP_RARE):
        epsilon, log_delta, error, slope, _, status = module.rare_answer(
            terms.buffers(module), question == "epsilon", asked, aim, cap
        )
        if status != _OUT_OF_WORK:
            break
        module = compiled()
    if status == _AT_ZERO:
        low, high = 0.0, epsilon
        if high == 0.0:  # by the total variation, the same in both directions
            return Interval(low, high, _BY_PARTS)
    elif status == 0:
        module = gear(_WORST, 5e3)
        low, high = module.ends(question == "epsilon", epsilon, log_delta, error, slope)
    else:
        return None
    module = gear(_WORST, 2e4)
    at, bar = (high, asked) if question == "epsilon" else (given, low)
    buffers = terms.buffers(module)
    start = module.first_guess(buffers, False, at, False)
    if module.add_is_below(buffers, at, bar, start, _CHEAP_CAP)[0]:
        return _interval(low, high, question)._replace(method=_BY_PARTS)
    from drdp.privacy.grid import one_direction
    from drdp.privacy.losses import Direction

    found = _interval(low, high, question)
    add = one_direction(parts, Direction.ADD, question, given, tolerance)
    return Interval(
        max(found.lower, add.lower),
        max(found.upper, add.upper),
        _BY_PARTS if add.upper <= found.upper else f"{_BY_PARTS} and {add.method}",
    )


def _patient(
    terms: Composition, question: Question, given: float, aim: float
) -> Interval | None:
    """The worse of both directions, each by whatever works."""
    remove = _direction(terms, question, given, aim, remove=True)
    if remove is None:
        return None
    module = gear(_WORST, 5e3)
    low, high = module.ends(question == "epsilon", *remove)
    if terms.kinds.count(0.0) == 0:
        return _interval(low, high, question)
    at, bar = (low, math.log(given)) if question == "epsilon" else (given, low)
    buffers = terms.buffers(module)
    start = module.first_guess(buffers, False, at, False)
    if module.add_is_below(buffers, at, bar, start, _CHEAP_CAP)[0]:
        return _interval(low, high, question)
    add = _direction(terms, question, given, aim, remove=False)
    if add is None:
        return None
    add_low, add_high = module.ends(question == "epsilon", *add)
    return _interval(max(low, add_low), max(high, add_high), question)


def _direction(
    terms: Composition, question: Question, given: float, aim: float, *, remove: bool
) -> _Point | None:
    """One direction's answer: cheap tries first, then expensive ones."""
    asked = math.log(given) if question == "epsilon" else given
    hint = asked if question == "epsilon" else None
    ask = _Ask(terms, question == "epsilon", asked, aim, remove, hint)
    best: _Point | None = None
    for cap in (_CHEAP_CAP, _CAP):
        found = ask.run(cap)
        if isinstance(found, _Point):
            return found
        if question == "delta":
            continue
        ask_delta = ask._replace(ask_epsilon=False, asked=0.0)
        if found == _AT_ZERO:
            at_zero = ask_delta.run(cap)
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


@final
class _Ask(NamedTuple):
    """One question to the kernels; `hint` is what log delta is hardly below."""

    terms: Composition
    ask_epsilon: bool
    asked: float
    aim: float
    remove: bool
    hint: float | None

    def run(self, cap: float) -> _Point | int:
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
            return _Point(epsilon, log_delta, error, slope)
        return int(status)


def _search(ask: _Ask, wanted: float, cap: float) -> _Point | None:
    """epsilon at a given log delta by bracketed Newton steps on delta itself.

    For compositions whose loss is a bulk and a few rare jumps: there the
    saddle point says little about delta, but delta can still be summed.
    """
    low, high = 0.0, math.inf
    coarse = max(ask.aim, 1e-4)
    module = gear(_WORST, 0.0)
    square = module.like_gaussian(ask.terms.buffers(module))
    epsilon = math.sqrt(-2.0 * square * wanted) + 0.5 * square
    found: _Point | int = _NO_CONVERGENCE
    for share in (1.0, 0.6, 1.5, 0.3):
        found = ask._replace(asked=share * epsilon, aim=coarse).run(cap)
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
        found = ask._replace(asked=epsilon, aim=aim).run(cap)
        if isinstance(found, _Point):
            point = found
        gap = abs(point.log_delta - wanted)
        met = aim == ask.aim and gap < max(1e-11, 0.1 * aim)
        if met or not isinstance(found, _Point):
            error = point.error + math.expm1(min(gap, 1.0))
            return point._replace(error=error) if error < 0.05 else None
    return None
