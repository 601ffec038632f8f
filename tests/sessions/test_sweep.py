"""``drdp sweep`` as typed: grids, every format, pictures and interruptions."""

import csv
import io
import signal
import subprocess
import sys
import time

import pytest

from tests.sessions.test_bad_input import refused

NOISE = "sweep --of sigma --epsilon 1,2 --steps 20 --rate 0.01,0.05"
QUICK = "sweep --of epsilon --sigma 1,2 --steps 4,9 --rate 1"


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_noise_agrees_with_calibrate(drdp):
    answer = drdp(f"{NOISE} --json").json
    assert answer["quantity"] == "sigma"
    found = {(one["epsilon"], one["rate"]): one["sigma"] for one in answer["rows"]}
    assert len(found) == 4
    line = "calibrate --epsilon 2 --steps 20 --rate 0.05 --compare none --json"
    assert found[2.0, 0.05] == pytest.approx(drdp(line).json["noise_multiplier"])
    assert found[1.0, 0.05] > found[2.0, 0.05] > found[2.0, 0.01]


@pytest.mark.parametrize(
    ("quantity", "line", "value"),
    [
        ("epsilon", "--sigma 1 --steps 1 --rate 1", 4.377178),
        ("delta", "--sigma 1 --steps 1 --rate 1 --epsilon 4.377178", 1e-5),
        ("advantage", "--sigma 1 --steps 1 --rate 1", 0.3829249),
        ("tpr", "--sigma 1 --steps 1 --rate 1 --fpr 0.01", 0.0923622),
    ],
)
def test_each_quantity_at_one_point(drdp, quantity, line, value):
    answer = drdp(f"sweep --of {quantity} {line} --json").json
    (row,) = answer["rows"]
    assert row[quantity] == pytest.approx(value, rel=1e-5)
    assert row["bound"] == "upper"
    assert row["problem"] is None


def test_many_points_by_the_compiled_kernels_agree_with_one(drdp):
    line = "sweep --of epsilon --sigma 0.6:2:13 --steps 10,20,30,40,50 --rate 0.05"
    found = drdp(f"{line} --json").json["rows"]
    assert len(found) == 65
    one = drdp("sweep --of epsilon --sigma 0.6 --steps 50 --rate 0.05 --json").json
    (same,) = (r for r in found if (r["sigma"], r["steps"]) == (0.6, 50))
    assert same["epsilon"] == pytest.approx(one["rows"][0]["epsilon"], rel=1e-6)
    for steps in (10, 50):
        column = [r["epsilon"] for r in found if r["steps"] == steps]
        assert column == sorted(column, reverse=True)


def test_grids_are_spaced_as_asked(drdp):
    line = "sweep --of epsilon --rate 1 --accountant gdp --json"
    even = drdp(f"{line} --sigma 1:3:5 --steps 1").json["rows"]
    assert [one["sigma"] for one in even] == [1.0, 1.5, 2.0, 2.5, 3.0]
    log = drdp(f"{line} --sigma 1:100:3:log --steps 1").json["rows"]
    assert [one["sigma"] for one in log] == [1.0, 10.0, 100.0]
    whole = drdp(f"{line} --sigma 1 --steps 1:4:7").json["rows"]
    assert [one["steps"] for one in whole] == [1, 2, 3, 4]


def test_an_estimate_is_called_one(drdp):
    line = "sweep --of epsilon --sigma 1,2 --steps 20 --rate 0.05 --accountant gdp"
    answer = drdp(f"{line} --json").json
    assert {one["bound"] for one in answer["rows"]} == {"estimate"}
    assert "an estimate, no bound" in drdp(line).out


def test_a_point_without_an_answer_does_not_end_the_sweep(drdp):
    line = "sweep --of sigma --epsilon 1 --delta 1e-5,0.1 --steps 1 --rate 1e-3"
    answer = drdp(f"{line} --json").json
    with_answer, without = answer["rows"]
    assert with_answer["sigma"] > 0.0
    assert without["sigma"] is None
    assert "asks for nothing" in without["problem"]
    assert "none" in drdp(line).out


@pytest.mark.parametrize("form", ["text", "markdown", "csv", "latex", "json"])
def test_every_format_to_the_terminal_and_to_a_file(drdp, tmp_path, form):
    shown = drdp(f"{QUICK} --format {form}")
    assert shown.code == 0
    target = tmp_path / "grid.out"
    written = drdp(f"{QUICK} --format {form} --output", str(target))
    assert written.code == 0
    assert written.out == f"wrote {target}\n"
    assert target.read_text() == shown.out


@pytest.mark.parametrize(
    ("ending", "start"), [("csv", "sigma,"), ("json", "{"), ("md", "**"), ("tex", "% ")]
)
def test_the_format_follows_from_the_name(drdp, tmp_path, ending, start):
    target = tmp_path / f"grid.{ending}"
    assert drdp(f"{QUICK} --output", str(target)).code == 0
    assert target.read_text().startswith(start)


