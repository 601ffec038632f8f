"""A sampled Gaussian's law by size of loss: its bulk, and rarer larger losses.

A window is a normal tail in x, W(x) = Phi((place - x) / width).  With windows
W above and V below it,

    bulk   B(w) = E_Q[(1 + u)^w V],        jumps  J(w) = E_Q[(1 + u)^w (W - V)],

so that B + J is the law up to W.  The windows are smooth, so J vanishes along
the imaginary axis at the scale of the jumps, however narrow the bulk is; and
W - V is positive, so that everything built from B and J by adding and
multiplying is the transform of a measure.

Off the real line |Phi(-(t + i r))| <= e^(r^2/2) Phi(-t), by moving the
integral that defines it.
"""

from __future__ import annotations

import math

from drdp.privacy.kernel import Buffer, kernel, zeros
from drdp.privacy.moments import expm1_less, log1p_less, posterior_at
from drdp.privacy.nodes import Terms

__all__ = [
    "bulk_moment",
    "bulk_nodes",
    "cut_off",
    "jump_moment",
    "jump_nodes",
    "lost",
    "split",
]

Split = tuple[Buffer, Buffer, Buffer, Buffer, Buffer, Buffer]
"""Per atom: where the jumps begin and how sharply, the cut and how sharply, and
where the nodes of the bulk and of the jumps end: there the windows leave next
to nothing, however large the order is that would bring it back."""
PartNodes = tuple[Buffer, Buffer, Buffer, Buffer, Buffer]
"""Positions, losses, log weights, log(1+u) - u, and where each atom begins."""

_ROOT_2 = math.sqrt(2.0)
_LOG_ROOT_2PI = 0.5 * math.log(2.0 * math.pi)


@kernel
def normal_tail(t: float) -> float:
    """Phi(-t)."""
    return 0.5 * math.erfc(t / _ROOT_2)


@kernel
def log_normal_tail(t: float) -> float:
    """log Phi(-t)."""
    if t < 25.0:
        return math.log(normal_tail(t))
    square = 1.0 / (t * t)
    series = 1.0 - square * (1.0 - 3.0 * square * (1.0 - 5.0 * square))
    return -0.5 * t * t - _LOG_ROOT_2PI - math.log(t) + math.log(series)


@kernel
def loss_at(x: float, q: float, s: float) -> float:
    """The privacy loss log(1 + u) at x."""
    z = (x - 0.5) / (s * s)
    if z < 30.0:
        return math.log1p(q * math.expm1(z))
    return z + math.log(q) + math.log1p((1.0 - q) / q * math.exp(-z))


@kernel
def place_of(loss: float, q: float, s: float) -> float:
    """The x at which the privacy loss is a given positive number."""
    if loss < 30.0:
        return 0.5 + s * s * math.log1p(math.expm1(loss) / q)
    return 0.5 + s * s * (loss - math.log(q) + math.log1p(-(1 - q) * math.exp(-loss)))


@kernel
def sharpness(x: float, q: float, s: float, order: float) -> float:
    """How wide a window at x may be.

    Over the width the loss changes by at most a quarter of itself, and what
    the window lets through of the normal density (or of its tilt) on the far
    side stays small against what is at x.
    """
    slope = posterior_at(x, q, s) / (s * s)
    wide = min(s, 0.25 * loss_at(x, q, s) / slope)
    wide = min(wide, 1.2 * s * s / max(x, 1e-3))
    return min(wide, 1.2 / (order * slope)) if order > 0.0 else wide


@kernel
def mass_above(x: float, q: float, s: float) -> float:
    """log of P's mass above x."""
    plain = math.log1p(-q) + log_normal_tail(x / s)
    shifted = math.log(q) + log_normal_tail((x - 1.0) / s)
    top = max(plain, shifted)
    return top + math.log(math.exp(plain - top) + math.exp(shifted - top))


@kernel
def cut_off(terms: Terms, log_delta: float, order: float) -> tuple[Buffer, Buffer]:
    """Where to cut each atom, and how sharply, at a cost of e^-35 of delta.

    Args:
        terms: The composition.
        log_delta: log of that delta.
        order: Roughly the order that the law will be tilted with.
    """
    kinds, rates, sigmas, counts, _ = terms
    size = len(kinds)
    cuts = zeros(size)
    edges = zeros(size)
    total = 0.0
    for i in range(size):
        if kinds[i] == 0.0:
            total += counts[i]
    for i in range(size):
        if kinds[i] != 0.0:
            continue
        q = rates[i]
        s = sigmas[i]
        allowed = log_delta - 36.0 - math.log(total)
        low = 0.0
        high = 1.0 + s * (2.0 + math.sqrt(2.0 * max(0.0, -allowed)))
        for _ in range(40):
            middle = 0.5 * (low + high)
            if mass_above(middle, q, s) > allowed:
                low = middle
            else:
                high = middle
        # 1 - C is at most P's mass above `high`, plus e^-50 below it
        edges[i] = sharpness(high, q, s, order)
        cuts[i] = high + 10.0 * edges[i]
    return cuts, edges


