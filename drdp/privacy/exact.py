"""Certified answers from the contour sum, where it converges.

The kernels answer the usual case in one call (`worst.worst`); what they find
too long or too ill-placed for the saddle point is tried again here, with the
irrelevant far end of the loss cut off and by searching epsilon directly.
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
from drdp.privacy.kernel import gear, is_plain

__all__ = ["directed_delta", "exact_interval", "is_narrow"]

Question = Literal["epsilon", "delta"]

_WORST = "drdp.privacy.worst"
_SADDLE = "drdp.privacy.saddle"
_FINEST = 1e-12  # relative error of delta
_LEAST_DELTA = 1e-290
_CHEAP_CAP = 1e6  # passes of the inner loop, a fifth of a second in plain Python
_CAP = 6e7
_CUT_EFFORT = 34.0
_NO_CONVERGENCE, _AT_ZERO = 4, 5  # statuses of the kernel


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
        found = _quick(terms, question, given, max(aim, _FINEST))
        if found is None and question == "delta" and _is_nil(terms, given):
            return Interval(0.0, _LEAST_DELTA, "Chernoff's bound")
        if found is None:
            found = _patient(terms, question, given, max(aim, _FINEST))
        if found is None or is_narrow(found, question, tolerance):
            break
    if found is None and question == "epsilon":
        return Interval(0.0, _chernoff_epsilon(terms, given), "Chernoff's bound")
    return found


def directed_delta(
    parts: tuple[tuple[Event, int], ...], epsilon: float, *, remove: bool
) -> Interval | None:
    """delta in one direction alone, or None where the contour sum is not cheap.

    Args:
        parts: Atoms and their counts.
        epsilon: At least 0.
        remove: Whether the data set with the unit comes first.
    """
    terms = _terms(parts)
    if terms is None:
        return None
    point = _try(_Ask(terms, False, epsilon, 1e-5, remove, None), _CHEAP_CAP)
    if not isinstance(point, _Point):
        return None
    low, high = gear(_WORST, 5e3).ends(False, *point)
    return _interval(low, high, "delta")


def is_narrow(found: Interval, question: Question, tolerance: float) -> bool:
    """Whether an answer is as precise as was asked for."""
    width = found.upper - found.lower
    if question == "delta":
        return width <= tolerance * found.upper
    return width <= tolerance * max(1.0, found.upper)


@final
class _Terms(NamedTuple):
    """A composition as the kernels want it."""

    kinds: list[float]
    rates: list[float]
    sigmas: list[float]
    counts: list[float]
    cuts: list[float]

    def buffers(self, module: ModuleType) -> tuple[object, ...]:
        """In the form that a gear takes."""
        if is_plain(module):
            return tuple(self)
        import numpy as np

        return tuple(np.array(column) for column in self)


@final
class _Point(NamedTuple):
    epsilon: float
    log_delta: float
    error: float
    slope: float


def _terms(parts: tuple[tuple[Event, int], ...]) -> _Terms | None:
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
    if all(row[0] == 2.0 for row in rows):
        return None
    return _Terms(*(list(column) for column in zip(*rows, strict=True)))


def _quick(
    terms: _Terms, question: Question, given: float, aim: float
) -> Interval | None:
    """Both directions by the kernels alone."""
    module = gear(_WORST, 2e4)
    asked = math.log(given) if question == "epsilon" else given
    low, high, _, work, status = module.worst(
        terms.buffers(module), question == "epsilon", asked, aim, _CHEAP_CAP
    )
    gear(_WORST, work)
    return _interval(low, high, question) if status == 0 else None


def _chernoff_epsilon(terms: _Terms, delta: float) -> float:
    """The least epsilon over all orders by Chernoff's bound.

    That is the Renyi bound, where "remove" is the worse direction at every
    order (Mironov, Talwar and Zhang, arXiv:1908.10530, Theorem 5).
    """
    module = gear(_SADDLE, 2e5)
    buffers = terms.buffers(module)
    low, high = -14.0, module.order_limit(buffers)

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


def _is_nil(terms: _Terms, epsilon: float) -> bool:
    """Whether Chernoff shows both directions' delta to be below any double."""
    module = gear(_WORST, 1e4)
    buffers = terms.buffers(module)
    for remove in (True, False):
        e = epsilon if remove else -epsilon
        start = module.first_guess(buffers, False, epsilon, remove)
        order, moment, _ = module.saddle_for_epsilon(buffers, e, remove, start, 20.0)
        bound = module.chernoff(moment, order, e, remove)
        if not bound < math.log(_LEAST_DELTA) - 1.0:
            return False
    return True


