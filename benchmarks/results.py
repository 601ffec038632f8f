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

from drdp.fedsim.comparison import Finished, Task, compared, finished
from drdp.fedsim.config import Config, changed, read
from drdp.fedsim.evaluation import Difference, HeldOutLoss, paired_difference
from drdp.fedsim.folder import RunFolder

PAGE = Path(__file__).parents[1] / "docs" / "results.md"
LETTERS = "ABCD"
INF = math.inf
PUBLIC_ROUNDS = (1, 2, 4)

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
    "data": {
        "partition": "example",
        "clients": 0,
        "public": 400,
        "held_out": 450,
        "overlong": "drop",
    },
    "cohort": {"rate": 0.0187},
}
SMALL: dict[str, dict[str, Any]] = COMMON | {
    "data": {
        "clients": 300,
        "most": 2,
        "public": 192,
        "held_out": 450,
        "overlong": "drop",
    },
    "local": {"mode": "gradient", "batch": 2},
    "cohort": {"rate": 0.1},
    "code": {"fit_samples": 48},
    "privacy": {"delta": 1e-5, "clip_factor": 0.05},
    "evaluation": {"every": 8},
}


@dataclass(frozen=True)
class Trial:
    """A run of a regime: its task, and what it sets beyond the regime's settings."""

    task: Task
    label: str
    settings: tuple[tuple[str, Any], ...] = ()
    place: str = "."


@dataclass(frozen=True)
class Regime:
    """One configuration and the runs on it, the most telling first."""

    name: str
    settings: dict[str, dict[str, Any]]
    trials: tuple[Trial, ...]


VARIANTS = {
    "projection64": ("projection", (("code.length", 64),)),
    "pca16": ("pca", (("code.length", 16), ("code.fit_samples", 96))),
    "pca32": ("pca", (("code.length", 32), ("code.fit_samples", 96))),
}
"""Methods with other settings: an autoencoder's code length; more directions."""


def trials(*wanted: tuple[str, float, int]) -> tuple[Trial, ...]:
    """Trials of (method or variant, epsilon, seed).

    Public training may overshoot, so that its best number of rounds counts.
    """
    found = []
    for method, epsilon, seed in wanted:
        if method == "public":
            found += [
                Trial(
                    Task("public", INF, seed),
                    "public",
                    (("run.rounds", rounds),),
                    f"rounds{rounds}",
                )
                for rounds in PUBLIC_ROUNDS
            ]
        elif method in VARIANTS:
            of, settings = VARIANTS[method]
            found.append(Trial(Task(of, epsilon, seed), method, settings, method))
        else:
            found.append(Trial(Task(method, epsilon, seed), method))
    return tuple(found)


HEAD = """# Results

Written by `python -m benchmarks.results page`, from runs made by `python -m
benchmarks.results run large` and `run small` (the file says which data they
need). Model: SmolLM2-135M-Instruct. Data: databricks-dolly-15k, the rows
of at most 128 tokens. Loss: nats per response token on some 200 held-out rows that
nothing else uses; a change is of the whole run, and standard errors are over
these rows, paired. What a client sends is clipped and summed; the ledger of each
run certifies the epsilon in the table. Settings that were chosen by looking at
private runs beforehand (8 rounds, the step of 0.4, the small clip norm of the small
population) are not in epsilon. One seed unless a row says otherwise; runs that are
not in a table have not been made."""
TITLES = {
    "large": "## Large population: one example a client",
    "small": "## Small population: 300 clients, public data from elsewhere",
}
REGIMES = {
    "large": Regime(
        "large",
        LARGE,
        trials(
            ("fedlora", INF, 0),
            ("fedlora", 0.5, 0),
            ("public", INF, 0),
            ("fedlora", INF, 1),
            ("fedlora", 0.5, 1),
            ("fedlora", INF, 2),
            ("fedlora", 0.5, 2),
            ("fedlora", 2.0, 0),
            ("fedlora", 8.0, 0),
            ("pca", 0.5, 0),
            ("dr-encoder", 0.5, 0),
            ("projection", 0.5, 0),
            ("public", INF, 1),
            ("public", INF, 2),
        ),
    ),
    "small": Regime(
        "small",
        SMALL,
        trials(
            *(("fedlora", INF, seed) for seed in range(3)),
            *(("pca", 2.0, seed) for seed in range(3)),
            *(("pca32", 2.0, seed) for seed in (1, 0, 2)),
            ("pca16", 2.0, 1),
            *(("public", INF, seed) for seed in range(3)),
            *(
                (method, 2.0, seed)
                for seed in range(3)
                for method in ("fedlora", "dr-encoder", "projection64", "projection")
            ),
            ("fedcg", INF, 0),
            ("dr-encoder", INF, 0),
            ("projection64", INF, 0),
            ("projection", INF, 0),
            ("pca", INF, 0),
            *(
                (method, epsilon, 0)
                for epsilon in (0.5, 8.0)
                for method in ("pca32", "fedlora", "projection", "dr-encoder", "pca")
            ),
            ("fedcg", 2.0, 0),
            ("cent", INF, 0),
        ),
    ),
}


