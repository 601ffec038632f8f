"""Lines over axes as SVG text, made for a page that is read on a phone too.

The canvas is narrow (340 units), so that its text of 14 units stays above 11 px on
a screen 320 px wide.  Lines differ by colour, dash and marker; colours are classes
that the page's style sheet gives a value in light and in dark.

>>> drawn = chart("Loss", "falls", [Line("loss", [(0, 2.0), (1, 1.0)])], "round", "")
>>> drawn.startswith("<svg "), drawn.count("<circle")
(True, 2)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import final

from drdp.fedsim.digits import about

__all__ = ["STYLES", "Line", "Tick", "chart", "swatch"]

Point = tuple[float, float]
Tick = tuple[float, str]
Place = Callable[[float, float], Point]

STYLES = 6
"""How many lines can be told apart."""

_WIDTH, _HEIGHT = 340.0, 240.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 20.0, 26.0, 46.0
_DASHES = ("", "7 4", "2 4", "10 4 2 4", "5 2", "1 3")
_CROWDED = 31  # points from which markers would hide the line
_MOST_TICKS = 5
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@final
@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart.

    Args:
        name: What it shows.
        points: (x, y), by x; where y is not finite the line is interrupted.
        style: Which colour, dash and marker, from 0.
    """

    name: str
    points: Sequence[Point]
    style: int = 0


def chart(
    title: str,
    description: str,
    lines: Sequence[Line],
    across: str,
    up: str,
    *,
    from_zero: bool = False,
    whole: bool = False,
    ticks: Sequence[Tick] = (),
) -> str:
    """The lines as one SVG element, without scripts or references.

    Args:
        title: What the picture is; read out by screen readers.
        description: What can be seen in it, in words.
        lines: What to draw; at least one finite point among them.
        across: Names the horizontal axis.
        up: Names the vertical axis.
        from_zero: Whether the vertical axis begins at 0.
        whole: Whether the horizontal axis counts something, so that no fractions
            stand on it.
        ticks: Places and texts on the horizontal axis; none for round numbers.

    Returns:
        Well-formed XML; an empty text where there is nothing to draw.
    """
    runs = [(line, _pieces(line.points)) for line in lines]
    shown = [point for _, pieces in runs for piece in pieces for point in piece]
    if not shown:
        return ""
    places = [x for x, _ in shown] + [x for x, _ in ticks]
    columns = list(ticks) or _within(min(places), max(places), whole)
    left, right = _ends(places)
    values = [y for _, y in shown] + ([0.0] if from_zero else [])
    rows = _ticks(min(values), max(values))
    low, high = _ends([y for y, _ in rows] + values)

    def at(x: float, y: float) -> Point:
        width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
        inset = 0.04 * width
        part = (x - left) / (right - left)
        return (
            _LEFT + inset + part * (width - 2 * inset),
            _HEIGHT - _BOTTOM - (y - low) / (high - low) * height,
        )

    parts = [
        (
            f'<svg class="chart" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img"'
            f' aria-label="{escape(f"{title}: {description}")}">'
        ),
        f"<title>{escape(title)}</title>",
        *_axes(columns, rows, at, across, up),
    ]
    for line, pieces in runs:
        crowded = len(line.points) >= _CROWDED
        parts += _line(line.style % STYLES, pieces, at, crowded=crowded)
    return "\n".join([*parts, "</svg>"])


def swatch(style: int) -> str:
    """A short piece of a line with its marker, for a legend."""
    style %= STYLES
    piece = [[(0.0, 0.0), (1.0, 0.0), (2.0, 0.0)]]
    drawn = _line(style, piece, lambda x, _: (2.0 + 16.0 * x, 8.0), middle=True)
    return (
        '<svg class="swatch" viewBox="0 0 36 16" aria-hidden="true">'
        f"{''.join(drawn)}</svg>"
    )


