"""The part of a report that tells how benchmarks were answered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from drdp.fedsim.digits import about
from drdp.fedsim.markup import paragraph, section, table

__all__ = ["TITLES", "at_chance", "benchmark_part", "compared_part", "with_error"]

TITLES = {"mmlu": "MMLU", "ceval": "C-Eval", "sst2": "SST-2"}
"""Of benchmarks, for people."""

_SURE = 2.0  # standard errors
_ERRORS = (
    "Percent answered rightly: the answer is the likeliest of the options. In brackets"
    " the standard error over the choice of questions; that of a change is over pairs,"
    " the same question before and after. It does not cover another seed of the"
    " training."
)


def benchmark_part(benchmarks: dict[str, Any]) -> str:
    """A table for each benchmark; nothing where none was asked.

    Args:
        benchmarks: From `drdp.fedsim.exams.known_results`.
    """
    if not benchmarks:
        return ""
    parts = [paragraph(_ERRORS, "note")]
    for name, one in benchmarks.items():
        parts.append(_table(TITLES.get(name, name), one))
        if at_chance(one):
            text = (
                f"Before training the model is not told from guessing"
                f" ({about(one['chance'])} %): these figures say little about training."
            )
            parts.append(paragraph(text))
    return section("benchmarks", "Benchmarks", parts)


def compared_part(runs: Sequence[dict[str, Any]]) -> str:
    """A table for each benchmark, one row a run; nothing where none was asked.

    Args:
        runs: From `drdp.fedsim.comparison_page.comparison_findings`, finished.
    """
    exams = list(dict.fromkeys(name for run in runs for name in run["benchmarks"]))
    if not exams:
        return ""
    parts = [paragraph(_ERRORS, "note")]
    for name in exams:
        mine = [run for run in runs if name in run["benchmarks"]]
        first = mine[0]["benchmarks"][name]
        groups = list(first["marks"])
        rows = []
        for run in mine:
            marks = run["benchmarks"][name]["marks"]
            cells = [with_error(marks[group].get("after")) for group in groups]
            change = with_error(marks["average"].get("change"), sign=True)
            rows.append([run["folder"], *cells, change])
        caption = (
            f"{TITLES.get(name, name)}, percent right after training,"
            f" {first['questions']:,} questions; chance is {about(first['chance'])}"
        )
        header = ("run", *groups, "change of the average")
        columns = range(1, len(header))
        parts.append(table(caption, header, rows, numbers=columns))
        if all(at_chance(run["benchmarks"][name]) for run in mine):
            parts.append(
                paragraph(
                    "Before training the model is not told from guessing: these"
                    " figures cannot tell methods apart."
                )
            )
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
    """Whether the average before training could come from guessing."""
    value, error = one["marks"]["average"]["before"]
    chance, count = float(one["chance"]), int(one["questions"])
    # All answers alike have no spread of their own, but guesses have.
    guessed = math.sqrt(chance * (100.0 - chance) / count)
    return bool(abs(value - chance) <= _SURE * max(float(error), guessed))


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
