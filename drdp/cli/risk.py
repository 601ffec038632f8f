"""``drdp risk``: what an attacker can achieve against a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from drdp.cli import danger, options
from drdp.cli.plan import read_plan
from drdp.cli.render import json_text
from drdp.privacy.attained import attained
from drdp.privacy.figures import certified_curve, figures
from drdp.privacy.pld import epsilon_interval

__all__ = ["risk"]


@options.command(
    examples="""
drdp risk --sigma 1 --steps 20 --rate 0.05
drdp risk --sigma 1 --steps 20 --rate 0.05 --fprs 0.01,1e-4 --both
drdp risk --sigma 1 --steps 20 --rate 0.05 --priors 1/256 --json
drdp risk --sigma 1 --steps 20 --rate 0.05 --plot trade-off.png
"""
)
@options.sigma
@options.steps()
@options.rate()
@options.delta
@options.relation
@options.option(
    "--fprs",
    check=options.listed(options.probability, most=options.LONGEST_LIST),
    metavar="P,P,..",
    text="False positive rates at which to give the true positive rate.",
    default="0.1,0.01,0.001,1e-4,1e-5,1e-6",
)
@options.option(
    "--priors",
    check=options.listed(options.probability, most=options.LONGEST_LIST),
    metavar="P,P,..",
    text="Chances of guessing a unit's data without the release.",
    default="1/2,1/10,1/256,1e-6",
)
@click.option(
    "--both",
    is_flag=True,
    help="Also what the best attack reaches at least, at every FPR.",
)
@options.picture("Draw the trade-off into this .png, .svg or .pdf file as well.")
@options.as_json
def risk(
    *,
    fprs: list[float],
    priors: list[float],
    both: bool,
    picture: Path | None,
    as_json: bool,
    **described: Any,
) -> None:
    """What an attacker can achieve against a run, whatever the attack.

    Prints certified bounds: on the membership advantage, on true positive rates
    at small false positive rates, on the share of right guesses, and on the
    success of reconstructing a unit's data.
    """
    plan = read_plan(**described)
    event = plan.event()
    epsilon = epsilon_interval(event, plan.delta or 0.0)
    found = figures(
        certified_curve(event, "upper"),
        certified_curve(event, "lower"),
        fprs=fprs,
        priors=priors,
        reached=attained(event) if both else None,
    )
    if picture is not None:
        from drdp.cli import plot

        plot.save_trade_off(plan, picture)
    if as_json:
        click.echo(json_text(danger.table_document(plan, found, epsilon)))
        return
    danger.table(plan, found, epsilon)
    if picture is not None:
        click.echo(f"\nwrote {picture}")
