"""The cumulant generating function of one sampled Gaussian's privacy loss.

K(c) = log E_Q[(1 + u)^c] for real c, where x ~ Q = N(0, s^2) and
u(x) = q (e^{(x - 1/2)/s^2} - 1); (c - 1) times the Renyi divergence of order c
in the "remove" direction, for every real order (Mironov, Talwar and Zhang,
arXiv:1908.10530).  The integral is a trapezoidal sum, which converges
geometrically: the integrand is analytic in a strip.

Since E_Q[u] = 0 is used exactly, K keeps full relative accuracy where it is
tiny (small rates, orders near 1).
"""

from __future__ import annotations

import math

from drdp.privacy.kernel import Buffer, kernel, zeros

__all__ = ["extent", "fill", "grid_step", "log_moment", "posterior_at"]

_ROOT_2PI = math.sqrt(2.0 * math.pi)


@kernel
def log1p_less(u: float) -> float:
    """log(1 + u) - u, without cancellation."""
    if u > 0.03 or u < -0.03:
        return math.log1p(u) - u
    total = 0.0
    for k in range(12, 1, -1):
        total = 1.0 / k - u * total
    return -u * u * total


@kernel
def expm1_less(t: float) -> float:
    """e^t - 1 - t, without cancellation."""
    if t > 0.03 or t < -0.03:
        return math.expm1(t) - t
    total = 1.0
    for k in range(9, 2, -1):
        total = 1.0 + t / k * total
    return 0.5 * t * t * total


@kernel
def grid_step(
    s: float, order: float, q: float, y: float, posterior: float, effort: float
) -> float:
    """A trapezoidal step in x whose relative aliasing error is e^-effort.

    Shifting x by i s^2 phi multiplies the integrand of M(order + i y) by at
    most exp(s^2 phi^2 / 2 + |y| arg), arg being that of 1 - p + p e^(i phi)
    with p the posterior at the right end; for negative orders also by
    |cos(phi/2)|^order or (1-q)^order.  The branch points are at phi = pi.  The
    step is the largest over phi.
    """
    best = 0.0
    wide = math.sqrt(2.0 * (effort + 0.7)) / s
    for i in range(1, 26):
        phi = 0.13 * i * 0.95
        if i == 25:
            if wide > 0.12 or order < 0.0:
                break
            phi = wide
        turn = math.atan2(
            posterior * math.sin(phi), 1.0 - posterior + posterior * math.cos(phi)
        )
        growth = 0.5 * s * s * phi * phi + y * turn
        if order < 0.0:
            steep = order * math.log(math.cos(0.5 * phi))
            if phi <= 1.5707 and q < 1.0:
                flat = order * math.log1p(-q)
                if flat < steep:
                    steep = flat
            growth += steep
        step = 2.0 * math.pi * s * s * phi / (effort + 0.7 + growth)
        if step > best:
            best = step
    return best


@kernel
def posterior_at(x: float, q: float, s: float) -> float:
    """The chance that x came from the shifted component."""
    z = (x - 0.5) / (s * s) + math.log(q) - math.log1p(-q)
    if z > 0.0:
        return 1.0 / (1.0 + math.exp(-z))
    e = math.exp(z) if z > -700.0 else 0.0
    return e / (1.0 + e)


@kernel
def place(t: float, cut: float, step: float) -> tuple[float, float]:
    """x and dx/dt at a node: the identity far below the cut, never above it."""
    if cut == math.inf:
        return t, 1.0
    v = (t - cut) / (2.0 * step)
    if v < -40.0:
        return t, 1.0
    if v > 0.0:
        e = math.exp(-v)
        return cut - 2.0 * step * math.log1p(e), e / (1.0 + e)
    return cut - 2.0 * step * (math.log1p(math.exp(v)) - v), 1.0 / (1.0 + math.exp(v))


