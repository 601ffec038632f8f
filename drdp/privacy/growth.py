"""How integrands grow on a line shifted off the real axis, and fall with height.

Moving the integral over x to x + i s^2 turn leaves it unchanged.  There the
modulus of the windowed integrand of B(c + iy) or J(c + iy) is at most a base
times e^(-y pull), with pull >= 0: one sum over nodes bounds all heights above.
"""

from __future__ import annotations

import math

from drdp.privacy.kernel import Buffer, kernel
from drdp.privacy.moments import posterior_at
from drdp.privacy.nodes import Terms
from drdp.privacy.windows import PartNodes, Split, log_gap, log_normal_tail

__all__ = ["log_sum", "slopes"]


@kernel
def window_bound(t: float, lift: float) -> float:
    """log of a bound on |Phi(-(t + ir))|, with lift = r^2 / 2."""
    plain = lift + log_normal_tail(t)
    if t >= 0.0:
        return plain
    return min(plain, math.log1p(math.exp(min(lift + log_normal_tail(-t), 600.0))))


@kernel
def growth(
    order: float, x: float, q: float, s: float, turn: float
) -> tuple[float, float]:
    """How the modulus of phi(x) (1 + u)^order changes from x to x + i s^2 turn.

    Args:
        order: Real part of the exponent.
        x: The node.
        q: Sampling rate.
        s: Noise multiplier.
        turn: The shift over s^2, below pi.

    Returns:
        (log of the ratio at height 0, the argument of 1 + u there).
    """
    p = posterior_at(x, q, s)
    half = math.sin(0.5 * turn)
    spread = 4.0 * p * (1.0 - p) * half * half
    pull = math.atan2(p * math.sin(turn), 1.0 - 2.0 * p * half * half)
    return 0.5 * (s * s * turn * turn + order * math.log1p(-spread)), pull


@kernel
def bulk_growth(inner: float, shift: float, width: float) -> float:
    """The same for the window V, as a bound."""
    lift = 0.5 * (shift / width) * (shift / width)
    return window_bound(inner, lift) - log_normal_tail(inner)


@kernel
def jump_growth(
    outer: float, inner: float, shift: float, edge: float, width: float
) -> float:
    """The same for the difference W - V of two windows."""
    lift_outer = 0.5 * (shift / edge) * (shift / edge)
    lift_inner = 0.5 * (shift / width) * (shift / width)
    one = window_bound(outer, lift_outer)
    two = window_bound(inner, lift_inner)
    above = max(one, two) + math.log1p(math.exp(-math.fabs(one - two)))
    one = window_bound(-outer, lift_outer)
    two = window_bound(-inner, lift_inner)
    below = max(one, two) + math.log1p(math.exp(-math.fabs(one - two)))
    return min(above, below) - log_gap(outer, inner)


@kernel
def slopes(
    terms: Terms,
    places: Split,
    nodes: PartNodes,
    i: int,
    order: float,
    norm: float,
    turn: float,
    jump: bool,
    bases: Buffer,
    pulls: Buffer,
) -> int:
    """log of |integrand| on a shifted line, per node, and its pull per height.

    PartNodes of negligible weight are left out.  Returns how many are kept.
    """
    _, rates, sigmas, _, _ = terms
    starts, widths, cuts, edges, bulk_ends, jump_ends = places
    ends = jump_ends if jump else bulk_ends
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
        # a smooth end of the nodes, see `parts.fine_step`
        if xs[j] > ends[i] - 4.0 * shift:
            rise += 8.0
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
