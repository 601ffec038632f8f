"""The exact evaluator: delta and epsilon by a contour sum, with an error bound.

With M(w) = E_Q[e^(w L)] of the composed loss and F(w) = M(w) e^(-w e) / (w (w-1)),

    remove:  delta = e^eps / (2 pi) * integral of F(c + iy) dy, e = eps, c > 1
    add:     delta =     1 / (2 pi) * integral of F(c + iy) dy, e = -eps, c < 0

The line is put through the saddle point and the integral is a trapezoidal sum.
Its aliasing errors are values of the same non-negative function elsewhere,
bounded by Chernoff (`saddle.period`); what is cut off is bounded in `tail`;
docs/numerics.md has the whole argument.
"""

from __future__ import annotations

import math

from drdp.privacy.kernel import Buffer, kernel, zeros
from drdp.privacy.line import layout, line
from drdp.privacy.saddle import (
    Terms,
    cumulants,
    period,
    saddle_for_delta,
    saddle_for_epsilon,
    steepness,
)

__all__ = ["answer"]

_NO_SADDLE = 1
_TOO_MUCH_WORK = 2
_NO_CERTIFICATE = 3
_NO_CONVERGENCE = 4
_AT_ZERO = 5


@kernel
def read(
    terms_k: Buffer, filled: int, order: float, h: float, e: float
) -> tuple[float, float, float]:
    """The sum at e: its value, sum of w_k times its terms, sum of |terms|."""
    most = len(terms_k) // 2
    total = 0.5 * terms_k[0]
    inner = total * order
    mass = math.fabs(total)
    for k in range(1, filled):
        angle = -h * k * e
        cosine = math.cos(angle)
        sine = math.sin(angle)
        t_r = terms_k[k] * cosine - terms_k[most + k] * sine
        t_i = terms_k[k] * sine + terms_k[most + k] * cosine
        total += t_r
        inner += order * t_r - h * k * t_i
        mass += math.fabs(t_r)
    scale = h / math.pi
    return total * scale, inner * scale, mass * scale


@kernel
def solve(
    terms_k: Buffer,
    filled: int,
    order: float,
    h: float,
    moment: float,
    e: float,
    remove: bool,
    ask_epsilon: bool,
    wanted: float,
    span: float,
) -> tuple[float, float, float, float, float]:
    """Newton's method for e on stored terms; or just delta at e.

    Returns (e, log delta, its slope in e, the sum, the sum of absolute values);
    where the root is outside the window, e is as far towards it as was tried.
    """
    log_delta = 0.0
    slope = 0.0
    total = 0.0
    mass = 0.0
    middle = e
    for _ in range(30):
        total, inner, mass = read(terms_k, filled, order, h, e)
        if not total > 0.0:
            break
        log_delta = moment - order * e + math.log(total)
        slope = -inner / total
        if remove:
            log_delta += e
            slope += 1.0
        if not ask_epsilon:
            break
        move = (wanted - log_delta) / slope
        if math.fabs(move) < 1e-14 * (1.0 + math.fabs(e)):
            break
        move = min(max(move, -0.2 * span), 0.2 * span)
        if math.fabs(e + move - middle) > 0.4 * span:
            break
        e += move
    return e, log_delta, slope, total, mass


@kernel
def answer(
    terms: Terms,
    remove: bool,
    ask_epsilon: bool,
    given: float,
    start: float,
    aim: float,
    cap: float,
) -> tuple[float, float, float, float, float, float, int]:
    """delta at a given epsilon, or epsilon at a given log delta.

    Args:
        terms: The composition.
        remove: Which direction.
        ask_epsilon: Whether `given` is log delta, or epsilon.
        given: The one of the two that is known.
        start: A guess of |order - 1| (remove) or |order| (add).
        aim: The relative error of delta to aim for.
        cap: The most work to spend, in passes of the inner loop.

    Returns:
        (epsilon, log delta, relative error of delta, d log delta / d epsilon,
        |order - 1| or |order|, work, status); status 0 is an answer.
    """
    size = len(terms[0])
    sign = 1.0 if remove else -1.0
    e = sign * given
    work = 0.0
    coarse = 14.0
    if ask_epsilon:
        order, e, found = saddle_for_delta(terms, given, remove, start, coarse)
    else:
        order, _, found = saddle_for_epsilon(terms, e, remove, start, coarse)
    if not found:
        return 0.0, 0.0, 1.0, 0.0, start, work, _NO_SADDLE
    if ask_epsilon and sign * e <= 0.0:
        return 0.0, 0.0, 1.0, 0.0, start, work, _AT_ZERO
    steps = zeros(size)
    offsets = zeros(size + 1)
    y_plan = 0.0
    for _ in range(12):
        moment, _, bend = cumulants(terms, order, coarse)
        steep = steepness(order, bend)
        # The sum is near 1 / (c (c-1) sqrt(2 pi steep)).
        scale = math.fabs(order * (order - 1.0)) * math.sqrt(6.3 * steep)
        effort = max(8.0, 2.0 - math.log(aim)) + max(0.0, math.log(scale))
        goal = 0.25 * aim / scale
        span, rate_above, lift_above, rate_below, lift_below = period(
            terms, order, moment, steep, e, remove, effort
        )
        h = 2.0 * math.pi / span
        y_plan = max(y_plan, 1.2 * math.sqrt(2.0 * effort / steep))
        most = int(y_plan / h) + 3
        nodes = layout(terms, order, y_plan, effort, steps, offsets)
        if float(nodes) * most > cap - work:
            return 0.0, 0.0, 1.0, 0.0, start, work, _TOO_MUCH_WORK
        moment, filled, rest, spent, terms_k = line(
            terms, order, h, most, steps, offsets, goal, effort
        )
        work += spent
        if filled < 0:
            # A longer line, or what there is where that would cost too much.
            if 5.0 * nodes * most < cap - work:
                y_plan *= 2.0
                continue
            if rest * scale > 0.02:
                return 0.0, 0.0, 1.0, 0.0, start, work, _NO_CERTIFICATE
            filled = -filled
        here, log_delta, slope, total, mass = solve(
            terms_k, filled, order, h, moment, e, remove, ask_epsilon, given, span
        )
        if not total > 0.0:
            return 0.0, 0.0, 1.0, 0.0, start, work, _NO_CONVERGENCE
        off = math.fabs(log_delta - given) if ask_epsilon else 0.0
        if ask_epsilon and (off > 1e-6 or math.fabs(here - e) > math.sqrt(steep)):
            # The saddle point was for another e: start again from there.
            e = here
            guess = order - 1.0 if remove else -order
            order, _, found = saddle_for_epsilon(terms, e, remove, guess, coarse)
            if not found:
                return 0.0, 0.0, 1.0, 0.0, start, work, _NO_SADDLE
            y_plan = 0.0
            continue
        above = rate_above * (span + here) - lift_above
        below = rate_below * (span - here) - lift_below
        alias = math.exp(-above) / -math.expm1(-rate_above * span)
        alias += math.exp(-below) / -math.expm1(-rate_below * span)
        rounding = 20.0 + filled + math.fabs(moment) + math.fabs(order * here)
        error = alias + rest + mass * (2.0 * math.exp(-effort) + 4e-15 * rounding)
        error = error / total + 1e-10 + off
        guess = order - 1.0 if remove else -order
        return sign * here, log_delta, error, sign * slope, guess, work, 0
    return 0.0, 0.0, 1.0, 0.0, start, work, _NO_CERTIFICATE
