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
from drdp.privacy.line import line
from drdp.privacy.nodes import Terms, cumulants, gather
from drdp.privacy.saddle import chernoff, flag, period, saddle, steepness

__all__ = ["answer"]

_NO_SADDLE = 1
_TOO_MUCH_WORK = 2
_NO_CERTIFICATE = 3
_NO_CONVERGENCE = 4
_AT_ZERO = 5
_BELOW = 6
_COARSE = 14.0


@kernel
def read(
    terms_r: Buffer, terms_i: Buffer, filled: int, order: float, h: float, e: float
) -> tuple[float, float, float]:
    """The sum at e: its value, sum of w_k times its terms, sum of |terms|."""
    total = 0.5 * terms_r[0]
    inner = total * order
    mass = math.fabs(total)
    turn_r = math.cos(h * e)
    turn_i = -math.sin(h * e)
    c_r = 1.0
    c_i = 0.0
    for k in range(1, filled):
        b_r = c_r * turn_r - c_i * turn_i
        c_i = c_r * turn_i + c_i * turn_r
        c_r = b_r
        t_r = terms_r[k] * c_r - terms_i[k] * c_i
        t_i = terms_r[k] * c_i + terms_i[k] * c_r
        total += t_r
        inner += order * t_r - h * k * t_i
        mass += math.fabs(t_r)
    scale = h / math.pi
    return total * scale, inner * scale, mass * scale