def test_a_csv_holds_what_json_holds(drdp):
    found = rows(drdp(f"{QUICK} --format csv").out)
    told = drdp(f"{QUICK} --json").json["rows"]
    assert [float(one["epsilon"]) for one in found] == [one["epsilon"] for one in told]


def test_many_columns_become_blocks(drdp):
    session = drdp(
        "sweep --of epsilon --sigma 1:2:7 --steps 1:9:9 --rate 1 --accountant gdp"
    )
    assert session.out.count("  steps  epsilon") == 7
    assert max(map(len, session.out.splitlines())) <= 80


@pytest.mark.parametrize("more", ["", "--heatmap"])
@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_a_picture(drdp, tmp_path, more, suffix):
    pytest.importorskip("matplotlib")
    target = tmp_path / f"grid.{suffix}"
    session = drdp(f"{QUICK} {more} --plot", str(target))
    assert session.code == 0
    assert session.err == f"wrote {target}\n"
    assert target.stat().st_size > 4000


def test_an_interrupt_leaves_what_was_written(tmp_path):
    target = tmp_path / "grid.csv"
    line = "sweep --of tpr --sigma 0.5:2:40 --steps 100:1000:40 --rate 0.0501 --output"
    process = subprocess.Popen(
        [sys.executable, "-m", "drdp", *line.split(), str(target)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60.0
    while time.monotonic() < deadline:
        if target.exists() and target.read_text().count("\n") >= 3:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip() == ""
    found = rows(target.read_text())
    assert len(found) >= 2
    assert all(0.0 < float(one["tpr"]) <= 1.0 for one in found)


GRID = "--steps 20 --rate 0.05"


@pytest.mark.parametrize(
    ("line", "culprits"),
    [
        ("", ("--of",)),
        ("--of sigma --epsilon 1 --steps 20", ("--rate",)),
        (f"--of sigma {GRID}", ("--epsilon",)),
        (f"--of epsilon {GRID}", ("--sigma",)),
        (f"--of magic --sigma 1 {GRID}", ("--of", "magic")),
        (f"--of sigma --epsilon 1 --sigma 1 {GRID}", ("--sigma", "no effect")),
        (f"--of advantage --sigma 1 --delta 1e-6 {GRID}", ("--delta", "no effect")),
        (f"--of epsilon --sigma 1 --fpr 0.1 {GRID}", ("--fpr", "no effect")),
        ("--of epsilon --sigma 1,2 --steps 1,2 --rate 0.1,0.2", ("two grids",)),
        ("--of epsilon --sigma 1:2:60 --steps 1:60:60 --rate 0.1", ("2500", "3600")),
        (f"--of epsilon --sigma 1,2 --heatmap {GRID}", ("--heatmap", "--plot")),
        (f"--of epsilon --sigma 1 --json --format csv {GRID}", ("--json", "csv")),
        (f"--of epsilon --sigma 1 --output x.html {GRID}", ("--output", "--format")),
        (
            f"--of epsilon --sigma 1 --delta 0.1 --population 20 {GRID}",
            ("--delta 0.1",),
        ),
        *(
            (f"--of epsilon --sigma {text} {GRID}", ("--sigma",))
            for text in (
                *("0", "nan", "1,nan", "1:2", "2:1:3", "1:2:1", "1:2:101", "1:2:3:lin"),
                *("1:inf:3", "0:1:3", ":::", "1:2:nan", "1:2:3:log:log", "-1", "1e999"),
            )
        ),
        ("--of epsilon --sigma 1 --steps 0 --rate 0.1", ("--steps",)),
        ("--of epsilon --sigma 1 --steps 1:1e999:3 --rate 0.1", ("--steps",)),
        ("--of epsilon --sigma 1 --steps 1 --rate 0:1:3", ("--rate",)),
        ("--of epsilon --sigma 1 --steps 1 --rate 1.5", ("--rate",)),
        (f"--of tpr --fpr 0 --sigma 1 {GRID}", ("--fpr",)),
        (f"--of tpr --fpr nan --sigma 1 {GRID}", ("--fpr",)),
    ],
)
def test_bad_input(drdp, line, culprits):
    refused(drdp(f"sweep {line}"), *culprits)


def test_a_table_that_cannot_be_written(drdp, tmp_path):
    target = tmp_path / "absent" / "grid.csv"
    refused(drdp(f"{QUICK} --output", str(target)), "--output", "grid.csv")


def test_an_accountant_without_a_formula(drdp):
    line = "sweep --of epsilon --sigma 1 --steps 20 --rate 1/20 --sampling fixed"
    refused(drdp(f"{line} --accountant prv"), "prv_curve")