def _axes(
    columns: Sequence[Tick],
    rows: Sequence[Tick],
    place: Place,
    across: str,
    up: str,
) -> list[str]:
    floor, wall = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = []
    for y, text in rows:
        _, height = place(0.0, y)
        parts += [
            (
                f'<line class="grid" x1="{_LEFT:g}" x2="{wall:g}" y1="{height:.2f}"'
                f' y2="{height:.2f}"/>'
            ),
            (
                f'<text class="end" x="{_LEFT - 6:g}" y="{height + 4.5:.2f}">'
                f"{escape(text)}</text>"
            ),
        ]
    parts.append(
        f'<line class="axis" x1="{_LEFT:g}" x2="{wall:g}" y1="{floor:g}"'
        f' y2="{floor:g}"/>'
    )
    for x, text in columns:
        width, _ = place(x, 0.0)
        parts += [
            (
                f'<line class="axis" x1="{width:.2f}" x2="{width:.2f}" y1="{floor:g}"'
                f' y2="{floor + 4:g}"/>'
            ),
            (
                f'<text class="middle" x="{width:.2f}" y="{floor + 18:g}">'
                f"{escape(text)}</text>"
            ),
        ]
    middle = (_LEFT + wall) / 2
    return [
        *parts,
        (
            f'<text class="middle name" x="{middle:g}" y="{_HEIGHT - 7:g}">'
            f"{escape(across)}</text>"
        ),
        f'<text class="name" x="4" y="15">{escape(up)}</text>',
    ]


def _line(
    style: int,
    pieces: Sequence[Sequence[Point]],
    place: Place,
    *,
    crowded: bool = False,
    middle: bool = False,
) -> list[str]:
    dash = f' stroke-dasharray="{_DASHES[style]}"' if _DASHES[style] else ""
    parts = []
    for piece in pieces:
        spots = [place(x, y) for x, y in piece]
        if len(spots) > 1:
            path = " ".join(f"{x:.2f},{y:.2f}" for x, y in spots)
            parts.append(f'<polyline class="line s{style}" points="{path}"{dash}/>')
        if middle:
            spots = spots[1:2]
        if not crowded or len(spots) == 1:
            parts += [_marker(style, x, y) for x, y in spots]
    return parts


def _marker(style: int, x: float, y: float) -> str:
    match style:
        case 0:
            return f'<circle class="mark s{style}" cx="{x:.2f}" cy="{y:.2f}" r="3.5"/>'
        case 1:
            corners = ((-3.5, -3.5), (3.5, -3.5), (3.5, 3.5), (-3.5, 3.5))
        case 2:
            corners = ((0.0, -4.5), (4.2, 3.2), (-4.2, 3.2), (0.0, -4.5))
        case 3:
            corners = ((0.0, -4.8), (4.8, 0.0), (0.0, 4.8), (-4.8, 0.0))
        case 4:
            corners = ((0.0, 4.5), (4.2, -3.2), (-4.2, -3.2), (0.0, 4.5))
        case _:
            corners = ((-5.0, -1.5), (5.0, -1.5), (5.0, 1.5), (-5.0, 1.5))
    path = " ".join(f"{x + right:.2f},{y + down:.2f}" for right, down in corners)
    return f'<polygon class="mark s{style}" points="{path}"/>'


def _pieces(points: Sequence[Point]) -> list[list[Point]]:
    """The stretches of finite points."""
    pieces: list[list[Point]] = [[]]
    for x, y in points:
        if math.isfinite(x) and math.isfinite(y):
            pieces[-1].append((x, y))
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _ends(values: Sequence[float]) -> Point:
    """The least and the greatest, never equal."""
    low, high = min(values), max(values)
    if high > low:
        return low, high
    room = abs(low) or 1.0
    return low - 0.5 * room, high + 0.5 * room


def _ticks(low: float, high: float, least: float = 0.0) -> list[Tick]:
    """Round numbers from below `low` to above `high`, at least `least` apart.

    >>> [text for _, text in _ticks(0.0, 7.99)]
    ['0', '2', '4', '6', '8']
    """
    low, high = _ends((low, high))
    rough = max((high - low) / (_MOST_TICKS - 1), least)
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * m for m in _STEPS if size * m >= rough * (1.0 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    places = [step * k for k in range(first, last + 1)]
    digits = max(1, *(_digits(one, step) for one in places))
    return [(x, about(0.0 if abs(x) < step / 2 else x, digits)) for x in places]


def _within(low: float, high: float, whole: bool) -> list[Tick]:
    """Round numbers between `low` and `high`.

    >>> [text for _, text in _within(1.0, 3.0, whole=True)]
    ['1', '2', '3']
    >>> [text for _, text in _within(0.0, 7.99, whole=False)]
    ['0', '2', '4', '6']
    """
    slack = 1e-9 * max(high - low, abs(high))
    found = [
        (x, text)
        for x, text in _ticks(low, high, 1.0 if whole else 0.0)
        if low - slack <= x <= high + slack and not (whole and x % 1.0)
    ]
    return found or [(low, about(low))]


def _digits(value: float, step: float) -> int:
    """How many digits tell `value` from its neighbours."""
    if abs(value) < step / 2:
        return 1
    return 2 + max(0, math.floor(math.log10(abs(value))) - math.floor(math.log10(step)))
