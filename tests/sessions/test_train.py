"""``drdp train`` and ``drdp compare-methods`` as typed, on a small real model."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from drdp.fedsim.config import METHODS
from drdp.fedsim.documents import toml
from tests.fedsim.small import small


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run file."""
    path = tmp_path_factory.mktemp("settings") / "run.toml"
    path.write_text(toml(small()), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def done(drdp, file, tmp_path_factory):
    """A run that went to its end, and its session."""
    place = tmp_path_factory.mktemp("runs") / "run"
    line = f"train --config {file} --method pca --epsilon 8 --json --out {place}"
    return drdp(line), place


@pytest.mark.parametrize("command", ["train", "compare-methods"])
def test_help_names_every_method_in_a_line_that_fits(drdp, command):
    session = drdp(f"{command} --help")
    assert session.code == 0
    lines = session.out.splitlines()
    assert max(map(len, lines)) <= 80
    for name, text in METHODS.items():
        assert f"  {name:<11} {text}".rstrip() in [line[2:] for line in lines]


def test_help_imports_nothing_heavy(python):
    program = (
        "import sys\nfrom drdp.cli import main\n"
        "try:\n    main(['train', '--help'])\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('torch', 'numpy', 'scipy') if m in sys.modules])\n"
    )
    assert python("-c", program).stdout.endswith("[]\n")


def test_a_run_answers_in_json_on_stdout_alone(done):
    session, place = done
    found = session.json
    assert session.err == ""
    assert found["folder"] == str(place)
    assert found["rounds"] == found["plan"]["rounds"] == 2
    assert 0.0 < found["statement"]["accounting"]["epsilon"]["upper"] <= 8.0
    assert found["noise_is_secret"] is True
    assert set(found["after"]) == set(found["before"]) >= {"loss", "perplexity"}
    assert found["plan"]["settings"]["run"]["method"] == "pca"
    names = {one.name for one in place.iterdir()}
    assert names >= {"adapter", "statement.json", "statement.txt", "ledger.sqlite"}
    assert "secret.key" not in names


def test_resuming_a_finished_run_says_so_and_changes_nothing(drdp, done):
    session, place = done
    before = {one.name: one.read_bytes() for one in place.iterdir() if one.is_file()}
    again = drdp(f"train --resume {place}")
    assert again.code == 0
    assert f"the run in {place} is finished; nothing was run again" in again.err
    assert "certified epsilon" in again.out
    assert "-differentially private" in again.out
    after = {one.name: one.read_bytes() for one in place.iterdir() if one.is_file()}
    assert after == before
    assert drdp(f"train --resume {place} --json").json == session.json


def test_a_folder_with_a_run_is_not_begun_again(drdp, done, file):
    _, place = done
    session = drdp(f"train --config {file} --epsilon 8 --out {place}")
    assert session.code == 2
    assert "holds a run already; go on with --resume" in session.err


def test_a_dry_run_writes_nothing(drdp, file, tmp_path):
    place = tmp_path / "run"
    line = f"train --config {file} --method fedlora --epsilon 2 --dry-run"
    told = drdp(f"{line} --out {place}")
    assert told.code == 0
    assert told.out.startswith("Plan\n  method fedlora, 2 rounds, 12 clients")
    assert "Forecast" in told.out
    assert max(map(len, told.out.splitlines())) <= 80
    assert not place.exists()
    found = drdp(f"{line} --json").json
    assert found["rounds"] == 2
    assert found["epsilon"] <= 2.0


def test_later_settings_win_over_the_file(drdp, file):
    line = f"train --config {file} --rounds 3 --set run.rounds=4 --dry-run --json"
    found = drdp(f"{line} --method public").json
    assert found["rounds"] == 4
    assert found["epsilon"] == 0.0


def test_rounds_until_the_budget_is_spent(drdp, file):
    line = f"train --config {file} --method pca --rounds until-budget --dry-run"
    found = drdp(f"{line} --epsilon 8 --noise-multiplier 2 --json").json
    assert found["rounds"] >= 2
    assert found["epsilon"] <= 8.0


def test_what_moved_and_what_was_not_used_are_told(drdp, file, tmp_path):
    line = f"train --config {file} --method ew-tune --epsilon 8 --clip-norm adaptive"
    told = drdp(f"{line} --out {tmp_path / 'run'}")
    assert told.code == 0
    plain = " ".join(told.out.split())
    assert "follows the 0.5-quantile of code norms" in plain
    assert " in round 1, " in plain
    assert plain.count("an Edgeworth approximation, no guarantee") == 2
    lines = [one for one in told.out.splitlines() if str(tmp_path) not in one]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--epsilon 2", "--out FOLDER is needed"),
        ("--out {0}/run", "--epsilon 2"),
        ("--out {0}/run --epsilon 0", "privacy.epsilon"),
        ("--out {0}/run --epsilon two", "privacy.epsilon"),
        ("--out {0}/run --method fancy", "run.method must be one of base, cent"),
        ("--out {0}/run --set local.stepz=1", "unknown setting local.stepz"),
        ("--out {0}/run --set steps=1", "unknown setting 'steps'"),
        ("--out {0}/run --set local.steps", "must be NAME=VALUE"),
        ("--out {0}/run --set local.steps=0", "local.steps must be a whole number"),
        ("--out {0}/run --config {0}/none.toml", "there is no file"),
        ("--out {0}/run --config {0}/bad.toml", "is not TOML"),
        ("--out {0}/run --config {0}/odd.toml", "unknown section 'rum'"),
        ("--out {0}/run --epsilon 2 --data {0}/none.jsonl", "none.jsonl"),
        ("--out {0}/run --epsilon 2 --clients 100000", "clients"),
        ("--out {0}/run --epsilon 2 --set lora.targets=w_q", "w_q"),
        ("--out {0}/run --epsilon 2 --model {0}/nothing", "there is no folder"),
        ("--resume {0}/run", "there is no run in"),
        ("--resume {0}/run --epsilon 2", "--resume takes no other settings"),
        ("--out {0}/full --epsilon 2", "is not empty"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(drdp, file, tmp_path, line, told):
    (tmp_path / "bad.toml").write_text("[run\n")
    (tmp_path / "odd.toml").write_text("[rum]\nrounds = 1\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "other").touch()
    first = "" if "--config" in line or "--resume" in line else f"--config {file} "
    method = "" if "--method" in line or "--resume" in line else "--method fedlora "
    session = drdp(f"train {first}{method}{line.format(tmp_path)}")
    assert session.code == 2
    assert session.out == ""
    (error,) = [one for one in session.err.splitlines() if one.startswith("Error: ")]
    assert session.err.endswith(error + "\n")
    assert told in error
    assert not (tmp_path / "run").exists()
    assert [one.name for one in (tmp_path / "full").iterdir()] == ["other"]


def test_training_that_diverges_ends_with_a_warning_for_the_operator(
    drdp, file, tmp_path
):
    place = tmp_path / "run"
    line = f"train --config {file} --method fedlora --epsilon 8 --clip-norm 1"
    line = f"{line} --set cohort.kind=every --set local.learning_rate=1e38"
    session = drdp(f"{line} --out {place} --json")
    assert session.code == 0
    assert session.err.startswith("warning: 24 contributions in 2 rounds counted as ")
    assert "zeroed" not in session.out
    for row in (place / "metrics.jsonl").read_text().splitlines()[1:]:
        assert set(json.loads(row)) <= {
            *("round", "epsilon", "step_norm", "private"),
            *("loss", "perplexity"),
        }
    line = line.replace("--clip-norm 1 ", "")
    public = drdp(f"{line} --out {tmp_path / 'other'}")
    assert public.code == 2
    assert "training of public client 0 diverged" in public.err
    assert not (tmp_path / "other").exists()


def test_a_refused_run_takes_back_what_it_made_and_no_more(drdp, file, tmp_path):
    (tmp_path / "mine").mkdir()
    line = f"train --config {file} --method fedlora --epsilon 2 --data none.jsonl"
    for place in ("mine", "new/deep/run"):
        assert drdp(f"{line} --out {tmp_path / place}").code == 2
    assert [one.name for one in tmp_path.iterdir()] == ["mine"]
    assert not list((tmp_path / "mine").iterdir())
    taken = tmp_path / "taken"
    taken.touch()
    for place in (taken, taken / "run"):
        session = drdp(f"{line} --out {place}")
        assert session.code == 2
        assert session.err.count("\n") == 1


def test_missing_packages_are_named_before_anything_is_written(python, tmp_path):
    program = (
        "import sys\nsys.modules['torch'] = None\nsys.modules['filelock'] = None\n"
        "from drdp.cli import main\n"
        f"main(['train', '--epsilon', '2', '--out', {str(tmp_path / 'run')!r}])\n"
    )
    found = python("-c", program)
    assert found.returncode == 2
    assert found.stderr == (
        "Error: the trainer needs torch and filelock: pip install 'drdp[train]'\n"
    )
    assert not (tmp_path / "run").exists()


def test_ctrl_c_ends_cleanly_and_the_run_goes_on(drdp, file, tmp_path):
    place = tmp_path / "run"
    # Many rounds, so that there is one left to be interrupted in.
    line = f"train --config {file} --method pca --epsilon 8 --rounds 400 --out {place}"
    with subprocess.Popen(
        [sys.executable, "-m", "drdp", *line.split(), "--set", "evaluation.every=400"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:
        until = time.monotonic() + 120.0
        while not (place / "checkpoint.safetensors").exists():
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"interrupted; nothing is lost: drdp train --resume {place}" in told
    assert "Traceback" not in told
    assert (place / "secret.key").exists()
    plan = drdp(f"train --resume {place} --dry-run --json").json
    assert plan == json.loads((place / "plan.json").read_text())


def test_compared_methods_make_a_table_and_are_kept(drdp, file, tmp_path):
    line = f"compare-methods --config {file} --methods base,public,fedlora,pca"
    line = f"{line} --epsilons inf,8 --out {tmp_path / 'compared'}"
    found = drdp(f"{line} --json").json["runs"]
    assert [(run["method"], run["budget"]) for run in found] == [
        *(("base", "inf"), ("public", "inf")),
        *(("fedlora", "inf"), ("fedlora", 8.0), ("pca", "inf"), ("pca", 8.0)),
    ]
    assert found[0]["message_bytes"] == 0
    assert found[2]["message_bytes"] == 4 * found[2]["numbers"]
    files = [tmp_path / "tables.md", tmp_path / "runs.csv"]
    told = drdp(f"{line} --export {files[0]} --export {files[1]}")
    assert told.code == 0
    assert max(map(len, told.out.splitlines())) <= 80
    assert "167,772,160  160 MB        640 MiB" in told.out
    assert "6.10e-05" in told.out
    assert "| pca | " in files[0].read_text(encoding="utf-8")
    lines = list(csv.DictReader(files[1].read_text(encoding="utf-8").splitlines()))
    assert [(one["method"], one["budget"]) for one in lines] == [
        *(("base", ""), ("public", "")),
        *(("fedlora", "inf"), ("fedlora", "8.0"), ("pca", "inf"), ("pca", "8.0")),
    ]
    assert [float(one["loss_after"]) for one in lines] == [
        run["after"]["loss"] for run in found
    ]
    rows = {row.split()[0]: row for row in told.out.splitlines() if row.strip()}
    assert "epsilon inf" in told.out
    assert "epsilon 8" in told.out
    assert "no private data" in told.out.split("perplexity")[0]
    assert "where finite" in told.out
    assert {"base", "public", "fedlora", "pca"} <= set(rows)
    page = drdp(f"{line} --export {tmp_path / 'tables.pdf'}")
    assert page.code == 2
    assert "must end in .md or .csv" in page.err
    other = drdp(f"{line} --rounds 3")
    assert other.code == 2
    assert "other settings" in other.err


def test_discrete_noise_has_a_bound_above_alone(drdp, file, tmp_path):
    """Renyi bounds say at most; below nothing is known, and nothing is claimed."""
    law = "--set privacy.mechanism=skellam --set privacy.placement=distributed"
    how = "--set privacy.view=sum --set cohort.kind=every --set code.length=16"
    line = f"train --config {file} --method projection --epsilon 8 {law} {how}"
    session = drdp(f"{line} --out {tmp_path / 'run'}")
    assert session.code == 0, session.err
    assert re.search(r"certified epsilon  at most \d\.\d+ at delta", session.out)
