"""What a composition's law looks like at one order: nodes with probabilities.

A composition is a tuple of parallel buffers: kind (0 sampled Gaussian, 1
Gaussian, 2 Laplace), rate, noise multiplier, count and cut of each atom.
Nodes laid out for one order also tell the moments of orders nearby, at one
exponential a node and with a bound on what they miss.
"""

from __future__ import annotations

import math

from drdp.privacy.kernel import Buffer, kernel, zeros
from drdp.privacy.moments import (
    BOW,
    beyond,
    extent,
    fill,
    grid_effort,
    grid_step,
    log_moment,
    posterior_at,
    reweigh,
)

__all__ = ["Nodes", "Terms", "cumulants", "gather", "lifted", "plain_moment", "shifted"]

Terms = tuple[Buffer, Buffer, Buffer, Buffer, Buffer]
Nodes = tuple[Buffer, Buffer, Buffer, Buffer, Buffer, Buffer]
"""Offsets of the atoms, their steps and then bows at a cut, positions,
probabilities and losses of the nodes, K of the atoms."""


@kernel
def plain_moment(kind: float, s: float, order: float) -> tuple[float, float, float]:
    """K, K' and K'' of an unsampled Gaussian or Laplace release."""
    if kind == 1.0:
        square = s * s
        return 0.5 * order * (order - 1.0) / square, (order - 0.5) / square, 1 / square
    # M = [c e^((c-1) b) + (c-1) e^(-c b)] / (2c - 1), scaled by the larger term
    b = 1.0 / s
    one = (order - 1.0) * b
    two = -order * b
    top = max(one, two)
    e1 = math.exp(one - top)
    e2 = math.exp(two - top)
    d = 2.0 * order - 1.0
    f = order * e1 + (order - 1.0) * e2
    f1 = e1 + e2 + b * (order * e1 - (order - 1.0) * e2)
    f2 = 2.0 * b * (e1 - e2) + b * b * (order * e1 + (order - 1.0) * e2)
    slope = f1 / f - 2.0 / d
    return top + math.log(f / d), slope, f2 / f - (f1 / f) ** 2 + 4.0 / (d * d)


@kernel
def cumulants(terms: Terms, order: float, effort: float) -> tuple[float, float, float]:
    """log M and its first two derivatives at a real order, all atoms added.

    e^-effort is the error of log M in all: an atom that happens n times gets
    log n more.
    """
    kinds, rates, sigmas, counts, cuts = terms
    moment = 0.0
    slope = 0.0
    bend = 0.0
    for i in range(len(kinds)):
        if kinds[i] == 0.0:
            own = effort + math.log(counts[i])
            k0, k1, k2 = log_moment(order, rates[i], sigmas[i], cuts[i], own)
        else:
            k0, k1, k2 = plain_moment(kinds[i], sigmas[i], order)
        moment += counts[i] * k0
        slope += counts[i] * k1
        bend += counts[i] * k2
    return moment, slope, bend


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
            posterior = 1.0
            if y > 0.0:
                far = max(order, 1.0) + (math.sqrt(2.0 * own) + 1.0) * s
                posterior = posterior_at(min(far, cuts[i]), rates[i], s)
            most = 0.5 * math.pi if cuts[i] < math.inf else math.pi
            step, shift = grid_step(s, order, rates[i], y, posterior, own, most)
            bow = BOW * shift
            steps[i] = step
            steps[len(kinds) + i] = bow
            nodes += extent(order, rates[i], s, cuts[i], step, bow, own)[1]
    offsets[len(kinds)] = nodes
    return nodes


@kernel
def gather(
    terms: Terms, order: float, y: float, effort: float
) -> tuple[Nodes, float, float, float]:
    """Nodes that are good up to height y; and log M and its derivatives."""
    kinds, rates, sigmas, counts, cuts = terms
    size = len(kinds)
    steps = zeros(2 * size)
    offsets = zeros(size + 1)
    moments = zeros(size)
    count = layout(terms, order, y, effort, steps, offsets)
    xs = zeros(count)
    taus = zeros(count)
    losses = zeros(count)
    moment = 0.0
    slope = 0.0
    bend = 0.0
    for i in range(size):
        if kinds[i] == 0.0:
            own = effort + 2.0 + math.log(counts[i])
            step = steps[i]
            bow = steps[size + i]
            low, many = extent(order, rates[i], sigmas[i], cuts[i], step, bow, own)
            k0, k1, k2 = fill(
                order,
                rates[i],
                sigmas[i],
                cuts[i],
                step,
                bow,
                low,
                many,
                int(offsets[i]),
                xs,
                taus,
                losses,
            )
        else:
            k0, k1, k2 = plain_moment(kinds[i], sigmas[i], order)
        moments[i] = k0
        moment += counts[i] * k0
        slope += counts[i] * k1
        bend += counts[i] * k2
    return (offsets, steps, xs, taus, losses, moments), moment, slope, bend


