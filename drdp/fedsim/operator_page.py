"""The part of a report that only the operator may see, under its warning."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from drdp.fedsim.digits import about
from drdp.fedsim.drawing import Line
from drdp.fedsim.markup import Figures, banner, paragraph, section, table

__all__ = ["operator_part"]

_DRAWN = {
    "signal_to_noise": "Signal-to-noise ratio of the released sum",
    "kept": "Reconstruction: cosine of mean update and decoded code",
    "clients": "Clients that took part",
    "loss": "Mean training loss",
    "clipped": "Share of contributions that were clipped",
    "code_norm": "Median norm of a code before clipping",
    "seconds": "Seconds a round took",
}


def operator_part(rows: Sequence[dict[str, Any]], figures: Figures) -> str:
    """Everything that is marked private, as figures and one table.

    Args:
        rows: One a round: its number and what was measured.
        figures: Numbers them.
    """
    warning = banner(
        "Private: not covered by the guarantee.",
        "These values were computed from clients' data without noise. Whoever sees"
        " them learns more than the statement allows.",
        alarm=True,
    )
    if not rows:
        parts = [warning, paragraph("Nothing private was recorded.")]
        return section("private", "For the operator alone", parts)
    names = list(dict.fromkeys(name for row in rows for name in row if name != "round"))
    header = ("round", *(name.replace("_", " ") for name in names))
    cells = [
        [str(row["round"]), *(_shown(row.get(name)) for name in names)] for row in rows
    ]
    everything = table(
        "Everything that is marked private, by round",
        header,
        cells,
        numbers=range(len(header)),
    )
    drawn = []
    for style, (name, caption) in enumerate(_DRAWN.items()):
        points = [
            (row["round"], float(row[name]))
            for row in rows
            if row.get(name) is not None and math.isfinite(row[name])
        ]
        if points:
            numbers = table(
                caption,
                ("round", name.replace("_", " ")),
                [[str(r), about(value)] for r, value in points],
                numbers=(0, 1),
            )
            drawn.append(
                figures.figure(
                    caption,
                    f"from {about(points[0][1])} to {about(points[-1][1])}",
                    [Line(caption, points, style)],
                    "round",
                    name.replace("_", " "),
                    numbers,
                    from_zero=True,
                    whole=True,
                )
            )
    parts = [warning, Figures.beside(drawn), everything]
    return section("private", "For the operator alone", parts)


def _shown(value: float | None) -> str:
    return "" if value is None else about(value)
