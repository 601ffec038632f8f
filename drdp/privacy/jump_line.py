"""The terms of the sum over jumps along a vertical line in the complex plane.

Relative to the transform at height 0, with the powers taken as logarithms and
M^T - B^T as B^T expm1(T log1p(J / B)), so that nothing cancels however rare the
jumps are.
"""

from __future__ import annotations

import math

from drdp.privacy.kernel import Buffer, kernel, zeros
from drdp.privacy.line import advance, laplace_turn, log_one_plus
from drdp.privacy.nodes import Terms
from drdp.privacy.windows import PartNodes

__all__ = ["RESTART", "jump_line"]

RESTART = 256  # steps after which states are computed afresh


@kernel
def kept_nodes(
    terms: Terms, order: float, nodes: PartNodes, norms: Buffer, effort: float
) -> tuple[Buffer, Buffer, Buffer]:
    """Where each atom begins, tilted probabilities and losses, without the rest.

    The rest is nodes below e^-effort of an atom's total over its count.
    """
    kinds, _, _, counts, _ = terms
    _, losses, weights, _, offsets = nodes
    ends = zeros(len(kinds) + 1)
    kept = 0
    for i in range(len(kinds)):
        limit = norms[i] - effort - math.log(counts[i])
        for j in range(int(offsets[i]), int(offsets[i + 1])):
            if weights[j] + order * losses[j] >= limit:
                kept += 1
        ends[i + 1] = kept
    taus = zeros(kept)
    some = zeros(kept)
    kept = 0
    for i in range(len(kinds)):
        limit = norms[i] - effort - math.log(counts[i])
        for j in range(int(offsets[i]), int(offsets[i + 1])):
            height = weights[j] + order * losses[j]
            if height >= limit:
                taus[kept] = math.exp(height - norms[i])
                some[kept] = losses[j]
                kept += 1
    return ends, taus, some


@kernel
def spins(losses: Buffer, h: float) -> tuple[Buffer, Buffer]:
    """e^(i h L) - 1 for every loss."""
    real = zeros(len(losses))
    imaginary = zeros(len(losses))
    for j in range(len(losses)):
        sine = math.sin(0.5 * h * losses[j])
        real[j] = -2.0 * sine * sine
        imaginary[j] = math.sin(h * losses[j])
    return real, imaginary


@kernel
def restart(
    taus: Buffer, losses: Buffer, y: float, real: Buffer, imaginary: Buffer
) -> tuple[float, float]:
    """All states tau (e^(i y L) - 1) at a height, and their sum."""
    total_r = 0.0
    total_i = 0.0
    for j in range(len(taus)):
        sine = math.sin(0.5 * y * losses[j])
        real[j] = -2.0 * taus[j] * sine * sine
        imaginary[j] = taus[j] * math.sin(y * losses[j])
        total_r += real[j]
        total_i += imaginary[j]
    return total_r, total_i


