"""``drdp ledger``: keep account of a budget, and charge before releasing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from drdp.cli import ledger_report as report
from drdp.cli import options
from drdp.cli.charges import (
    from_release_or_file,
    read_budget,
    read_release,
    read_terms,
)
from drdp.cli.render import json_text
from drdp.cli.source import from_run_or_file
from drdp.cli.stated import circumstances, told
from drdp.privacy.ledger import Ledger

__all__ = ["ledger"]

_FILTERS = ("fixed", "renyi", "zcdp", "gaussian", "approx", "none")
_file = click.argument("file", type=click.Path(path_type=Path))
_label = told("--label", metavar="TEXT", text="What it is for, in words.", default="")
_run = told("--run", metavar="NAME", text="Which run it belongs to.", default="")


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 2 bad input or a ledger that cannot be read or"
    " written, 3 the budget refuses the charge.",
)
def ledger() -> None:
    """Keep account of a budget: charge, then release.

    \b
    drdp ledger init run.db --epsilon 2 --sigma 1 --rate 0.05
        a budget for rounds that are fixed beforehand
    drdp ledger charge run.db --sigma 1 --rate 0.05 --key round-1
        pay for one round; release it only if this exits with 0
    drdp ledger status run.db
        what is spent, and what still fits
    """  # noqa: D301 - click reads the escape as "leave these lines as they are"


@options.command(
    examples="""
drdp ledger init run.db --epsilon 2 --sigma 1 --rate 0.05
drdp ledger init run.db --epsilon 2 --sigma 1 --rate 0.05 --steps 20
drdp ledger init run.db --epsilon 8 --filter renyi --order 16
drdp ledger init run.db --epsilon 8 --filter zcdp --population 1000
drdp ledger init run.db --filter none --adjacency zero-out
"""
)
@_file
@options.optional_epsilon
@options.option(
    "--filter",
    check=options.choices(*_FILTERS),
    metavar="NAME",
    text="fixed: releases fixed beforehand, which the other options describe; for"
    " parameters chosen on the way: renyi, zcdp, gaussian (without sampling) or"
    " approx; none: record without a limit.",
    default="fixed",
)
@options.option(
    "--order",
    check=options.listed(options.positive, most=8),
    metavar="A,A,..",
    text="Orders of --filter renyi.  Default: the best one for the release that the"
    " other options describe.",
    required=False,
)
@options.option(
    "--slack",
    check=options.probability,
    metavar="D",
    text="The part of --delta that --filter approx keeps for composition.  Default:"
    " half of it.",
    required=False,
)
@from_run_or_file
@options.as_json
def init(
    file: Path,
    *,
    epsilon: float | None,
    filter: str,  # noqa: A002 - the option's name
    order: list[float] | None,
    slack: float | None,
    as_json: bool,
    **described: Any,
) -> None:
    """Make a new ledger with a budget.

    With --filter fixed, --sigma and --rate (or --event) say what will be
    released; --steps makes a whole run of it.  It may be released as often as
    it fits into --epsilon.
    """
    plan, terms = read_terms(**described)
    budget = read_budget(filter, epsilon, plan, terms.pop("delta"), order, slack)
    with Ledger.create(file, budget=budget, **terms) as made:
        report.status(made, as_json=as_json)


@options.command(
    examples="""
drdp ledger charge run.db --sigma 1 --rate 0.05 --key round-1
drdp ledger charge run.db --event event.json --label "stage one"
"""
)
@_file
@from_release_or_file
@_label
@_run
@told(
    "--key",
    metavar="NAME",
    text="A name for this one release; charged again it costs nothing, so that a"
    " resumed run may repeat itself.",
)
@options.as_json
def charge(
    file: Path, *, label: str, run: str, key: str | None, as_json: bool, **release: Any
) -> None:
    """Pay for a release; make it only if this exits with 0.

    Exits with 3 where the budget does not allow it, and then nothing is
    charged.  A --key is charged once, however often it is given.
    """
    with Ledger.open(file) as opened:
        event = read_release(opened, **release)
        receipt = opened.charge(event, label=label, run=run, key=key)
        report.charged(opened, receipt, as_json=as_json)


@options.command(
    examples="""
