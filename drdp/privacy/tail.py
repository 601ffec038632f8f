"""What the contour sum leaves out: a bound on |M| above a given height.

Moving the integral for M(c + iy) onto a curve z(x) = x + i eta(x) with 0 <=
eta < pi s^2 does not change it, and there

    |M(c + iy)| <= integral of |phi(z)| |1 + u(z)|^c e^(-y arg(1 + u(z))) |z'|,

which can only fall as y grows.  Any curve gives a bound; the best of a few is
taken.
"""

from __future__ import annotations

import math

from drdp.privacy.kernel import Buffer, kernel

__all__ = ["tail_exponent"]


@kernel
def tail_exponent(
    q: float,
    s: float,
    order: float,
    cut: float,
    start: int,
    stop: int,
    xs: Buffer,
    taus: Buffer,
    losses: Buffer,
    y: float,
    mode: float,
) -> float:
    """A bound on log |M(order + iy') / M(order)| for all y' >= y, one atom.

    Args:
        q: Sampling rate.
        s: Noise multiplier.
        order: Real part of the argument.
        cut: Where the law is cut off.
        start: First of the atom's nodes.
        stop: One past the last of them.
        xs: Positions of the nodes.
        taus: Their tilted probabilities.
        losses: Their losses.
        y: Height from which on the bound holds.
        mode: eta / s^2 where positive.  Where negative, the curve that solves
            Stein's equation, which is optimal to second order in y, with eta
            / s^2 held below -mode: rare large losses would ask for more than
            the nodes on the way to them can pay.
    """
    square = s * s
    log_keep = math.log1p(-q)
    mean = 0.0
    if mode < 0.0:
        for j in range(start, stop):
            mean += taus[j] * losses[j]
    excess = 0.0
    behind = 0.0
    for j in range(start, stop):
        tau = taus[j]
        if tau < 1e-60:
            continue
        x = xs[j]
        # the chance that x came from the shifted component: 1 - (1-q) / (1+u)
        p = -math.expm1(log_keep - losses[j])
        turn = mode
        slant = 0.0
        if mode > 0.0:
            if cut < math.inf:
                # back to the real line at the cut
                fade = math.tanh((cut - x) / s)
                turn = mode * fade
                slant = -mode * s * (1.0 - fade * fade)
        else:
            # eta p(x) = y times the integral up to x of (mean - L) p
            part = tau * (mean - losses[j])
            gap = xs[j + 1] - x if j + 1 < stop else x - xs[j - 1]
            eta = y * (behind + 0.5 * part) * gap / tau
            behind += part
            turn = eta / square
            slant = y * (mean - losses[j]) - turn * (order * p - x)
            if turn > -mode or turn < 0.0:
                turn = min(max(turn, 0.0), -mode)
                slant = 0.0
        half = math.sin(0.5 * turn)
        dip = 2.0 * p * half * half
        sine = 2.0 * half * math.sqrt(1.0 - half * half)
        growth = 0.5 * (
            square * turn * turn + order * math.log1p(2.0 * dip * (p - 1.0))
        )
        if slant != 0.0:
            growth += 0.5 * math.log1p(slant * slant)
        growth -= y * math.atan2(p * sine, 1.0 - dip)
        if growth > 600.0:
            return 1e300
        excess += tau * math.expm1(growth)
    return math.log1p(excess) if excess > -1.0 else -36.0
