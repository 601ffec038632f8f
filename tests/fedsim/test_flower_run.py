"""`drdp train --engine flower` in Flower's simulation, with Ray and a real model."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("flwr")
pytest.importorskip("ray")
pytest.importorskip("torch")
pytest.importorskip("peft")

from safetensors.numpy import load_file

from drdp.fedsim.config import read, written
from drdp.fedsim.documents import toml
from drdp.fedsim.folder import RunFolder
from drdp.privacy.ledger import Ledger
from tests.fedsim.small import small

ROUNDS = 3
LIMIT = 600


def run_file(place, **privacy):
    tables = small()
    tables["run"] = {"method": "pca", "rounds": ROUNDS, "noise": "seeded"}
    tables["privacy"] = {"noise_multiplier": 1.0} | privacy
    file = place / "run.toml"
    file.write_text(toml(written(read(tables))), encoding="utf-8")
    return file


def command(*words):
    return [Path(sys.executable).with_name("drdp"), "train", *map(str, words)]


def environment():
    return os.environ | {"OMP_NUM_THREADS": "1"}


def train(*words):
    done = subprocess.run(
        command(*words),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def ended(folder):
    state = load_file(folder / "checkpoint.safetensors")
    (adapter,) = (folder / "adapter").glob("*.safetensors")
    with Ledger.open(folder / "ledger.sqlite") as ledger:
        charges = [(one.event, one.label) for one in ledger.entries()]
    return state["parameters"], load_file(adapter), charges


def same(one, other):
    np.testing.assert_allclose(one[0], other[0], rtol=0, atol=1e-6)
    assert one[1].keys() == other[1].keys()
    for name, values in one[1].items():
        np.testing.assert_allclose(values, other[1][name], rtol=0, atol=1e-6)
    assert one[2] == other[2]


@pytest.mark.slow
def test_both_engines_end_with_the_same_adapter_and_ledger(tmp_path):
    file = run_file(tmp_path)
    here, there = tmp_path / "here", tmp_path / "there"
    train("--config", file, "--out", here)
    done = train("--config", file, "--engine", "flower", "--out", there)
    same(ended(here), ended(there))
    assert "round 3/3" in done.stderr
    assert "deprecated" not in done.stderr
    assert "Result" in done.stdout


@pytest.mark.slow
def test_secure_sums_in_ray_give_the_adapter_of_one_process(tmp_path):
    file = run_file(
        tmp_path,
        placement="distributed",
        view="sum",
        survivors=10,
        mechanism="skellam",
    )
    one = "--set", "cohort.kind=every", "--set", "run.rounds=1"
    here, there = tmp_path / "here", tmp_path / "there"
    train("--config", file, *one, "--out", here)
    train("--config", file, *one, "--engine", "flower", "--out", there)
    same(ended(here), ended(there))


@pytest.mark.slow
def test_ctrl_c_loses_nothing(tmp_path):
    file = run_file(tmp_path)
    here, there = tmp_path / "here", tmp_path / "there"
    train("--config", file, "--out", here)
    process = subprocess.Popen(
        command("--config", file, "--engine", "flower", "--out", there),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    folder, end = RunFolder(there), time.monotonic() + LIMIT
    while not (folder.metrics.exists() and len(folder.records()) > 1):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=LIMIT)[1]
    assert process.returncode != 0, told
    assert "drdp train --resume" in told
    assert not folder.finished
    train("--resume", there)
    same(ended(here), ended(there))
