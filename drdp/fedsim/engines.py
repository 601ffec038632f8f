"""What computes the clients' part of a run: this process, or Flower's nodes.

The engine changes where clients train and nothing else: cohorts, bounds, noise,
charges and checkpoints are those of a run in this process.
"""

from __future__ import annotations

import json
import os
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING

from drdp.errors import InvalidArgumentError, MissingPackageError
from drdp.fedsim.config import Config, written

if TYPE_CHECKING:
    from drdp.fedsim.execution import Prepared
    from drdp.fedsim.flower.collector import NodeCollector
    from drdp.fedsim.flower.exchange import Exchange
    from drdp.fedsim.folder import RunFolder

__all__ = ["check_engine", "flower_packages", "node_collector"]

_OLDEST = (1, 41)


def check_engine(config: Config) -> None:
    """Return where the engine of a run can do what its settings ask for.

    Raises:
        MissingPackageError: If it is not installed.
        InvalidArgumentError: If noise comes in shares that the engine has no secure
            sum for, or a setting needs clients in this process.
    """
    if config.run.engine != "flower":
        return
    flower_packages(simulation=False)
    privacy = config.privacy
    if privacy.clip_norm == "adaptive":
        raise InvalidArgumentError(
            "privacy.clip_norm adaptive is for engine in-process: with flower clients"
            " clip at their nodes, to a norm that stays; give a number, or public"
        )
    if config.server.decode == "before":
        raise InvalidArgumentError(
            "server.decode before is for engine in-process: flower's server adds codes"
            " up"
        )
    if privacy.placement == "distributed" and privacy.mechanism == "gaussian":
        raise InvalidArgumentError(
            "privacy.mechanism must be skellam or discrete-gaussian with placement"
            " distributed and engine flower: its secure sums are of integers"
        )


def flower_packages(*, simulation: bool = True) -> None:
    """Return where Flower is installed and recent enough.

    Args:
        simulation: Whether Ray is needed as well.

    Guarantees:
        Afterwards, in this process, Flower and Ray report nothing about their use,
        unless the environment already says otherwise.

    Raises:
        MissingPackageError: If flwr is missing or older than 1.41, or Ray is missing.
    """
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        found = version("flwr")
    except PackageNotFoundError:
        raise MissingPackageError(
            "engine flower needs flwr: pip install 'flwr[simulation]>=1.41'"
        ) from None
    if tuple(int(part) for part in found.split(".")[:2]) < _OLDEST:
        raise MissingPackageError(
            f"engine flower needs flwr 1.41 or later, found {found}: pip install -U"
            " 'flwr[simulation]'"
        )
    if simulation and find_spec("ray") is None:
        raise MissingPackageError(
            "engine flower needs ray on one machine: pip install 'flwr[simulation]'"
        )


def node_collector(
    config: Config, prepared: Prepared, folder: RunFolder, exchange: Exchange
) -> NodeCollector:
    """What collects the rounds of a prepared run from Flower's nodes."""
    from drdp.fedsim.flower.collector import NodeCollector

    codec = folder.path / "codec.safetensors"
    return NodeCollector(
        exchange,
        settings=json.dumps(written(config)),
        protection=prepared.simulation.protection,
        seeded=prepared.seed if prepared.seeded else None,
        clients=prepared.simulation.trainer.num_clients,
        codec=codec.read_bytes() if codec.exists() else b"",
    )
