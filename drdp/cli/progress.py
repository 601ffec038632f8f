"""A progress bar on stderr, where somebody watches it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import click

__all__ = ["watched"]

T = TypeVar("T")


def watched(jobs: Iterable[T], length: int | None = None) -> Iterator[T]:
    """The jobs, one after the other, with a bar on a terminal's stderr."""
    if not sys.stderr.isatty():
        yield from jobs
        return
    if length is None and isinstance(jobs, Sequence):
        length = len(jobs)
    with click.progressbar(
        jobs, label="computing", file=sys.stderr, length=length
    ) as bar:
        yield from bar