@kernel
def lost(terms: Terms, places: Split) -> float:
    """log of a bound on what delta loses where the nodes end."""
    kinds, rates, sigmas, counts, _ = terms
    starts, widths, cuts, edges, bulk_ends, jump_ends = places
    worst = -1e300
    for i in range(len(kinds)):
        if kinds[i] != 0.0:
            continue
        outer = log_normal_tail((jump_ends[i] - cuts[i]) / edges[i])
        inner = log_normal_tail((bulk_ends[i] - starts[i]) / widths[i])
        mass = max(
            mass_above(jump_ends[i], rates[i], sigmas[i]) + outer,
            mass_above(bulk_ends[i], rates[i], sigmas[i]) + inner,
        )
        worst = max(worst, mass + math.log(2.0 * counts[i] * len(kinds)))
    return worst


@kernel
def split(
    terms: Terms,
    loss: float,
    order: float,
    cuts: Buffer,
    edges: Buffer,
    far: float,
) -> tuple[Split, float, float]:
    """Where the jumps of each atom begin.

    Args:
        terms: The composition.
        loss: Above it a loss is a jump; infinity for no jumps at all.
        order: Roughly the order that the law will be tilted with.
        cuts: Where the atoms are cut off.
        edges: How sharply.
        far: How many powers of e the windows are followed down.

    Returns:
        (the places, the largest loss that a place is at, roughly how many
        nodes they need).
    """
    kinds, rates, sigmas, _, _ = terms
    size = len(kinds)
    starts = zeros(size)
    widths = zeros(size)
    bulk_ends = zeros(size)
    jump_ends = zeros(size)
    nodes = 0.0
    used = 0.0
    reach = math.sqrt(2.0 * far)
    for i in range(size):
        if kinds[i] != 0.0:
            continue
        q = rates[i]
        s = sigmas[i]
        starts[i] = cuts[i]
        widths[i] = edges[i]
        if loss < math.inf:
            most = loss_at(cuts[i] - 4.0 * edges[i], q, s)
            starts[i] = place_of(min(loss, most) if most > 0.0 else loss, q, s)
            # of nearly the same width, so that the windows do not cross
            gap = cuts[i] - starts[i]
            wide = min(sharpness(starts[i], q, s, order), edges[i] + gap / 16.0)
            widths[i] = max(wide, 0.6 * edges[i])
            used = max(used, loss_at(starts[i], q, s))
        bulk_ends[i] = starts[i] + widths[i] * reach
        jump_ends[i] = cuts[i] + edges[i] * reach
        nodes += (cuts[i] + 20.0 * s) / min(widths[i], edges[i], s)
    return (starts, widths, cuts, edges, bulk_ends, jump_ends), used, nodes


@kernel
def reach_of(effort: float) -> float:
    """How many standard deviations hold all but e^-effort."""
    return math.sqrt(2.0 * effort) + 1.0


@kernel
def bulk_nodes(
    terms: Terms, places: Split, steps: Buffer, effort: float
) -> tuple[PartNodes, Buffer, Buffer]:
    """PartNodes of the bulk; and E_Q[1 - V], E_Q[u (1 - V)] of each atom."""
    kinds, rates, sigmas, counts, _ = terms
    starts, widths, _, _, ends, _ = places
    size = len(kinds)
    offsets = zeros(size + 1)
    lows = zeros(size)
    nodes = 0
    for i in range(size):
        offsets[i] = nodes
        if kinds[i] == 0.0:
            s = sigmas[i]
            reach = reach_of(effort + math.log(counts[i])) * s
            lows[i] = -reach
            nodes += int((max(1.0 + reach, ends[i]) + reach) / steps[i]) + 2
    offsets[size] = nodes
    xs = zeros(nodes)
    losses = zeros(nodes)
    weights = zeros(nodes)
    bends = zeros(nodes)
    missing = zeros(size)
    missing_mean = zeros(size)
    for i in range(size):
        if kinds[i] != 0.0:
            continue
        q = rates[i]
        s = sigmas[i]
        share = math.log(steps[i] / s) - _LOG_ROOT_2PI
        first = int(offsets[i])
        for j in range(first, int(offsets[i + 1])):
            x = lows[i] + steps[i] * (j - first)
            loss = loss_at(x, q, s)
            plain = share - 0.5 * x * x / (s * s)
            inner = (x - starts[i]) / widths[i]
            xs[j] = x
            losses[j] = loss
            bends[j] = log1p_less(math.expm1(loss), loss) if loss < 30.0 else 0.0
            weights[j] = -1e300
            gone = 1.0
            if x <= ends[i]:
                weights[j] = plain + log_normal_tail(inner)
                gone = normal_tail(-inner)
            missing[i] += math.exp(plain) * gone
            missing_mean[i] -= math.exp(plain + loss) * math.expm1(-loss) * gone
    return (xs, losses, weights, bends, offsets), missing, missing_mean