@kernel
def sums(ends: Buffer, i: int, real: Buffer, imaginary: Buffer) -> tuple[float, float]:
    """The sum over one atom's nodes."""
    total_r = 0.0
    total_i = 0.0
    for j in range(int(ends[i]), int(ends[i + 1])):
        total_r += real[j]
        total_i += imaginary[j]
    return total_r, total_i


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
    low: PartNodes,
    high: PartNodes,
    bulks: Buffer,
    jumps: Buffer,
    which: int,
    effort: float,
) -> tuple[float, float, float, Buffer, Buffer]:
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
        effort: PartNodes below e^-effort of the total are left out.

    Returns:
        (log1p of jumps over bulk in all, T E|L| of the tilted bulk, work, the
        terms' real and imaginary parts).
    """
    kinds, _, sigmas, counts, _ = terms
    size = len(kinds)
    bulk_ends, bulk_taus, bulk_losses = kept_nodes(terms, order, low, bulks, effort)
    jump_ends, jump_taus, jump_losses = kept_nodes(terms, order, high, jumps, effort)
    bulk_count = int(bulk_ends[size])
    jump_count = int(jump_ends[size]) if which == 1 else 0
    bulk_spin_r, bulk_spin_i = spins(bulk_losses, h)
    jump_spin_r, jump_spin_i = spins(jump_losses, h)
    bulk_r = zeros(bulk_count)
    bulk_i = zeros(bulk_count)
    jump_r = zeros(jump_count)
    jump_i = zeros(jump_count)
    ratios = zeros(size)
    whole = 0.0
    drift = 0.0
    for i in range(size):
        if kinds[i] != 0.0:
            continue
        for j in range(int(bulk_ends[i]), int(bulk_ends[i + 1])):
            drift += counts[i] * bulk_taus[j] * math.fabs(bulk_losses[j])
        if which == 1:
            ratios[i] = math.exp(jumps[i] - bulks[i])
            whole += counts[i] * math.log1p(ratios[i])
    small = whole < 30.0
    norm_jumps = math.expm1(whole) if small and which == 1 else 1.0
    log_norm = math.log(norm_jumps) if small else whole
    terms_r = zeros(filled)
    terms_i = zeros(filled)
    for k in range(filled):
        y = h * k
        d_r = 0.0
        d_i = 0.0
        g_r = 0.0
        g_i = 0.0
        if k % RESTART == 0:
            # afresh from time to time, so that rounding does not build up
            d_r, d_i = restart(bulk_taus, bulk_losses, y, bulk_r, bulk_i)
            if which == 1:
                g_r, g_i = restart(jump_taus, jump_losses, y, jump_r, jump_i)
        else:
            d_r, d_i = advance(bulk_taus, bulk_spin_r, bulk_spin_i, bulk_r, bulk_i)
            if which == 1:
                g_r, g_i = advance(jump_taus, jump_spin_r, jump_spin_i, jump_r, jump_i)
        log_r = 0.0
        log_i = 0.0
        gain_r = 0.0
        gain_i = 0.0
        for i in range(size):
            if kinds[i] == 1.0:
                square = sigmas[i] * sigmas[i]
                log_r -= counts[i] * 0.5 * y * y / square
                log_i += counts[i] * y * (order - 0.5) / square
                continue
            if kinds[i] == 2.0:
                one_r, one_i = laplace_turn(order, y, 1.0 / sigmas[i])
                log_r += counts[i] * one_r
                log_i += counts[i] * one_i
                continue
            if size > 1:
                d_r, d_i = sums(bulk_ends, i, bulk_r, bulk_i)
                g_r, g_i = sums(jump_ends, i, jump_r, jump_i)
            one_r, one_i = log_one_plus(d_r, d_i)
            log_r += counts[i] * one_r
            log_i += counts[i] * one_i
            if which == 1:
                # the ratio (J / B) at this height
                b_r = 1.0 + d_r
                j_r = 1.0 + g_r
                square = b_r * b_r + d_i * d_i
                r_r = ratios[i] * (j_r * b_r + g_i * d_i) / square
                r_i = ratios[i] * (g_i * b_r - j_r * d_i) / square
                one_r, one_i = log_one_plus(r_r, r_i)
                gain_r += counts[i] * one_r
                gain_i += counts[i] * one_i
        # B^T for 0; B^T (e^jump - 1) over e^whole - 1, or e^whole, for 1
        if which == 0:
            n_r, n_i = polar(log_r, log_i)
        elif small and gain_r < 30.0:
            sine = math.sin(0.5 * gain_i)
            v_r = math.expm1(gain_r) * math.cos(gain_i) - 2.0 * sine * sine
            v_i = math.exp(gain_r) * math.sin(gain_i)
            c_b, s_b = polar(log_r, log_i)
            n_r = (v_r * c_b - v_i * s_b) / norm_jumps
            n_i = (v_r * s_b + v_i * c_b) / norm_jumps
        else:
            v_r, v_i = polar(log_r + gain_r - log_norm, log_i + gain_i)
            c_b, s_b = polar(log_r - log_norm, log_i)
            n_r = v_r - c_b
            n_i = v_i - s_b
        # over w (w - 1) = c (c - 1) - y^2 + i y (2c - 1)
        p_r = order * (order - 1.0) - y * y
        p_i = y * (2.0 * order - 1.0)
        square = p_r * p_r + p_i * p_i
        terms_r[k] = (n_r * p_r + n_i * p_i) / square
        terms_i[k] = (n_i * p_r - n_r * p_i) / square
    count = bulk_count + jump_count
    work = (count + 30.0) * filled + 30.0 * (len(low[0]) + len(high[0]))
    return whole, drift, work, terms_r, terms_i
