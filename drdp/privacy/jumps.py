"""delta where it comes from a few rare large losses, by a sum over those alone.

Written as M = B + J (`windows`), a composition is a sum over how many jumps it
takes.  With at least one it is the transform of another measure,

    M^T - B^T = B^T expm1(T log1p(J / B)),

which falls off at the scale of the jumps: its contour sum is short where that
of M^T would have to resolve the bulk and the largest jump at once.  What takes
no jump, B^T, is split again in the same way, or bounded by Chernoff.  Only the
"remove" direction is summed here.
"""

from __future__ import annotations

import math

from drdp.privacy.kernel import Buffer, kernel, zeros
from drdp.privacy.line import laplace_turn, log_one_plus
from drdp.privacy.saddle import Terms, chernoff, plain_moment
from drdp.privacy.windows import (
    Nodes,
    Split,
    bulk_growth,
    bulk_moment,
    growth,
    jump_growth,
    jump_moment,
)

__all__ = ["bulk_bound", "height", "jump_line", "order_for", "shape_at", "spread_out"]

Law = tuple[Nodes, Buffer, Buffer, Nodes]
"""Bulk nodes, what their windows leave out, and jump nodes."""


@kernel
def height(terms: Terms, law: Law, order: float, which: int) -> tuple[float, float]:
    """log of a transform at a real order, and its slope.

    which 0: B^T alone; 1: M^T - B^T.
    """
    kinds, _, sigmas, counts, _ = terms
    low, missing, mean, high = law
    bulk = 0.0
    bulk_slope = 0.0
    jumps = 0.0
    jumps_slope = 0.0
    for i in range(len(kinds)):
        if kinds[i] != 0.0:
            k0, k1, _ = plain_moment(kinds[i], sigmas[i], order)
            bulk += counts[i] * k0
            bulk_slope += counts[i] * k1
            continue
        start = int(low[4][i])
        stop = int(low[4][i + 1])
        b0, b1 = bulk_moment(order, start, stop, low, missing[i], mean[i])
        if b0 == math.inf:
            return math.inf, math.inf
        bulk += counts[i] * b0
        bulk_slope += counts[i] * b1
        if which == 1:
            j0, j1 = jump_moment(order, int(high[4][i]), int(high[4][i + 1]), high)
            if j0 - b0 > 690.0:
                return math.inf, math.inf
            ratio = math.exp(j0 - b0)
            jumps += counts[i] * math.log1p(ratio)
            jumps_slope += counts[i] * ratio * (j1 - b1) / (1.0 + ratio)
    if which == 0:
        return bulk, bulk_slope
    if jumps > 40.0:
        return bulk + jumps, bulk_slope + jumps_slope
    if not jumps > 0.0:
        return -math.inf, bulk_slope
    gain = math.expm1(jumps)
    return bulk + math.log(gain), bulk_slope + jumps_slope * (1.0 + gain) / gain


@kernel
def order_for(
    terms: Terms, law: Law, e: float, which: int, start: float
) -> tuple[float, float, float, bool]:
    """The saddle point on the real line, to a few percent of order - 1.

    Returns (order, log of the transform there, its steepness, found).
    """
    low = -30.0
    high = 40.0
    known_low = False
    known_high = False
    v = start
    step = 1.0
    for _ in range(60):
        order = 1.0 + math.exp(v)
        _, slope = height(terms, law, order, which)
        if slope - e - 1.0 / order - 1.0 / (order - 1.0) < 0.0:
            low = v
            known_low = True
        else:
            high = v
            known_high = True
        if known_low and known_high:
            if high - low < 0.03:
                break
            v = 0.5 * (low + high)
        elif known_low:
            v = low + step
            step *= 1.6
        else:
            v = high - step
            step *= 1.6
        if v < -30.0 or v > 40.0:
            return 2.0, 0.0, 1.0, False
    order = 1.0 + math.exp(low)
    moment, steep = shape_at(terms, law, order, which)
    return order, moment, steep, moment > -math.inf and 0.0 < steep < math.inf


@kernel
def shape_at(terms: Terms, law: Law, order: float, which: int) -> tuple[float, float]:
    """log of the transform at a real order, and its steepness there."""
    moment, slope = height(terms, law, order, which)
    aside = 1.0 + 1.01 * (order - 1.0)
    bend = (height(terms, law, aside, which)[1] - slope) / (aside - order)
    return moment, bend + 1.0 / order**2 + 1.0 / (order - 1.0) ** 2


