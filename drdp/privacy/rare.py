"""delta where it comes from a few rare large losses, part by part.

From the largest losses down, each part has at least one loss of its own size
and none above it.  Small parts need little accuracy, those far below the
epsilon in question none.  Only the "remove" direction, only orders above 1.
"""

from __future__ import annotations

import math

from drdp.privacy.jumps import Law, bulk_bound, height, order_for, shape_at
from drdp.privacy.kernel import Buffer, kernel
from drdp.privacy.nodes import Terms
from drdp.privacy.parts import add_logs, coarse_law, measured
from drdp.privacy.saddle import chernoff, flag
from drdp.privacy.windows import (
    Split,
    bulk_moment,
    cut_off,
    jump_moment,
    loss_at,
    lost,
    split,
)

__all__ = ["rare_answer"]

_NO_ORDER = 1
_TOO_MANY_NODES = 2
_TOO_WIDE = 3
_NO_ROOT = 4
_NIL = 5
_AHEAD = 3.0  # how much larger the order of the next smaller part may be
_RATIO = 0.25  # of the losses of one part and the next
_FARTHEST = 72.0  # powers of e that windows are followed down
_MOST_NODES = 3e5


@kernel
def least_chernoff(terms: Terms, law: Law, log_delta: float) -> tuple[float, float]:
    """The least epsilon by Chernoff's bound over all orders, and its order - 1."""
    best = math.inf
    at = 0.0
    for k in range(-10, 64):
        order = 1.0 + math.exp(0.5 * k)
        a = order - 1.0
        moment = height(terms, law, order, 0)[0]
        value = (moment + a * math.log(a / order) - math.log(order) - log_delta) / a
        if value < best:
            best = value
            at = 0.5 * k
        elif best < math.inf and k > 2.0 * at + 3.0:
            break
    return best, math.exp(at)


@kernel
def last_share(terms: Terms, law: Law, order: float, which: int) -> float:
    """log of the largest tilted weight of a last node, relative to its part."""
    kinds = terms[0]
    low, missing, mean, high = law
    worst = -1e300
    for i in range(len(kinds)):
        if kinds[i] != 0.0:
            continue
        start = int(low[4][i])
        j = int(low[4][i + 1]) - 1
        while j > start and low[2][j] < -1e299:
            j -= 1
        norm = bulk_moment(order, start, j + 1, low, missing[i], mean[i])[0]
        worst = max(worst, low[2][j] + order * low[1][j] - norm)
        if which == 1:
            first = int(high[4][i])
            j = int(high[4][i + 1]) - 1
            norm = jump_moment(order, first, j + 1, high)[0]
            worst = max(worst, high[2][j] + order * high[1][j] - norm)
    return worst


@kernel
def settled_part(
    terms: Terms,
    loss: float,
    tilt: float,
    e: float,
    cuts: Buffer,
    edges: Buffer,
    spare: float,
    which: int,
) -> tuple[Split, Law, float, float, float, float, float, float, int]:
    """A part with its saddle point, its nodes ending where that is best.

    They end as far as the windows go; or earlier, where the order brings back
    what the windows hold down, and where that costs next to nothing.

    Returns (places, law, largest loss of a place, order, moment, steepness,
    the largest tilted weight at an end, what the ends cost, status).
    """
    far = _FARTHEST
    best_far = far
    least = math.inf
    last = False
    while True:
        places, used, nodes = split(terms, loss, _AHEAD * tilt, cuts, edges, far)
        cost = lost(terms, places)
        if cost > spare and far < _FARTHEST and not last:
            last = True
            far = best_far
            continue
        status = 0 if nodes < _MOST_NODES else _TOO_MANY_NODES
        if status != 0:
            places, used, nodes = split(terms, loss, 0.0, cuts, edges, 2.0)
        law = coarse_law(terms, places)
        order, moment, steep, found = order_for(terms, law, e, which, math.log(tilt))
        if status == 0 and not found:
            status = _NO_ORDER
        if last or status != 0:
            return places, law, used, order, moment, steep, least, cost, status
        edge = last_share(terms, law, order, which)
        if edge < least:
            least = edge
            best_far = far
        if edge < -35.0:
            return places, law, used, order, moment, steep, edge, cost, status
        far *= 0.7
        if far < 6.0:
            last = True
            far = best_far


