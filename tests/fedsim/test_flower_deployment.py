"""A SuperLink and five SuperNodes on one machine, of which one is killed.

Flower starts a process for every message to a node, about 75 of them here.  On two
processors that are free this takes minutes; on a busy machine Flower's tokens
for these processes run out before they have started, and it starts them again.  So
it is not part of a plain run of the tests: ``pytest -m deployment``.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("flwr")
pytest.importorskip("torch")
pytest.importorskip("peft")

import contextlib

from drdp.fedsim.config import read, written
from drdp.fedsim.documents import toml
from drdp.fedsim.folder import RunFolder
from drdp.privacy.events import atoms
from drdp.privacy.ledger import Ledger
from drdp.privacy.releases import Skellam
from tests.fedsim.small import small

APP = Path(__file__).parents[2] / "examples" / "flower_deployment"
BIN = Path(sys.executable).parent
NODES, ROUNDS, SURVIVORS = 5, 3, 4
PATIENCE = 240.0  # seconds for a stage of a round
LIMIT = 900.0  # seconds for everything


def run_file(place):
    tables = small()
    tables["run"] = {"method": "projection", "rounds": ROUNDS, "patience": PATIENCE}
    tables["data"] |= {"clients": NODES}
    tables["cohort"] = {"kind": "every"}
    tables["privacy"] = {
        "noise_multiplier": 1.0,
        "placement": "distributed",
        "view": "sum",
        "survivors": SURVIVORS,
        "mechanism": "skellam",
    }
    file = place / "run.toml"
    file.write_text(toml(written(read(tables))), encoding="utf-8")
    return file


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Processes:
    """What was started, each with a log, and all of it ended."""

    def __init__(self, place):
        self.place, self.running = place, {}
        self.environment = os.environ | {
            "FLWR_HOME": str(place / "home"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        }

    def start(self, name, *command):
        with (self.place / f"{name}.log").open("wb") as log:
            self.running[name] = subprocess.Popen(
                [BIN / command[0], *map(str, command[1:])],
                cwd=self.place,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self, name):
        process = self.running.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def log(self, name):
        return (self.place / f"{name}.log").read_text(errors="replace")


@pytest.fixture
def processes(tmp_path):
    (tmp_path / "home").mkdir()
    found = Processes(tmp_path)
    yield found
    for name in list(found.running):
        found.kill(name)


def wait_for(condition, processes, what):
    end = time.monotonic() + LIMIT
    while not condition():
        log = processes.log("run") if "run" in processes.running else ""
        failed = "Exit Code" in log or "raised an exception" in log
        if failed or time.monotonic() > end:
            pytest.fail(f"{what}:\n{log[-3000:]}")
        time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.deployment
def test_a_node_that_is_killed_costs_no_privacy(tmp_path, processes):
    port, *ports = free_ports(1 + NODES)
    (tmp_path / "home" / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n\n[superlink.here]\n'
        f'address = "127.0.0.1:{port}"\ninsecure = true\n'
    )
    out = tmp_path / "run"
    processes.start(
        "link",
        "flower-superlink",
        "--insecure",
        f"--port={port}",
        "--disable-runtime-dependency-installation",
    )
    wait_for(lambda: "Uvicorn running" in processes.log("link"), processes, "no link")
    for client, own in enumerate(ports):
        processes.start(
            f"node{client}",
            "flower-supernode",
            "--insecure",
            f"--superlink=127.0.0.1:{port}",
            f"--port={own}",
            f"--node-config=partition-id={client}",
        )
    config = f'config="{run_file(tmp_path)}" out="{out}"'
    processes.start(
        "run", "flwr", "run", APP, "here", "--stream", "--run-config", config
    )
    folder = RunFolder(out)

    def round_done():
        return folder.metrics.exists() and len(folder.records()) > 1

    wait_for(round_done, processes, "no first round")
    processes.kill("node2")
    wait_for(lambda: folder.finished, processes, "the run does not end")

    taking_part = [one["private"]["clients"] for one in folder.records()[1:]]
    assert len(taking_part) == ROUNDS
    assert taking_part[0] == NODES
    assert taking_part[-1] == SURVIVORS
    assert all(SURVIVORS <= clients <= NODES for clients in taking_part)
    with Ledger.open(folder.ledger) as ledger:
        (event,) = atoms(ledger.spent)
        charged = atoms(ledger.spent)[event]
    assert isinstance(event, Skellam)
    assert charged >= ROUNDS  # a round that was done again is paid for again
    plan = json.loads((out / "plan.json").read_text())
    statement = json.loads((out / "statement.json").read_text())
    assert statement["noise_is_secret"]
    granularity = read(small()).privacy.granularity
    promised = SURVIVORS * (plan["noise_multiplier"] / granularity) ** 2
    assert event.variance == pytest.approx(promised, rel=1e-9)
    assert (out / "adapter").is_dir()
