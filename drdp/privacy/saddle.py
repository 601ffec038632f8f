"""Where the contour goes: the saddle point, Chernoff's bound, the period.

In the "remove" direction orders are above 1 and e = epsilon; in the "add"
direction orders are below 0 and e = -epsilon.
"""

from __future__ import annotations

import math

from drdp.privacy.kernel import Buffer, kernel
from drdp.privacy.moments import grid_step
from drdp.privacy.nodes import Nodes, Terms, gather, lifted, reaches, shifted

__all__ = [
    "chernoff",
    "cut_far",
    "flag",
    "order_limit",
    "period",
    "saddle",
    "steepness",
]


@kernel
def flag(value: float) -> bool:
    """Whether a number is not 0.

    Compilation makes one function for every constant truth value it is called
    with; through here it only sees a truth value.
    """
    return value != 0.0


@kernel
def steepness(order: float, bend: float) -> float:
    """Minus the second derivative of log F along the contour."""
    return bend + 1.0 / (order * order) + 1.0 / ((order - 1.0) * (order - 1.0))


@kernel
def order_limit(terms: Terms, remove: bool) -> float:
    """log of the largest size of an order worth looking at.

    The nodes of an atom that is not cut off grow with the order, of negative
    ones with the rate times the order; beyond a hundred thousand of them
    something else is the better tool.
    """
    kinds, rates, sigmas, _, cuts = terms
    limit = 17.0 if remove else 20.0
    for i in range(len(kinds)):
        if kinds[i] == 0.0 and (cuts[i] == math.inf or not remove):
            step, _ = grid_step(sigmas[i], 2.0, rates[i], 0.0, 1.0, 20.0, math.pi)
            reach = (10.0 + 1e5 * step) / (1.0 if remove else rates[i])
            limit = min(limit, math.log(reach))
    return limit


@kernel
def cut_far(terms: Terms, limits: Buffer, order: float) -> bool:
    """Cut off every atom whose tilted law has much beyond its limit.

    There 1 + u is q e^((x - 1/2)/s^2) to speak of, whose tilted law is normal
    about x = order.  Returns whether anything changed.
    """
    kinds, rates, sigmas, counts, cuts = terms
    changed = False
    for i in range(len(kinds)):
        if kinds[i] == 0.0 and limits[i] < cuts[i]:
            s = sigmas[i]
            far = max(0.0, (limits[i] - order) / s)
            mass = math.log(counts[i]) + order * math.log(rates[i])
            mass += 0.5 * order * (order - 1.0) / (s * s) - 0.5 * far * far
            # where the mode itself is kept, a cut only makes an edge
            if mass > -7.0 and far < 0.5:
                cuts[i] = limits[i]
                changed = True
    return changed


@kernel
def step_inside(v: float, low: float, high: float, up: bool, most: float) -> float:
    """v if it lies between the ends found so far, else a safer next try."""
    if low < v < high:
        return v
    if low > -34.0 and high < most:
        return 0.5 * (low + high)
    return min(low + 1.5, 0.5 * (low + high)) if up else high - 1.5


