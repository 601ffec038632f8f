"""Claim: the first answer of a fresh process feels instant.

Run ``python -m benchmarks.start_up`` in the repository root.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from typing import NamedTuple

from benchmarks.measure import Section, is_quick, seconds, show, table
from benchmarks.peers import EPSILON

_COMPILE = (
    "import numpy as np; from drdp.privacy.kernel import compiled; k = compiled();"
    " columns = [np.array([v]) for v in (.01, 1e3, 1., 1., -11.)];"
    " ends = [np.zeros(1) for _ in range(3)];"
    " [k.many(question, *columns, 1e-6, 1e6, *ends) for question in (0, 1, 2)]"
)
_CALIBRATE = "calibrate --epsilon 2 --steps 20 --rate 0.05"
_COLD_PEERS = (
    "dp-accounting PLD",
    "prv-accountant 0.1",
    "Opacus PRV",
    "dp-accounting RDP",
    "Opacus RDP",
)


class Finding(NamedTuple):
    """A whole process: what it was, its processor seconds, and its failure."""

    name: str
    seconds: float
    runs: int
    note: str = ""


def spent(arguments: list[str], **environment: str) -> tuple[float, int]:
    """Processor seconds of a whole Python process, and its exit status."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used, done.returncode


def repeated(name: str, arguments: list[str], runs: int, **env: str) -> Finding:
    """The median of several runs of one command."""
    found = [spent(arguments, **env) for _ in range(runs)]
    failed = {code for _, code in found} - {0}
    note = f"exit {failed.pop()}" if failed else ""
    return Finding(name, statistics.median(used for used, _ in found), runs, note)


def measure(*, quick: bool = False) -> list[Finding]:
    """Time whole processes, drdp's and the peers'."""
    runs = 3 if quick else 7
    found = [
        repeated("`python -c pass`", ["-c", "pass"], runs),
        repeated("`import drdp`", ["-c", "import drdp"], runs),
        repeated("`drdp --help`", ["-m", "drdp", "--help"], runs),
        repeated(f"`drdp {_CALIBRATE}`", ["-m", "drdp", *_CALIBRATE.split()], runs),
        repeated("`drdp table`", ["-m", "drdp", "table"], runs),
    ]
    with tempfile.TemporaryDirectory() as cache:
        for name, times in (("first compilation", 1), ("compiled, from cache", runs)):
            label = f"kernels: {name}"
            command = ["-c", _COMPILE]
            found.append(repeated(label, command, times, XDG_CACHE_HOME=cache))
    for name in _COLD_PEERS:
        if find_spec(EPSILON[name][0]):
            command = ["-m", "benchmarks.peers", name]
            found.append(repeated(f"{name}: epsilon of S1", command, min(runs, 3)))
    return found


def section(found: list[Finding]) -> Section:
    """The findings as a table."""
    rows = ((f.name, f.note or seconds(f.seconds), str(f.runs)) for f in found)
    text = (
        "Processor seconds (user and system) of whole processes, median; the modules'"
        " bytecode is cached. The peers answer one question, the epsilon of S1;"
        " `drdp calibrate` searches for a noise multiplier and compares"
        f" accountants.\n\n{table(('process', 'processor time', 'runs'), rows)}"
    )
    return Section("From a cold start", "python -m benchmarks.start_up", text)


if __name__ == "__main__":
    show(section(measure(quick=is_quick(__doc__))))