@kernel
def tame(nodes: Nodes, i: int, d: float) -> bool:
    """Whether no probability or e^(d L) of an atom's nodes leaves the doubles."""
    offsets, _, _, _, losses, moments = nodes
    first = losses[int(offsets[i])]
    last = losses[int(offsets[i + 1]) - 1]
    most = max(math.fabs(d * first), math.fabs(d * last))
    return moments[i] < 250.0 and most < 600.0


@kernel
def reaches(terms: Terms, nodes: Nodes, order: float, d: float) -> bool:
    """Whether nodes at `order` cover the law at order + d well enough to search."""
    kinds, rates, sigmas, _, cuts = terms
    offsets, steps, xs, _, _, _ = nodes
    there = order + d
    for i in range(len(kinds)):
        if kinds[i] != 0.0:
            continue
        if not tame(nodes, i, d):
            return False
        low = xs[int(offsets[i])]
        high = xs[int(offsets[i + 1]) - 1]
        if max(there, 1.0) + 4.5 * sigmas[i] > high and high < cuts[i] - 0.1 * steps[i]:
            return False
        if there < 0.0 and there * rates[i] - 4.5 * sigmas[i] < low:
            return False
    return True


@kernel
def shifted(
    terms: Terms, nodes: Nodes, order: float, d: float
) -> tuple[float, float, float]:
    """log M(order + d) / M(order), and two derivatives there, by the nodes."""
    kinds, _, sigmas, counts, _ = terms
    offsets, _, _, taus, losses, moments = nodes
    moment = 0.0
    slope = 0.0
    bend = 0.0
    for i in range(len(kinds)):
        if kinds[i] == 0.0:
            start = int(offsets[i])
            stop = int(offsets[i + 1])
            k0, k1, k2 = reweigh(start, stop, taus, losses, d)
        else:
            k0, k1, k2 = plain_moment(kinds[i], sigmas[i], order + d)
            k0 -= moments[i]
        moment += counts[i] * k0
        slope += counts[i] * k1
        bend += counts[i] * k2
    return moment, slope, bend


@kernel
def lifted(
    terms: Terms, nodes: Nodes, order: float, d: float
) -> tuple[float, float, float]:
    """An upper bound on log M(order + d) / M(order); and its derivatives, roughly.

    What the nodes of another order can miss is added: aliasing at the new
    order, and the law's mass beyond the last node and before the first.  Where
    their probabilities would leave the doubles, or the first node is too near
    the bulk or the step too long, the moment is summed anew.
    """
    kinds, rates, sigmas, counts, cuts = terms
    offsets, steps, xs, taus, losses, moments = nodes
    moment = 0.0
    slope = 0.0
    bend = 0.0
    there = order + d
    for i in range(len(kinds)):
        if kinds[i] != 0.0:
            k0, k1, k2 = plain_moment(kinds[i], sigmas[i], there)
            k0 -= moments[i]
            moment += counts[i] * k0
            slope += counts[i] * k1
            bend += counts[i] * k2
            continue
        s = sigmas[i]
        start = int(offsets[i])
        stop = int(offsets[i + 1])
        low = xs[start]
        high = xs[stop - 1]
        # in deviations: the tilted law of a negative order is no wider than Q
        near = (there * rates[i] - low) / s
        fine = grid_effort(steps[i], s, there, rates[i])
        if not tame(nodes, i, d) or fine < 2.0 or (there < 0.0 and near < 2.0):
            own = 22.0 + math.log(counts[i])
            k0, k1, k2 = log_moment(there, rates[i], s, cuts[i], own)
            k0 -= moments[i]
        else:
            k0, k1, k2 = reweigh(start, stop, taus, losses, d)
            # where (1 + u)^order is at most 1, by Q's own tail; M is at least 1
            side = high if there < 0.0 else low
            missed = math.exp(-0.5 * (side / s) * (side / s))
            # log of what is missed on the other, relative to what the nodes say
            if there < 0.0:
                outside = 0.2 - 0.5 * near * near
            elif high > cuts[i] - 0.1 * steps[i]:
                # from here on the nodes up to the cut fall by e^(-step / bow) each
                last = max(taus[stop - 1], 1e-300)
                last *= 1.0 + steps[len(kinds) + i] / steps[i]
                outside = math.log(last) + d * losses[stop - 1] - k0
            else:
                outside = beyond(there, rates[i], s, high) - moments[i] - k0
            # a share a of the whole is missed to aliasing: -log(1 - a) < 1.2 a
            k0 += 1.2 * math.exp(-fine)
            if outside > 30.0:
                k0 += outside + 1e-9
            else:
                k0 += math.log1p(math.exp(outside) + missed)
        moment += counts[i] * k0
        slope += counts[i] * k1
        bend += counts[i] * k2
    return moment, slope, bend