@kernel
def extent(
    order: float, q: float, s: float, cut: float, step: float, effort: float
) -> tuple[float, int]:
    """The first node and how many there are.

    Below 0 the tilted density is at least as concave as a normal one, with
    its mode at x = order times the posterior, which is at most q there.
    """
    reach = math.sqrt(2.0 * effort) + 1.0
    low = -reach * s + min(order, 0.0) * q
    top = order if order > 1.0 else 1.0
    high = top + reach * s
    if cut + 76.0 * step < high:
        high = cut + 76.0 * step
    return low, int((high - low) / step) + 2


@kernel
def fill(
    order: float,
    q: float,
    s: float,
    cut: float,
    step: float,
    low: float,
    count: int,
    base: int,
    xs: Buffer,
    taus: Buffer,
    losses: Buffer,
) -> tuple[float, float, float]:
    """Nodes, tilted probabilities and losses of one atom; K, K' and K''.

    The buffers are filled from `base` on.  K is summed as log(1 + E[(1+u)^c -
    1 - c u]), whose integrand is written without cancellation, unless the
    moment is so large that scaling matters more.
    """
    square = s * s
    top = 0.0
    total = 0.0
    surplus_sum = 0.0
    log_q = math.log(q)
    for j in range(count):
        x, share = place(low + step * j, cut, step)
        z = (x - 0.5) / square
        u = 1.0
        if z < 30.0:
            u = q * math.expm1(z)
            loss = math.log1p(u)
        else:
            loss = z + log_q + math.log1p((1.0 - q) / q * math.exp(-z))
        t = order * loss
        fall = -0.5 * x * x / square
        if t + fall > top:
            top = t + fall
        xs[base + j] = x
        losses[base + j] = loss
        if top < 300.0:
            near = order > 0.5 and order < 1.5
            weight = share * math.exp(t + fall)
            if z < 30.0 and t < 300.0:
                phi = share * math.exp(fall)
                bend = log1p_less(u)
                if near:
                    # (1+u)(e^a - 1 - a) + (c-1)((1+u) L - u), a = (c-1) L
                    more = (1.0 + u) * expm1_less(t - loss)
                    surplus = phi * (more + (order - 1.0) * (u * loss + bend))
                else:
                    surplus = phi * (expm1_less(t) + order * bend)
            else:
                # the same where 1 + u may overflow: scaled by it
                phi_u = share * math.exp(loss + fall)
                rest = -math.expm1(-loss)
                if near:
                    more = expm1_less(t - loss)
                    surplus = phi_u * (more + (order - 1.0) * (loss - rest))
                else:
                    surplus = weight - share * math.exp(fall) - order * phi_u * rest
            surplus_sum += surplus
            taus[base + j] = weight
            total += weight
    norm = step / (s * _ROOT_2PI)
    if top >= 300.0:
        total = 0.0
        for j in range(count):
            x, share = place(low + step * j, cut, step)
            height = order * losses[base + j] - 0.5 * x * x / square - top
            weight = share * math.exp(height) if height > -740.0 else 0.0
            taus[base + j] = weight
            total += weight
    first = 0.0
    for j in range(base, base + count):
        taus[j] /= total
        first += taus[j] * losses[j]
    second = 0.0
    for j in range(base, base + count):
        gap = losses[j] - first
        second += taus[j] * gap * gap
    excess = surplus_sum * norm
    if top < 300.0 and excess > -0.9:
        return math.log1p(excess), first, second
    return math.log(total * norm) + top, first, second


@kernel
def log_moment(
    order: float, q: float, s: float, cut: float, effort: float
) -> tuple[float, float, float]:
    """K, K' and K'' at a real order.

    Args:
        order: c, any real number.
        q: Sampling rate in (0, 1).
        s: Noise multiplier.
        cut: Right end of the x range; infinity for none.
        effort: e^-effort is the relative aliasing error.
    """
    step = grid_step(s, order, q, 0.0, 1.0, effort)
    low, count = extent(order, q, s, cut, step, effort)
    buffer = zeros(3 * count)
    xs, taus, losses = buffer[:count], buffer[count : 2 * count], buffer[2 * count :]
    return fill(order, q, s, cut, step, low, count, 0, xs, taus, losses)
