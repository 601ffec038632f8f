"""``drdp compare``: all accountants side by side on one event."""

from __future__ import annotations

from typing import Any

import click

from drdp.cli import options
from drdp.cli.contest import Contest, Contestant, contest
from drdp.cli.numbers import between, down, nearest, plain, up
from drdp.cli.render import columns, json_text
from drdp.cli.source import Source, from_run_or_file, read_source
from drdp.privacy.statement import releases

__all__ = ["compare"]

_WIDTH = 79
_SAME = 1e-6  # relative; six digits are shown


@options.command(
    examples="""
drdp compare --sigma 0.747 --steps 20 --rate 0.05
drdp compare --sigma 1 --steps 20 --rate 0.05 --delta 1e-9 --json
drdp compare --event event.json
"""
)
@from_run_or_file
@options.as_json
def compare(as_json: bool, **described: Any) -> None:
    """All accountants side by side on one event.

    Prints what each says epsilon is at least, about and at most, how long it
    took, how that stands to the certified interval, and why they differ.
    """
    source = read_source(**described)
    found = contest(source.event, source.delta)
    if as_json:
        click.echo(json_text(_document(found, source)))
    else:
        _print(found, source)


def _print(found: Contest, source: Source) -> None:
    click.echo(
        f"certified epsilon  {between(found.certified)}  at delta"
        f" {plain(source.delta)} ({source.delta_source.split(';')[0]})"
    )
    for line in releases(source.event):
        click.echo(click.wrap_text(line, _WIDTH, f"{'released':<19}", " " * 19))
    click.echo()
    header = ("accountant", "at least", "about", "at most", "seconds", "")
    rows = [
        (
            entry.name,
            "" if entry.lower is None else down(entry.lower),
            "" if entry.estimate is None else nearest(entry.estimate),
            "" if entry.upper is None else up(entry.upper),
            "" if entry.seconds is None else f"{entry.seconds:.3f}",
            _verdict(found, entry),
        )
        for entry in found.entries
    ]
    for line in columns(header, rows):
        marked = click.style("UNDER-REPORTS", fg="red")
        click.echo(line.replace("UNDER-REPORTS", marked))
    click.echo("\nWhy they differ:")
    for entry in found.entries:
        text = f"{entry.name}: {entry.why}"
        click.echo(click.wrap_text(text, _WIDTH, "  ", "    "))
        if entry.problem is not None:
            text = f"no answer here: {entry.problem}"
            click.echo(click.wrap_text(text, _WIDTH, "    ", "    "))


def _verdict(found: Contest, entry: Contestant) -> str:
    standing = found.standing(entry)
    low, high, _ = found.certified
    said = entry.upper if entry.upper is not None else entry.estimate
    if said is None or standing in ("certified", "no answer"):
        return standing
    if standing == "under-reports":
        return f"UNDER-REPORTS by {nearest(low - said, 3)}"
    if standing == "agrees" or said <= high * (1.0 + _SAME):
        return "agrees"
    if high <= 0.0 or said / high > 11.0:
        return f"above by {nearest(said - high, 3)}"
    return f"above by {nearest(100.0 * (said / high - 1.0), 3)} %"


def _document(found: Contest, source: Source) -> dict[str, Any]:
    low, high, method = found.certified
    return {
        **source.document(),
        "certified": {"lower": low, "upper": high},
        "method": method,
        "accountants": [
            {
                "accountant": entry.name,
                "lower": entry.lower,
                "estimate": entry.estimate,
                "upper": entry.upper,
                "seconds": entry.seconds,
                "verdict": found.standing(entry),
                "why": entry.why,
                "problem": entry.problem,
            }
            for entry in found.entries
        ],
    }
