"""How answers to benchmarks are told: before, after, and the change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from drdp.cli.render import columns

__all__ = ["benchmark_lines"]


def benchmark_lines(benchmarks: Mapping[str, Any]) -> Iterator[str]:
    """Lines of at most 79 characters.

    Args:
        benchmarks: From `drdp.fedsim.exams.known_results`.
    """
    from drdp.fedsim.benchmark_part import TITLES, at_chance, with_error

    for name, one in benchmarks.items():
        title, count = TITLES.get(name, name), one["questions"]
        yield f"{title}, {count:,} questions, % right (standard error)"
        rows = [
            [
                group,
                with_error(mark["before"]),
                with_error(mark.get("after")),
                with_error(mark.get("change"), sign=True),
            ]
            for group, mark in one["marks"].items()
        ]
        yield from columns(["", "before", "after", "change"], rows)
        if at_chance(one):
            yield f"  Before training no better than guessing ({one['chance']:.0f} %)."
