"""``drdp curve``: epsilon against rounds, or delta against epsilon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from drdp.cli import options, plot
from drdp.cli.numbers import nearest, plain, up
from drdp.cli.plan import read_plan
from drdp.cli.progress import watched
from drdp.cli.render import columns, document, json_text
from drdp.cli.series import Against, Curves, trace

__all__ = ["curve"]

_MOST_POINTS = 1001
_ABREAST = 6  # noise multipliers beside each other in 80 columns


def _points(text: str) -> int:
    points = options.whole(text)
    if not 2 <= points <= _MOST_POINTS:
        raise click.BadParameter(f"must lie in [2, {_MOST_POINTS}], got {text}")
    return points


@options.command(
    examples="""
drdp curve --sigma 0.6,0.75,1 --steps 20 --rate 0.05
drdp curve --sigma 0.6,0.75,1 --steps 20 --rate 0.05 --plot figure.png
drdp curve --sigma 1 --steps 20 --rate 0.05 --against epsilon --json
"""
)
@options.sigmas
@options.steps()
@options.rate()
@options.delta
@options.relation
@options.accountant
@options.option(
    "--against",
    check=options.choices("rounds", "epsilon"),
    metavar="AXIS",
    text="rounds (epsilon at --delta, up to --steps) or epsilon (delta, down to"
    " --delta).",
    default="rounds",
)
@options.option(
    "--points",
    check=_points,
    metavar="N",
    text="Points of each curve.",
    default="21",
)
@options.picture("Draw into this .png, .svg or .pdf file instead of printing a table.")
@options.as_json
def curve(
    *,
    noise_multipliers: list[float],
    accountant: str,
    against: Against,
    points: int,
    picture: Path | None,
    as_json: bool,
    **described: Any,
) -> None:
    """Epsilon against rounds, or delta against epsilon, for several noises.

    Prints aligned columns under # comments, which most programs read as they
    are; --plot draws a picture instead.
    """
    curves = trace(
        read_plan(**described),
        noise_multipliers,
        against=against,
        accountant=accountant,
        points=points,
        progress=watched,
    )
    if picture is not None:
        plot.save(curves, picture)
    if as_json:
        click.echo(json_text(_document(curves)))
    elif picture is not None:
        click.echo(f"wrote {picture}")
    else:
        _print(curves)


def _print(curves: Curves) -> None:
    plan = curves.plan
    rate, delta = plain(float(plan.rate or 1)), plain(plan.delta or 0)
    rounds = f"{plan.steps} rounds"
    for line in (
        f"{curves.quantity} against {curves.against}, accountant {curves.accountant}",
        f"bound: {curves.bound}",
        f"{plan.sampling} sampling at rate {rate}, {plan.adjacency}, unit {plan.unit}",
        f"up to {rounds}" if curves.against == "rounds" else rounds,
        f"delta {delta} ({plan.delta_source})",
    ):
        click.echo(f"# {line}")
    for start in range(0, len(curves.series), _ABREAST):
        some = curves.series[start : start + _ABREAST]
        header = [
            f"# {curves.against}",
            *(f"s={plain(s.noise_multiplier)}" for s in some),
        ]
        lines = zip(curves.places, *(s.values for s in some), strict=True)
        show = up if curves.bound == "upper" else nearest
        rows = [[_place(place), *map(show, values)] for place, *values in lines]
        for row in columns(header, rows):
            click.echo(row.removeprefix("  "))


def _place(place: float) -> str:
    return str(place) if isinstance(place, int) else nearest(place)


def _document(curves: Curves) -> dict[str, Any]:
    return {
        "against": curves.against,
        **document(curves.plan),
        "accountant": curves.accountant,
        "bound": curves.bound,
        curves.against: curves.places,
        "curves": [
            {
                "noise_multiplier": series.noise_multiplier,
                "bound": series.bound,
                curves.quantity: series.values,
            }
            for series in curves.series
        ],
    }
