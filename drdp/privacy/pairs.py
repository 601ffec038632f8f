"""The privacy loss of a pair of densities that a user vouches for.

Between two breaks the loss is monotone, so it is one `Piece` of a law (turned
round where it falls) or, where it is constant, one point mass.  Panels are
halved until the integrals of both densities no longer change.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple, final

import numpy as np

from drdp.errors import InvalidArgumentError
from drdp.privacy.law import Along, Array, Direction, Law, Piece, reversed_piece
from drdp.privacy.outside import DensityPair

__all__ = ["density_law", "log_moment", "revealed"]

_SEEN = 1e-13  # what quadrature can see of a mass; counted as revealed
_SUM_TO = 1e-9
_FEWEST, _MOST = 64, 1 << 16  # panels between two breaks
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(6)
_TURNS = 70
_LARGEST_ORDER = 256.0


@final
class _Stretch(NamedTuple):
    """What lies between two breaks: the panels, and how the loss goes."""

    start: float
    stop: float
    panels: int
    sign: int  # 1 where the loss rises, -1 where it falls, 0 where it is constant


@final
class _Checked(NamedTuple):
    stretches: tuple[_Stretch, ...]
    mass_p: float
    mass_q: float


def density_law(atom: DensityPair, direction: Direction) -> Law:
    """The law of a pair's privacy loss; in direction ADD that of (Q, P)."""
    found = _checked(atom)
    turned = direction is Direction.ADD
    pieces, points = [], []
    for stretch in found.stretches:
        x, log_share = _grid(stretch)
        log_p, log_q = _heights(atom, x)
        if stretch.sign == 0:
            loss = float(np.median(log_p - log_q))
            mass = math.log(_total(log_q, log_share))
            points.append((-loss, mass + loss) if turned else (loss, mass))
            continue
        piece = _piece(atom, stretch)
        pieces.append(reversed_piece(piece) if turned else piece)
    missing = found.mass_q if turned else found.mass_p
    return Law(tuple(pieces), points, _beyond(missing))


def revealed(atom: DensityPair) -> float:
    """What counts as revealing everything, in the worse direction."""
    found = _checked(atom)
    return max(_beyond(found.mass_p), _beyond(found.mass_q))


def log_moment(atom: DensityPair, order: float) -> float:
    """The larger direction's log moment of what is not revealed, rounded up.

    What halving the panels once more still changes is added on top.
    """
    if order > _LARGEST_ORDER:
        return math.inf
    found = _checked(atom)
    worst = -math.inf
    for power, mass in ((order, found.mass_p), (1.0 - order, found.mass_q)):
        # a tilt by the order is this much steeper: so much finer panels
        finer = math.ceil(math.log2(1.0 + order))
        value, closer = (
            _log_integral(atom, found.stretches, power, extra)
            for extra in (finer, finer + 1)
        )
        value = closer + 2.0 * abs(closer - value)
        worst = max(worst, value - order * math.log1p(-_beyond(mass)))
    return worst + 1e-13 * (1.0 + order + abs(worst))


def _log_integral(
    atom: DensityPair, stretches: tuple[_Stretch, ...], power: float, finer: int
) -> float:
    """log of the integral of p^a q^(1-a)."""
    logs = []
    for stretch in stretches:
        x, log_share = _grid(stretch._replace(panels=stretch.panels << finer))
        log_p, log_q = _heights(atom, x)
        heights = power * log_p + (1.0 - power) * log_q + log_share
        top = float(heights.max())
        with np.errstate(under="ignore"):
            logs.append(top + math.log(float(np.exp(heights - top).sum())))
    top = max(logs)
    return top + math.log(math.fsum(math.exp(log - top) for log in logs))


def _beyond(mass: float) -> float:
    return max(0.0, 1.0 - mass) + _SEEN


@lru_cache(maxsize=16)
def _checked(atom: DensityPair) -> _Checked:
    """The stretches of a pair, as far as its promise can be checked."""
    stretches = []
    p = q = 0.0
    for start, stop in pairwise(atom.breaks):
        panels = _FEWEST
        before = (math.nan, math.nan)
        while True:
            stretch = _Stretch(start, stop, panels, 1)
            x, log_share = _grid(stretch)
            log_p, log_q = _heights(atom, x)
            now = (_total(log_p, log_share), _total(log_q, log_share))
            if all(
                abs(a - b) <= 0.01 * _SEEN for a, b in zip(now, before, strict=True)
            ):
                break
            if panels >= _MOST:
                raise InvalidArgumentError(
                    f"the densities are not smooth between {start} and {stop}:"
                    " their integrals change with the quadrature; add every kink"
                    " and jump to breaks"
                )
            panels, before = 2 * panels, now
        p, q = p + now[0], q + now[1]
        stretches.append(stretch._replace(sign=_sign(log_p - log_q, x)))
    for name, mass in (("p", p), ("q", q)):
        if mass > 1.0 + _SUM_TO:
            raise InvalidArgumentError(
                f"log_{name} must be a density's log: it integrates to {mass!r}"
            )
    if p == 0.0 or q == 0.0:
        raise InvalidArgumentError(
            "log_p and log_q must have mass between the first and the last of breaks"
        )
    return _Checked(tuple(stretches), p, q)


