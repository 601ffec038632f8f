"""``drdp compare-methods``: methods by budgets on one configuration, as tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from drdp.cli import options
from drdp.cli.numbers import plain
from drdp.cli.render import columns, json_text
from drdp.cli.settings import METHOD_TABLE, Settings, run_settings

if TYPE_CHECKING:
    from drdp.fedsim.comparison import Finished, Task
    from drdp.fedsim.execution import Progress

__all__ = ["compare_methods"]

_MOST = 20
_DATALESS = ("base", "public")


def _budget(text: str) -> float:
    return math.inf if text == "inf" else options.positive(text)


def _whole(text: str) -> int:
    if not text.isdigit():
        raise click.BadParameter(f"must be whole numbers from 0, got {text:.60}")
    return int(text)


@options.command(
    examples="""
drdp compare-methods --methods base,fedlora,pca --epsilons inf,2 --out runs
drdp compare-methods --model tiny --rounds 2 --out compared --json
""",
    table=METHOD_TABLE,
)
@run_settings
@options.option(
    "--methods",
    check=options.listed(str, most=_MOST),
    metavar="NAMES",
    text="Methods, separated by commas.",
    default="base,cent,fedlora,fedcg,dr-encoder",
)
@options.option(
    "--epsilons",
    check=options.listed(_budget, most=_MOST),
    metavar="E,E,..",
    text="Budgets, separated by commas; inf is no noise.",
    default="inf,8,2",
)
@options.option(
    "--seeds",
    check=options.listed(_whole, most=_MOST),
    metavar="SEEDS",
    text="Seeds, separated by commas.",
    default="0",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    required=True,
    help="The folder of all runs; what is finished there is not run again.",
)
@options.as_json
def compare_methods(
    *,
    settings: Settings,
    methods: list[str],
    epsilons: list[float],
    seeds: list[int],
    out: Path,
    as_json: bool,
) -> None:
    """Methods by budgets on one configuration.

    Runs every method at every budget, and prints held-out metrics by method and
    budget, what each run guarantees, and what it sends.  It can be interrupted
    and started again: finished runs are kept.
    """
    from drdp.fedsim.comparison import compared, tasks
    from drdp.fedsim.models import training_packages

    training_packages()
    wanted = tasks(methods, epsilons, seeds)
    found = list(
        compared(
            settings.config(),
            wanted,
            out,
            tell=lambda text: click.echo(text, err=True),
            watch=_watch,
        )
    )
    if as_json:
        click.echo(json_text({"runs": [_record(run) for run in found]}))
        return
    for metric in found[0].after:
        click.echo(_table(metric, found, methods, epsilons))
        click.echo()
    click.echo(_messages(found, methods))


def _watch(task: Task, progress: Progress) -> None:
    loss = progress.metrics.get("loss")
    told = "" if loss is None else f"  loss {loss:.4f}"
    click.echo(f"  round {progress.round}/{progress.rounds}{told}", err=True)


def _table(
    metric: str,
    found: Sequence[Finished],
    methods: Sequence[str],
    epsilons: Sequence[float],
) -> str:
    """Means over seeds, methods down and budgets across."""
    rows = []
    for method in methods:
        cells = [method]
        for epsilon in epsilons:
            values = [
                run.after[metric]
                for run in found
                if run.task.method == method
                and run.task.epsilon in (epsilon, math.inf)
                and (run.task.epsilon == epsilon or _single(found, method))
            ]
            cells.append(f"{sum(values) / len(values):.4f}" if values else "")
        cells.append(_private(method, found))
        rows.append(cells)
    header = ["method", *(f"epsilon {_shown(e)}" for e in epsilons), "private"]
    start = {run.task.seed: run.before[metric] for run in found}
    title = f"{metric} on held-out data, {_mean(list(start.values())):.4f} before"
    return "\n".join([title, *columns(header, rows)])


def _single(found: Sequence[Finished], method: str) -> bool:
    """Whether a method knows no budgets."""
    return len({r.task.epsilon for r in found if r.task.method == method}) == 1


def _private(method: str, found: Sequence[Finished]) -> str:
    if method in _DATALESS:
        return "no private data"
    finite = [r.epsilon < math.inf for r in found if r.task.method == method]
    return "yes" if all(finite) else "where finite" if any(finite) else "NO"


def _messages(found: Sequence[Finished], methods: Sequence[str]) -> str:
    rows = []
    largest = max(run.numbers for run in found) or 1
    sizes = {run.task.method: run for run in found}
    for method in methods:
        numbers = sizes[method].numbers
        rows.append(
            [
                method,
                f"{numbers:,}",
                f"{sizes[method].message_bytes:,}",
                f"{numbers / largest:.3g}",
            ]
        )
    header = ["method", "numbers", "bytes", "ratio"]
    return "\n".join(["A client's message in one round", *columns(header, rows)])


def _record(run: Finished) -> dict[str, Any]:
    return {
        "method": run.task.method,
        "budget": run.task.epsilon,
        "seed": run.task.seed,
        "epsilon": run.epsilon,
        "before": run.before,
        "after": run.after,
        "numbers": run.numbers,
        "message_bytes": run.message_bytes,
        "folder": str(run.folder),
    }


def _shown(epsilon: float) -> str:
    return "inf" if epsilon == math.inf else plain(epsilon)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
