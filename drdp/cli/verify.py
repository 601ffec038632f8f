"""``drdp verify``: the certified epsilon beside every independent method."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from drdp.cli import options
from drdp.cli.numbers import between, nearest, plain, up
from drdp.cli.plan import Plan, read_plan
from drdp.cli.render import columns, document, json_text

if TYPE_CHECKING:
    from drdp.privacy.crosscheck import Finding, Report

__all__ = ["verify"]

_WIDTH = 79
_CONTRADICTED = 1  # the exit code
_MOST_SEED = 10**9
_WORDS = {"below": "BELOW", "above": "ABOVE"}
_RED = re.compile(r"\b(?:BELOW|ABOVE)\b")


def _whole(text: str) -> int:
    """A whole number from 0 to a thousand million."""
    if not text.isdecimal() or int(text[:12]) > _MOST_SEED:
        raise click.BadParameter(
            f"must be a whole number from 0 to {_MOST_SEED:,}, got {text:.60}"
        )
    return int(text)


def _runs(text: str) -> int:
    """A number of simulated runs: at least 2."""
    number = options.whole(text)
    if number < 2:
        raise click.BadParameter(f"must be at least 2, got {text:.60}")
    return int(number)


@options.command(
    examples="""
drdp verify --steps 20 --rate 0.05 --sigma 0.747
drdp verify --steps 1000 --rate 0.01 --sigma 1 --delta 1e-12 --peers all
drdp verify --steps 20 --rate 1/20 --sigma 1 --sampling fixed --json
drdp verify --steps 20 --rate 0.05 --sigma 1 --samples 1e6 --peers none
"""
)
@options.steps()
@options.rate()
@options.sigma
@options.delta
@options.relation
@options.option(
    "--peers",
    check=options.choices("none", "fast", "all"),
    metavar="WHICH",
    text="Other packages to ask: none, fast (prv-accountant and dp-accounting),"
    " or all (also Opacus, whose import of torch takes seconds).",
    default="fast",
)
@options.option(
    "--samples",
    check=_runs,
    metavar="N",
    text="Simulated runs.  Default: as many as a second or two allows, at most"
    " 100,000.",
    required=False,
)
@options.option(
    "--seed",
    check=_whole,
    metavar="SEED",
    text="Seed of the simulation.",
    default="1",
)
@options.as_json
def verify(
    peers: str, samples: int | None, seed: int, as_json: bool, **described: Any
) -> int:
    """Whether independent methods agree with the certified epsilon.

    Asks drdp's own paths, other installed packages and a simulation about the
    same run.  Exit code 0 if all agree, 1 if one contradicts the certified
    interval: below it, a method promises too much (or drdp too little); above
    it, drdp may promise too much.
    """
    from drdp.privacy.crosscheck import FAST, PEERS, crosscheck

    plan = read_plan(**described)
    asked = {"none": (), "fast": FAST, "all": tuple(PEERS)}[peers]
    report = crosscheck(
        plan.event(), plan.delta or 0, peers=asked, samples=samples, seed=seed
    )
    if as_json:
        click.echo(json_text(_document(plan, report, seed)))
    else:
        _print(plan, report)
    return _CONTRADICTED if report.against else 0


def _print(plan: Plan, report: Report) -> None:
    certified = report.certified
    answered = [one for one in report.findings if one.status == "answered"]
    told = [one for one in answered if one.position == "agrees"]
    if report.against:
        names = ", ".join(one.method for one in report.against)
        click.secho("CONTRADICTION", fg="red", bold=True, nl=False)
        click.echo(f"  with the certified interval: {names}")
        click.echo(f"{len(told)} other methods do not contradict it")
    else:
        click.secho("agree", bold=True, nl=False)
        click.echo(f"  {len(told)} methods do not contradict the certified interval")
    click.echo(
        f"certified epsilon  {between(certified)}  at delta {plain(plan.delta or 0)}"
    )
    click.echo(f"certified by       {certified.method}\n")
    header = ("method", "epsilon", "seconds", "verdict")
    rows = [
        (one.method, _value(one), _seconds(one), _remark(one, report))
        for one in report.findings
    ]
    for line in columns(header, rows):
        click.echo(_RED.sub(lambda word: click.style(word[0], fg="red"), line))
    notes = [f"{one.method}: {one.detail}" for one in report.findings if one.detail]
    if notes:
        click.echo()
    for note in notes:
        click.echo(click.wrap_text(note, _WIDTH, "  ", "    "))


def _value(one: Finding) -> str:
    if one.status != "answered":
        return one.status
    shown = between(_interval(one), 3 if _simulates(one) else 6)
    if _simulates(one):
        return f"delta {shown}"
    return f"at most {up(one.upper)}" if one.lower == 0.0 < one.upper else shown


def _interval(one: Finding) -> Any:
    from drdp.privacy.curves import Interval

    return Interval(one.lower, one.upper, one.method)


def _simulates(one: Finding) -> bool:
    return one.method == "Monte Carlo"


def _seconds(one: Finding) -> str:
    return "" if one.seconds is None else f"{one.seconds:.3f}"


def _remark(one: Finding, report: Report) -> str:
    if one.status != "answered" or one.position not in _WORDS:
        return one.position if one.status == "answered" else ""
    low, high, _ = report.certified
    if _simulates(one):
        return f"epsilon {_WORDS[one.position]} it"
    gap = low - one.upper if one.position == "below" else one.lower - high
    return f"{_WORDS[one.position]} by {nearest(gap, 3)}"


def _document(plan: Plan, report: Report, seed: int) -> dict[str, Any]:
    low, high, method = report.certified
    return {
        **document(plan),
        "verdict": "contradiction" if report.against else "agree",
        "contradictions": [one.method for one in report.against],
        "certified": {"lower": low, "upper": high},
        "method": method,
        "seed": seed,
        "methods": [_entry(one, high) for one in report.findings],
    }


def _entry(one: Finding, epsilon: float) -> dict[str, Any]:
    answered = one.status == "answered"
    simulated = {"at_epsilon": epsilon, "confidence": 0.999} if _simulates(one) else {}
    return {
        "method": one.method,
        "status": one.status,
        "quantity": "delta" if _simulates(one) else "epsilon",
        **simulated,
        "lower": one.lower if answered else None,
        "upper": one.upper if answered else None,
        "position": one.position if answered else None,
        "seconds": one.seconds,
        "detail": one.detail,
    }
