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

__all__ = [
    "BOW",
    "beyond",
    "extent",
    "fill",
    "grid_effort",
    "grid_step",
    "log_moment",
    "posterior_at",
    "reweigh",
]

_ROOT_2PI = math.sqrt(2.0 * math.pi)
BOW = 2.0 / math.pi  # of the map at a cut, per shift into the complex plane
_SHIFTS = 24  # tried, up to just below the branch points at pi
_SHIFT = 0.1235
_SINE = zeros(_SHIFTS)
_COSINE = zeros(_SHIFTS)
_LOG_COSINE_HALF = zeros(_SHIFTS)
for _i in range(_SHIFTS):
    _SINE[_i] = math.sin(_SHIFT * (_i + 1))
    _COSINE[_i] = math.cos(_SHIFT * (_i + 1))
    _LOG_COSINE_HALF[_i] = math.log(math.cos(0.5 * _SHIFT * (_i + 1)))


@kernel
def log1p_less(u: float, loss: float) -> float:
    """log(1 + u) - u, without cancellation; `loss` is log(1 + u)."""
    if u > 0.03 or u < -0.03:
        return loss - u
    total = 1.0 / 10.0 - u * (1.0 / 11.0)
    total = 1.0 / 8.0 - u * (1.0 / 9.0 - u * total)
    total = 1.0 / 6.0 - u * (1.0 / 7.0 - u * total)
    total = 1.0 / 4.0 - u * (1.0 / 5.0 - u * total)
    return -u * u * (1.0 / 2.0 - u * (1.0 / 3.0 - u * total))


@kernel
def expm1_less(t: float, bump: float) -> float:
    """e^t - 1 - t, without cancellation; `bump` is e^t - 1."""
    if t > 0.03 or t < -0.03:
        return bump - t
    total = 1.0 / 40320.0 + t * (1.0 / 362880.0)
    total = 1.0 / 720.0 + t * (1.0 / 5040.0 + t * total)
    total = 1.0 / 24.0 + t * (1.0 / 120.0 + t * total)
    return t * t * (1.0 / 2.0 + t * (1.0 / 6.0 + t * total))


@kernel
def grid_step(
    s: float,
    order: float,
    q: float,
    y: float,
    posterior: float,
    effort: float,
    most: float,
) -> tuple[float, float]:
    """A trapezoidal step in x whose relative aliasing error is e^-effort; its shift.

    Shifting x by i s^2 phi multiplies the integrand of M(order + i y) by at
    most exp(s^2 phi^2 / 2 + |y| arg), arg being that of 1 - p + p e^(i phi)
    with p the posterior at the right end; for negative orders also by
    |cos(phi/2)|^order or (1-q)^order.  The branch points are at phi = pi.  The
    step is the largest over phi up to `most`: where x is cut off, the shift
    falls from phi to 0 on the way to the cut, and arg grows up to pi / 2 only.
    """
    best = 0.0
    shift = 0.0
    square = s * s
    if order >= 0.0:
        phi = math.sqrt(2.0 * (effort + 0.7)) / s
        if y == 0.0 or phi < 0.12:
            phi = min(phi, _SHIFT * _SHIFTS, most)
            turn = math.atan2(
                posterior * math.sin(phi), 1.0 - posterior + posterior * math.cos(phi)
            )
            growth = 0.5 * square * phi * phi + y * turn
            best = 2.0 * math.pi * square * phi / (effort + 0.7 + growth)
            shift = square * phi
            if y == 0.0:
                return best, shift
    flat = order * math.log1p(-q) if q < 1.0 else math.inf
    for i in range(_SHIFTS):
        phi = _SHIFT * (i + 1)
        if phi > most:
            break
        growth = 0.5 * square * phi * phi
        if y > 0.0:
            across = 1.0 - posterior + posterior * _COSINE[i]
            growth += y * math.atan2(posterior * _SINE[i], across)
        if order < 0.0:
            steep = order * _LOG_COSINE_HALF[i]
            if phi <= 1.5707 and flat < steep:
                steep = flat
            growth += steep
        step = 2.0 * math.pi * square * phi / (effort + 0.7 + growth)
        if step > best:
            best = step
            shift = square * phi
    return best, shift


@kernel
def grid_effort(step: float, s: float, order: float, q: float) -> float:
    """The effort that a step amounts to at a real order: `grid_step` inverted."""
    square = s * s
    # best for a normal law, and small where s is large
    phi = min(2.0 * math.pi / step, _SHIFT * _SHIFTS)
    best = 2.0 * math.pi * square * phi / step - 0.7 - 0.5 * square * phi * phi
    if order >= 0.0:
        return best
    best -= order * math.log(math.cos(0.5 * phi))
    flat = order * math.log1p(-q) if q < 1.0 else math.inf
    for i in range(_SHIFTS):
        phi = _SHIFT * (i + 1)
        growth = 0.5 * square * phi * phi
        steep = order * _LOG_COSINE_HALF[i]
        if phi <= 1.5707 and flat < steep:
            steep = flat
        growth += steep
        best = max(best, 2.0 * math.pi * square * phi / step - 0.7 - growth)
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
def place(t: float, cut: float, bow: float) -> tuple[float, float]:
    """x and dx/dt at a node: the identity far below the cut, never above it.

    With x = cut - bow log(1 + e^(-(t - cut)/bow)) and t shifted by up to i bow
    pi/2, Re x stays below the cut, Im x below the shift and |dx/dt| below 1,
    so a sum over t is as good as one over x.
    """
    v = (t - cut) / bow
    if v < -40.0:
        return t, 1.0
    if v > 0.0:
        e = math.exp(-v)
        return cut - bow * math.log1p(e), e / (1.0 + e)
    return cut - bow * (math.log1p(math.exp(v)) - v), 1.0 / (1.0 + math.exp(v))


