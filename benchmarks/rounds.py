"""Claim: a private round costs little more than the local training in it.

Run ``python -m benchmarks.rounds`` in the repository root; add a model's name for
another one than `tiny`.  Times are processor time of this process, which other
work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.measure import Section, seconds, show, table
from drdp.fedsim.config import Config, changed
from drdp.fedsim.execution import Progress
from drdp.fedsim.folder import RunFolder
from drdp.fedsim.running import Run
from drdp.fedsim.trainer import Trainer, Update

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

METHODS = ("fedlora", "projection", "sketch", "pca", "dr-encoder", "fedcg", "uls")
ROUNDS = 6


class Finding(NamedTuple):
    """What a round of a method takes and sends."""

    method: str
    whole: float
    training: float
    numbers: int
    message_bytes: int


class Clocked:
    """A trainer, and the processor time that went into its clients' updates."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self.spent = 0.0

    @property
    def num_clients(self) -> int:
        """How many clients there are."""
        return self._trainer.num_clients

    @property
    def num_parameters(self) -> int:
        """Length of the flat vector."""
        return self._trainer.num_parameters

    def initial(self) -> NDArray[np.float32]:
        """The parameters that training starts from."""
        return self._trainer.initial()

    def updates(
        self, parameters: NDArray[np.float32], clients: Sequence[int], seed: int
    ) -> Iterator[Update]:
        """The same updates; the clock runs while they are made."""
        found = self._trainer.updates(parameters, clients, seed)
        while True:
            start = time.process_time()
            update = next(found, None)
            self.spent += time.process_time() - start
            if update is None:
                return
            yield update

    def evaluate(self, parameters: NDArray[np.float32]) -> Mapping[str, float]:
        """Metrics on public held-out data."""
        return self._trainer.evaluate(parameters)


def measure(model: str = "tiny", rounds: int = ROUNDS) -> list[Finding]:
    """A short run of every method; the first round, which warms up, is left out."""
    return [_run(method, model, rounds) for method in METHODS]


def _run(method: str, model: str, rounds: int) -> Finding:
    config = changed(
        Config(),
        {
            "run.method": method,
            "run.rounds": rounds,
            "model.name": model,
            "privacy.epsilon": 8.0,
            "cohort.kind": "fixed",
            "evaluation.every": rounds,
            "data.held_out": 4,
        },
    )
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(Path(place) / "run")
        run = Run.begun(folder, config)
        prepared = run.prepared(lambda text: None)
        clocked = Clocked(prepared.simulation.trainer)
        prepared = replace(
            prepared, simulation=replace(prepared.simulation, trainer=clocked)
        )
        marks: list[tuple[float, float]] = []

        def mark(progress: Progress) -> None:
            marks.append((time.process_time(), clocked.spent))

        run.executed(prepared, mark)
        plan = prepared.plan
    # Without the first round, and without the last, which ends in an evaluation.
    pairs = list(pairwise(marks[1:-1]))
    return Finding(
        method,
        median(after[0] - before[0] for before, after in pairs),
        median(after[1] - before[1] for before, after in pairs),
        plan["code_length"],
        plan["message_bytes"],
    )


def section(found: list[Finding], model: str) -> Section:
    """The findings as a table."""
    rows = (
        (
            one.method,
            seconds(one.whole),
            seconds(one.training),
            f"{100.0 * (1.0 - one.training / one.whole):.1f} %",
            f"{one.numbers:,}",
            f"{one.message_bytes:,}",
        )
        for one in found
    )
    head = ("method", "a round", "local training", "rest", "numbers", "bytes")
    text = (
        f"Model {model}, 100 clients, 5 in each round, the default local steps. `rest`"
        " is everything around local training: codec, clipping, noise, ledger, step,"
        " metrics and checkpoint. Bytes are those of one client's message.\n\n"
        f"{table(head, rows)}"
    )
    return Section("Rounds", f"python -m benchmarks.rounds {model}", text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="tiny")
    name = parser.parse_args().model
    show(section(measure(name), name))
