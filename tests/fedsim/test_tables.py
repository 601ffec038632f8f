"""Tables in the paper's form, from finished runs; no run is made here."""

import math
from pathlib import Path

import numpy as np
import pytest

from drdp.fedsim.choices import Question
from drdp.fedsim.comparison import Finished, Task
from drdp.fedsim.disciplines import CEVAL, CEVAL_HARD, DISCIPLINES
from drdp.fedsim.exams import Exam, known_results, result
from drdp.fedsim.tables import as_csv, as_markdown, told

ASKED = Exam(
    "ceval",
    tuple(
        Question(subject, ("A", "B", "C", "D"), 0, subject, CEVAL[subject], hard=hard)
        for subject in CEVAL
        for hard in [subject in CEVAL_HARD]
        for _ in range(4)
    ),
    "subjects",
)


def run(method: str, epsilon: float, seed: int, right: float) -> Finished:
    rng = np.random.default_rng([seed, int(1000 * right)])
    before = np.arange(len(ASKED.questions)) % 2 == 0
    after = rng.random(len(before)) < right
    kept = result([ASKED], {"ceval": before}, {"ceval": after})
    private = method != "fedcg" and epsilon < math.inf
    marks = known_results(kept)
    metrics = {"loss": 2.0 - right}
    return Finished(
        Task(method, epsilon, seed),
        {"loss": 2.5},
        metrics,
        epsilon * 0.999 if private else math.inf,
        64 if method != "fedlora" else 4096,
        256,
        Path("runs") / method,
        1e-5,
        4096 if method == "fedcg" else 0,
        4 * 4096 if method == "fedcg" else 0,
        marks,
    )


METHODS = ["base", "fedlora", "fedcg", "dr-encoder"]
FOUND = [
    run("base", math.inf, 0, 0.5),
    run("fedlora", math.inf, 0, 0.7),
    run("fedlora", 0.5, 0, 0.25),
    run("fedcg", math.inf, 0, 0.6),
    run("fedcg", 0.5, 0, 0.6),
    run("dr-encoder", math.inf, 0, 0.65),
    run("dr-encoder", 0.5, 0, 0.55),
]


def test_the_papers_tables_have_their_rows_and_columns() -> None:
    tables = {
        one.title: one for one in told(FOUND, METHODS, [math.inf, 0.5], short=False)
    }
    two = tables["C-Eval, % right, without noise (the paper's Table 2)"]
    groups = [*DISCIPLINES, "average", "average (hard)"]
    assert two.header == ["method", "epsilon", *groups, "change"]
    assert [row[0] for row in two.rows] == METHODS
    four = tables["C-Eval, % right, by method and budget (the paper's Table 4)"]
    assert [row[:2] for row in four.rows] == [
        ["base", "-"],
        ["fedlora", "0.5"],
        ["fedlora", "inf"],
        ["fedcg", "0.5*"],
        ["fedcg", "inf"],
        ["dr-encoder", "0.5"],
        ["dr-encoder", "inf"],
    ]
    assert any("not private" in note for note in four.notes)
    average = FOUND[2].benchmarks["ceval"]["marks"]["average"]["after"]
    assert four.rows[1][6] == f"{average[0]:.1f} ({average[1]:.1f})"
    sent = tables["What a client sends in a round, and once before the first one"]
    assert sent.rows[2] == ["fedcg", "64", "256 bytes", "0.0156", "4,096", "16 KiB"]
    assert not any("guessing" in note for note in four.notes)


def test_lines_fit_and_say_when_the_model_guesses() -> None:
    from drdp.cli.render import columns

    for one in told(FOUND, METHODS, [math.inf, 0.5]):
        assert max(map(len, columns(one.header, one.rows))) <= 80
    guessing = {
        group: mark | {"before": [25.0, 0.0]}
        for group, mark in FOUND[0].benchmarks["ceval"]["marks"].items()
    }
    for one in FOUND[:1]:
        one.benchmarks["ceval"]["marks"] = guessing
    (two, *_) = [
        t for t in told(FOUND[:1], ["base"], [math.inf]) if "Table 2" in t.title
    ]
    assert any("no better than by guessing" in note for note in two.notes)


def test_seeds_are_averaged_and_their_errors_are_not_lowered() -> None:
    found = [run("fedlora", 2.0, seed, 0.4) for seed in range(3)]
    (four,) = [t for t in told(found, ["fedlora"], [2.0]) if "Table 4" in t.title]
    marks = [one.benchmarks["ceval"]["marks"]["average"]["after"] for one in found]
    mean, error = np.mean(marks, axis=0)
    assert four.rows[0][6] == f"{mean:.1f} ({error:.1f})"
    assert any("Means over seeds" in note for note in four.notes)


def test_exports_hold_every_run() -> None:
    text = as_markdown(told(FOUND, METHODS, [math.inf, 0.5], short=False))
    assert "| dr-encoder | 0.5 | " in text
    assert "**The paper's Table 5" in text
    lines = as_csv(FOUND).splitlines()
    assert len(lines) == len(FOUND) + 1
    head = lines[0].split(",")
    assert head[:5] == ["method", "budget", "seed", "certified_epsilon", "delta"]
    assert {"loss_after", "ceval_average_hard_standard_error"} <= set(head)
    row = dict(zip(head, lines[3].split(","), strict=True))
    assert row["method"] == "fedlora"
    assert float(row["certified_epsilon"]) == pytest.approx(0.5 * 0.999)
    assert lines[5].split(",")[3] == "inf", "fedcg is private at no budget"
