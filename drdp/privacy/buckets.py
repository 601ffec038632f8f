"""A law of privacy loss as masses on an equidistant grid, from either side.

`spread` replaces the mass between two grid points by mass on both of them with
the same mean of e^L (connect-the-dots, Doroshenko et al., arXiv:2207.04380):
the profile can only grow.  `gather` does the reverse, moving mass within cells
whose mean of e^L *is* a grid point: the profile can only shrink.  Both keep
the mean, so both are right to second order in the grid step, and composition
keeps both orders.

All masses are tilted by exp(c L) / M(c), so that the deepest tail that matters
is the bulk of what is computed.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from drdp.privacy.law import Law

__all__ = ["Grid", "Masses", "gather", "spread"]

Array = NDArray[np.float64]

_FINE = 1 / 64
_NODES = {count: np.polynomial.legendre.leggauss(count) for count in (4, 6)}


@final
class Grid(NamedTuple):
    """The points origin + k step for first <= k <= last, and the tilt."""

    origin: float
    step: float
    first: int
    last: int
    tilt: float
    log_moment: float

    @property
    def points(self) -> Array:
        """The losses on the grid."""
        index = np.arange(self.first, self.last + 1, dtype=np.float64)
        return self.origin + self.step * index


@final
class Masses(NamedTuple):
    """Tilted masses on the points of a grid, and P's mass beyond all of them."""

    origin: float
    step: float
    first: int
    mass: Array
    infinite: float


class _Cells(NamedTuple):
    """Per cell: tilted Q-mass, and tilted integral of e^(L - mark) - 1."""

    mass: Array
    surplus: Array


def spread(law: Law, grid: Grid) -> Masses:
    """Masses on the grid whose profile is never below the law's."""
    points = grid.points
    cells = _integrate(law, points, points, grid)
    right = np.clip(cells.surplus[1:-1] / math.expm1(grid.step), 0.0, cells.mass[1:-1])
    mass = np.zeros(points.size)
    mass[1:] += right
    # Left shares keep Q's mass; the tilt weighs them at their own grid point,
    # and `_integrate` weighs every cell at its left end.
    mass[1:] *= math.exp(grid.tilt * grid.step)
    mass[:-1] += cells.mass[1:-1] - right
    # Below the grid: mass moves to 0 and to the first point, keeping the mean.
    mass[0] += max(0.0, cells.mass[0] + cells.surplus[0])
    # Above it: mass moves to the last point and to infinity.
    mass[-1] += cells.mass[-1]
    untilt = grid.log_moment - (grid.tilt - 1.0) * points[-1]
    beyond = max(0.0, cells.surplus[-1])
    infinite = law.infinite
    if beyond > 0.0:
        infinite += math.exp(min(0.0, math.log(beyond) + untilt))
    return Masses(grid.origin, grid.step, grid.first, mass, min(1.0, infinite))


def gather(law: Law, grid: Grid) -> Masses:
    """Masses near the grid whose profile is never above the law's.

    Each cell's mean of e^L is brought onto its grid point by moving the cuts
    between cells; what is left over is rounded down, all cells by one common
    amount where that is cheap.  The origin of the answer carries that amount.
    """
    step = grid.step
    grid = grid._replace(origin=grid.origin + _heaviest(law, grid))
    points = grid.points
    cuts = np.append(points - 0.5 * step, points[-1] + 0.5 * step)
    offset = np.zeros(points.size)
    for attempt in range(3):
        cells = _integrate(law, cuts, points, grid, gathered=True)
        mass, surplus = cells.mass[1:-1], cells.surplus[1:-1]
        known = mass > 1e-280
        ratio = np.divide(surplus, mass, out=np.zeros_like(mass), where=known)
        offset = np.log1p(np.maximum(ratio, -0.999))
        if attempt < 2:
            smooth = np.where(np.abs(offset) < 0.2 * step, offset, 0.0)
            cuts[1:-1] -= 0.5 * (smooth[:-1] + smooth[1:])
            cuts[0] -= smooth[0]
            cuts[-1] -= smooth[-1]
            low = np.append(points, points[-1] + step) - 0.95 * step
            cuts = np.clip(cuts, low, low + 0.9 * step)
    down = _common_shift(offset, mass, step)
    lowered = np.zeros(points.size + 1)
    stays = offset >= -down
    lowered[1:] += np.where(stays, mass, 0.0)
    moved = np.where(stays, 0.0, mass) * math.exp(-grid.tilt * step)
    lowered[:-1] += moved
    # Above the grid everything rounds down to the last point; below, to 0.
    lowered[-1] += cells.mass[-1]
    lowered *= math.exp(-grid.tilt * down)
    infinite = law.infinite
    return Masses(grid.origin - down, step, grid.first - 1, lowered, infinite)


