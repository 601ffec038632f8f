"""Claim: Flower's simulation carries a run of drdp for a fraction of a second a round.

Run ``python -m benchmarks.flower_engine`` in the repository root.  The rounds are
those of a model so small that its training costs next to nothing; the first round
is told apart, because the nodes' processes start in it.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.measure import Section, is_quick, seconds, show, table
from drdp.fedsim.config import Config, changed
from drdp.fedsim.folder import RunFolder
from drdp.fedsim.running import Run

SETTINGS = {
    "run.method": "projection",
    "run.noise": "seeded",
    "model.name": "tiny",
    "data.max_length": 48,
    "data.public": 24,
    "data.held_out": 8,
    "cohort.kind": "fixed",
    "cohort.rate": 0.05,
    "local.steps": 1,
    "privacy.noise_multiplier": 1.0,
    "evaluation.every": 1000,
}
SECURE = {
    "privacy.placement": "distributed",
    "privacy.view": "sum",
    "privacy.survivors": 4,
    "privacy.mechanism": "skellam",
}


class Finding(NamedTuple):
    """An engine, its first round and the later ones, in seconds."""

    what: str
    first: float
    later: float


def measured(config: Config) -> tuple[float, float]:
    """Seconds of the first round, start of the engine included, and of the others."""
    taken: list[float] = []
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(Path(place) / "run")
        with folder.locked():
            run = Run.begun(folder, config)
            prepared = run.prepared(lambda text: None)
            clock = time.perf_counter()

            def watch(_: object) -> None:
                nonlocal clock
                now = time.perf_counter()
                taken.append(now - clock)
                clock = now

            run.executed(prepared, watch)
    # what is told before the first round is the start of the engine
    return taken[0] + taken[1], median(taken[2:-1])


def measure(*, quick: bool = False) -> list[Finding]:
    """Five of 100 clients a round, on both engines, with and without secure sums."""
    rounds = 4 if quick else 12
    found = []
    for name, more in (("", {}), (", secure sums", SECURE)):
        for engine in ("in-process", "flower"):
            settings = SETTINGS | more | {"run.engine": engine, "run.rounds": rounds}
            found.append(Finding(engine + name, *measured(changed(Config(), settings))))
    return found


def section(found: list[Finding]) -> Section:
    """The findings as a table."""
    rows = ((f.what, seconds(f.first), seconds(f.later)) for f in found)
    text = (
        "5 of 100 clients a round, the model `tiny`, one step each. In the"
        " first round processes start and load the model.\n\n"
        f"{table(('engine', 'first round', 'a later round'), rows)}"
    )
    return Section("Engines", "python -m benchmarks.flower_engine", text)


if __name__ == "__main__":
    show(section(measure(quick=is_quick(__doc__))))
