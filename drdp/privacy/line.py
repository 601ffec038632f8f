"""The terms of the contour sum: M along a vertical line in the complex plane.

M(c + iy) is an expectation of e^(i y L) under the tilted law; stepping y by h
multiplies each node's phase by a fixed number, so a term costs one complex
product per node and no transcendental function.
"""

from __future__ import annotations

import math

from drdp.privacy.kernel import Buffer, kernel, zeros
from drdp.privacy.moments import extent, fill, grid_step, posterior_at
from drdp.privacy.saddle import Terms, plain_moment
from drdp.privacy.tail import tail_exponent

__all__ = ["layout", "line"]


@kernel
def laplace_turn(order: float, y: float, b: float) -> tuple[float, float]:
    """log of M(c + iy) / M(c) for a Laplace release: real and imaginary part."""
    one = (order - 1.0) * b
    two = -order * b
    top = max(one, two)
    e1 = math.exp(one - top)
    e2 = math.exp(two - top)
    base = (order * e1 + (order - 1.0) * e2) / (2.0 * order - 1.0)
    c = math.cos(y * b)
    s = math.sin(y * b)
    # w e^((w-1) b) + (w-1) e^(-w b), over 2w - 1
    n_r = (order * e1 + (order - 1.0) * e2) * c - y * (e1 - e2) * s
    n_i = (order * e1 - (order - 1.0) * e2) * s + y * (e1 + e2) * c
    d_r = 2.0 * order - 1.0
    d_i = 2.0 * y
    square = (d_r * d_r + d_i * d_i) * base
    v_r = (n_r * d_r + n_i * d_i) / square
    v_i = (n_i * d_r - n_r * d_i) / square
    size = v_r * v_r + v_i * v_i
    return 0.5 * math.log(size) if size > 0.0 else -800.0, math.atan2(v_i, v_r)


@kernel
def layout(
    terms: Terms, order: float, y: float, effort: float, steps: Buffer, offsets: Buffer
) -> int:
    """Steps in x and node counts of the sampled atoms, good up to height y.

    An atom that happens n times gets log n more effort: its relative error
    counts n times.
    """
    kinds, rates, sigmas, counts, cuts = terms
    nodes = 0
    for i in range(len(kinds)):
        offsets[i] = nodes
        if kinds[i] == 0.0:
            s = sigmas[i]
            own = effort + 2.0 + math.log(counts[i])
            far = max(order, 1.0) + (math.sqrt(2.0 * own) + 1.0) * s
            posterior = posterior_at(min(far, cuts[i]), rates[i], s)
            steps[i] = grid_step(s, order, rates[i], y, posterior, own)
            nodes += extent(order, rates[i], s, cuts[i], steps[i], own)[1]
    offsets[len(kinds)] = nodes
    return nodes


@kernel
def advance(
    start: int, stop: int, taus: Buffer, spin_r: Buffer, spin_i: Buffer, state: Buffer
) -> tuple[float, float]:
    """M(c + i(y + h)) / M(c) - 1 of one atom, from the node states at y.

    A state is e^(i y L) - 1, kept as a difference so that it loses nothing
    where L is tiny; `spin` is the same for one step h.
    """
    half = len(state) // 2
    d_r = 0.0
    d_i = 0.0
    for j in range(start, stop):
        a_r = state[j]
        a_i = state[half + j]
        b_r = spin_r[j]
        b_i = spin_i[j]
        c_r = a_r + b_r + (a_r * b_r - a_i * b_i)
        c_i = a_i + b_i + (a_r * b_i + a_i * b_r)
        state[j] = c_r
        state[half + j] = c_i
        d_r += taus[j] * c_r
        d_i += taus[j] * c_i
    return d_r, d_i


@kernel
def log_one_plus(d_r: float, d_i: float) -> tuple[float, float]:
    """log(1 + d) of a complex d, accurate for small d."""
    bump = 2.0 * d_r + (d_r * d_r + d_i * d_i)
    if bump > -0.5:
        size = 0.5 * math.log1p(bump)
    else:
        flat = (1.0 + d_r) * (1.0 + d_r) + d_i * d_i
        size = 0.5 * math.log(flat) if flat > 0.0 else -800.0
    return size, math.atan2(d_i, 1.0 + d_r)


