"""Certified answers from the contour sum, where it converges.

The kernels answer the usual case in one call (`worst.worst`); what they find
too long or too ill-placed for the saddle point is summed by parts, the rare
large losses by themselves (`rare`), or asked again with patience (`asking`).
"""

from __future__ import annotations

import math
from typing import Literal

from drdp.privacy.asking import Ask, Composition, Point, composition, direction
from drdp.privacy.curves import Interval, in_both
from drdp.privacy.events import Event
from drdp.privacy.kernel import compiled, gear

__all__ = ["directed_delta", "exact_interval", "is_narrow"]

Question = Literal["epsilon", "delta"]

_WORST, _RARE = "drdp.privacy.worst", "drdp.privacy.rare"
_FINEST = 1e-12  # relative error of delta
_LEAST_DELTA = 1e-290
_NIL = math.log(_LEAST_DELTA) - 1.0
_CHEAP_CAP = 1e6  # passes of the inner loop, a fifth of a second in plain Python
_PLAIN_RARE, _CAP_RARE = 2e6, 4e8  # the same for rare losses
_BY_PARTS = "contour by parts"
_STEADY = 1e-2  # relative error of delta within which its slope is taken as given
_OUT_OF_WORK, _AT_ZERO, _BELOW = 2, 5, 6  # statuses of the kernel


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
    if question == "delta" and _is_nil(terms, given):
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


def directed_delta(
    parts: tuple[tuple[Event, int], ...], epsilon: float, *, remove: bool
) -> Interval | None:
    """delta in one direction alone, or None where the contour sum is not cheap.

    Args:
        parts: Atoms and their counts.
        epsilon: At least 0.
        remove: Whether the data set with the unit comes first.
    """
    terms = composition(parts)
    if terms is None:
        return None
    point = Ask(terms, False, epsilon, 1e-5, remove, None).run(_CHEAP_CAP)
    if not isinstance(point, Point):
        return None
    low, high = gear(_WORST, 5e3).ends(False, *point)
    return _interval(low, high, "delta")


def is_narrow(found: Interval, question: Question, tolerance: float) -> bool:
    """Whether an answer is as precise as was asked for."""
    width = found.upper - found.lower
    if question == "delta":
        return width <= tolerance * found.upper
    return width <= tolerance * max(1.0, found.upper)


def _next_to_nothing(terms: Composition, delta: float, aim: float) -> Interval | None:
    """The interval where delta(0), the same in both directions, is hardly above."""
    wanted = math.log(delta)
    found = Ask(terms, False, 0.0, aim, True, wanted).run(_CHEAP_CAP)
    if not isinstance(found, Point):
        return None
    gap = found.log_delta + math.log1p(found.error) - wanted
    if gap <= 0.0:
        return Interval(0.0, 0.0, "contour")
    if gap > 1e-3:
        return None
    module = gear(_WORST, 0.0)
    _, high = module.ends(True, 0.0, wanted, found.error + gap, found.slope)
    high *= 3.0
    # the slope at 0 says little about what follows: the end itself is tested
    for remove in (True, False):
        there = Ask(terms, False, high, 1e-9, remove, wanted).run(_CHEAP_CAP)
        if not isinstance(there, Point):
            return None
        if there.log_delta + math.log1p(there.error) > wanted:
            return None
    return Interval(0.0, high, "contour")


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
        if question == "epsilon" and error > _STEADY:
            high = _tested(terms, asked, epsilon, high)
            low = 0.0
            if high == math.inf:
                return None
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


def _tested(terms: Composition, wanted: float, epsilon: float, high: float) -> float:
    """An upper end that was tested itself, where the slope says too little."""
    module = gear(_RARE, _PLAIN_RARE)
    for factor in (1.0, 3.0, 10.0):
        end = epsilon + factor * (high - epsilon)
        _, log_delta, error, _, _, status = module.rare_answer(
            terms.buffers(module), False, end, 1e-3, _CAP_RARE
        )
        if status == 0 and log_delta + math.log1p(error) <= wanted:
            return end
    return math.inf


def _patient(
    terms: Composition, question: Question, given: float, aim: float
) -> Interval | None:
    """The worse of both directions, each by whatever works."""
    remove = direction(terms, question, given, aim, remove=True)
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
    add = direction(terms, question, given, aim, remove=False)
    if add is None:
        return None
    add_low, add_high = module.ends(question == "epsilon", *add)
    return _interval(max(low, add_low), max(high, add_high), question)
