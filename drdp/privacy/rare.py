"""One answer by the sum over jumps: where to split, how fine, and its error.

Only the "remove" direction, only orders above 1.  docs/numerics.md has the
argument for each of the errors that are added up in `measured`.
"""

from __future__ import annotations

import math

from drdp.privacy.contour import read
from drdp.privacy.jumps import (
    Law,
    bulk_bound,
    height,
    jump_line,
    log_sum,
    order_for,
    shape_at,
    slopes,
    spread_out,
)
from drdp.privacy.kernel import Buffer, kernel, zeros
from drdp.privacy.saddle import Terms, chernoff
from drdp.privacy.windows import (
    Split,
    bulk_moment,
    bulk_nodes,
    cut_off,
    jump_moment,
    jump_nodes,
    loss_at,
    lost,
    split,
)

__all__ = ["rare_answer"]

_NO_SADDLE = 1
_TOO_MUCH_WORK = 2
_NO_CERTIFICATE = 3
_NO_CONVERGENCE = 4
_AT_ZERO = 5
_LEAST = 1e-7  # an epsilon that is as good as 0
_TURNS = 10
_AHEAD = 3.0
_RATIO = 0.25


@kernel
def turn_of(k: int, s: float) -> float:
    """The shifts that are tried, as multiples of s^2 below pi."""
    return min(2.9, 0.025 * 1.7**k * min(1.0, 4.0 / s))


@kernel
def coarse_law(terms: Terms, places: Split) -> Law:
    """Both parts on grids fine enough for real orders."""
    kinds, _, sigmas, _, _ = terms
    _, widths, _, edges, _, _ = places
    size = len(kinds)
    low_steps = zeros(size)
    high_steps = zeros(size)
    for i in range(size):
        if kinds[i] != 0.0:
            continue
        low_steps[i] = 0.4 * min(sigmas[i], widths[i])
        high_steps[i] = 0.4 * min(edges[i], min(sigmas[i], widths[i]))
    low, missing, mean = bulk_nodes(terms, places, low_steps, 40.0)
    high = jump_nodes(terms, places, high_steps)
    return low, missing, mean, high


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
def jumps_reach(
    terms: Terms,
    places: Split,
    law: Law,
    order: float,
    goal: float,
    share: float,
    y: float,
    settle: bool,
) -> float:
    """How high the line must go; or what is left out beyond a given height.

    |M^T - B^T| is at most the sum over atoms of T |J| M^(T-1) M'^(T'): each
    |J| beyond y is bounded on a shifted line, the rest by its value at 0.

    Args:
        terms: The composition.
        places: Where it is split.
        law: Coarse nodes.
        order: Real part of the line.
        goal: log of what may be left out, relative to the transform at 0.
        share: log of M^T over the transform, at `order`.
        y: The height to start from, or to judge.
        settle: Whether to find the height, or to judge `y`.

    Returns:
        The height, or log of the bound at `y`.
    """
    kinds, _, sigmas, counts, _ = terms
    low, missing, mean, high = law
    size = len(kinds)
    bases = zeros(len(high[0]))
    pulls = zeros(len(high[0]))
    found = 0.0
    bound = -1e300
    for i in range(size):
        if kinds[i] != 0.0:
            continue
        first = int(high[4][i])
        stop = int(high[4][i + 1])
        b0 = bulk_moment(
            order, int(low[4][i]), int(low[4][i + 1]), low, missing[i], mean[i]
        )[0]
        j0 = jump_moment(order, first, stop, high)[0]
        scale = math.log(counts[i]) + share + j0 - b0 - math.log1p(math.exp(j0 - b0))
        least = 1e300
        best = 1e300
        for k in range(_TURNS):
            kept = slopes(
                terms, places, high, i, order, j0, turn_of(k, sigmas[i]), True, bases, pulls
            )
            if not settle:
                best = min(best, scale + log_sum(kept, bases, pulls, y))
                continue
            # the least height at which this line is good enough
            top = min(least, 1e12)
            if least < 1e300 and scale + log_sum(kept, bases, pulls, least) > goal:
                continue
            below = y
            if least == 1e300:
                top = y
                while top < 1e12 and scale + log_sum(kept, bases, pulls, top) > goal:
                    below = top
                    top *= 2.0
                if top >= 1e12:
                    continue
            while top > 1.1 * below:
                middle = math.sqrt(top * below)
                if scale + log_sum(kept, bases, pulls, middle) > goal:
                    below = middle
                else:
                    top = middle
            least = top
        found = max(found, least)
        high_one = max(bound, best)
        if high_one > -1e299:
            low_one = min(bound, best)
            bound = high_one + math.log1p(math.exp(max(low_one - high_one, -700.0)))
    return found if settle else bound