@kernel
def saddle(
    terms: Terms,
    limits: Buffer,
    remove: bool,
    ask_epsilon: bool,
    given: float,
    start: float,
    effort: float,
    enough: float,
) -> tuple[float, float, float, float, bool]:
    """The order at which the integrand is least on the real line.

    For a given epsilon to a twentieth of a standard deviation of the tilted
    loss, which is all that the contour needs; for a given log delta the order
    whose saddle-point delta is within a quarter of it, which is as close.
    Nothing here needs to be exact: nodes are laid out anew only where those at
    hand do not reach.  A far mode that delta cannot come from is cut off on
    the way (`limits`).

    Where Chernoff's bound at some order seems to be below `enough`, the search
    ends there.

    Returns (order, e, log M, its second derivative, found).
    """
    low = -34.0
    most = order_limit(terms, remove)
    if remove:
        for limit in limits:
            if limit < math.inf:
                most = 17.0
    high = most
    v = min(math.log(start), most - 0.1)
    order = 1.0 + math.exp(v) if remove else -math.exp(v)
    e = given if remove else -given
    base = order
    nodes, base_moment, slope, bend = gather(terms, order, 0.0, effort)
    moment = base_moment
    for _ in range(60):
        ratio = 1.0 / order + 1.0 / (order - 1.0)
        steep = steepness(order, bend)
        if ask_epsilon:
            e = slope - ratio
            here = moment - order * e - math.log(order * (order - 1.0))
            here -= 0.5 * math.log(2.0 * math.pi * steep)
            gap = here + e - given if remove else here - given
            close = gap < 0.25 and gap > -0.25
            up = gap > 0.0
            gain = order - 1.0 if remove else -order
            move = gap / (gain * steep * math.exp(v))
        else:
            g = slope - e - ratio
            if chernoff(moment, order, e, remove) < enough:
                return order, e, moment, bend, False
            close = g * g < 0.0025 * steep
            up = (g < 0.0) == remove
            move = g / (math.exp(v) * steep)
            if remove:
                move = -move
        if close or high - low < 1e-9:
            if remove and cut_far(terms, limits, order):
                # held by a far mode: once more without it
                low = -34.0
                high = most
                base = order
                nodes, base_moment, slope, bend = gather(terms, order, 0.0, effort)
                moment = base_moment
                continue
            return order, e, moment, bend, close
        if up:
            low = v
        else:
            high = v
        move = min(max(move, -1.2), 1.2)
        v = step_inside(v + move, low, high, up, most)
        order = 1.0 + math.exp(v) if remove else -math.exp(v)
        if reaches(terms, nodes, base, order - base):
            change, slope, bend = shifted(terms, nodes, base, order - base)
            moment = base_moment + change
        else:
            base = order
            nodes, base_moment, slope, bend = gather(terms, order, 0.0, effort)
            moment = base_moment
    return order, e, moment, bend, False


@kernel
def chernoff(moment: float, order: float, e: float, remove: bool) -> float:
    """log of Chernoff's bound on delta at one order.

    The factor in front is the largest value of (r - 1)+ r^-order, or of its
    mirror image: for "remove" this is the conversion of Renyi divergences.
    """
    if remove:
        a = order - 1.0
        return moment - a * e + a * math.log(a / order) - math.log(order)
    a = -order
    return moment + a * e + a * math.log(a / (1.0 + a)) - math.log(1.0 + a)


@kernel
def period(
    terms: Terms,
    nodes: Nodes,
    order: float,
    moment: float,
    steep: float,
    e: float,
    remove: bool,
    effort: float,
) -> tuple[float, float, float, float, float]:
    """How far apart aliases must be to be below e^-effort, and the proof.

    The proof is a pair (rate, lift) for each side: an alias m periods away is
    at most exp(lift -+ rate e - m rate period) of the integrand's scale.  The
    rate that proves the shortest period solves rate lift' = lift + effort
    (Newton); any other proves a longer one.
    Returns (period, rate above, lift above, rate below, lift below).
    """
    found = 0.0
    rate_above = 0.0
    lift_above = 0.0
    rate_below = 0.0
    lift_below = 0.0
    for side in range(2):
        sign = 1.0 if side == 0 else -1.0
        # stay on this side of the poles at 0 and 1
        most = math.inf
        if side == 0 and not remove:
            most = -0.9 * order
        if side == 1 and remove:
            most = 0.9 * (order - 1.0)
        rate = min(math.sqrt(2.0 * effort / steep), most)
        best = math.inf
        for _ in range(10):
            lift, slope, bend = lifted(terms, nodes, order, sign * rate)
            lift += 1e-9 * (1.0 + math.fabs(moment))
            reach = (effort + lift) / rate - sign * e
            if reach < best:
                best = reach
                if side == 0:
                    rate_above, lift_above = rate, lift
                else:
                    rate_below, lift_below = rate, lift
            if lift > 4.0 * effort:
                other = 0.6 * rate
            else:
                move = sign * slope * rate - lift - effort
                other = rate - move / (rate * bend)
                other = min(max(other, 0.5 * rate), 2.0 * rate, most)
            if math.fabs(other - rate) < 0.1 * rate:
                break
            rate = other
        found = max(found, best)
    return found, rate_above, lift_above, rate_below, lift_below