@dataclass(frozen=True)
class Row:
    """A run and the loss of each held-out example after it."""

    label: str
    done: Finished
    before: HeldOutLoss
    after: HeldOutLoss
    plan: dict[str, Any]

    @property
    def change(self) -> Difference:
        """What training changed; negative is better."""
        return paired_difference(self.after, self.before)


def rows_of(regime: Regime, out: Path) -> list[Row]:
    """Every run of a regime that is finished; of public training the best one."""
    found: dict[tuple[str, float, int], Row] = {}
    for trial in regime.trials:
        folder = RunFolder(out / regime.name / trial.place / trial.task.name)
        if (folder.path / "statement.json").exists():
            one = row(trial, folder)
            key = (trial.label, trial.task.epsilon, trial.task.seed)
            if key not in found or one.change.value < found[key].change.value:
                found[key] = one
    order = list(dict.fromkeys(trial.label for trial in regime.trials))
    return sorted(
        found.values(),
        key=lambda one: (
            order.index(one.label),
            -one.done.task.epsilon,
            one.done.task.seed,
        ),
    )


def row(trial: Trial, folder: RunFolder) -> Row:
    """One finished run."""
    losses = json.loads((folder.path / "held_out.json").read_text(encoding="utf-8"))
    tokens = np.array(losses["tokens"])
    plan = folder.plan()
    if plan is None:
        raise SystemExit(f"{folder.path} has no plan")
    return Row(
        trial.label,
        finished(trial.task, folder),
        HeldOutLoss(np.array(losses["before"]), tokens),
        HeldOutLoss(np.array(losses["after"]), tokens),
        plan,
    )


def partner(rows: Iterable[Row], label: str, seed: int) -> Row | None:
    """The run of another method without noise, with the same seed."""
    for one in rows:
        if (one.label, one.done.task.seed, one.done.task.epsilon) == (label, seed, INF):
            return one
    return None


def page_of(out: Path) -> str:
    """The results page from what is finished."""
    parts = [HEAD]
    for regime in REGIMES.values():
        rows = rows_of(regime, out)
        if rows:
            parts += [TITLES[regime.name], setting(rows[0].plan), table(rows)]
            parts.append(findings(rows))
    parts.append(READING)
    return "\n\n".join(part for part in parts if part) + "\n"


READING = """## How to read this

- *Share of non-private gain* is against `fedlora` without noise, of the same seed;
  *against public only* is against the best of the runs that use no private data,
  chosen on the held-out rows themselves, in its favour. Negative is better.
- `pca` is fitted on public updates, 8 directions on 48 of them; `pca16` and `pca32`
  are 16 and 32 directions on 96. Which of these is best was chosen on seed 1 at
  epsilon 2; the other seeds confirm it.
- `dr-encoder` (random prior, 64 numbers) and `projection64` know nothing about the
  updates and keep about k/d of their energy, d being the length of an update and k
  that of a code. They are of one class: neither comes near public training alone.
  A random projection of 4,096 numbers (`projection`) gains more, at the same epsilon.
- `fedcg` fits its autoencoder on clients' real updates, so that nothing is private
  about it whatever noise its rounds add."""