@kernel
def bulk_bound(terms: Terms, law: Law, e: float, start: float) -> tuple[float, float]:
    """Chernoff's bound on log delta of B^T alone, and its order - 1."""
    best = math.inf
    at = start
    for k in range(-8, 80):
        v = start + 0.4 * k
        value = chernoff(
            height(terms, law, 1.0 + math.exp(v), 0)[0], 1.0 + math.exp(v), e, True
        )
        if value < best:
            best = value
            at = v
        elif best < math.inf and v > at + 1.0:
            break
    for step in (0.2, 0.1, 0.05):
        middle = at
        for sign in (-1.0, 1.0):
            v = middle + sign * step
            order = 1.0 + math.exp(v)
            value = chernoff(height(terms, law, order, 0)[0], order, e, True)
            if value < best:
                best = value
                at = v
    return best, math.exp(at)


@kernel
def spread_out(
    terms: Terms,
    law: Law,
    which: int,
    order: float,
    moment: float,
    steep: float,
    e: float,
    effort: float,
) -> tuple[float, float, float, float, float]:
    """The period at which aliases are below e^-effort, and the proof.

    As `saddle.period`, for the transforms of `height`.
    """
    width = math.sqrt(steep)
    found = 0.0
    rate_above = 0.0
    lift_above = 0.0
    rate_below = 0.0
    lift_below = 0.0
    for side in range(2):
        best = math.inf
        d = 8.5
        for _ in range(14):
            rate = d / width
            if side == 1:
                rate = min(rate, 0.9 * (order - 1.0))
            there = order + rate if side == 0 else order - rate
            lift = height(terms, law, there, which)[0] - moment
            lift += 1e-9 * (1.0 + math.fabs(moment))
            reach = (effort + lift) / rate - e
            if side == 1:
                reach += 2.0 * e
            d = 0.6 * rate * width
            if reach < best:
                best = reach
                if side == 0:
                    rate_above, lift_above = rate, lift
                else:
                    rate_below, lift_below = rate, lift
            elif best < math.inf:
                break
        found = max(found, best)
    return found, rate_above, lift_above, rate_below, lift_below


@kernel
def slopes(
    terms: Terms,
    places: Split,
    nodes: Nodes,
    i: int,
    order: float,
    norm: float,
    turn: float,
    jump: bool,
    bases: Buffer,
    pulls: Buffer,
) -> int:
    """log of |integrand| on a shifted line, per node, and its pull per height.

    Nodes of negligible weight are left out.  Returns how many are kept.
    """
    _, rates, sigmas, _, _ = terms
    starts, widths, cuts, edges, _, _ = places
    xs, losses, weights, _, offsets = nodes
    kept = 0
    for j in range(int(offsets[i]), int(offsets[i + 1])):
        share = weights[j] + order * losses[j] - norm
        if share < -110.0:
            continue
        inner = (xs[j] - starts[i]) / widths[i]
        rise, pull = growth(order, xs[j], rates[i], sigmas[i], turn)
        shift = sigmas[i] * sigmas[i] * turn
        if jump:
            outer = (xs[j] - cuts[i]) / edges[i]
            rise += jump_growth(outer, inner, shift, edges[i], widths[i])
        else:
            rise += bulk_growth(inner, shift, widths[i])
        bases[kept] = share + rise
        pulls[kept] = pull
        kept += 1
    return kept


@kernel
def log_sum(kept: int, bases: Buffer, pulls: Buffer, y: float) -> float:
    """log of the sum of e^(base - y pull)."""
    top = -1e300
    for j in range(kept):
        top = max(top, bases[j] - y * pulls[j])
    total = 0.0
    for j in range(kept):
        gap = bases[j] - y * pulls[j] - top
        if gap > -50.0:
            total += math.exp(gap)
    return top + math.log(total) if total > 0.0 else -1e300


@kernel
def polar(log_size: float, angle: float) -> tuple[float, float]:
    """e^(log_size + i angle)."""
    size = math.exp(log_size) if log_size > -740.0 else 0.0
    return size * math.cos(angle), size * math.sin(angle)