@kernel
def bulk_reach(
    terms: Terms, places: Split, law: Law, order: float, goal: float, y: float
) -> tuple[float, float]:
    """The same for B^T: the height reached, and log of the bound there.

    |B|^T is bounded on shifted lines, the same shift for every atom.
    """
    kinds, _, sigmas, counts, _ = terms
    low, missing, mean, _ = law
    size = len(kinds)
    bases = zeros(len(low[0]))
    pulls = zeros(len(low[0]))
    shares = zeros(len(low[0]))
    height_now = y
    for _ in range(40):
        best = 1e300
        for k in range(_TURNS):
            total = 0.0
            for i in range(size):
                if kinds[i] == 1.0:
                    ratio = height_now / sigmas[i]
                    total -= 0.5 * counts[i] * ratio * ratio
                if kinds[i] != 0.0:
                    continue
                start = int(low[4][i])
                stop = int(low[4][i + 1])
                b0 = bulk_moment(order, start, stop, low, missing[i], mean[i])[0]
                kept = slopes(
                    terms,
                    places,
                    low,
                    i,
                    order,
                    b0,
                    turn_of(k, sigmas[i]),
                    False,
                    bases,
                    pulls,
                )
                slopes(terms, places, low, i, order, b0, 0.0, False, shares, shares)
                excess = 0.0
                n = 0
                for j in range(start, stop):
                    share = low[2][j] + order * low[1][j] - b0
                    if share < -110.0:
                        continue
                    rise = bases[n] - share - height_now * pulls[n]
                    if rise > 500.0:
                        excess = 1e300
                        break
                    excess += math.exp(share) * math.expm1(rise)
                    n += 1
                if n < kept or excess > 1e290:
                    total = 1e300
                    break
                total += counts[i] * (math.log1p(excess) if excess > -1.0 else -36.0)
            best = min(best, total)
        if best < goal:
            return height_now, best
        height_now *= 1.25
    return height_now, 1e300


@kernel
def fine_step(
    terms: Terms,
    places: Split,
    law: Law,
    i: int,
    order: float,
    norm: float,
    y: float,
    effort: float,
    jump: bool,
) -> tuple[float, float]:
    """A step in x whose aliasing error is e^-effort up to height y.

    Aliasing is at most 2 e^(-2 pi s^2 turn / step) times the integral of the
    modulus on the line shifted by s^2 turn, to the worse side.  Where the
    nodes end, a normal tail of width a quarter of the shift makes a smooth end
    of them: at the price of a factor e^8 there, and of twice the mass there.

    Returns (step, the mass at the end of the nodes).
    """
    _, _, sigmas, _, _ = terms
    nodes = law[3] if jump else law[0]
    bases = zeros(len(nodes[0]))
    pulls = zeros(len(nodes[0]))
    end = places[5][i] if jump else places[4][i]
    best = 0.0
    brim = 0.0
    for k in range(_TURNS):
        turn = turn_of(k, sigmas[i])
        shift = sigmas[i] * sigmas[i] * turn
        kept = slopes(terms, places, nodes, i, order, norm, turn, jump, bases, pulls)
        mass = 0.0
        n = 0
        for j in range(int(nodes[4][i]), int(nodes[4][i + 1])):
            share = nodes[2][j] + order * nodes[1][j] - norm
            if share < -110.0:
                continue
            if nodes[0][j] > end - 4.0 * shift:
                bases[n] += 8.0
                mass += math.exp(share)
            n += 1
        rise = max(0.0, log_sum(kept, bases, pulls, -y))
        step = 2.0 * math.pi * shift / (effort + 1.0 + rise)
        if step > best and mass < math.exp(-effort):
            best = step
            brim = mass
    return best, brim