@kernel
def tail_bound(
    terms: Terms,
    order: float,
    h: float,
    y: float,
    goal: float,
    offsets: Buffer,
    xs: Buffer,
    taus: Buffer,
    losses: Buffer,
) -> tuple[float, float]:
    """A bound on all terms from y on, times h / pi; and the work it took."""
    kinds, rates, sigmas, counts, cuts = terms
    scale = (1.0 / y + h / (y * y)) / math.pi
    least = 1e300
    work = 0.0
    for mode in (-2.6, 0.5, -0.5, 1.2, -0.1, 2.2, -0.02):
        total = 0.0
        for i in range(len(kinds)):
            start = int(offsets[i])
            stop = int(offsets[i + 1])
            if kinds[i] == 0.0:
                total += counts[i] * tail_exponent(
                    rates[i],
                    sigmas[i],
                    order,
                    cuts[i],
                    start,
                    stop,
                    xs,
                    taus,
                    losses,
                    y,
                    mode,
                )
                work += 4.0 * (stop - start)
            elif kinds[i] == 1.0:
                total -= 0.5 * counts[i] * (y / sigmas[i]) * (y / sigmas[i])
        least = min(least, total)
        if math.exp(min(least, 700.0)) * scale < goal:
            break
    return math.exp(min(least, 700.0)) * scale, work


@kernel
def line(
    terms: Terms,
    order: float,
    h: float,
    most: int,
    steps: Buffer,
    offsets: Buffer,
    goal: float,
    effort: float,
) -> tuple[float, int, float, float, Buffer]:
    """The terms M(w_k)/M(c) / (w_k (w_k - 1)), until the rest is below `goal`.

    Returns (log M(c), how many terms, negative where the rest is not below
    `goal`, the bound on the rest, the work, the terms: real parts, then
    imaginary parts).
    """
    kinds, rates, sigmas, counts, cuts = terms
    size = len(kinds)
    nodes = int(offsets[size])
    xs = zeros(nodes)
    taus = zeros(nodes)
    losses = zeros(nodes)
    spin_r = zeros(nodes)
    spin_i = zeros(nodes)
    state = zeros(2 * nodes)
    moment = 0.0
    for i in range(size):
        if kinds[i] != 0.0:
            moment += counts[i] * plain_moment(kinds[i], sigmas[i], order)[0]
            continue
        own = effort + 2.0 + math.log(counts[i])
        low, count = extent(order, rates[i], sigmas[i], cuts[i], steps[i], own)
        moment += (
            counts[i]
            * fill(
                order,
                rates[i],
                sigmas[i],
                cuts[i],
                steps[i],
                low,
                count,
                int(offsets[i]),
                xs,
                taus,
                losses,
            )[0]
        )
    for j in range(nodes):
        theta = h * losses[j]
        sine = math.sin(0.5 * theta)
        spin_r[j] = -2.0 * sine * sine
        spin_i[j] = math.sin(theta)
    work = 8.0 * nodes
    terms_k = zeros(2 * most)
    first = 1.0 / (order * (order - 1.0))
    terms_k[0] = first
    rest = 1e300
    checked = 0.0
    for k in range(1, most):
        y = h * k
        log_r = 0.0
        log_i = 0.0
        for i in range(size):
            if kinds[i] == 0.0:
                d_r, d_i = advance(
                    int(offsets[i]), int(offsets[i + 1]), taus, spin_r, spin_i, state
                )
                one_r, one_i = log_one_plus(d_r, d_i)
            elif kinds[i] == 1.0:
                square = sigmas[i] * sigmas[i]
                one_r = -0.5 * y * y / square
                one_i = y * (order - 0.5) / square
            else:
                one_r, one_i = laplace_turn(order, y, 1.0 / sigmas[i])
            log_r += counts[i] * one_r
            log_i += counts[i] * one_i
        # w (w - 1) = c (c - 1) - y^2 + i y (2c - 1)
        v_r = order * (order - 1.0) - y * y
        v_i = y * (2.0 * order - 1.0)
        log_r -= 0.5 * math.log(v_r * v_r + v_i * v_i)
        log_i -= math.atan2(v_i, v_r)
        height = math.exp(log_r) if log_r > -740.0 else 0.0
        terms_k[k] = height * math.cos(log_i)
        terms_k[most + k] = height * math.sin(log_i)
        work += nodes
        if height * (y + h) < goal and y > 1.1 * checked:
            checked = y
            bound, spent = tail_bound(
                terms, order, h, y + h, goal, offsets, xs, taus, losses
            )
            work += spent
            rest = min(rest, bound)
            if rest < goal:
                return moment, k + 1, rest, work, terms_k
    return moment, -most, rest, work, terms_k