@kernel
def jump_line(
    terms: Terms,
    order: float,
    h: float,
    filled: int,
    low: Nodes,
    high: Nodes,
    bulks: Buffer,
    jumps: Buffer,
    which: int,
    effort: float,
) -> tuple[float, float, float, Buffer]:
    """The terms of the sum over multiples of h, relative to the transform at 0.

    Args:
        terms: The composition.
        order: Real part of the line.
        h: Step along the line.
        filled: How many terms.
        low: Bulk nodes, fine enough for the heights reached.
        high: Jump nodes, likewise.
        bulks: log B of each atom at `order`.
        jumps: log J of each atom at `order`.
        which: 0 for B^T, 1 for M^T - B^T.
        effort: Nodes below e^-effort of the total are left out.

    Returns:
        (log1p of jumps over bulk in all, T E|L| of the tilted bulk, work, the
        terms: real parts, then imaginary parts).
    """
    kinds, _, sigmas, counts, _ = terms
    size = len(kinds)
    count = len(low[0]) + len(high[0])
    taus = zeros(count)
    state_r = zeros(count)
    state_i = zeros(count)
    spin_r = zeros(count)
    spin_i = zeros(count)
    ends = zeros(2 * size + 1)
    ratios = zeros(size)
    kept = 0
    whole = 0.0
    drift = 0.0
    for i in range(size):
        for part in range(2):
            ends[2 * i + part] = kept
            if kinds[i] != 0.0 or part > which:
                continue
            nodes = low if part == 0 else high
            norm = bulks[i] if part == 0 else jumps[i]
            limit = -effort - math.log(counts[i]) if part == 0 else -effort
            for j in range(int(nodes[4][i]), int(nodes[4][i + 1])):
                share = nodes[2][j] + order * nodes[1][j] - norm
                if share < limit:
                    continue
                taus[kept] = math.exp(share)
                theta = h * nodes[1][j]
                sine = math.sin(0.5 * theta)
                spin_r[kept] = -2.0 * sine * sine
                spin_i[kept] = math.sin(theta)
                if part == 0:
                    drift += counts[i] * taus[kept] * math.fabs(nodes[1][j])
                kept += 1
        if kinds[i] == 0.0 and which == 1:
            ratios[i] = math.exp(jumps[i] - bulks[i])
            whole += counts[i] * math.log1p(ratios[i])
    ends[2 * size] = kept
    small = whole < 30.0
    norm_jumps = math.expm1(whole) if small and which == 1 else 1.0
    log_norm = math.log(norm_jumps) if small else whole
    terms_k = zeros(2 * filled)
    for k in range(filled):
        y = h * k
        if k > 0:
            for j in range(kept):
                a_r = state_r[j]
                a_i = state_i[j]
                b_r = spin_r[j]
                b_i = spin_i[j]
                state_r[j] = a_r + b_r + (a_r * b_r - a_i * b_i)
                state_i[j] = a_i + b_i + (a_r * b_i + a_i * b_r)
        bulk_r = 0.0
        bulk_i = 0.0
        jump_r = 0.0
        jump_i = 0.0
        for i in range(size):
            if kinds[i] == 1.0:
                square = sigmas[i] * sigmas[i]
                bulk_r -= counts[i] * 0.5 * y * y / square
                bulk_i += counts[i] * y * (order - 0.5) / square
                continue
            if kinds[i] == 2.0:
                one_r, one_i = laplace_turn(order, y, 1.0 / sigmas[i])
                bulk_r += counts[i] * one_r
                bulk_i += counts[i] * one_i
                continue
            d_r = 0.0
            d_i = 0.0
            for j in range(int(ends[2 * i]), int(ends[2 * i + 1])):
                d_r += taus[j] * state_r[j]
                d_i += taus[j] * state_i[j]
            one_r, one_i = log_one_plus(d_r, d_i)
            bulk_r += counts[i] * one_r
            bulk_i += counts[i] * one_i
            if which == 1:
                g_r = 0.0
                g_i = 0.0
                for j in range(int(ends[2 * i + 1]), int(ends[2 * i + 2])):
                    g_r += taus[j] * (1.0 + state_r[j])
                    g_i += taus[j] * state_i[j]
                # the ratio (J / B) at this height
                b_r = 1.0 + d_r
                square = b_r * b_r + d_i * d_i
                r_r = ratios[i] * (g_r * b_r + g_i * d_i) / square
                r_i = ratios[i] * (g_i * b_r - g_r * d_i) / square
                one_r, one_i = log_one_plus(r_r, r_i)
                jump_r += counts[i] * one_r
                jump_i += counts[i] * one_i
        # B^T for 0; B^T (e^jump - 1) over e^whole - 1, or e^whole, for 1
        if which == 0:
            n_r, n_i = polar(bulk_r, bulk_i)
        elif small and jump_r < 30.0:
            sine = math.sin(0.5 * jump_i)
            v_r = math.expm1(jump_r) * math.cos(jump_i) - 2.0 * sine * sine
            v_i = math.exp(jump_r) * math.sin(jump_i)
            c_b, s_b = polar(bulk_r, bulk_i)
            n_r = (v_r * c_b - v_i * s_b) / norm_jumps
            n_i = (v_r * s_b + v_i * c_b) / norm_jumps
        else:
            v_r, v_i = polar(bulk_r + jump_r - log_norm, bulk_i + jump_i)
            c_b, s_b = polar(bulk_r - log_norm, bulk_i)
            n_r = v_r - c_b
            n_i = v_i - s_b
        # over w (w - 1) = c (c - 1) - y^2 + i y (2c - 1)
        p_r = order * (order - 1.0) - y * y
        p_i = y * (2.0 * order - 1.0)
        square = p_r * p_r + p_i * p_i
        terms_k[k] = (n_r * p_r + n_i * p_i) / square
        terms_k[filled + k] = (n_i * p_r - n_r * p_i) / square
    return whole, drift, float(kept) * filled + 60.0 * count, terms_k
