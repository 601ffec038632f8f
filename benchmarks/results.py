"""Utility under privacy: real runs of every method, and docs/results.md from them.

Two regimes, on SmolLM2-135M and databricks-dolly-15k:

- ``large``: one example a client, thousands of clients, FFA-LoRA, one step each;
- ``small``: 300 clients, whose public data comes from elsewhere (MMLU).

    python -m benchmarks.results run large --dolly FILE --out FOLDER
    python -m benchmarks.results run small --dolly FILE --mmlu FILE --out FOLDER
    python -m benchmarks.results page --out FOLDER

`run` can be interrupted and started again; finished runs are kept.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from drdp.fedsim.comparison import Finished, Task, compared
from drdp.fedsim.config import Config, changed, read
from drdp.fedsim.evaluation import Difference, HeldOutLoss, paired_difference

PAGE = Path(__file__).parents[1] / "docs" / "results.md"
LETTERS = "ABCD"

COMMON: dict[str, dict[str, Any]] = {
    "run": {"rounds": 8},
    "model": {"name": "smollm2-135m"},
    "lora": {"freeze_a": True},
    "local": {"mode": "gradient"},
    "server": {"step_norm": 0.4},
    "evaluation": {"every": 8},
    "privacy": {"delta": 1e-5},
}
LARGE: dict[str, dict[str, Any]] = COMMON | {
    "data": {"partition": "example", "clients": 0, "public": 192, "held_out": 200},
    "cohort": {"rate": 0.0082},
}
SMALL: dict[str, dict[str, Any]] = COMMON | {
    "data": {"clients": 300, "most": 2, "public": 192, "held_out": 200},
    "local": {"mode": "gradient", "batch": 2},
    "cohort": {"rate": 0.1},
    "code": {"fit_samples": 48},
    "evaluation": {"every": 8},
}


@dataclass(frozen=True)
class Regime:
    """One configuration and the runs on it."""

    name: str
    settings: dict[str, dict[str, Any]]
    tasks: tuple[Task, ...]


INF = math.inf
REGIMES = {
    "large": Regime(
        "large",
        LARGE,
        (
            Task("fedlora", INF, 0),
            Task("fedlora", 0.5, 0),
            Task("public", INF, 0),
            Task("fedlora", 2.0, 0),
            Task("pca", 0.5, 0),
            Task("fedlora", 8.0, 0),
            Task("fedlora", INF, 1),
            Task("fedlora", 0.5, 1),
            Task("fedlora", INF, 2),
            Task("fedlora", 0.5, 2),
        ),
    ),
    "small": Regime(
        "small",
        SMALL,
        (
            Task("fedlora", INF, 0),
            Task("pca", 2.0, 0),
            Task("public", INF, 0),
            Task("fedlora", 2.0, 0),
            Task("dr-encoder", 2.0, 0),
            Task("projection", 2.0, 0),
            Task("pca", 0.5, 0),
            Task("pca", 8.0, 0),
            Task("fedcg", 2.0, 0),
            Task("pca", INF, 0),
            Task("dr-encoder", INF, 0),
            Task("projection", INF, 0),
            Task("fedlora", INF, 1),
            Task("pca", 2.0, 1),
            Task("public", INF, 1),
            Task("fedlora", INF, 2),
            Task("pca", 2.0, 2),
            Task("public", INF, 2),
            Task("fedlora", 8.0, 0),
            Task("fedlora", 0.5, 0),
            Task("dr-encoder", 8.0, 0),
            Task("dr-encoder", 0.5, 0),
            Task("projection", 8.0, 0),
            Task("projection", 0.5, 0),
        ),
    ),
}


def page_of(out: Path) -> str:
    raise NotImplementedError


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    actions = parser.add_subparsers(required=True, dest="action")
    run = actions.add_parser("run")
    run.add_argument("regime", choices=sorted(REGIMES))
    run.add_argument("--dolly", default="dolly-sample")
    run.add_argument("--mmlu", type=Path)
    run.add_argument("--out", type=Path, required=True)
    page = actions.add_parser("page")
    page.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args(arguments)
    if asked.action == "page":
        PAGE.write_text(page_of(asked.out), encoding="utf-8")
        print(f"written {PAGE}")
        return
    regime = REGIMES[asked.regime]
    config = configured(regime, asked.dolly, asked.mmlu, asked.out)
    for task in regime.tasks:
        # Public training may overshoot: its best round is what others must beat.
        every = {"evaluation.every": 1} if task.method == "public" else {}
        for done in compared(
            changed(config, every),
            [task],
            asked.out / regime.name,
            tell=say,
            watch=lambda task, at: say(
                f"{task.name} round {at.round}/{at.rounds} {dict(at.metrics)}"
            ),
        ):
            say(f"done {done.task.name}: {done.before} -> {done.after}")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def configured(
    regime: Regime, dolly: str, mmlu: Path | None, out: Path
) -> Config:
    """The configuration of a regime with the data where it lies here."""
    data = regime.settings["data"] | {"source": dolly}
    if regime.name == "small":
        if mmlu is None:
            raise SystemExit("the small regime needs --mmlu FILE for its public data")
        out.mkdir(parents=True, exist_ok=True)
        made = out / "mmlu-questions.jsonl"
        made.write_text(instructions(mmlu), encoding="utf-8")
        data |= {"public_source": str(made)}
    return read(regime.settings | {"data": data})


def instructions(mmlu: Path) -> str:
    """MMLU questions with the text of their right answer, shuffled."""
    opened = gzip.open if mmlu.suffix == ".gz" else open
    with opened(mmlu, "rt", encoding="utf-8") as stream:
        questions = [json.loads(line) for line in stream]
    order = np.random.default_rng(0).permutation(len(questions))
    return "".join(
        json.dumps(
            {
                "instruction": questions[i]["question"],
                "context": "",
                "response": questions[i]["choices"][
                    LETTERS.index(questions[i]["answer"])
                ],
                "category": questions[i]["subject"],
            }
        )
        + "\n"
        for i in order
    )
