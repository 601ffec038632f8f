"""Several methods at several budgets on one configuration, run after run.

Each run has a folder of its own below the comparison's; a run that is finished
is read, one that was interrupted goes on, and one that is missing is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, final

from drdp.errors import InvalidArgumentError, RunFolderError
from drdp.fedsim.config import METHODS, Config, changed
from drdp.fedsim.exams import metric
from drdp.fedsim.execution import Progress
from drdp.fedsim.federation import settled
from drdp.fedsim.folder import RunFolder
from drdp.fedsim.running import Run

__all__ = ["Finished", "Task", "compared", "finished", "tasks"]

_BUDGETLESS = ("base", "cent", "public")
"""Methods that no budget applies to."""

Tell = Callable[[str], None]


@final
@dataclass(frozen=True, slots=True)
class Task:
    """One run of a comparison.

    Args:
        method: Its method.
        epsilon: Its budget; infinite for no noise.
        seed: Of data, model and local training.
    """

    method: str
    epsilon: float
    seed: int

    @property
    def name(self) -> str:
        """The name of its folder."""
        if self.method in _BUDGETLESS:
            return f"{self.method}-seed{self.seed}"
        return f"{self.method}-epsilon{self.epsilon:g}-seed{self.seed}"

    @property
    def settings(self) -> dict[str, Any]:
        """What it sets beyond the configuration that all share."""
        return {
            "run.method": self.method,
            "run.seed": self.seed,
            "privacy.epsilon": self.epsilon,
        }


@final
@dataclass(frozen=True, slots=True)
class Finished:
    """What a run came to.

    Args:
        task: Which one.
        before: Metrics before training.
        after: Metrics after it.
        epsilon: The certified epsilon of the whole run; infinite without any.
        numbers: How many numbers a client sends in a round.
        message_bytes: How many bytes they are.
        folder: Where everything else is.
        delta: Of its guarantee.
        setup_numbers: How many numbers a client sends once before the first round.
        setup_bytes: How many bytes they are.
        benchmarks: Marks by benchmark; see `drdp.fedsim.exams.known_results`.
    """

    task: Task
    before: dict[str, float]
    after: dict[str, float]
    epsilon: float
    numbers: int
    message_bytes: int
    folder: Path
    delta: float = math.nan
    setup_numbers: int = 0
    setup_bytes: int = 0
    benchmarks: dict[str, Any] = field(default_factory=dict)

    @property
    def errors(self) -> dict[str, float]:
        """Standard errors of the metrics after training that have one."""
        return {
            metric(exam, group): mark["after"][1]
            for exam, one in self.benchmarks.items()
            for group, mark in one["marks"].items()
        }


def tasks(
    methods: Sequence[str], epsilons: Sequence[float], seeds: Sequence[int]
) -> list[Task]:
    """Every combination once; methods without a budget once per seed.

    Raises:
        InvalidArgumentError: If a method is unknown.
    """
    for method in methods:
        if method not in METHODS:
            raise InvalidArgumentError(
                f"methods must be among {', '.join(METHODS)}, got {method!r}"
            )
    found = [
        Task(method, math.inf if method in _BUDGETLESS else epsilon, seed)
        for seed in seeds
        for method in methods
        for epsilon in epsilons
    ]
    return list(dict.fromkeys(found))


def compared(
    config: Config,
    wanted: Sequence[Task],
    out: Path,
    *,
    tell: Tell = lambda text: None,
    watch: Callable[[Task, Progress], None] = lambda task, progress: None,
) -> Iterator[Finished]:
    """Run what is missing, and give out every run as it is finished.

    Args:
        config: What all runs share.
        wanted: The runs.
        out: The folder of all of them.
        tell: Is told what takes long.
        watch: Told after every round.

    Raises:
        RunFolderError: If a folder cannot be used.
    """
    for task in wanted:
        folder = RunFolder(out / task.name)
        settings = settled(changed(_shared(config, task), task.settings))
        with folder.locked():
            if folder.started and folder.config() != settings:
                raise RunFolderError(
                    f"{folder.path} holds a run with other settings than these; choose"
                    " another folder with --out, or delete that one"
                )
            if folder.finished:
                folder.erase_key()
            else:
                tell(f"run {task.name}")
                if folder.started:
                    run = Run.resumed(folder)
                else:
                    run = Run.begun(folder, settings)
                prepared = run.prepared(tell)
                run.executed(prepared, partial(watch, task))
        yield finished(task, folder)


def _shared(config: Config, task: Task) -> Config:
    """What a run takes over: an adaptive clip norm only where anything is clipped."""
    if task.method in _BUDGETLESS and config.privacy.clip_norm == "adaptive":
        return changed(config, {"privacy.clip_norm": "public"})
    return config


def finished(task: Task, folder: RunFolder) -> Finished:
    """Read a run that is done.

    Raises:
        RunFolderError: If it is not done, or was damaged.
    """
    found = folder.result()
    plan = found["plan"]
    try:
        rounds, code = plan["rounds"], (plan["code_length"], plan["message_bytes"])
        setup = plan.get("setup_numbers", 0), plan.get("setup_bytes", 0)
        upper = float(found["statement"]["accounting"]["epsilon"]["upper"])
        delta = float(plan["delta"])
    except (KeyError, TypeError, ValueError) as error:
        raise RunFolderError(f"{folder.path} is damaged: {error!r:.80}") from None
    numbers, size = code if rounds else (0, 0)
    return Finished(
        task,
        found["before"],
        found["after"],
        upper,
        numbers,
        size,
        folder.path,
        delta,
        *setup,
        found["benchmarks"],
    )