@kernel
def solve(
    terms_r: Buffer,
    terms_i: Buffer,
    filled: int,
    order: float,
    h: float,
    moment: float,
    e: float,
    remove: bool,
    ask_epsilon: bool,
    wanted: float,
    close: float,
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
        total, inner, mass = read(terms_r, terms_i, filled, order, h, e)
        if not total > 0.0:
            break
        log_delta = moment - order * e + math.log(total)
        slope = -inner / total
        if remove:
            log_delta += e
            slope += 1.0
        if not ask_epsilon:
            break
        gap = wanted - log_delta
        move = gap / slope
        if math.fabs(gap) < close or math.fabs(move) < 1e-14 * (1.0 + math.fabs(e)):
            break
        move = min(max(move, -0.2 * span), 0.2 * span)
        if math.fabs(e + move - middle) > 0.4 * span:
            break
        e += move
    return e, log_delta, slope, total, mass


@kernel
def limit_far(terms: Terms, log_cost: float, limits: Buffer) -> None:
    """Where each sampled atom's x may be cut off.

    The chance that any x is beyond, under either component, is at most
    e^log_cost each: Phi(-t) <= e^(-t^2/2) / 2.
    """
    kinds, rates, sigmas, counts, cuts = terms
    total = 0.0
    for i in range(len(kinds)):
        total += counts[i]
    for i in range(len(kinds)):
        limits[i] = cuts[i]
        if kinds[i] == 0.0:
            most = math.log(0.5 * total) - log_cost
            far = math.sqrt(2.0 * max(0.0, most + math.log(rates[i])))
            plain = math.sqrt(2.0 * max(0.0, most))
            limits[i] = min(cuts[i], max(1.0 + far * sigmas[i], plain * sigmas[i]))


@kernel
def answer(
    terms: Terms,
    remove: bool,
    ask_epsilon: bool,
    given: float,
    start: float,
    aim: float,
    cap: float,
    hint: float,
    enough: float,
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
        hint: What log delta will hardly be below; where delta cannot come
            from a far mode of the law, that mode is cut off.
        enough: Where Chernoff's bound on log delta at the given epsilon is at
            most this, nothing more is asked, and the status is 6.

    Returns:
        (epsilon, log delta, relative error of delta, d log delta / d epsilon,
        |order - 1| or |order|, work, status); status 0 is an answer.
    """
    kinds, rates, sigmas, counts, cuts = terms
    size = len(kinds)
    own_cuts = zeros(size)
    limits = zeros(size)
    for i in range(size):
        own_cuts[i] = cuts[i]
    terms = (kinds, rates, sigmas, counts, own_cuts)
    # what may be cut off, relative to delta
    share = math.log(0.05 * min(aim, 1e-3))
    limit_far(terms, hint + share, limits)
    sign = 1.0 if remove else -1.0
    no = flag(0.0)
    work = 0.0
    order, e, moment, bend, found = saddle(
        terms, limits, remove, ask_epsilon, given, start, _COARSE, enough
    )
    if not found:
        if chernoff(moment, order, e, remove) < enough:
            moment, _, _ = cumulants(terms, order, 22.0)
            if chernoff(moment, order, e, remove) + 1e-6 <= enough:
                return sign * e, enough, 1.0, 0.0, start, work, _BELOW
        return 0.0, 0.0, 1.0, 0.0, start, work, _NO_SADDLE
    if ask_epsilon and sign * e <= 0.0:
        return 0.0, 0.0, 1.0, 0.0, start, work, _AT_ZERO
    for _ in range(12):
        steep = steepness(order, bend)
        # The sum is near 1 / (c (c-1) sqrt(2 pi steep)).
        scale = math.fabs(order * (order - 1.0)) * math.sqrt(6.3 * steep)
        effort = max(8.0, 2.0 - math.log(aim)) + max(0.0, math.log(scale))
        goal = 0.25 * aim / scale
        y_plan = 1.2 * math.sqrt(2.0 * effort / steep)
        nodes, moment, _, bend = gather(terms, order, y_plan, effort)
        span, rate_above, lift_above, rate_below, lift_below = period(
            terms, nodes, order, moment, steep, e, remove, effort
        )
        h = 2.0 * math.pi / span
        if len(nodes[2]) * (y_plan / h) > cap - work:
            return 0.0, 0.0, 1.0, 0.0, start, work, _TOO_MUCH_WORK
        filled, rest, spent, terms_r, terms_i = line(
            terms, nodes, order, h, y_plan, goal, effort, cap - work
        )
        work += spent
        if filled < 0:
            if rest * scale > 0.02:
                return 0.0, 0.0, 1.0, 0.0, start, work, _NO_CERTIFICATE
            filled = -filled
        here, log_delta, slope, total, mass = solve(
            terms_r,
            terms_i,
            filled,
            order,
            h,
            moment,
            e,
            remove,
            ask_epsilon,
            given,
            1e-3 * aim,
            span,
        )
        if not total > 0.0:
            return 0.0, 0.0, 1.0, 0.0, start, work, _NO_CONVERGENCE
        guess = order - 1.0 if remove else -order
        off = math.fabs(log_delta - given) if ask_epsilon else 0.0
        if ask_epsilon and (off > 1e-6 or math.fabs(here - e) > math.sqrt(steep)):
            # The saddle point was for another e: start again from there.
            order, e, moment, bend, found = saddle(
                terms, limits, remove, no, sign * here, guess, _COARSE, -math.inf
            )
            if not found:
                return 0.0, 0.0, 1.0, 0.0, start, work, _NO_SADDLE
            continue
        cut_off = False
        for i in range(size):
            cut_off = cut_off or own_cuts[i] < cuts[i]
        if cut_off and log_delta < hint - 2.0:
            # too much was cut off for a delta this small
            hint = log_delta - 1.0
            for i in range(size):
                own_cuts[i] = cuts[i]
            limit_far(terms, hint + share, limits)
            order, e, moment, bend, found = saddle(
                terms, limits, remove, no, sign * here, guess, _COARSE, -math.inf
            )
            if not found:
                return 0.0, 0.0, 1.0, 0.0, start, work, _NO_SADDLE
            continue
        above = rate_above * (span + here) - lift_above
        below = rate_below * (span - here) - lift_below
        alias = math.exp(-above) / -math.expm1(-rate_above * span)
        alias += math.exp(-below) / -math.expm1(-rate_below * span)
        rounding = 20.0 + filled + math.fabs(moment) + math.fabs(order * here)
        error = alias + rest + mass * (2.0 * math.exp(-effort) + 4e-15 * rounding)
        error = error / total + 1e-10 + off
        if cut_off:
            # of delta itself, and of E u = 0 in M
            cost = hint + share
            error += 2.0 * math.exp(min(cost - log_delta, 50.0))
            error += (1.0 + math.fabs(order)) * math.exp(min(cost, 0.0))
        return sign * here, log_delta, error, sign * slope, guess, work, 0
    return 0.0, 0.0, 1.0, 0.0, start, work, _NO_CERTIFICATE
