"""Several methods at several budgets as a page: what each of them came to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from drdp import __version__
from drdp.errors import RunFolderError
from drdp.fedsim.benchmark_part import compared_part
from drdp.fedsim.digits import about, size, up
from drdp.fedsim.drawing import STYLES, Line, Tick
from drdp.fedsim.evidence import Evidence, evidence
from drdp.fedsim.exams import metric
from drdp.fedsim.findings import VERSION, Document, cost_of
from drdp.fedsim.folder import RunFolder
from drdp.fedsim.marks import AVERAGE
from drdp.fedsim.markup import (
    Figures,
    banner,
    bullets,
    page,
    paragraph,
    section,
    table,
)

__all__ = ["comparison_findings", "comparison_page"]

_BUDGETLESS = {
    "base": "no private data",
    "public": "no private data",
    "cent": "not private",
}
_CAUTIONS = (
    (
        "Each epsilon is that of its run alone. The runs share their data: whoever sees"
        " several of them has the sum of what they cost."
    ),
    "Choosing a method or a setting by these figures is not covered by any of them.",
    "Metrics are measured on held-out data, which the guarantees do not cover.",
)


def comparison_findings(name: str, folders: Sequence[Path]) -> Document:
    """The data behind the page of a comparison.

    Args:
        name: Of the folder of all runs.
        folders: Of the runs, at least one.

    Raises:
        RunFolderError: If one is damaged.
    """
    runs = [_run(evidence(RunFolder(folder))) for folder in folders]
    return {
        "drdp_report": VERSION,
        "kind": "comparison",
        "name": name,
        "warnings": [
            f"{run['folder']}: {doubt}" for run in runs for doubt in run["warnings"]
        ],
        "runs": runs,
    }


def comparison_page(found: Document) -> str:
    """The page.

    Args:
        found: From `comparison_findings`.
    """
    runs: list[Document] = found["runs"]
    done = [run for run in runs if run["finished"] and run["after"]]
    apart = {
        metric(exam, group)
        for run in done
        for exam, one in run["benchmarks"].items()
        for group in one["marks"]
        if group != AVERAGE
    }
    metrics = [
        name
        for name in dict.fromkeys(name for run in done for name in run["after"])
        if name not in apart
    ]
    figures = Figures()
    parts = [section("cautions", "What these figures mean", [bullets(_CAUTIONS)])]
    parts += [_metric(name, done, figures) for name in metrics]
    parts.append(compared_part(done))
    parts += [_messages(runs), _runs(runs)]
    count = f"{len(done)} of {len(runs)} runs are finished"
    return page(
        f"drdp comparison {found['name']}",
        [*_banners(found, runs, done), paragraph(f"{count}.")],
        parts,
        f"Made by drdp {__version__} from the folders of the runs. Epsilons are"
        " rounded up; the page loads nothing and runs nothing.",
    )


def _run(seen: Evidence) -> Document:
    plan, method = seen.plan, seen.config.run.method
    if plan is None and seen.done:
        raise RunFolderError(f"{seen.name}: plan.json is missing")
    epsilon: float | None = None
    doubts: list[str] = []
    if plan is not None:
        cost, doubts = cost_of(seen, plan)
        epsilon = cost.upper
    measured = [one.metrics for one in seen.rounds if one.metrics]
    sends = plan is not None and plan.rounds > 0
    budget = seen.config.privacy.epsilon
    return {
        "folder": seen.name,
        "method": method,
        "budget": None if method in _BUDGETLESS else budget,
        "seed": seen.config.run.seed,
        "finished": seen.finished,
        "rounds_done": seen.done,
        "simulation": seen.seeded,
        "epsilon": epsilon,
        "delta": None if plan is None else plan.delta,
        "before": measured[0] if measured else {},
        "after": measured[-1] if measured else {},
        "benchmarks": seen.benchmarks,
        "numbers": plan.code_length if plan is not None and sends else 0,
        "bytes": plan.message_bytes if plan is not None and sends else 0,
        "warnings": doubts,
    }


def _banners(
    found: Document, runs: Sequence[Document], done: Sequence[Any]
) -> list[str]:
    told = []
    bare = sorted({run["method"] for run in runs if run["epsilon"] == math.inf})
    if bare:
        told.append(
            banner(
                "Some runs are not private.",
                f"No finite epsilon holds for runs of {', '.join(bare)} where the table"
                " says so.",
                alarm=True,
            )
        )
    seeded = sum(run["simulation"] for run in runs)
    if seeded:
        told.append(
            banner(
                "Simulation, not private.",
                f"In {seeded} of {len(runs)} runs noise and cohorts come from a seed"
                " that is written down. Their figures are what the same runs with"
                " secret noise would guarantee.",
                alarm=True,
            )
        )
    if len(done) < len(runs):
        left = ", ".join(run["folder"] for run in runs if run not in done)
        told.append(banner("Unfinished.", f"Left out: {left}.", alarm=False))
    return told + [
        banner("Check this.", text, alarm=True) for text in found["warnings"]
    ]


def _metric(metric: str, done: Sequence[Document], figures: Figures) -> str:
    """One table, methods down and budgets across, and its figure."""
    methods = list(dict.fromkeys(run["method"] for run in done))
    budgets = sorted({run["budget"] for run in done if run["budget"] is not None})
    rows = []
    for method in methods:
        mine = [run for run in done if run["method"] == method]
        cells = [_cell(metric, _at(mine, budget)) for budget in budgets or [math.inf]]
        rows.append([_named(method), *cells])
    across = [
        "no noise, not private" if budget == math.inf else f"ε {about(budget)}"
        for budget in budgets
    ] or ["any budget"]
    caption = f"{metric} after training, by method and budget"
    before = {about(run["before"][metric]) for run in done if metric in run["before"]}
    more = (
        "Means over seeds, with the least and the greatest."
        if len({run["seed"] for run in done}) > 1
        else "One seed."
    )
    text = f"Before training: {', '.join(sorted(before))}. {more}"
    columns = range(1, len(across) + 1)
    numbers = table(caption, ("method", *across), rows, numbers=columns)
    drawn = [
        figures.figure(
            f"{metric} against the budget epsilon",
            f"for {', '.join(methods[start : start + STYLES])}",
            list(_lines(metric, methods[start : start + STYLES], done, budgets)),
            "budget epsilon (logarithmic)",
            metric,
            numbers,
            ticks=_places(budgets),
        )
        for start in range(0, len(methods), STYLES)
    ]
    return section(
        f"metric-{metric}",
        f"{metric} by method and budget",
        [paragraph(text, "note"), numbers, Figures.beside(drawn)],
    )


def _lines(
    metric: str,
    methods: Sequence[str],
    done: Sequence[Document],
    budgets: Sequence[float],
) -> Iterator[Line]:
    places = [place for place, _ in _places(budgets)]
    for style, method in enumerate(methods):
        mine = [run for run in done if run["method"] == method]
        points = [
            (place, sum(values) / len(values))
            for place, budget in zip(places, budgets or [math.inf], strict=True)
            if (values := _values(metric, _at(mine, budget)))
        ]
        yield Line(_named(method), points, style)


def _places(budgets: Sequence[float]) -> list[Tick]:
    """Finite budgets by their logarithm, and no noise to the right of them."""
    finite = [budget for budget in budgets if budget < math.inf]
    places = [(math.log10(budget), about(budget, 3)) for budget in finite]
    if len(finite) < len(budgets) or not finite:
        gap = 0.3
        if len(places) > 1:
            gap = (places[-1][0] - places[0][0]) / (len(places) - 1)
        places.append(((places[-1][0] if places else 0.0) + gap, "no noise"))
    return places


def _at(runs: Sequence[Document], budget: float) -> list[Document]:
    """Runs at a budget; a method that knows no budget has them at every one."""
    return [run for run in runs if run["budget"] in (None, budget)]


def _values(metric: str, runs: Sequence[Document]) -> list[float]:
    return [run["after"][metric] for run in runs if metric in run["after"]]


def _cell(metric: str, runs: Sequence[Document]) -> str:
    values = _values(metric, runs)
    if not values:
        return ""
    mean = about(sum(values) / len(values), 5)
    if len(values) == 1:
        return mean
    return f"{mean} ({about(min(values), 5)} to {about(max(values), 5)})"


def _named(method: str) -> str:
    why = _BUDGETLESS.get(method)
    return f"{method} ({why})" if why else method


def _messages(runs: Sequence[Document]) -> str:
    sizes = {run["method"]: run for run in runs}
    largest = max(run["numbers"] for run in runs) or 1
    rows = [
        [
            method,
            f"{run['numbers']:,}",
            size(run["bytes"]),
            about(run["numbers"] / largest, 3),
        ]
        for method, run in sizes.items()
    ]
    header = ("method", "numbers", "bytes", "share of the largest")
    told = table("One contribution in one round", header, rows, numbers=(1, 2, 3))
    return section("communication", "Communication", [told])


def _runs(runs: Sequence[Document]) -> str:
    rows = []
    for run in runs:
        epsilon, budget = run["epsilon"], run["budget"]
        if epsilon == math.inf:
            private = "NOT PRIVATE"
        elif run["method"] in _BUDGETLESS:
            private = _BUDGETLESS[run["method"]]
        else:
            private = "only with secret noise" if run["simulation"] else "yes"
        rows.append(
            [
                run["folder"],
                "" if budget is None else about(budget),
                "" if epsilon is None else up(epsilon, 6),
                "" if run["delta"] is None else up(run["delta"]),
                private,
                "finished" if run["finished"] else f"{run['rounds_done']} rounds",
            ]
        )
    header = ("run", "budget", "certified epsilon at most", "delta", "private", "state")
    told = table("All runs", header, rows, numbers=(1, 2, 3))
    return section("runs", "The runs", [told])
