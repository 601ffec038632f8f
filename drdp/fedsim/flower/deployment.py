"""The two apps of a deployment: Flower's SuperLink runs one, its SuperNodes the other.

``drdp.fedsim.flower.deployment:server`` begins the run of a run file in a folder
of the server, or goes on with the one that is there;
``drdp.fedsim.flower.deployment:client`` is the client whose number is the node's
``partition-id``.
"""

from __future__ import annotations

import tomllib
from logging import INFO
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.supercore import log

from drdp.errors import InvalidArgumentError
from drdp.fedsim.config import Config, changed, read
from drdp.fedsim.engines import flower_packages
from drdp.fedsim.execution import Progress
from drdp.fedsim.flower.exchange import Exchange
from drdp.fedsim.flower.nodes import client_app, settled_parts
from drdp.fedsim.folder import RunFolder
from drdp.fedsim.running import Run

__all__ = ["client", "served", "server"]

client = client_app(settled_parts)

server = ServerApp()


@server.main()
def main(grid: Grid, context: Context) -> None:
    """The run that the app's run config names: ``config``, a run file, and ``out``."""
    told = context.run_config
    served(grid, _path(told.get("config"), "config"), _path(told.get("out"), "out"))


def served(grid: Grid, config: Path, out: Path) -> None:
    """Begin a run in a folder, or go on with it, at the nodes of a grid.

    Args:
        grid: Flower's.
        config: A run file; not looked at where the folder holds a run already.
        out: The run's folder.

    Raises:
        RunFolderError: If the run is finished, or the folder cannot be used.
        TrainingError: If too few clients are connected, or stay.
    """
    flower_packages(simulation=False)
    folder = RunFolder(out)
    with folder.locked():
        if folder.started:
            run = Run.resumed(folder)
        else:
            settings = changed(_read(config), {"run.engine": "flower"})
            run = Run.begun(folder, settings)
        prepared = run.prepared(_tell)
        exchange = Exchange(grid, patience=run.config.run.patience)
        exchange.ready(prepared.simulation.trainer.num_clients)
        outcome = run.collected(prepared, exchange, _watch)
    _tell(outcome.statement.sentence())
    _tell(outcome.stopped or f"finished: {out}")


def _read(file: Path) -> Config:
    try:
        return read(tomllib.loads(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidArgumentError(
            f"config {file} cannot be read as a run file: {error}"
        ) from None


def _watch(progress: Progress) -> None:
    epsilon = f"{progress.spent.upper:.4g}"
    _tell(f"round {progress.round}/{progress.rounds}  epsilon {epsilon}")


def _tell(text: str) -> None:
    log(INFO, "drdp: %s", text)


def _path(value: object, name: str) -> Path:
    if not isinstance(value, str) or not value:
        raise InvalidArgumentError(
            f"{name} must be a path; flwr run . --run-config '{name}=\"/path\"'"
        )
    path = Path(value).expanduser()
    if not path.is_absolute():  # an app runs in a folder of Flower's own
        raise InvalidArgumentError(f"{name} must be an absolute path, got {value!r}")
    return path
