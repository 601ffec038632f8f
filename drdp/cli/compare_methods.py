"""``drdp compare-methods``: methods by budgets on one configuration, as tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from drdp.cli import options
from drdp.cli.render import columns, json_text
from drdp.cli.settings import METHOD_TABLE, Settings, run_settings

if TYPE_CHECKING:
    from drdp.fedsim.comparison import Finished, Task
    from drdp.fedsim.execution import Progress
    from drdp.fedsim.tables import Table

__all__ = ["compare_methods"]

_MOST = 20
_WIDTH = 79


def _budget(text: str) -> float:
    return math.inf if text == "inf" else options.positive(text)


def _whole(text: str) -> int:
    if not text.isdigit():
        raise click.BadParameter(f"must be whole numbers from 0, got {text:.60}")
    return int(text)


def _known_suffix(
    context: click.Context, parameter: click.Parameter, files: tuple[Path, ...]
) -> tuple[Path, ...]:
    for file in files:
        if file.suffix not in (".md", ".csv"):
            raise click.BadParameter(f"must end in .md or .csv, got {file}")
        if not file.parent.is_dir():  # now, rather than after all runs
            raise click.BadParameter(f"there is no folder {file.parent}")
    return files


@options.command(
    examples="""
drdp compare-methods --methods base,fedlora,pca --epsilons inf,2 --out runs
drdp compare-methods --model tiny --rounds 2 --out compared --json
drdp compare-methods --set evaluation.mmlu=mmlu --out runs --export runs.md
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
@click.option(
    "--export",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=_known_suffix,
    multiple=True,
    metavar="FILE",
    help="Write the tables to a .md file, or every run to a .csv; repeatable.",
)
@options.as_json
def compare_methods(
    *,
    settings: Settings,
    methods: list[str],
    epsilons: list[float],
    seeds: list[int],
    out: Path,
    export: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Methods by budgets on one configuration.

    Runs every method at every budget, and prints held-out metrics by method and
    budget, benchmarks by discipline, what each run guarantees, and what it
    sends.  It can be interrupted and started again: finished runs are kept.
    """
    from drdp.compression.communication import table_five
    from drdp.fedsim.comparison import compared, tasks
    from drdp.fedsim.models import training_packages
    from drdp.fedsim.tables import as_csv, as_markdown, told

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

    def text(kind: str) -> str:
        if kind == ".csv":
            return as_csv(found)
        return as_markdown(told(found, methods, epsilons, short=False))

    _exported(export, text)
    if as_json:
        paper = table_five()
        figures = {
            "updates": paper.updates,
            "statistics": paper.statistics,
            "ratio": paper.ratio,
            "updates_bytes": 4 * paper.updates,
            "statistics_bytes": 4 * paper.statistics,
        }
        runs = [_record(run) for run in found]
        click.echo(json_text({"runs": runs, "table_five": figures}))
        return
    for place, table in enumerate(told(found, methods, epsilons)):
        if place:
            click.echo()
        _print(table)


def _watch(task: Task, progress: Progress) -> None:
    loss = progress.metrics.get("loss")
    told = "" if loss is None else f"  loss {loss:.4f}"
    click.echo(f"  round {progress.round}/{progress.rounds}{told}", err=True)


def _print(table: Table) -> None:
    click.echo(table.title)
    for line in columns(table.header, table.rows):
        click.echo(line)
    for note in table.notes:
        click.echo(click.wrap_text(note, _WIDTH, "  ", "  "))


def _exported(files: Sequence[Path], texts: Callable[[str], str]) -> None:
    from drdp.errors import RunFolderError

    for file in files:
        try:
            file.write_text(texts(file.suffix), encoding="utf-8")
        except OSError as error:
            raise RunFolderError(
                f"--export {file} cannot be written: {error.strerror}"
            ) from None


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
        "setup_numbers": run.setup_numbers,
        "setup_bytes": run.setup_bytes,
        "delta": run.delta,
        "benchmarks": run.benchmarks,
        "folder": str(run.folder),
    }