def setting(plan: dict[str, Any]) -> str:
    """The configuration in one paragraph."""
    lora, data = plan["settings"]["lora"], plan["settings"]["data"]
    factor = plan["settings"]["privacy"].get("clip_factor", 1.0)
    return (
        f"{plan['clients']:,} clients with {plan['examples']:,} private examples,"
        f" about {plan['expected_cohort']:.4g} clients a round (Poisson), 8 rounds,"
        f" central noise, delta {plan['delta']:g}, zero-out adjacency, one gradient"
        f" of all of a client's examples a round, LoRA rank {lora['rank']} on q, k, v"
        f" and o with A frozen ({plan['update_length']:,} numbers). Clip norm"
        f" ({factor:g} times the median code norm) and step (norm 0.4 for the first"
        f" mean update) are taken from {data['public']} public examples."
    )


def table(rows: list[Row]) -> str:
    """One line a run."""
    header = (
        "method",
        "seed",
        "epsilon, certified",
        "code",
        "noise / coordinate",
        "change of loss (SE)",
        "share of non-private gain",
        "against public only (SE)",
    )
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    for one in rows:
        task, plan = one.done.task, one.plan
        best = partner(rows, "fedlora", task.seed)
        open_ = partner(rows, "public", task.seed)
        share = "" if best is None else f"{one.change.value / best.change.value:.0%}"
        against = ""
        if open_ is not None and task.method != "public":
            gap = paired_difference(one.after, open_.after)
            against = f"{gap.value:+.4f} ({gap.standard_error:.4f})"
        name = one.label
        if task.method == "public":
            name += f", {plan['rounds']} rounds (the best)"
        lines.append(
            "| "
            + " | ".join(
                (
                    name,
                    str(task.seed),
                    guarantee(one),
                    f"{plan['code_length']:,}",
                    noise(plan),
                    f"{one.change.value:+.4f} ({one.change.standard_error:.4f})",
                    share,
                    against,
                )
            )
            + " |"
        )
    return "\n".join(lines)


def guarantee(one: Row) -> str:
    """What the ledger certifies."""
    if one.done.task.method == "public":
        return "0 (no private data)"
    if one.done.epsilon == math.inf:
        stage = one.done.task.epsilon
        if stage < math.inf:
            return f"NOT PRIVATE (noise as for {stage:g})"
        return "NOT PRIVATE (no noise)"
    return f"{math.ceil(one.done.epsilon * 1e4) / 1e4:g}"


def noise(plan: dict[str, Any]) -> str:
    """Noise on a coordinate of the mean, per clip norm."""
    value = plan["noise_multiplier"] / plan["expected_cohort"]
    return f"{value:.4f}" if value else "0"


def findings(rows: list[Row]) -> str:
    """Averages over seeds of what was run with more than one."""
    lines = []
    for label, epsilon in dict.fromkeys(
        (one.label, one.done.task.epsilon) for one in rows
    ):
        some = [
            one
            for one in rows
            if (one.label, one.done.task.epsilon) == (label, epsilon)
        ]
        shares = [
            one.change.value / best.change.value
            for one in some
            if (best := partner(rows, "fedlora", one.done.task.seed))
        ]
        if len(shares) < 2 or (label, epsilon) == ("fedlora", math.inf):
            continue
        spread = np.std(shares, ddof=1) / math.sqrt(len(shares))
        told = "no private data" if label == "public" else f"epsilon {epsilon:g}"
        lines.append(
            f"- {label}, {told}: {np.mean(shares):.0%} of the non-private gain, mean"
            f" of {len(shares)} seeds (standard error over seeds {spread:.0%})."
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a regime, or write the page."""
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
    for trial in regime.trials:
        for done in compared(
            changed(config, dict(trial.settings)),
            [trial.task],
            asked.out / regime.name / trial.place,
            tell=say,
            watch=lambda task, at: say(
                f"{task.name} round {at.round}/{at.rounds} {dict(at.metrics)}"
            ),
        ):
            say(f"done {done.folder}: {done.before} -> {done.after}")


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def configured(regime: Regime, dolly: str, mmlu: Path | None, out: Path) -> Config:
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


if __name__ == "__main__":
    main()