@kernel
def all_parts(
    terms: Terms,
    e: float,
    log_delta: float,
    tilt: float,
    width: float,
    relative: float,
    cap: float,
    summing: bool,
) -> tuple[float, float, float, float, float, int]:
    """delta at e, part by part; the split of one part is the cut of the next.

    Args:
        terms: The composition.
        e: The epsilon in question, positive.
        log_delta: A log delta that it is hardly below.
        tilt: Roughly the order - 1 that matters.
        width: The width in epsilon to aim for; or, where 0,
        relative: the relative error of delta.
        cap: The most work to spend.
        summing: Whether to sum, or to stop at the saddle-point estimate.

    Returns:
        (log delta, relative error, slope, order - 1, work, status).
    """
    size = len(terms[0])
    cuts, edges = cut_off(terms, log_delta, 1.0)
    loss = 0.0
    least = 1e-3 * e
    for i in range(size):
        if terms[0][i] == 0.0:
            loss = max(loss, loss_at(cuts[i], terms[1][i], terms[2][i]))
            least = max(least, 4.0 * terms[1][i])
    loss *= _RATIO
    total = -math.inf
    rough_total = -math.inf
    error = 0.0
    loose = 0.0
    slope = 0.0
    work = 0.0
    lead = tilt
    best = -math.inf
    tilt = 1.0
    for level in range(40):
        if level > 0:
            loss *= _RATIO
        which = 1 if loss > least else 0
        aim = min(1e-3, max(1e-12, relative + 0.1 * width * lead))
        spare = log_delta + math.log(0.01 * aim)
        places, law, used, order, moment, steep, edge, cost, status = settled_part(
            terms, loss if which == 1 else math.inf, tilt, e, cuts, edges, spare, which
        )
        if status != 0:
            return 0.0, 1.0, 0.0, lead, work, status
        loose += math.exp(min(0.0, cost - log_delta))
        loss = used
        tilt = order - 1.0
        rough = moment - tilt * e - math.log(order * tilt)
        rough -= 0.5 * math.log(6.3 * steep)
        rough_total = add_logs(rough_total, rough)
        if rough > best:
            best = rough
            lead = tilt
        aim = min(1e-3, max(1e-12, relative + 0.1 * width * lead))
        most = chernoff(moment, order, e, flag(1.0))
        if most < log_delta + math.log(0.02 * aim):
            # negligible as a whole
            loose += math.exp(most - log_delta)
        elif summing:
            goal = math.log(aim) + rough_total - moment + tilt * e
            if tilt > lead and edge > goal - 4.0:
                # The line need not go through a saddle point.  On this one,
                # what the windows hold down of larger jumps stays down.
                order = 1.0 + lead
                moment, steep = shape_at(terms, law, order, which)
                goal = math.log(aim) + rough_total - moment + lead * e
            part, off, lean, spent, status = measured(
                terms, places, law, which, order, moment, steep, e, goal, cap - work
            )
            work += spent
            if status != 0:
                return 0.0, 1.0, 0.0, lead, work, status
            before = total
            total = add_logs(total, part)
            share = math.exp(part - total)
            rest = math.exp(before - total)
            error = error * rest + off * share
            slope = slope * rest + lean * share
        cuts = places[0]
        edges = places[1]
        if which == 0:
            break
        if loss > e:
            continue
        bound, _ = bulk_bound(terms, law, e, math.log(tilt))
        so_far = total if summing else rough_total
        if bound < so_far + math.log(0.3 * aim):
            if summing:
                loose += math.exp(bound - total)
            break
    if not summing:
        return rough_total, 1.0, 0.0, lead, work, 0
    # what the cuts take away
    loose += math.exp(min(0.0, log_delta - 34.0 - total))
    return total, error + loose, slope, lead, work, 0


@kernel
def variation(terms: Terms) -> float:
    """A bound on delta(0): total variations add up."""
    kinds, rates, sigmas, counts, _ = terms
    total = 0.0
    for i in range(len(kinds)):
        if kinds[i] == 2.0:
            one = -math.expm1(-0.5 / sigmas[i])
        else:
            one = math.erf(0.5 / (sigmas[i] * math.sqrt(2.0)))
        total += counts[i] * one * (rates[i] if kinds[i] == 0.0 else 1.0)
    return total


