"""A coarse picture of a law of privacy loss, for choosing tilts and windows only."""

from __future__ import annotations

import math
from typing import final

import numpy as np

from drdp.privacy.law import Array, Law

__all__ = ["Outline"]


@final
class Outline:
    """A coarse picture of a law, for choosing tilts and windows only."""

    def __init__(self, law: Law) -> None:
        losses, masses = [], []
        for piece in law.pieces:
            count = max(1, math.ceil((piece.stop - piece.start) / piece.panel))
            edges = np.linspace(piece.start, piece.stop, count + 1)
            # the largest loss of all is at the end, and the window must hold it
            x = np.append(0.5 * (edges[:-1] + edges[1:]), edges[-1])
            losses.append(piece.loss(x))
            masses.append(piece.log_density(x) + math.log(edges[1] - edges[0]))
            masses[-1][-2:] -= math.log(2.0)
        self.loss = np.concatenate([*losses, law.masses[0]])
        self.log_mass = np.concatenate([*masses, law.masses[1]])
        if self.loss.size == 0:
            self.loss, self.log_mass = np.zeros(1), np.full(1, -700.0)
        self.infinite = law.infinite

    def without_beyond(self, log_limit: float) -> Outline:
        """The law without the highest losses, of P-mass below the limit."""
        order = np.argsort(self.loss)
        with np.errstate(under="ignore"):
            tail = np.cumsum(np.exp((self.log_mass + self.loss)[order][::-1]))[::-1]
        keep = tail > math.exp(max(log_limit, -740.0))
        kept = Outline.__new__(Outline)
        if not keep.any():
            keep[0] = True
        kept.loss, kept.log_mass = self.loss[order][keep], self.log_mass[order][keep]
        kept.infinite = self.infinite
        return kept

    def tilted(self, order: float) -> tuple[float, Array]:
        """log E e^(order L), and the tilted probabilities."""
        height = self.log_mass + order * self.loss
        top = float(height.max())
        with np.errstate(under="ignore"):
            weight = np.exp(height - top)
        total = float(weight.sum())
        return top + math.log(total), weight / total
