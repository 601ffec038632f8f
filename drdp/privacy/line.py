"""The terms of the contour sum: M along a vertical line in the complex plane.

M(c + iy) is an expectation of e^(i y L) under the tilted law; stepping y by h
multiplies each node's phase by a fixed number, so a term costs one complex
product per node and no transcendental function.
"""

from __future__ import annotations

import math

from drdp.privacy.kernel import Buffer, kernel, zeros
from drdp.privacy.nodes import Nodes, Terms, gather
from drdp.privacy.tail import tail_exponent

__all__ = ["line"]

_CURVES = (-2.6, -0.5, -0.1, 0.5, 1.2, 2.2, -0.02)


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
def phases(
    nodes: Nodes,
    h: float,
    spins_r: Buffer,
    spins_i: Buffer,
    k: int,
    states_r: Buffer,
    states_i: Buffer,
) -> None:
    """Start all nodes at height k h; and their turn per step.

    A state is the node's probability times e^(i y L) - 1, kept as a difference
    so that it loses nothing where L is tiny; a turn is the same for one step.
    """
    _, _, _, taus, losses, _ = nodes
    for j in range(len(taus)):
        theta = h * losses[j]
        sine = math.sin(0.5 * theta)
        spins_r[j] = -2.0 * sine * sine
        spins_i[j] = math.sin(theta)
        states_r[j] = 0.0
        states_i[j] = 0.0
        if k > 0:
            sine = math.sin(0.5 * k * theta)
            states_r[j] = -2.0 * taus[j] * sine * sine
            states_i[j] = taus[j] * math.sin(k * theta)


@kernel
def advance(
    taus: Buffer,
    spins_r: Buffer,
    spins_i: Buffer,
    states_r: Buffer,
    states_i: Buffer,
) -> tuple[float, float]:
    """Turn all nodes by one step; the sum of all states.

    For one atom that is M(c + i(y + h)) / M(c) - 1.
    """
    d_r = 0.0
    d_i = 0.0
    for j in range(len(taus)):
        a_r = states_r[j]
        a_i = states_i[j]
        b_r = spins_r[j]
        b_i = spins_i[j]
        c_r = a_r + taus[j] * b_r + (a_r * b_r - a_i * b_i)
        c_i = a_i + taus[j] * b_i + (a_r * b_i + a_i * b_r)
        states_r[j] = c_r
        states_i[j] = c_i
        d_r += c_r
        d_i += c_i
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
    nodes: Nodes,
    order: float,
    h: float,
    y: float,
    goal: float,
    before: Buffer,
) -> tuple[float, float]:
    """A bound on all terms from y on, times h / pi; and the work it took.

    Curves are tried until one is good enough: first the one that was best
    `before`, and none that was far from it.
    """
    kinds, rates, sigmas, counts, cuts = terms
    offsets, _, xs, taus, losses, _ = nodes
    scale = (1.0 / y + h / (y * y)) / math.pi
    wanted = math.log(goal / scale)
    best = 0
    for j in range(len(before)):
        if before[j] < before[best]:
            best = j
    bar = before[best] + 30.0
    least = 700.0
    work = 0.0
    for again in range(len(before) + 1):
        j = again - 1 if again > 0 else best
        if (again > 0 and j == best) or before[j] > bar:
            continue
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
                    _CURVES[j],
                )
                work += 30.0 * (stop - start)
            elif kinds[i] == 1.0:
                total -= 0.5 * counts[i] * (y / sigmas[i]) * (y / sigmas[i])
        before[j] = total
        least = min(least, total)
        if least < wanted:
            break
    return math.exp(least) * scale, work


@kernel
def line(
    terms: Terms,
    nodes: Nodes,
    order: float,
    h: float,
    y_plan: float,
    goal: float,
    effort: float,
    cap: float,
) -> tuple[int, float, float, Buffer, Buffer]:
    """The terms M(w_k)/M(c) / (w_k (w_k - 1)), until the rest is below `goal`.

    The nodes are good up to y_plan; where the sum has to go further, it goes
    on with finer ones.

    Returns (how many terms, negative where the rest is not below `goal`, the
    bound on the rest, the work, the terms' real and imaginary parts).
    """
    kinds, _, sigmas, counts, _ = terms
    size = len(kinds)
    most = int(y_plan / h) + 3
    terms_r = zeros(most)
    terms_i = zeros(most)
    terms_r[0] = 1.0 / (order * (order - 1.0))
    rest = 1e300
    check = 0.0
    before = zeros(len(_CURVES))
    work = 0.0
    k = 1
    while True:
        taus = nodes[3]
        offsets = nodes[0]
        count = len(taus)
        spins_r = zeros(count)
        spins_i = zeros(count)
        states_r = zeros(count)
        states_i = zeros(count)
        phases(nodes, h, spins_r, spins_i, k - 1, states_r, states_i)
        work += 12.0 * count
        while k < most:
            y = h * k
            log_r = 0.0
            log_i = 0.0
            d_r, d_i = advance(taus, spins_r, spins_i, states_r, states_i)
            for i in range(size):
                if kinds[i] == 0.0:
                    start = int(offsets[i])
                    stop = int(offsets[i + 1])
                    if stop - start < count:
                        d_r = 0.0
                        d_i = 0.0
                        for j in range(start, stop):
                            d_r += states_r[j]
                            d_i += states_i[j]
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
            terms_r[k] = height * math.cos(log_i)
            terms_i[k] = height * math.sin(log_i)
            work += count + 20.0
            k += 1
            # the bound is a little above the terms themselves
            if height * (y + h) < 0.15 * goal and y > check:
                check = 1.2 * y
                bound, spent = tail_bound(terms, nodes, order, h, y + h, goal, before)
                work += spent
                rest = min(rest, bound)
                if rest < goal:
                    return k, rest, work, terms_r, terms_i
        if work + 2.0 * count * most > cap:
            return -k, rest, work, terms_r, terms_i
        # laying nodes out costs as much as some fifty terms
        y_plan *= 2.0 if most < 100 else 1.4
        more = int(y_plan / h) + 3
        longer_r = zeros(more)
        longer_i = zeros(more)
        for j in range(most):
            longer_r[j] = terms_r[j]
            longer_i[j] = terms_i[j]
        terms_r = longer_r
        terms_i = longer_i
        most = more
        nodes = gather(terms, order, y_plan, effort)[0]
