"""One part of delta on one line of the complex plane, and its error.

A part is what M^T - B^T, or B^T alone, contributes to delta(e).  How high the
line goes, and how fine the nodes are, follows from bounds on shifted lines;
docs/numerics.md has the argument for each of the errors that `measured` adds up.
"""

from __future__ import annotations

import math

from drdp.privacy.contour import read
from drdp.privacy.growth import log_sum, slopes
from drdp.privacy.jump_line import RESTART, jump_line
from drdp.privacy.jumps import Law, height, spread_out
from drdp.privacy.kernel import Buffer, kernel, zeros
from drdp.privacy.nodes import Terms
from drdp.privacy.saddle import flag
from drdp.privacy.windows import (
    Split,
    bulk_moment,
    bulk_nodes,
    jump_moment,
    jump_nodes,
)

__all__ = ["coarse_law", "measured"]

_OUT_OF_WORK = 2
_NOT_CERTIFIED = 3
_NOT_CONVERGED = 4
_TURNS = 10


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
        high_steps[i] = 0.4 * min(edges[i], sigmas[i], widths[i])
    low, missing, mean = bulk_nodes(terms, places, low_steps, 40.0)
    high = jump_nodes(terms, places, high_steps)
    return low, missing, mean, high


@kernel
def turn_of(k: int, s: float) -> float:
    """The shifts that are tried, as multiples of s^2 below pi."""
    return min(2.9, 0.025 * 1.7**k * min(1.0, 4.0 / s))


@kernel
def add_logs(a: float, b: float) -> float:
    """log(e^a + e^b)."""
    top = max(a, b)
    if top == -math.inf:
        return top
    return top + math.log1p(math.exp(min(a, b) - top))


@kernel
def norms_of(terms: Terms, law: Law, order: float, which: int) -> tuple[Buffer, Buffer]:
    """log B and log J of each atom at a real order."""
    low, missing, mean, high = law
    size = len(terms[0])
    bulks = zeros(size)
    jumps = zeros(size)
    for i in range(size):
        if terms[0][i] != 0.0:
            continue
        start = int(low[4][i])
        stop = int(low[4][i + 1])
        bulks[i] = bulk_moment(order, start, stop, low, missing[i], mean[i])[0]
        if which == 1:
            first = int(high[4][i])
            jumps[i] = jump_moment(order, first, int(high[4][i + 1]), high)[0]
    return bulks, jumps


@kernel
def lowest_height(
    kept: int, bases: Buffer, pulls: Buffer, goal: float, y: float, best: float
) -> float:
    """The least height from y on at which a line's bound is below `goal`.

    No less than `best` is looked for: that is returned where it is no better.
    """
    if best < 1e300 and log_sum(kept, bases, pulls, best) > goal:
        return best
    below = y
    top = best
    if best == 1e300:
        top = y
        while top < 1e12 and log_sum(kept, bases, pulls, top) > goal:
            below = top
            top *= 2.0
        if top >= 1e12:
            return best
    while top > 1.1 * below:
        middle = math.sqrt(top * below)
        if log_sum(kept, bases, pulls, middle) > goal:
            below = middle
        else:
            top = middle
    return top


@kernel
def jumps_reach(
    terms: Terms,
    places: Split,
    law: Law,
    order: float,
    scales: Buffer,
    norms: Buffer,
    goal: float,
    y: float,
) -> tuple[float, float]:
    """How high the line of M^T - B^T must go, and what is left out from y on.

    |M^T - B^T| is at most the sum over atoms of T |J| M^(T-1) M'^(T'): each
    |J| beyond y is bounded on a shifted line, the rest by its value at 0.

    Args:
        terms: The composition.
        places: Where it is split.
        law: Coarse nodes.
        order: Real part of the line.
        scales: log of T J M^(T-1) M'^(T') over the transform, at height 0.
        norms: log J of each atom.
        goal: log of what may be left out, relative to the transform at 0.
        y: The height to start from.

    Returns:
        (the height, log of the bound at y).
    """
    kinds, _, sigmas, _, _ = terms
    high = law[3]
    bases = zeros(len(high[0]))
    pulls = zeros(len(high[0]))
    jump = flag(1.0)
    found = 0.0
    bound = -math.inf
    for i in range(len(kinds)):
        if kinds[i] != 0.0:
            continue
        least = 1e300
        best = 1e300
        for k in range(_TURNS):
            turn = turn_of(k, sigmas[i])
            kept = slopes(
                terms, places, high, i, order, norms[i], turn, jump, bases, pulls
            )
            best = min(best, log_sum(kept, bases, pulls, y))
            least = lowest_height(kept, bases, pulls, goal - scales[i], y, least)
        found = max(found, least)
        bound = add_logs(bound, scales[i] + best)
    return found, bound