@kernel
def rare_answer(
    terms: Terms, ask_epsilon: bool, given: float, width: float, cap: float
) -> tuple[float, float, float, float, float, int]:
    """delta at a given epsilon > 0, or epsilon at a given log delta.

    Args:
        terms: The composition.
        ask_epsilon: Whether `given` is log delta, or epsilon.
        given: The one of the two that is known.
        width: The width in epsilon to aim for, relative where epsilon is above
            1; or the relative error of delta, where delta is asked for.
        cap: The most work to spend, in passes of the inner loop.

    Returns:
        (epsilon, log delta, relative error of delta, d log delta / d epsilon,
        work, status); status 0 is an answer, and status 5 means that epsilon
        is at most the one returned.
    """
    work = 0.0
    tilt = 1.0
    no = flag(0.0)
    if not ask_epsilon:
        if given < 1e-12:
            return 0.0, 0.0, 1.0, 0.0, work, _NO_ORDER
        log_delta = -60.0
        for _ in range(4):
            rough, _, _, tilt, _, status = all_parts(
                terms, given, log_delta, tilt, 0.0, width, cap, no
            )
            if status != 0:
                return 0.0, 0.0, 1.0, 0.0, work, status
            if rough > log_delta - 5.0:
                break
            log_delta = rough - 5.0
        value, error, slope, _, work, status = all_parts(
            terms, given, min(log_delta, rough - 2.0), tilt, 0.0, width, cap, flag(1.0)
        )
        if status == 0 and error > 0.5:
            status = _TOO_WIDE
        return given, value, error, slope, work, status
    if math.log(variation(terms)) + 1e-9 < given:
        return 0.0, given, 0.0, -1.0, work, _NIL
    high = math.inf
    for _ in range(2):
        cuts, edges = cut_off(terms, given, tilt)
        places, _, nodes = split(terms, math.inf, tilt, cuts, edges, 0.5 * _FARTHEST)
        if not nodes < _MOST_NODES:
            break
        e, tilt = least_chernoff(terms, coarse_law(terms, places), given)
        high = min(high, e * (1.0 + 1e-9) + 1e-15)
    if not high < 1e300:
        return 0.0, 0.0, 1.0, 0.0, work, _NO_ORDER
    if high < width:
        return max(high, 0.0), given, 0.0, -1.0, work, _NIL
    low = 0.0
    e = high
    summing = no
    top = high
    known = 0.0
    at = 0.0
    for _ in range(40):
        value, error, slope, tilt, spent, status = all_parts(
            terms, e, given, tilt, width * max(1.0, e), 0.0, cap - work, summing
        )
        work += spent
        if status != 0:
            return 0.0, 0.0, 1.0, 0.0, work, status
        gap = value - given
        if not summing:
            # by the saddle-point estimate, until it is about right
            slope = -tilt
            if known != 0.0 and math.fabs(at - e) > 1e-9 * e:
                slope = min(-1e-9, (gap - known) / (e - at))
            known = gap
            at = e
        elif math.fabs(gap) < 0.05 * width * max(1.0, e) * -slope:
            return e, value, error + 1.1 * math.fabs(gap), slope, work, 0
        elif gap + error <= 0.0 and e <= width:
            return e, given, 0.0, -1.0, work, _NIL
        if gap > 0.0:
            low = e
        else:
            high = e
        move = 0.5 * e
        if slope < 0.0:
            # a line in e, or in log e where that would go far down
            move = e - gap / slope
            if move < 0.5 * e:
                move = e * math.exp(max(-gap / (slope * e), -3.0))
        if not summing and (math.fabs(gap) < 1.0 or high - low < 1e-2 * high):
            summing = flag(1.0)
            low = 0.0
            high = top
        if not (move > low and move < high):
            move = math.sqrt(low * high) if low > 0.0 else 0.3 * high
        e = max(move, 0.9 * width)
    return 0.0, 0.0, 1.0, 0.0, work, _NO_ROOT