drdp ledger declare run.db --sigma 1.2 --rate 0.05
drdp ledger declare run.db --event event.json --json
"""
)
@_file
@from_release_or_file
@_label
@_run
@options.as_json
def declare(file: Path, *, label: str, run: str, as_json: bool, **release: Any) -> None:
    """Give a fixed budget a new plan for what is left of it.

    This goes on record as a promise that neither the plan nor the moment was
    chosen from what was released.
    """
    with Ledger.open(file) as opened:
        opened.declare(read_release(opened, **release), label=label, run=run)
        report.status(opened, as_json=as_json)


@options.command(
    examples="""
drdp ledger status run.db
drdp ledger status run.db --plot spend.svg
drdp ledger status run.db --json
"""
)
@_file
@options.picture("Draw the spend, entry by entry, into this .png, .svg or .pdf file.")
@options.as_json
def status(file: Path, *, picture: Path | None, as_json: bool) -> None:
    """What is spent of the budget, and what still fits.

    The whole chain of entries is verified first.
    """
    with Ledger.open(file, read_only=True) as opened:
        if picture is not None:
            from drdp.cli.plot import save_spending

            save_spending(opened, picture)
        report.status(opened, as_json=as_json)


@options.command(
    examples="""
drdp ledger verify run.db
drdp ledger verify run.db --head 0c1d...
"""
)
@_file
@click.option(
    "--head",
    metavar="HASH",
    help="The hash of an entry that was noted before, in full.  Without one nobody"
    " can tell whether the file was put back to an older copy.",
)
@options.as_json
def verify(file: Path, *, head: str | None, as_json: bool) -> None:
    """Check every page, every entry and the whole chain.

    Prints the number of entries and the head, which is worth noting elsewhere.
    """
    with Ledger.open(file, read_only=True) as opened:
        count, found = opened.verify(head)
    if as_json:
        values = {"verified": True, "entries": count, "head": found, "noted": head}
        click.echo(json_text(values))
        return
    click.echo(f"verified  {count} entries")
    click.echo(f"head      {found}")
    if head is not None:
        click.echo("          the noted entry is among them")


@options.command(
    examples="""
drdp ledger export run.db
drdp ledger export run.db --json
"""
)
@_file
@options.as_json
def export(file: Path, *, as_json: bool) -> None:
    """Every entry as a line of JSON, then the head.

    The hash of an entry is the SHA-256 of its line without the field hash,
    sorted and without spaces.  --json prints one object instead.
    """
    with Ledger.open(file, read_only=True) as opened:
        report.export(opened, as_json=as_json)


@options.command(
    examples="""
drdp ledger statement run.db
drdp ledger statement run.db --clip-norm 1 --placement central --json
"""
)
@_file
@circumstances
@options.delta
@options.as_json
def statement(
    file: Path,
    *,
    delta: float | None,
    allow_large_delta: bool,
    no_risk: bool,
    as_json: bool,
    **about: Any,
) -> None:
    """What the ledger guarantees, with everything that belongs to it.

    With a filter this is its budget, with a fixed plan what all of it costs:
    both hold wherever the run stops.
    """
    from drdp.cli.plan import read_delta
    from drdp.cli.statement import show
    from drdp.privacy.ledger_statement import statement_of
    from drdp.privacy.statement import Circumstances

    with Ledger.open(file, read_only=True) as opened:
        source = None
        if opened.budget is None or delta is not None:
            population = opened.terms.population
            delta, source = read_delta(delta, population, allow_large_delta)
        found = statement_of(
            opened,
            Circumstances(**about, delta_source=source),
            delta=delta,
            with_risk=not no_risk,
        )
    if as_json:
        click.echo(json_text(found.to_dict()))
    else:
        show(found)


for _command in (init, charge, declare, status, verify, export, statement):
    ledger.add_command(_command)