def _interval(low: float, high: float, question: Question) -> Interval:
    if question == "delta":
        low, high = math.exp(low), min(1.0, math.exp(high))
    return Interval(low, high, "contour")


def _patient(
    terms: _Terms, question: Question, given: float, aim: float
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
    if module.add_is_below(terms.buffers(module), at, bar):
        return _interval(low, high, question)
    add = _direction(terms, question, given, aim, remove=False)
    if add is None:
        return None
    add_low, add_high = module.ends(question == "epsilon", *add)
    return _interval(max(low, add_low), max(high, add_high), question)


def _direction(
    terms: _Terms, question: Question, given: float, aim: float, *, remove: bool
) -> _Point | None:
    """One direction's answer: cheap tries first, then expensive ones."""
    asked = math.log(given) if question == "epsilon" else given
    hint = asked if question == "epsilon" else None
    ask = _Ask(terms, question == "epsilon", asked, aim, remove, hint)
    best: _Point | None = None
    for cap in (_CHEAP_CAP, _CAP):
        found = _try(ask, cap)
        if isinstance(found, _Point):
            return found
        if question == "delta":
            continue
        ask_delta = ask._replace(ask_epsilon=False, asked=0.0)
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


@final
class _Ask(NamedTuple):
    """One question to the kernels; `hint` is roughly log delta, where known."""

    terms: _Terms
    ask_epsilon: bool
    asked: float
    aim: float
    remove: bool
    hint: float | None

    def run(self, cuts: list[float], cap: float) -> _Point | int:
        """The kernel's answer, or its status where it has none."""
        module = gear(_WORST, 2e4 if cap <= _CHEAP_CAP else math.inf)
        terms = self.terms._replace(cuts=cuts).buffers(module)
        start = module.first_guess(terms, self.ask_epsilon, self.asked, self.remove)
        epsilon, log_delta, error, slope, _, work, status = module.answer(
            terms, self.remove, self.ask_epsilon, self.asked, start, self.aim, cap
        )
        gear(_WORST, work)
        if status == 0:
            return _Point(epsilon, log_delta, error, slope)
        return int(status)

    def least_log_delta(self) -> float:
        """A log delta that the answer will hardly be below."""
        if self.hint is not None:
            return self.hint
        module = gear(_WORST, 1e4)
        terms = self.terms.buffers(module)
        start = module.first_guess(terms, False, self.asked, True)
        order, moment, _ = module.saddle_for_epsilon(
            terms, self.asked, True, start, 14.0
        )
        return float(min(0.0, module.chernoff(moment, order, self.asked, True)) - 12.0)


def _try(ask: _Ask, cap: float) -> _Point | int:
    """The answer within a budget of work, or the kernel's status.

    A far mode of the tilted law can make the sum long for nothing; it is cut
    off where that costs a known and negligible part of delta.
    """
    found = ask.run(ask.terms.cuts, cap)
    if isinstance(found, _Point) or not ask.remove:
        return found
    log_delta = ask.least_log_delta()
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
            return point._replace(error=error) if error < 0.05 else None
    return None


def _cut(terms: _Terms, log_delta: float) -> tuple[list[float], float]:
    """Where to cut each sampled atom, and log of what that costs in delta."""
    limit = log_delta - _CUT_EFFORT
    total = math.fsum(terms.counts)
    cuts = []
    for kind, rate, sigma, _, _ in zip(*terms, strict=True):
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