@kernel
def bulk_bound_at(
    terms: Terms, places: Split, law: Law, order: float, norms: Buffer, y: float
) -> float:
    """A bound on log |B^T| from height y on, relative to height 0.

    Every |B| is bounded on a shifted line.
    """
    kinds, _, sigmas, counts, _ = terms
    low = law[0]
    bases = zeros(len(low[0]))
    pulls = zeros(len(low[0]))
    jump = flag(0.0)
    total = 0.0
    for i in range(len(kinds)):
        if kinds[i] == 1.0:
            total -= 0.5 * counts[i] * (y / sigmas[i]) * (y / sigmas[i])
        if kinds[i] != 0.0:
            continue
        best = 0.0
        for k in range(_TURNS):
            turn = turn_of(k, sigmas[i])
            slopes(terms, places, low, i, order, norms[i], turn, jump, bases, pulls)
            excess = 0.0
            n = 0
            for j in range(int(low[4][i]), int(low[4][i + 1])):
                share = low[2][j] + order * low[1][j] - norms[i]
                if share < -110.0:
                    continue
                rise = bases[n] - share - y * pulls[n]
                excess += math.exp(share) * math.expm1(min(rise, 500.0))
                n += 1
            best = min(best, math.log1p(excess) if excess > -1.0 else -36.0)
        total += counts[i] * best
    return total


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
) -> tuple[float, float, float]:
    """A step in x whose aliasing error is e^-effort up to height y.

    Aliasing is at most 2 e^(-2 pi s^2 turn / step) times the integral of the
    modulus on the line shifted by s^2 turn, to the worse side.  Where the
    nodes end, a normal tail of width a quarter of the shift makes a smooth end
    of them: `slopes` has the factor e^8 that this costs there, and the mass
    there counts as an error.

    Returns (step, or 0 where none will do; the mass at the end of the nodes;
    how many nodes).
    """
    _, _, sigmas, _, _ = terms
    nodes = law[3] if jump else law[0]
    first = int(nodes[4][i])
    last = int(nodes[4][i + 1]) - 1
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
        for j in range(first, last + 1):
            if nodes[0][j] > end - 4.0 * shift:
                mass += math.exp(max(-700.0, nodes[2][j] + order * nodes[1][j] - norm))
        rise = max(0.0, log_sum(kept, bases, pulls, -y))
        step = 2.0 * math.pi * shift / (effort + 1.0 + rise)
        if step > best and mass < math.exp(-effort):
            best = step
            brim = mass
    span = nodes[0][last] - nodes[0][first]
    return best, brim, span / best if best > 0.0 else math.inf


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

    Args:
        terms: The composition.
        places: Where it is split.
        law: Coarse nodes.
        which: 0 for B^T, 1 for M^T - B^T.
        order: Real part of the line.
        moment: log of the transform there.
        steep: Its steepness there.
        e: The epsilon in question.
        goal: log of the error to aim for, relative to the transform at `order`
            times e^(-(order - 1) e).
        cap: The most work to spend.

    Returns:
        (log of the part, its relative error, its slope, work, status).
    """
    kinds, _, _, counts, _ = terms
    size = len(kinds)
    width = math.sqrt(steep)
    effort = max(6.0, 2.0 - goal)
    span, rate_above, lift_above, rate_below, lift_below = spread_out(
        terms, law, which, order, moment, steep, e, effort
    )
    if not span < 1e300:
        return 0.0, 1.0, 0.0, 0.0, _NOT_CERTIFIED
    h = 2.0 * math.pi / span
    bulks, jumps = norms_of(terms, law, order, which)
    whole = 0.0
    for i in range(size):
        if kinds[i] == 0.0 and which == 1:
            whole += counts[i] * math.log1p(math.exp(jumps[i] - bulks[i]))
    # log of M^T over M^T - B^T
    share = -math.log(-math.expm1(-whole)) if which == 1 else 0.0
    scales = zeros(size)
    for i in range(size):
        ratio = jumps[i] - bulks[i]
        scales[i] = math.log(counts[i]) + share + ratio - math.log1p(math.exp(ratio))
    tail = goal - 1.4 + math.log(3.0 / width)
    y = 1.0 / width
    if which == 1:
        y = jumps_reach(terms, places, law, order, scales, jumps, tail, y)[0]
    else:
        y *= 3.0
        while y < 1e12 and (bulk_bound_at(terms, places, law, order, bulks, y) > tail):
            y *= 1.3
    if not y < 1e7 * h:
        return 0.0, 1.0, 0.0, 0.0, _NOT_CERTIFIED
    filled = int(y / h) + 2
    y = h * (filled - 1)
    stir = 1.0 + 2.0 * whole
    # roughly the sum of h / (pi |w (w - 1)|)
    spots = (1.0 + math.log1p(1.0 / (order - 1.0))) / (2.0 * order)
    effort_x = max(6.0, 3.5 - goal + math.log(spots * stir))
    low_steps = zeros(size)
    high_steps = zeros(size)
    yes = flag(1.0)
    no = flag(0.0)
    work = 0.0
    brims = 0.0
    for i in range(size):
        if kinds[i] != 0.0:
            continue
        own = effort_x + math.log(counts[i])
        low_steps[i], brim, nodes = fine_step(
            terms, places, law, i, order, bulks[i], y, own, no
        )
        brims += counts[i] * brim
        work += nodes * filled
        if which == 1:
            high_steps[i], brim, nodes = fine_step(
                terms, places, law, i, order, jumps[i], y, effort_x, yes
            )
            brims += brim
            work += nodes * filled
        if not work < 1e300:
            return 0.0, 1.0, 0.0, 0.0, _NOT_CERTIFIED
    if not work < cap:
        return 0.0, 1.0, 0.0, 0.0, _OUT_OF_WORK
    low, missing, mean = bulk_nodes(terms, places, low_steps, effort + 6.0)
    high = jump_nodes(terms, places, high_steps) if which == 1 else law[3]
    fine = (low, missing, mean, high)
    bulks, jumps = norms_of(terms, fine, order, which)
    log_scale = height(terms, fine, order, which)[0]
    whole, drift, work, terms_r, terms_i = jump_line(
        terms, order, h, filled, low, high, bulks, jumps, which, 46.0
    )
    total, inner, mass = read(terms_r, terms_i, filled, order, h, e)
    if not total > 0.0:
        return 0.0, 1.0, 0.0, work, _NOT_CONVERGED
    # every error is relative to the transform at height 0
    above = rate_above * (span + e) - lift_above
    below = rate_below * (span - e) - lift_below
    error = math.exp(-above) / -math.expm1(-rate_above * span)
    error += math.exp(-below) / -math.expm1(-rate_below * span)
    if which == 1:
        rest = jumps_reach(terms, places, law, order, scales, jumps, tail, y + h)[1]
    else:
        rest = bulk_bound_at(terms, places, law, order, bulks, y + h)
    beyond_y = (1.0 / y + h / (y * y)) / math.pi
    error += math.exp(min(rest, 700.0)) * beyond_y
    spots = beyond_y
    for k in range(filled):
        at = (h * k) * (h * k)
        spots += h / math.pi / math.sqrt((order**2 + at) * ((order - 1.0) ** 2 + at))
    # a state is at most so many turns, or one large angle, from exact
    turns = float(min(filled, RESTART)) + 4.0
    error += spots * (
        stir * (8.0 * math.exp(-effort_x) + 4.0 * brims)
        + 1e-19 * (len(low[0]) + len(high[0])) * stir
        + 4e-16 * min(drift * y, 1e16) * turns
    )
    rounding = 20.0 + turns * stir + math.fabs(log_scale) + math.fabs(order * e)
    error += mass * 4e-15 * rounding
    log_part = log_scale - (order - 1.0) * e + math.log(total)
    return log_part, error / total + 1e-10, 1.0 - inner / total, work, 0