@kernel
def bulk_moment(
    order: float, start: int, stop: int, nodes: PartNodes, missing: float, mean: float
) -> tuple[float, float]:
    """log B and B'/B of one atom at a real order.

    B - 1 = E[((1+u)^c - 1 - cu) V] - E[(1 + cu) (1 - V)], as E u = 0: nothing
    cancels, however close to 1 it is.
    """
    _, losses, weights, bends, _ = nodes
    excess = -missing - order * mean
    slope = 0.0
    for j in range(start, stop):
        t = order * losses[j]
        weight = math.exp(weights[j])
        if t < 30.0:
            if weight == 0.0:
                continue
            excess += weight * (expm1_less(t, math.expm1(t)) + order * bends[j])
            slope += weight * math.exp(t) * losses[j]
        else:
            tall = math.exp(min(weights[j] + t, 700.0))
            linear = math.exp(weights[j] + losses[j]) * -math.expm1(-losses[j])
            excess += tall - weight - order * linear
            slope += tall * losses[j]
    if excess <= -1.0 or excess > 1e300:
        return math.inf, math.inf
    return math.log1p(excess), slope / (1.0 + excess)


@kernel
def jump_nodes(terms: Terms, places: Split, steps: Buffer) -> PartNodes:
    """PartNodes of the jumps; none where there is no split."""
    kinds, rates, sigmas, _, _ = terms
    starts, widths, cuts, edges, _, ends = places
    size = len(kinds)
    offsets = zeros(size + 1)
    nodes = 0
    for i in range(size):
        offsets[i] = nodes
        if kinds[i] == 0.0 and starts[i] < cuts[i]:
            span = ends[i] - starts[i] + 10.0 * widths[i]
            nodes += int(span / steps[i]) + 1
    offsets[size] = nodes
    xs = zeros(nodes)
    losses = zeros(nodes)
    weights = zeros(nodes)
    for i in range(size):
        first = int(offsets[i])
        for j in range(first, int(offsets[i + 1])):
            s = sigmas[i]
            x = starts[i] - 10.0 * widths[i] + steps[i] * (j - first)
            xs[j] = x
            losses[j] = loss_at(x, rates[i], s)
            weights[j] = (
                math.log(steps[i] / s)
                - _LOG_ROOT_2PI
                - 0.5 * x * x / (s * s)
                + log_gap((x - cuts[i]) / edges[i], (x - starts[i]) / widths[i])
            )
    return xs, losses, weights, xs, offsets


@kernel
def jump_moment(
    order: float, start: int, stop: int, nodes: PartNodes
) -> tuple[float, float]:
    """log J and J'/J of one atom at a real order."""
    _, losses, weights, _, _ = nodes
    top = -1e300
    for j in range(start, stop):
        top = max(top, order * losses[j] + weights[j])
    total = 0.0
    slope = 0.0
    for j in range(start, stop):
        height = order * losses[j] + weights[j] - top
        if height > -60.0:
            weight = math.exp(height)
            total += weight
            slope += weight * losses[j]
    return top + math.log(total), slope / total


@kernel
def log_gap(outer: float, inner: float) -> float:
    """log of Phi(-outer) - Phi(-inner), for outer < inner."""
    if inner > 0.0:
        top = log_normal_tail(outer)
        rest = log_normal_tail(inner)
    else:
        top = log_normal_tail(-inner)
        rest = log_normal_tail(-outer)
    if rest >= top:
        return -1e300
    return top + math.log(-math.expm1(rest - top))
