"""How time is taken, and how findings are printed."""

from __future__ import annotations

import argparse
import gc
import math
import multiprocessing
import os
import platform
import re
import resource
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import drdp

PEERS = (
    "dp-accounting",
    "prv-accountant",
    "opacus",
    "torch",
    "riskcal",
    "jax-privacy",
    "autodp",
)
_MEMORY = 8 << 30
_UNITS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6))
FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


class Timed(NamedTuple):
    """The median time of a call and its value, or why there is none."""

    seconds: float
    value: float
    note: str = ""

    @property
    def answered(self) -> bool:
        """Whether there is a finite value."""
        return not self.note and math.isfinite(self.value)


class Section(NamedTuple):
    """One benchmark's findings, in Markdown."""

    title: str
    command: str
    text: str


def timed(call: Callable[[], Any], budget: float = 0.3, most: int = 201) -> float:
    """The median seconds of a call, repeated for `budget` seconds."""
    gc.collect()
    taken: list[float] = []
    stop = time.perf_counter() + budget
    while not taken or (len(taken) < most and time.perf_counter() < stop):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def apart(call: Callable[[], float], limit: float) -> Timed:
    """Time a peer's call in a process of its own that `limit` seconds can end.

    What the peer has loaded here already it has loaded there.
    """
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe(duplex=False)
    child = fork.Process(target=_in_child, args=(theirs, call), daemon=True)
    child.start()
    theirs.close()
    try:
        found = ours.recv() if ours.poll(limit) else None
    except EOFError:
        return Timed(math.nan, math.nan, "died")
    finally:
        child.kill()
        child.join()
    if found is None:
        return Timed(limit, math.nan, f"> {limit:.0f} s")
    return Timed(*found)


def _in_child(pipe: Connection, call: Callable[[], float]) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, most))
    warnings.simplefilter("ignore")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    try:
        start = time.perf_counter()
        value = float(call())
        first = time.perf_counter() - start
        again = [first]
        while sum(again) < 0.6 and len(again) < 9:
            start = time.perf_counter()
            call()
            again.append(time.perf_counter() - start)
    except FAILURES as error:
        note = "out of memory" if isinstance(error, MemoryError) else "fails"
        pipe.send((math.nan, math.nan, f"{note} ({type(error).__name__})"))
        return
    pipe.send((statistics.median(again), value, ""))


def geometric_mean(values: Iterable[float]) -> float:
    """exp of the mean of log."""
    return math.exp(statistics.fmean(math.log(value) for value in values))


def seconds(value: float) -> str:
    """A duration with its unit, to three digits."""
    if not math.isfinite(value):
        return "-"
    unit, size = next(
        ((unit, size) for unit, size in _UNITS if value >= size), _UNITS[-1]
    )
    return f"{value / size:.3g} {unit}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its columns padded to be read as plain text too."""
    lines = [list(head), *[list(row) for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def machine() -> str:
    """The processor and the versions of what was measured."""
    described = re.findall(
        r"^model name\s*: (.+)$", _read("/proc/cpuinfo"), flags=re.MULTILINE
    )
    model = described[0] if described else platform.processor() or "unknown"
    lines = [
        f"- processor: {model}, {multiprocessing.cpu_count()} cores; one is used",
        f"- Python {platform.python_version()}, {platform.system()}",
        f"- drdp {drdp.__version__}",
    ]
    for group in (("numpy", "scipy", "numba"), PEERS):
        found = [f"{name} {_version(name)}" for name in group]
        lines.append("- " + ", ".join(found))
    return "\n".join(lines)


def _read(path: str) -> str:
    file = Path(path)
    return file.read_text(encoding="utf-8") if file.exists() else ""


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed)"


def is_quick(doc: str | None) -> bool:
    """Whether the command line asks for a short run."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a short, rough run")
    return bool(parser.parse_args().quick)


def show(section: Section) -> None:
    """Print a benchmark's findings and where they were made."""
    print(f"# {section.title}\n\n{section.text}\n\n{machine()}")