@kernel
def extent(
    order: float, q: float, s: float, cut: float, step: float, bow: float, effort: float
) -> tuple[float, int]:
    """The first node and how many there are.

    Below 0 the tilted density is at least as concave as a normal one, with
    its mode at x = order times the posterior, which is at most q there.
    """
    reach = math.sqrt(2.0 * effort) + 1.0
    low = -reach * s + min(order, 0.0) * q
    top = order if order > 1.0 else 1.0
    high = top + reach * s
    if cut < high + 10.0 * bow:
        # dx/dt falls to e^-(effort + 2)
        high = cut + bow * min(38.0, effort + 2.0)
    return low, int((high - low) / step) + 2


@kernel
def fill(
    order: float,
    q: float,
    s: float,
    cut: float,
    step: float,
    bow: float,
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
    inverse = 1.0 / (s * s)
    top = 0.0
    total = 0.0
    surplus_sum = 0.0
    log_q = math.log(q)
    near = order > 0.5 and order < 1.5
    mapped = low + step * (count - 1) > cut - 40.0 * bow
    for j in range(count):
        x = low + step * j
        share = 1.0
        if mapped:
            x, share = place(x, cut, bow)
        z = (x - 0.5) * inverse
        u = 1.0
        if z < 30.0:
            u = q * math.expm1(z)
            loss = math.log1p(u)
        else:
            loss = z + log_q + math.log1p((1.0 - q) / q * math.exp(-z))
        t = order * loss
        fall = -0.5 * x * x * inverse
        if t + fall > top:
            top = t + fall
        xs[base + j] = x
        losses[base + j] = loss
        if top < 300.0:
            if z < 30.0 and t < 300.0:
                phi = share * math.exp(fall)
                bump = math.expm1(t)
                weight = phi * (1.0 + bump) if t > -1.0 else phi * math.exp(t)
                bend = log1p_less(u, loss)
                if near:
                    # (1+u)(e^a - 1 - a) + (c-1)((1+u) L - u), a = (c-1) L
                    a = t - loss
                    more = (1.0 + u) * expm1_less(a, math.expm1(a))
                    surplus = phi * (more + (order - 1.0) * (u * loss + bend))
                else:
                    surplus = phi * (expm1_less(t, bump) + order * bend)
            else:
                # the same where 1 + u may overflow: scaled by it
                weight = share * math.exp(t + fall)
                phi_u = share * math.exp(loss + fall)
                rest = -math.expm1(-loss)
                if near:
                    a = t - loss
                    more = expm1_less(a, math.expm1(a))
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
            share = 1.0
            if mapped:
                share = place(low + step * j, cut, bow)[1]
            x = xs[base + j]
            height = order * losses[base + j] - 0.5 * x * x * inverse - top
            weight = share * math.exp(height) if height > -740.0 else 0.0
            taus[base + j] = weight
            total += weight
    first = 0.0
    scale = 1.0 / total
    for j in range(base, base + count):
        taus[j] *= scale
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
    step, shift = grid_step(s, order, q, 0.0, 1.0, effort, math.pi)
    bow = BOW * shift
    low, count = extent(order, q, s, cut, step, bow, effort)
    xs = zeros(count)
    taus = zeros(count)
    losses = zeros(count)
    base = int(0.0)  # a constant would have `fill` compiled anew
    return fill(order, q, s, cut, step, bow, low, count, base, xs, taus, losses)


@kernel
def reweigh(
    start: int, stop: int, taus: Buffer, losses: Buffer, d: float
) -> tuple[float, float, float]:
    """log E e^(d L), and mean and variance under that tilt, of stored nodes.

    With the nodes of order c these are K(c + d) - K(c), K'(c + d) and
    K''(c + d).  As e^(dL) - 1 is summed, nothing is lost where d L is tiny.
    """
    excess = 0.0
    first = 0.0
    second = 0.0
    for j in range(start, stop):
        loss = losses[j]
        more = taus[j] * math.expm1(d * loss)
        excess += more
        weight = (taus[j] + more) * loss
        first += weight
        second += weight * loss
    if excess > -0.5:
        total = 1.0 + excess
        change = math.log1p(excess)
    else:
        total = 0.0
        first = 0.0
        second = 0.0
        for j in range(start, stop):
            weight = taus[j] * math.exp(d * losses[j])
            total += weight
            first += weight * losses[j]
            second += weight * losses[j] * losses[j]
        change = math.log(total)
    first /= total
    return change, first, second / total - first * first


@kernel
def beyond(order: float, q: float, s: float, high: float) -> float:
    """log of a bound on E_Q[(1 + u)^order; x > high], for orders of at least 0.

    There 1 + u is at most q e^z (1 + (1-q)/q e^(-z at high)), z = (x-1/2)/s^2,
    and the moments of e^z are normal tails.
    """
    z = (high - 0.5) / (s * s)
    rest = (1.0 - q) / q * math.exp(-z) if z < 700.0 else 0.0
    far = max(0.0, (high - order) / s)
    slope = math.log(q) + math.log1p(rest) + 0.5 * (order - 1.0) / (s * s)
    return order * slope - 0.5 * far * far