@kernel
def measured(
    terms: Terms,
    places: Split,
    law: Law,
    which: int,
    order: float,
    moment: float,
    steep: float,
    e: float,
    goal: float,
    cap: float,
) -> tuple[float, float, float, float, int]:
    """One part of delta at e, summed on one line.

    `goal` is log of the error to aim for, relative to the transform at
    `order` times e^(-(order - 1) e).

    Returns (log of the part, its relative error, slope, work, status).
    """
    kinds, _, _, counts, _ = terms
    low, missing, mean, high = law
    size = len(kinds)
    width = math.sqrt(steep)
    effort = max(6.0, 2.0 - goal)
    span, rate_above, lift_above, rate_below, lift_below = spread_out(
        terms, law, which, order, moment, steep, e, effort
    )
    if not span < math.inf:
        return 0.0, 1.0, 0.0, 0.0, _NO_SADDLE
    h = 2.0 * math.pi / span
    bulks = zeros(size)
    jumps = zeros(size)
    whole = 0.0
    for i in range(size):
        if kinds[i] != 0.0:
            continue
        start = int(low[4][i])
        stop = int(low[4][i + 1])
        bulks[i] = bulk_moment(order, start, stop, low, missing[i], mean[i])[0]
        if which == 1:
            first = int(high[4][i])
            jumps[i] = jump_moment(order, first, int(high[4][i + 1]), high)[0]
            whole += counts[i] * math.log1p(math.exp(jumps[i] - bulks[i]))
    share = 0.0
    if which == 1:
        share = whole - math.log(math.expm1(whole)) if whole < 40.0 else 0.0
        y = jumps_reach(
            terms, places, law, order, goal - 1.4 + math.log(3.0 / width), share, 1.0 / width,
            True,
        )
    else:
        y = bulk_reach(terms, places, law, order, goal - 1.4 + math.log(3.0 / width), 3 / width)[0]
    if not y / h < 1e7:
        return 0.0, 1.0, 0.0, 0.0, _NO_CERTIFICATE
    filled = int(y / h) + 2
    y = h * (filled - 1)
    low_steps = zeros(size)
    high_steps = zeros(size)
    work = 0.0
    brims = 0.0
    # roughly the sum of h / (pi |w (w - 1)|)
    spots = (1.0 + math.log1p(1.0 / (order - 1.0))) / (2.0 * order)
    effort_x = max(6.0, 3.5 - goal + math.log(spots * (1.0 + 2.0 * whole)))
    for i in range(size):
        if kinds[i] != 0.0:
            continue
        own = effort_x + math.log(counts[i])
        low_steps[i], brim = fine_step(
            terms, places, law, i, order, bulks[i], y, own, False
        )
        brims += counts[i] * brim
        if low_steps[i] <= 0.0:
            return 0.0, 1.0, 0.0, 0.0, _NO_CERTIFICATE
        span_x = low[0][int(low[4][i + 1]) - 1] - low[0][int(low[4][i])]
        work += span_x / low_steps[i] * filled
        if which == 1:
            high_steps[i], brim = fine_step(
                terms, places, law, i, order, jumps[i], y, effort_x, True
            )
            brims += brim
            if high_steps[i] <= 0.0:
                return 0.0, 1.0, 0.0, 0.0, _NO_CERTIFICATE
            span_x = high[0][int(high[4][i + 1]) - 1] - high[0][int(high[4][i])]
            work += span_x / high_steps[i] * filled
    if not work < cap:
        return 0.0, 1.0, 0.0, 0.0, _TOO_MUCH_WORK
    fine_low, gone, gone_mean = bulk_nodes(terms, places, low_steps, effort + 6.0)
    fine_high = jump_nodes(terms, places, high_steps) if which == 1 else high
    log_scale = 0.0
    for i in range(size):
        if kinds[i] != 0.0:
            continue
        start = int(fine_low[4][i])
        stop = int(fine_low[4][i + 1])
        bulks[i] = bulk_moment(order, start, stop, fine_low, gone[i], gone_mean[i])[0]
        if which == 1:
            first = int(fine_high[4][i])
            jumps[i] = jump_moment(order, first, int(fine_high[4][i + 1]), fine_high)[0]
    fine = (fine_low, gone, gone_mean, fine_high)
    log_scale = height(terms, fine, order, which)[0]
    whole, drift, spent, terms_k = jump_line(
        terms, order, h, filled, fine_low, fine_high, bulks, jumps, which, 46.0
    )
    work = spent
    total, inner, mass = read(terms_k, filled, order, h, e)
    if not total > 0.0:
        return 0.0, 1.0, 0.0, work, _NO_CONVERGENCE
    log_part = log_scale - (order - 1.0) * e + math.log(total)
    # everything relative to the transform at height 0
    above = rate_above * (span + e) - lift_above
    below = rate_below * (span - e) - lift_below
    error = math.exp(-above) / -math.expm1(-rate_above * span)
    error += math.exp(-below) / -math.expm1(-rate_below * span)
    if which == 1:
        rest = jumps_reach(terms, places, law, order, goal, share, y + h, False)
    else:
        rest = bulk_reach(terms, places, law, order, 1e299, y + h)[1]
    error += math.exp(min(rest, 700.0)) * (1.0 / y + h / (y * y)) / math.pi
    spots = 0.0
    for k in range(filled):
        at = (h * k) * (h * k)
        spots += 1.0 / math.sqrt((order * order + at) * ((order - 1.0) ** 2 + at))
    spots *= h / math.pi
    stir = 1.0 + 2.0 * whole
    error += spots * (
        stir * (8.0 * math.exp(-effort_x) + 3.0 * brims)
        + 1e-19 * (len(fine_low[0]) + len(fine_high[0])) * stir
        + 4e-16 * min(drift * y, 1e16) * filled
    )
    rounding = 20.0 + filled * stir + math.fabs(log_scale) + math.fabs(order * e)
    error += mass * 4e-15 * rounding
    return log_part, error / total + 1e-10, 1.0 - inner / total, work, 0


