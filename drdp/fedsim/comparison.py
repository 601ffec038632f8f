"""Several methods at several budgets on one configuration, run after run.

Each run has a folder of its own below the comparison's; a run that is finished
is read, one that was interrupted goes on, and one that is missing is made.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

from drdp.errors import InvalidArgumentError, RunFolderError
from drdp.fedsim.config import METHODS, Config, changed
from drdp.fedsim.execution import Progress
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
    """

    task: Task
    before: dict[str, float]
    after: dict[str, float]
    epsilon: float
    numbers: int
    message_bytes: int
    folder: Path


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
        if not (folder.path / "statement.json").exists():
            with folder.locked():
                tell(f"run {task.name}")
                if folder.started:
                    run = Run.resumed(folder)
                else:
                    run = Run.begun(folder, changed(config, task.settings))
                prepared = run.prepared(tell)
                run.executed(prepared, partial(watch, task))
        yield finished(task, folder)


def finished(task: Task, folder: RunFolder) -> Finished:
    """Read a run that is done.

    Raises:
        RunFolderError: If it is not done, or was damaged.
    """
    plan, records = folder.plan(), folder.records()
    if plan is None or not records:
        raise RunFolderError(f"{folder.path} holds no finished run")
    try:
        statement = json.loads(
            (folder.path / "statement.json").read_text(encoding="utf-8")
        )
        upper = statement["accounting"]["epsilon"]["upper"]
    except (OSError, ValueError, KeyError) as error:
        raise RunFolderError(f"{folder.path} holds no finished run: {error}") from None
    measured = [folder.measured(record) for record in records]
    measured = [metrics for metrics in measured if metrics]
    if not measured:
        raise RunFolderError(f"{folder.metrics} holds no evaluation")
    return Finished(
        task,
        measured[0],
        measured[-1],
        math.inf if upper == "inf" else float(upper),
        int(plan["code_length"]) if plan["rounds"] else 0,
        int(plan["message_bytes"]) if plan["rounds"] else 0,
        folder.path,
    )
