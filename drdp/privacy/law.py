"""What a law of privacy loss is made of, and what sampling does to one.

A release is represented by a dominating pair (P, Q); its privacy loss is
L = log dP/dQ.  A `Law` describes L under Q as smooth pieces, on each of which
the loss increases along a real coordinate x, plus point masses, plus what P
puts where Q has nothing.

Reference: Zhu, Dong and Wang, arXiv:2106.08567 (dominating pairs).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "REACH",
    "Along",
    "Array",
    "Direction",
    "Law",
    "Piece",
    "amplified",
    "panel_of",
    "reversed_piece",
    "sampled",
    "thinned",
]

Array = NDArray[np.float64]
Along = Callable[[Array], Array]

REACH = 38.0  # beyond 38 standard deviations a normal density underflows


class Direction(Enum):
    """Which neighbour plays P.  Composed separately; the worse one counts."""

    REMOVE = "remove"
    ADD = "add"
    EITHER = "either"  # one law that dominates both directions, not tight


@final
@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of the x axis on which the loss increases smoothly.

    Args:
        start: Left end of the stretch.
        stop: Right end of the stretch.
        panel: A step in x over which a few quadrature nodes are exact.
        log_density: log of Q's density at x.
        loss: L(x).
        position: x(L), the inverse; infinite outside the range of L.
    """

    start: float
    stop: float
    panel: float
    log_density: Along
    loss: Along
    position: Along


@final
@dataclass(frozen=True, slots=True)
class Law:
    """The privacy loss of one release under Q.

    Args:
        pieces: Its smooth parts.
        points: Its point masses as (loss, log of Q's mass), in rows.
        infinite: P's mass where Q has none, the loss being infinite.
    """

    pieces: tuple[Piece, ...] = ()
    points: Sequence[tuple[float, float]] | Array = ()
    infinite: float = 0.0

    @property
    def masses(self) -> tuple[Array, Array]:
        """The point masses as two columns: losses and log masses."""
        rows = np.asarray(self.points, dtype=np.float64).reshape(-1, 2)
        return rows[:, 0], rows[:, 1]

    @property
    def spacing(self) -> float | None:
        """The step of the lattice that all losses lie on, where they do."""
        losses = np.unique(self.masses[0])
        if self.pieces or losses.size < 2:
            return None
        gaps = np.diff(losses)
        gaps = gaps[gaps > 1e-12 * (1.0 + np.abs(losses).max())]
        step = float((losses[-1] - losses[0]) / np.sum(np.rint(gaps / gaps.min())))
        places = (losses - losses[-1]) / step
        # as near as floating point has it: what is off is dealt with as any loss
        near = np.abs(places - np.rint(places)) * step
        return step if near.max() <= 1e-14 * (1.0 + np.abs(losses).max()) else None


def panel_of(mu: float) -> float:
    """A panel over which a normal density tilted by up to mu is smooth."""
    return min(1 / 16, 1 / (4 * mu), 1 / (mu + 12))


def amplified(loss: Array, rate: float) -> Array:
    """log(1 - q + q e^L), for arrays, without overflow or cancellation."""
    small = np.log1p(rate * np.expm1(np.minimum(loss, 30.0)))
    large = loss + np.log(rate + (1.0 - rate) * np.exp(-np.maximum(loss, 0.0)))
    return np.asarray(np.where(loss < 30.0, small, large))


def thinned(loss: Array, rate: float) -> Array:
    """The inverse of `amplified`; -inf at and below log(1 - q)."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        small = np.log1p(np.maximum(np.expm1(np.minimum(loss, 30.0)) / rate, -1.0))
        large = loss - np.log(rate)
        large = large + np.log1p(-(1.0 - rate) * np.exp(-np.maximum(loss, 0.0)))
        return np.asarray(np.where(loss < 30.0, small, large))


def sampled(base: Law, rate: float, direction: Direction) -> Law:
    """The law after Poisson sampling (or its tight counterpart) at `rate`.

    For base laws without mass that only one of P and Q has; `Table` in
    `drdp.privacy.lattice` serves those.
    """
    losses, masses = base.masses
    risen = amplified(losses, rate)
    pieces = tuple(_amplified_piece(piece, rate) for piece in base.pieces)
    if direction is Direction.REMOVE:
        return Law(pieces, np.stack((risen, masses), axis=1))
    return Law(
        tuple(reversed_piece(piece) for piece in pieces),
        np.stack((-risen, masses + risen), axis=1),
    )


def _amplified_piece(piece: Piece, rate: float) -> Piece:
    return Piece(
        piece.start,
        piece.stop,
        piece.panel,
        piece.log_density,
        lambda x: amplified(piece.loss(x), rate),
        lambda loss: piece.position(thinned(loss, rate)),
    )


def reversed_piece(piece: Piece) -> Piece:
    """The piece of the pair (Q, P): the same outcomes, the ratio turned round."""
    return Piece(
        -piece.stop,
        -piece.start,
        piece.panel,
        lambda x: piece.log_density(-x) + piece.loss(-x),
        lambda x: -piece.loss(-x),
        lambda loss: -piece.position(-loss),
    )
