"""Folders of real runs that need no network: plan, ledger, rounds and statement."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from drdp.compression.identity import Identity
from drdp.compression.layout import Layout
from drdp.errors import DrdpError
from drdp.fedsim.config import Config, read
from drdp.fedsim.execution import Prepared, Progress, execute
from drdp.fedsim.federation import Federation
from drdp.fedsim.folder import RunFolder
from drdp.fedsim.forecast import forecast
from drdp.fedsim.protection import Protection, calibrated
from drdp.fedsim.server import Server
from drdp.fedsim.simulate import Simulation
from drdp.fedsim.summary import plan_of
from drdp.privacy.events import NOTHING, NonPrivate, atoms
from drdp.privacy.fixed_budget import FixedBudget
from drdp.privacy.ledger import Ledger
from drdp.privacy.threat import PoissonCohort
from tests.fedsim.linear import LinearTrainer

DELTA = 1e-5


class StoppedError(DrdpError):
    """Stands for a crash between two rounds."""


def config_of(
    method: str = "fedlora", epsilon: float | str = 4.0, **tables: dict[str, Any]
) -> Config:
    """Settings that read like those of a real run."""
    merged: dict[str, dict[str, Any]] = {
        "run": {"method": method, "rounds": 5},
        "data": {"clients": 40},
        "cohort": {"rate": 0.3},
        "privacy": {"epsilon": epsilon, "delta": DELTA, "clip_norm": 0.5},
        "evaluation": {"every": 2},
    }
    for name, table in tables.items():
        merged[name] = merged.get(name, {}) | table
    return read(merged)


def make_run(
    path: Path, config: Config | None = None, *, stop_after: int | None = None
) -> Path:
    """Run it, to its end or until it is stopped."""
    config = config or config_of()
    trainer = LinearTrainer()
    protection = Protection(
        PoissonCohort(config.cohort.rate), clip_norm=0.5, noise_multiplier=0.0
    )
    rounds, epsilon = int(config.run.rounds), config.privacy.epsilon
    if epsilon is not None and epsilon < float("inf"):
        protection = calibrated(protection, epsilon=epsilon, delta=DELTA, rounds=rounds)
    simulation = Simulation(
        trainer,
        Identity(trainer.num_parameters),
        protection,
        Server(),
        name=config.run.method,
    )
    people = Federation(
        trainer=trainer,
        public=None,
        layout=Layout.of_shapes([("weights", (trainer.num_parameters,))]),
        unit="client",
        population=trainer.num_clients,
        examples=320,
        save_adapter=lambda parameters, place: None,
    )
    ahead = None
    if protection.noisy:
        ahead = forecast(
            protection, num_clients=trainer.num_clients, rounds=rounds, code_length=12
        )
    folder = RunFolder(path)
    folder.begin(config)
    plan = plan_of(config, people, simulation, rounds, DELTA, None, ahead)
    folder.write_plan(plan)
    prepared = Prepared(
        simulation=simulation,
        rounds=rounds,
        delta=DELTA,
        epsilon=epsilon,
        unit="client",
        population=trainer.num_clients,
        seed=config.run.seed,
        seeded=config.run.noise == "seeded",
        evaluate_every=config.evaluation.every,
        plan=plan,
    )
    event = simulation.event(rounds)
    budget = None
    if event != NOTHING and NonPrivate() not in atoms(event):
        budget = FixedBudget(float(epsilon or 0.0), DELTA, event)

    def watch(progress: Progress) -> None:
        if stop_after is not None and progress.round >= stop_after:
            raise StoppedError("stopped on purpose")

    with Ledger.create(
        folder.ledger, budget=budget, adjacency=protection.relation
    ) as ledger:
        try:
            execute(prepared, folder, ledger, watch=watch)
        except StoppedError:
            assert stop_after is not None
    return path


def copied(run: Path, place: Path) -> Path:
    """Another copy of a run, to be damaged."""
    shutil.copytree(run, place)
    return place


def rewrite(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change every line of a run's metrics."""
    lines = []
    for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        change(record)
        lines.append(json.dumps(record) + "\n")
    (run / "metrics.jsonl").write_text("".join(lines), encoding="utf-8")
