"""Claim: a private round costs little more than the model's own passes in it.

Run ``python -m benchmarks.rounds smollm2-135m --write docs/rounds.md`` in the
repository root; without a model's name it takes `tiny`, whose passes are so short
that the share of everything else says little.  Times are processor time of this
process, on one thread of torch, which other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.measure import Section, machine, seconds, show, table
from drdp.fedsim.config import Config, changed
from drdp.fedsim.execution import Progress
from drdp.fedsim.folder import RunFolder
from drdp.fedsim.running import Run
from drdp.fedsim.trainer import Trainer, Update

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

METHODS = (
    "cent",
    "fedlora",
    "projection",
    "sketch",
    "pca",
    "dr-encoder",
    "fedcg",
    "uls",
    "els",
    "ew-tune",
)
ROUNDS = 2
GOAL = 5.0
"""Percent of a round that may go elsewhere than into the model's passes."""


@dataclass
class Spent:
    """Processor seconds so far."""

    passes: float = 0.0
    training: float = 0.0
    evaluation: float = 0.0


class Finding(NamedTuple):
    """What a round of a method takes, without evaluation, and sends."""

    method: str
    whole: float
    training: float
    passes: float
    numbers: int
    message_bytes: int

    @property
    def outside(self) -> float:
        """Percent of a round outside the model's forward and backward passes."""
        return 100.0 * (1.0 - self.passes / self.whole)


class Clocked:
    """A trainer, and the processor time that went into its clients' updates."""

    def __init__(self, trainer: Trainer, spent: Spent) -> None:
        self._trainer, self._spent = trainer, spent

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
            self._spent.training += time.process_time() - start
            if update is None:
                return
            yield update

    def evaluate(self, parameters: NDArray[np.float32]) -> Mapping[str, float]:
        """Metrics on public held-out data."""
        start = time.process_time()
        found = self._trainer.evaluate(parameters)
        self._spent.evaluation += time.process_time() - start
        return found


@contextlib.contextmanager
def clocked_passes(spent: Spent) -> Iterator[None]:
    """Add up what the model's forward and backward passes take."""
    from drdp.fedsim.lora.packed import PackedLlama

    gradients = PackedLlama.gradients

    def timed(self: PackedLlama, *arguments: Any) -> Any:
        start = time.process_time()
        try:
            return gradients(self, *arguments)
        finally:
            spent.passes += time.process_time() - start

    PackedLlama.gradients = timed  # type: ignore[method-assign]
    try:
        yield
    finally:
        PackedLlama.gradients = gradients  # type: ignore[method-assign]


def measure(
    model: str = "tiny",
    rounds: int = ROUNDS,
    methods: Sequence[str] = METHODS,
    steps: int = 4,
) -> list[Finding]:
    """A short run of every method; the first round, which warms up, is left out."""
    found = []
    for method in methods:
        found.append(_run(method, model, rounds, steps))
        print(found[-1], file=sys.stderr)
    return found


def _run(method: str, model: str, rounds: int, steps: int) -> Finding:
    config = changed(
        Config(),
        {
            "run.method": method,
            "run.rounds": rounds,
            "run.noise": "seeded",  # so that methods draw the same clients
            "model.name": model,
            "privacy.epsilon": 8.0,
            "cohort.kind": "fixed",
            "local.steps": steps,
            "evaluation.every": rounds,
            "data.held_out": 4,
            # What happens before the first round is not measured here.
            "code.fit_samples": 8 if method == "pca" else 2,
            "code.fit_steps": 5,
        },
    )
    spent = Spent()
    marks: list[tuple[float, Spent]] = []

    def mark(progress: Progress) -> None:
        marks.append((time.process_time(), replace(spent)))

    with tempfile.TemporaryDirectory() as place, clocked_passes(spent):
        folder = RunFolder(Path(place) / "run")
        run = Run.begun(folder, config)
        prepared = run.prepared(lambda text: None)
        clocked = Clocked(prepared.simulation.trainer, spent)
        prepared = replace(
            prepared, simulation=replace(prepared.simulation, trainer=clocked)
        )
        run.executed(prepared, mark)
        plan = prepared.plan
    pairs = list(pairwise(marks[1:]))
    return Finding(
        method,
        median(
            now - then - (after.evaluation - before.evaluation)
            for (then, before), (now, after) in pairs
        ),
        median(after.training - before.training for (_, before), (_, after) in pairs),
        median(after.passes - before.passes for (_, before), (_, after) in pairs),
        plan["code_length"],
        plan["message_bytes"],
    )


def section(found: list[Finding], asked: argparse.Namespace) -> Section:
    """The findings as a table."""
    rows = (
        (
            one.method,
            seconds(one.whole),
            seconds(one.passes),
            seconds(one.training - one.passes),
            seconds(one.whole - one.training),
            f"{one.outside:.1f} %",
            f"{one.numbers:,}",
            f"{one.message_bytes:,}",
        )
        for one in found
    )
    head = (
        "method",
        "a round",
        "passes",
        "local steps",
        "the rest",
        "outside",
        "numbers",
        "bytes",
    )
    over = [one.method for one in found if one.outside > GOAL]
    verdict = f"Over the goal of {GOAL:g} %: {', '.join(over) or 'none'}."
    text = (
        f"Model {asked.model}, 100 clients, 5 in each round, {asked.steps} local"
        f" step{'s' * (asked.steps > 1)} of 4 examples (the default is 4 steps, which"
        f" makes passes and local steps longer and nothing else); the"
        f" median of {asked.rounds - 1} of {asked.rounds} rounds, the first left"
        " out, and evaluation too. `passes` are"
        " the model's forward and backward passes; `local steps` what else a client"
        " does: optimiser, batches, reading the update; `the rest` codec, clipping,"
        " noise, ledger, server step, metrics and checkpoint. `outside` is the share of"
        " a round that is not passes. (Of ew-tune and els a cohort is 5 % of the"
        " examples, of cent the one client.) Numbers and"
        f" bytes are those of one message. {verdict}\n\n{table(head, rows)}"
    )
    command = f"python -m benchmarks.rounds {asked.model}"
    chosen = f"--methods {','.join(one.method for one in found)}"
    return Section("Rounds", f"{command} --steps {asked.steps} {chosen}", text)


def page(found: Section) -> str:
    """The findings as a page of the documentation."""
    return (
        "# What a round takes\n\n"
        "Findings of one run of the command below. Times are processor time of one"
        f" process.\n\n{machine()}\n\n"
        f"```sh\n{found.command} \\\n    --write docs/rounds.md\n```\n\n"
        f"{found.text}\n"
    )


def main() -> None:
    """Measure as the command line asks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="tiny")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--write", type=Path, metavar="FILE")
    asked = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    methods = asked.methods.split(",")
    asked.rounds = max(2, asked.rounds)
    found = section(measure(asked.model, asked.rounds, methods, asked.steps), asked)
    show(found)
    if asked.write is not None:
        asked.write.write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