def _sign(loss: Array, x: Array) -> int:
    """Whether a loss rises, falls or stays; an error where it turns round."""
    steps = np.diff(loss)
    noise = 1e-12 * (1.0 + float(np.abs(loss).max()))
    if float(np.ptp(loss)) <= noise:
        return 0
    for sign in (1, -1):
        if np.all(sign * steps >= -1e-2 * noise):
            return sign
    rising = steps > 0.0
    at = float(x[1:-1][rising[1:] != rising[:-1]][0])
    raise InvalidArgumentError(
        f"the loss log_p - log_q must be monotone between breaks, but turns round near"
        f" x={at:.6g}; add that point to breaks"
    )


def _grid(stretch: _Stretch) -> tuple[Array, Array]:
    """Quadrature nodes in order, and the logs of their weights."""
    edges = np.linspace(stretch.start, stretch.stop, stretch.panels + 1)
    half = 0.5 * np.diff(edges)[:, None]
    x = edges[:-1, None] + half * (1.0 + _NODES)
    return x.ravel(), np.log(half * _WEIGHTS).ravel()


def _heights(atom: DensityPair, x: Array) -> tuple[Array, Array]:
    found = []
    for name, function in (("log_p", atom.log_p), ("log_q", atom.log_q)):
        value = np.asarray(function(x), dtype=np.float64)
        if value.shape != x.shape or not np.isfinite(value).all():
            raise InvalidArgumentError(
                f"{name} must return a finite number for each element of an array"
                f" between {x.min():.6g} and {x.max():.6g}"
            )
        found.append(value)
    return found[0], found[1]


def _total(heights: Array, log_share: Array) -> float:
    with np.errstate(under="ignore"):
        return float(np.exp(heights + log_share).sum())


def _piece(atom: DensityPair, stretch: _Stretch) -> Piece:
    """One stretch as a piece, run through backwards where the loss falls."""
    up = float(stretch.sign)
    start, stop = sorted((up * stretch.start, up * stretch.stop))

    def loss(x: Array) -> Array:
        flat = np.ravel(up * x)
        log_p, log_q = _heights(atom, flat)
        return (log_p - log_q).reshape(np.shape(x))

    def log_density(x: Array) -> Array:
        return _heights(atom, np.ravel(up * x))[1].reshape(np.shape(x))

    panel = (stop - start) / stretch.panels
    return Piece(start, stop, panel, log_density, loss, _inverse(loss, start, stop))


def _inverse(loss: Along, start: float, stop: float) -> Along:
    """x(L) of an increasing loss: a table, then bracketed secants."""
    table_x = np.linspace(start, stop, 4097)
    table = np.maximum.accumulate(loss(table_x))

    def position(wanted: Array) -> Array:
        wanted = np.asarray(wanted, dtype=np.float64)
        x = np.where(wanted <= table[0], -np.inf, np.inf)
        inside = np.flatnonzero((wanted > table[0]) & (wanted < table[-1]))
        if inside.size == 0:
            return x
        goal = wanted[inside]
        at = np.clip(np.searchsorted(table, goal, side="right") - 1, 0, 4095)
        a, b = table_x[at], table_x[at + 1]
        f_a, f_b = table[at] - goal, table[at + 1] - goal
        for turn in range(_TURNS):
            with np.errstate(divide="ignore", invalid="ignore"):
                middle = b - f_b * (b - a) / (f_b - f_a)
            # every third step halves, so that no end of a bracket stays for ever
            odd = ~((middle > a) & (middle < b)) | (turn % 3 == 2)
            middle = np.where(odd, 0.5 * (a + b), middle)
            f = loss(middle) - goal
            low = f <= 0.0
            a, f_a = np.where(low, middle, a), np.where(low, f, f_a)
            b, f_b = np.where(low, b, middle), np.where(low, f_b, f)
            if np.all((b - a <= 1e-13 * (1.0 + np.abs(a))) | (np.abs(f) <= 1e-15)):
                break
        x[inside] = np.where(np.abs(f_a) <= np.abs(f_b), a, b)
        return x

    return position
