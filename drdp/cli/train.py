"""``drdp train``: one private federated fine-tuning run, from settings to statement."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from drdp.cli import options
from drdp.cli.numbers import down, plain, up
from drdp.cli.render import json_text
from drdp.cli.settings import Settings, run_settings

if TYPE_CHECKING:
    from drdp.fedsim.execution import Outcome, Prepared, Progress

__all__ = ["train"]

_WIDTH = 79


@options.command(
    examples="""
drdp train --epsilon 2 --out run
drdp train --method pca --model tiny --rounds 2 --epsilon 8 --out run
drdp train --config run.toml --set local.steps=8 --out run
drdp train --method fedlora --epsilon 2 --dry-run
drdp train --resume run
"""
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
    from drdp.fedsim.running import Run

    place = resume or out
    if resume is not None and (out is not None or settings.given):
        raise click.UsageError(
            "--resume takes no other settings: the run keeps those it began with"
        )
    if place is None and not dry_run:
        raise click.UsageError("--out FOLDER is needed, or --dry-run, or --resume")
    told = _told(as_json)
    if place is None or (dry_run and resume is None):
        prepared = Run(settled(settings.config()), None).prepared(told)
        _say_plan(prepared, as_json)
        return
    with RunFolder(place).locked():
        if resume is None:
            run = Run.begun(RunFolder(place), settings.config())
        else:
            run = Run.resumed(RunFolder(place))
        prepared = run.prepared(told)
        if dry_run:
            _say_plan(prepared, as_json)
            return
        if not as_json:
            _say_plan(prepared, as_json=False)
        try:
            outcome = run.executed(prepared, _Watch(prepared, quiet=as_json))
        except KeyboardInterrupt:
            click.echo(
                f"\ninterrupted; nothing is lost: drdp train --resume {place}", err=True
            )
            raise
    _say_outcome(prepared, outcome, place, as_json)


def _told(quiet: bool) -> Any:
    def tell(text: str) -> None:
        if not quiet:
            click.echo(text, err=True)

    return tell


def _say_plan(prepared: Prepared, as_json: bool) -> None:
    if as_json:
        click.echo(json_text(dict(prepared.plan)))
        return
    for title, lines in prepared.plan["told"].items():
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


def _say_outcome(
    prepared: Prepared, outcome: Outcome, place: Path, as_json: bool
) -> None:
    found = outcome.statement
    if as_json:
        click.echo(
            json_text(
                {
                    "folder": str(place),
                    "rounds": outcome.state.round,
                    "before": dict(outcome.before),
                    "after": dict(outcome.after),
                    "plan": dict(prepared.plan),
                    "statement": found.to_dict(),
                    "noise_is_secret": not prepared.seeded,
                }
            )
        )
        return
    click.echo("Result")
    for name in outcome.after:
        was, now = outcome.before.get(name), outcome.after[name]
        told = "" if was is None else f"{was:.4f} before, "
        click.echo(f"  {name:<12} {told}{now:.4f} after {outcome.state.round} rounds")
    if prepared.seeded:
        click.echo("SIMULATION, NOT PRIVATE: its noise can be replayed from a seed.")
    click.echo(click.wrap_text(found.sentence(), _WIDTH))
    low, high = found.epsilon.lower, found.epsilon.upper
    click.echo(
        f"  certified epsilon  {down(low)} to {up(high)} at {plain(found.delta)}"
    )
    click.echo(f"  written to {place}: adapter, statement, ledger, metrics")
