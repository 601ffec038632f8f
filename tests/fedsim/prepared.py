"""A prepared run of the linear trainer, and the same run as its own process.

``python -m tests.fedsim.prepared FOLDER`` begins or resumes it; with a seed as
well, processes are killed at random moments until one comes to the end; with
``steered`` after that, its clip norm is adaptive.
"""

import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from drdp.compression.identity import Identity
from drdp.fedsim.cohort import Cohorts
from drdp.fedsim.config import Config
from drdp.fedsim.execution import Outcome, Prepared, Progress, execute
from drdp.fedsim.folder import RunFolder
from drdp.fedsim.protection import Protection
from drdp.fedsim.server import Server
from drdp.fedsim.simulate import Simulation
from drdp.fedsim.steering import Steering
from drdp.privacy.fixed_budget import FixedBudget
from drdp.privacy.ledger import Ledger
from drdp.privacy.threat import PoissonCohort
from tests.fedsim.linear import LinearTrainer

ROUNDS, DELTA = 8, 1e-5
STEERING = Steering(quantile=0.7, learning_rate=0.5, count_noise=0.25)
KEY = bytes(range(32))


def prepared(
    cohort: Cohorts | None = None,
    rounds: int = ROUNDS,
    steering: Steering | None = None,
    **more: object,
) -> Prepared:
    """The run; Adam on the server, so that there is memory to keep."""
    trainer = LinearTrainer()
    simulation = Simulation(
        trainer,
        Identity(trainer.num_parameters),
        Protection(
            cohort or PoissonCohort(0.3),
            clip_norm=0.5,
            noise_multiplier=2.0,
            steering=steering,
        ),
        Server("adam", 0.1),
    )

    def save(parameters: np.ndarray, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        np.save(folder / "adapter.npy", parameters)

    values: dict[str, object] = {
        "simulation": simulation,
        "rounds": rounds,
        "delta": DELTA,
        "epsilon": 50.0,
        "unit": "client",
        "population": 40,
        "evaluate_every": 3,
        "plan": {"rounds": rounds},
        "save_adapter": save,
    }
    return Prepared(**(values | more))


def begun(path: Path, key: bytes = KEY) -> RunFolder:
    """A folder with a run in it, whose key is known."""
    folder = RunFolder(path)
    if not folder.started:
        folder.begin(Config())
        folder.key.write_bytes(key)
        folder.key.chmod(0o600)
    return folder


def book(folder: RunFolder, run: Prepared) -> Ledger:
    """The run's ledger; its budget is what the run costs."""
    plan = run.simulation.event(run.rounds)
    return Ledger.create(
        folder.ledger,
        budget=FixedBudget(run.epsilon, run.delta, plan),
        adjacency=run.simulation.protection.relation,
        exist_ok=True,
    )


def executed(
    folder: RunFolder,
    run: Prepared,
    watch: Callable[[Progress], None] = lambda progress: None,
) -> Outcome:
    """Run what is left of it."""
    with folder.locked(), book(folder, run) as ledger:
        return execute(run, folder, ledger, watch=watch)


def killed(where: Path, run: Callable[[], Prepared], seed: int) -> int:
    """Run it in child processes, killing each after a while; how many were killed."""
    rng, kills = random.Random(seed), 0
    begun(where)  # whose key is known, so that the result is
    while True:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                executed(RunFolder(where), run())
                status = 0
            except Exception:  # noqa: BLE001  # told, and then the process ends
                traceback.print_exc()
            finally:
                os._exit(status)
        time.sleep(rng.expovariate(1.0) * 0.05 * 1.1**kills)
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        if not os.WIFSIGNALED(status):
            sys.exit(f"the child ended with {status}") if status else None
            return kills
        kills += 1


if __name__ == "__main__":
    folder, steered = Path(sys.argv[1]), sys.argv[3:] == ["steered"]
    run = partial(prepared, PoissonCohort(0.3), steering=STEERING if steered else None)
    if len(sys.argv) == 2:
        executed(begun(folder), run())
    else:
        warm = Path(tempfile.mkdtemp()) / "warm"
        executed(begun(warm), run())  # what children would all compute
        sys.stdout.write(f"{killed(folder, run, int(sys.argv[2]))}\n")