def _heaviest(law: Law, grid: Grid) -> float:
    """How far the fullest cell's mean lies from its point, if one stands out."""
    points, step = grid.points, grid.step
    cuts = np.append(points - 0.5 * step, points[-1] + 0.5 * step)
    cells = _integrate(law, cuts, points, grid, gathered=True)
    fullest = int(np.argmax(cells.mass[1:-1])) + 1
    if cells.mass[fullest] < 0.1 * cells.mass.sum():
        return 0.0
    return math.log1p(max(-0.5, cells.surplus[fullest] / cells.mass[fullest]))


def _common_shift(offset: Array, mass: Array, step: float) -> float:
    """The shift d that loses least: d, plus a step for each cell below -d."""
    need = np.maximum(0.0, -offset)
    order = np.argsort(need)
    total = float(mass.sum())
    if total <= 0.0:
        return 0.0
    left = total - np.cumsum(mass[order])
    cost = need[order] * total + step * np.maximum(left, 0.0)
    # Give a hair more, so that rounding here cannot turn a cell around.
    return float(need[order][int(np.argmin(cost))]) * (1.0 + 1e-9)


def _integrate(
    law: Law, cuts: Array, marks: Array, grid: Grid, *, gathered: bool = False
) -> _Cells:
    """Tilted masses of the cells between cuts, one more at either end.

    The mark of cell k is its left cut (spread) or its target (gather); the
    open cell at the left is marked by the first mark, that at the right by the
    last.
    """
    if gathered:
        mark = np.concatenate((marks[:1], marks, marks[-1:]))
    else:
        mark = np.concatenate((marks[:1], marks[:-1], marks[-1:]))
    size = cuts.size + 1
    mass, surplus = np.zeros(size), np.zeros(size)
    weigh = grid.tilt * mark - grid.log_moment

    def add(cell: Any, log_mass: Any, loss: Any) -> None:
        height = log_mass + weigh[cell]
        gap = loss - mark[cell]
        with np.errstate(under="ignore"):
            weight = np.exp(np.minimum(height, 690.0))
            extra = weight * np.expm1(np.minimum(gap, 1.0))
            far = gap > 1.0
            if far.any():
                tall = np.exp(np.minimum(height + gap, 690.0))
                extra = np.where(far, tall - weight, extra)
        if np.ndim(weight) == 2:
            weight, extra, cell = weight.sum(1), extra.sum(1), cell[:, 0]
        mass[:] += np.bincount(cell, weight, size)
        surplus[:] += np.bincount(cell, extra, size)

    for piece in law.pieces:
        borders = np.clip(piece.position(cuts), piece.start, piece.stop)
        inner = borders[(borders > piece.start) & (borders < piece.stop)]
        dense = inner.size > 40_000
        panel = min(piece.panel, _FINE) if dense else piece.panel
        nodes, weights = _NODES[4 if dense else 6]
        count = max(1, math.ceil((piece.stop - piece.start) / panel))
        regular = np.linspace(piece.start, piece.stop, count + 1)
        edges = np.sort(np.concatenate((regular, inner)))
        edges = edges[np.append(True, np.diff(edges) > 0.0)]
        half = 0.5 * np.diff(edges)
        middle = edges[:-1] + half
        cells = np.searchsorted(borders, middle, side="left")
        for at in range(0, half.size, 1 << 16):
            part = slice(at, at + (1 << 16))
            x = middle[part, None] + half[part, None] * nodes
            share = np.log(half[part, None] * weights)
            add(
                np.broadcast_to(cells[part, None], x.shape),
                piece.log_density(x) + share,
                piece.loss(x),
            )
    losses, masses = law.masses
    if losses.size:
        cells = np.searchsorted(cuts, losses, side="left" if gathered else "right")
        add(cells, masses, losses)
    return _Cells(mass, surplus)
