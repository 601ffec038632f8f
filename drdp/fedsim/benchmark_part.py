"""The part of a report that tells how benchmarks were answered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from drdp.fedsim.digits import about
from drdp.fedsim.markup import paragraph, section, table

__all__ = ["TITLES", "at_chance", "benchmark_part", "with_error"]

TITLES = {"mmlu": "MMLU", "ceval": "C-Eval", "sst2": "SST-2"}
"""Of benchmarks, for people."""

_SURE = 2.0  # standard errors


def benchmark_part(benchmarks: dict[str, Any]) -> str:
    """A table for each benchmark; nothing where none was asked.

    Args:
        benchmarks: From `drdp.fedsim.exams.known_results`.
    """
    if not benchmarks:
        return ""
    parts = [
        paragraph(
            "Percent answered rightly: the answer is the likeliest of the options. In"
            " brackets the standard error over the choice of questions; that of the"
            " change is over pairs, the same question before and after. It does not"
            " cover another seed of the training.",
            "note",
        )
    ]
    for name, one in benchmarks.items():
        parts.append(_table(TITLES.get(name, name), one))
        if at_chance(one):
            text = (
                f"Before training the model is not told from guessing"
                f" ({about(one['chance'])} %): these figures say little about training."
            )
            parts.append(paragraph(text))
    return section("benchmarks", "Benchmarks", parts)


def with_error(value: Sequence[float] | None, *, sign: bool = False) -> str:
    """A value and its standard error, one digit behind the point.

    >>> with_error([25.0, 4.331]), with_error([1.0, 0.5], sign=True)
    ('25.0 (4.3)', '+1.0 (0.5)')
    """
    if value is None:
        return ""
    told = f"{value[0]:+.1f}" if sign else f"{value[0]:.1f}"
    return told if math.isinf(value[1]) else f"{told} ({value[1]:.1f})"


def at_chance(one: dict[str, Any]) -> bool:
    """Whether the average before training is that of guessing, within its error."""
    value, error = one["marks"]["average"]["before"]
    return abs(value - float(one["chance"])) <= _SURE * float(error)


def _table(title: str, one: dict[str, Any]) -> str:
    rows = [
        [
            group,
            f"{mark['questions']:,}",
            with_error(mark["before"]),
            with_error(mark.get("after")),
            with_error(mark.get("change"), sign=True),
        ]
        for group, mark in one["marks"].items()
    ]
    header = ("", "questions", "before", "after", "change")
    caption = f"{title}, percent right; chance is {about(one['chance'])}"
    return table(caption, header, rows, numbers=(1, 2, 3, 4))
