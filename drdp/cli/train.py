"""``drdp train``: one private federated fine-tuning run, from settings to statement."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from drdp.cli import options
from drdp.cli.numbers import down, plain, up
from drdp.cli.render import json_text
from drdp.cli.settings import METHOD_TABLE, Settings, run_settings

if TYPE_CHECKING:
    from drdp.fedsim.execution import Prepared, Progress
    from drdp.fedsim.folder import RunFolder

__all__ = ["train"]

_WIDTH = 79

Done = TypeVar("Done")


@options.command(
    examples="""
drdp train --epsilon 2 --out run
drdp train --method pca --model tiny --rounds 2 --epsilon 8 --out run
drdp train --config run.toml --set local.steps=8 --out run
drdp train --method fedlora --epsilon 2 --dry-run
drdp train --resume run
""",
    table=METHOD_TABLE,
)
@run_settings
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="A new folder for everything that the run writes.",
)
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Go on with the run in this folder, with the settings it began with.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Work out noise, cost and forecast, and stop before the first round.",
)
@options.as_json
def train(
    *,
    settings: Settings,
    out: Path | None,
    resume: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Train an adapter federatedly and privately.

    Fits the codec, calibrates the noise to the budget, says what to expect, and
    runs the rounds; each is paid for in a durable ledger before its result is
    released.  A run that was interrupted goes on with --resume as if nothing
    had happened.
    """
    from drdp.fedsim.federation import settled
    from drdp.fedsim.folder import RunFolder
    from drdp.fedsim.models import training_packages
    from drdp.fedsim.running import Run

    place = resume or out
    if resume is not None and (out is not None or settings.given):
        raise click.UsageError(
            "--resume takes no other settings: the run keeps those it began with"
        )
    if place is None and not dry_run:
        raise click.UsageError("--out FOLDER is needed, or --dry-run, or --resume")
    training_packages()
    told, config = _told(as_json), settled(settings.config())
    if place is None or (dry_run and resume is None):
        prepared = Run(config, None).prepared(told)
        _say_plan(prepared.plan, as_json)
        return
    folder = RunFolder(place)
    if resume is not None:
        folder.config()  # before a lock is made where there is no run
    else:
        folder.check_vacant()
    with folder.locked():
        if folder.finished and resume is not None:
            told(f"the run in {place} is finished; nothing was run again")
            folder.erase_key()
        else:
            run = Run.begun(folder, config) if resume is None else Run.resumed(folder)
            prepared = _interruptible(place, lambda: run.prepared(told))
            if dry_run or not as_json:
                _say_plan(prepared.plan, as_json)
            if dry_run:
                return
            watch = _Watch(prepared, quiet=as_json)
            outcome = _interruptible(place, lambda: run.executed(prepared, watch))
            if outcome.stopped is not None:
                click.echo(
                    f"stopped after {outcome.state.round} of {prepared.rounds} rounds:"
                    f" {outcome.stopped}",
                    err=True,
                )
            _warn_of_zeroed(folder)
        _say_result(folder.result(), as_json)


def _interruptible(place: Path, work: Callable[[], Done]) -> Done:
    """What `work` gives; Ctrl-C leaves a word on how to go on."""
    try:
        return work()
    except KeyboardInterrupt:
        click.echo(
            f"\ninterrupted; nothing is lost: drdp train --resume {place}", err=True
        )
        raise


def _told(quiet: bool) -> Any:
    def tell(text: str) -> None:
        if not quiet:
            click.echo(text, err=True)

    return tell


def _warn_of_zeroed(folder: RunFolder) -> None:
    """Tell the operator, on stderr alone, of clients that gave nothing usable."""
    counts = [one.get("private", {}).get("zeroed", 0) for one in folder.records()]
    if any(counts):
        click.echo(
            f"warning: {sum(counts)} contributions in {sum(map(bool, counts))} rounds"
            " counted as zero, because training diverged (nothing finite came of it);"
            " a lower local.learning_rate may help. This count is for the operator"
            " alone: the guarantee does not cover it.",
            err=True,
        )


def _say_plan(plan: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json_text(dict(plan)))
        return
    for title, lines in plan["told"].items():
        click.echo(title)
        for line in lines:
            click.echo(click.wrap_text(line, _WIDTH, "  ", "    "))


class _Watch:
    """A line on stderr per round; on a terminal it is written over."""

    def __init__(self, prepared: Prepared, *, quiet: bool) -> None:
        self._prepared, self._quiet = prepared, quiet
        self._times: list[float] = []
        self._began = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        if self._quiet:
            return
        budget = self._prepared.epsilon
        spent = up(progress.spent.upper, 3)
        limited = budget is not None and budget < math.inf
        limit = f" of {plain(budget)}" if budget is not None and limited else ""
        parts = [
            f"round {progress.round}/{progress.rounds}",
            f"epsilon {spent}{limit}",
        ]
        if "loss" in progress.metrics:
            parts.append(f"loss {progress.metrics['loss']:.4f}")
        if progress.report is not None:
            self._times.append(progress.seconds)
            left = progress.rounds - progress.round
            each = sum(self._times) / len(self._times)
            parts.insert(1, f"{progress.report.private.clients} clients")
            parts += [f"{progress.seconds:.1f} s", f"{_span(left * each)} left"]
        line = "  ".join(parts)
        if sys.stderr.isatty():
            last = progress.round == progress.rounds
            click.echo(f"\r\033[K{line}", err=True, nl=last)
        else:
            click.echo(line, err=True)


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _say_result(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json_text(found))
        return
    from drdp.cli.marks import benchmark_lines
    from drdp.privacy.statement import UNKNOWN

    statement = found["statement"]
    click.echo("Result")
    benchmarks = found["benchmarks"]
    apart = tuple(f"{name}_" for name in benchmarks)
    for name, now in found["after"].items():
        if apart and name.startswith(apart):
            continue
        was = found["before"].get(name)
        told = "" if was is None else f"{was:.4f} before, "
        click.echo(f"  {name:<12} {told}{now:.4f} after {found['rounds']} rounds")
    if found["clip_norm"] is not None:
        first, last = float(found["plan"]["clip_norm"]), float(found["clip_norm"])
        click.echo(
            f"  {'clip norm':<12} {first:.4g} in round 1, {last:.4g} in the last"
        )
    for line in benchmark_lines(benchmarks):
        click.echo(line)
    if not found["noise_is_secret"]:
        click.echo("SIMULATION, NOT PRIVATE: its noise can be replayed from a seed.")
    click.echo(click.wrap_text(statement["statement"], _WIDTH))
    accounting = statement["accounting"]
    low, high = (accounting["epsilon"][end] for end in ("lower", "upper"))
    span = "at most" if low == UNKNOWN else f"{down(float(low))} to"
    delta = plain(accounting["delta"])
    click.echo(f"  certified epsilon  {span} {up(float(high))} at delta {delta}")
    if found["ew_tune"] is not None:
        click.echo(click.wrap_text(str(found["ew_tune"]["told"]), _WIDTH, "  ", "  "))
    click.echo(f"  in {found['folder']}: adapter, statement, ledger, metrics")