@kernel
def add_logs(a: float, b: float) -> float:
    """log(e^a + e^b)."""
    top = max(a, b)
    if top == -math.inf:
        return top
    return top + math.log1p(math.exp(min(a, b) - top))


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
def all_parts(
    terms: Terms,
    e: float,
    log_delta: float,
    tilt: float,
    width: float,
    cap: float,
    summing: bool,
) -> tuple[float, float, float, float, float, int]:
    """delta at e: the part with jumps near e, then parts with smaller ones.

    Each part has at least one loss of its own size and none above; the split
    between one part and the next is the cut of the next.

    Args:
        terms: The composition.
        e: The epsilon in question, positive.
        log_delta: A log delta that it is hardly below.
        tilt: Roughly the order - 1 that matters.
        width: The width in epsilon to aim for.
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
    loss *= 0.25
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
        # As far as the windows go, or less, where the order brings back what
        # they hold down and where that costs next to nothing.
        far = 72.0
        best_far = 72.0
        least_edge = math.inf
        spare = log_delta + math.log(0.01 * min(1e-3, 0.1 * width * lead))
        settled = False
        while True:
            places, used, nodes = split(
                terms,
                loss if which == 1 else math.inf,
                _AHEAD * tilt,
                cuts,
                edges,
                far,
            )
            cost = lost(terms, places)
            if far < 72.0 and cost > spare and not settled:
                settled = True
                far = best_far
                continue
            if not nodes < 3e5:
                return 0.0, 1.0, 0.0, lead, work, _TOO_MUCH_WORK
            law = coarse_law(terms, places)
            order, moment, steep, found = order_for(
                terms, law, e, which, math.log(tilt)
            )
            if settled:
                break
            edge = last_share(terms, law, order, which)
            if edge < least_edge:
                least_edge = edge
                best_far = far
            settled = edge < -35.0
            if settled:
                break
            far *= 0.7
            if far < 6.0:
                settled = True
                far = best_far
        loose += math.exp(min(0.0, cost - log_delta))
        loss = used
        if not found:
            return 0.0, 1.0, 0.0, lead, work, _NO_SADDLE
        tilt = order - 1.0
        rough = moment - tilt * e - math.log(order * tilt)
        rough -= 0.5 * math.log(6.3 * steep)
        rough_total = add_logs(rough_total, rough)
        if rough > best:
            best = rough
            lead = tilt
        aim = min(1e-3, max(1e-12, 0.1 * width * lead))
        most = chernoff(moment, order, e, True)
        if most < log_delta + math.log(0.02 * aim):
            # negligible as a whole
            loose += math.exp(most - log_delta)
        elif summing:
            goal = math.log(aim) + rough_total - moment + tilt * e
            if tilt > lead and least_edge > goal - 4.0:
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
def at_most_one(terms: Terms) -> float:
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
        width: The width in epsilon to aim for.
        cap: The most work to spend, in passes of the inner loop.

    Returns:
        (epsilon, log delta, relative error of delta, d log delta / d epsilon,
        work, status); status 0 is an answer, and status 5 means that epsilon
        is at most the one returned.
    """
    work = 0.0
    tilt = 1.0
    if not ask_epsilon:
        if given < 1e-12:
            return 0.0, 0.0, 1.0, 0.0, work, _NO_SADDLE
        log_delta = -60.0
        for _ in range(4):
            rough, _, _, tilt, _, status = all_parts(
                terms, given, log_delta, tilt, width, cap, False
            )
            if status != 0:
                return 0.0, 0.0, 1.0, 0.0, work, status
            if rough > log_delta - 5.0:
                break
            log_delta = rough - 5.0
        value, error, slope, _, work, status = all_parts(
            terms, given, min(log_delta, rough - 2.0), tilt, width, cap, True
        )
        if status == 0 and error > 0.5:
            status = _NO_CERTIFICATE
        return given, value, error, slope, work, status
    if math.log(at_most_one(terms)) + 1e-9 < given:
        return 0.0, given, 0.0, -1.0, work, _AT_ZERO
    high = math.inf
    for _ in range(2):
        cuts, edges = cut_off(terms, given, tilt)
        places, _, nodes = split(terms, math.inf, tilt, cuts, edges, 36.0)
        if not nodes < 3e5:
            break
        e, tilt = least_chernoff(terms, coarse_law(terms, places), given)
        high = min(high, e * (1.0 + 1e-9) + 1e-15)
    if not high < 1e300:
        return 0.0, 0.0, 1.0, 0.0, work, _NO_SADDLE
    if high < width:
        return max(high, 0.0), given, 0.0, -1.0, work, _AT_ZERO
    low = 0.0
    e = high
    summing = False
    top = high
    known = 0.0
    at = 0.0
    for _ in range(40):
        value, error, slope, tilt, spent, status = all_parts(
            terms, e, given, tilt, width * max(1.0, e), cap - work, summing
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
            return e, given, 0.0, -1.0, work, _AT_ZERO
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
            summing = True
            low = 0.0
            high = top
        if not (move > low and move < high):
            move = math.sqrt(low * high) if low > 0.0 else 0.3 * high
        e = max(move, 0.9 * width)
    return 0.0, 0.0, 1.0, 0.0, work, _NO_CONVERGENCE
