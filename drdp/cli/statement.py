"""``drdp statement``: a guarantee with everything that belongs to it."""

from __future__ import annotations

from typing import Any

import click

from drdp.cli import danger, options
from drdp.cli.numbers import between, plain, up
from drdp.cli.render import json_text
from drdp.cli.source import from_run_or_file, read_source
from drdp.cli.stated import circumstances
from drdp.privacy.statement import (
    UNKNOWN,
    Circumstances,
    Statement,
    releases,
    schema,
    state,
)

__all__ = ["show", "statement"]

_WIDTH = 79
_MARGIN = 15


@options.command(
    examples="""
drdp statement --sigma 1 --steps 20 --rate 0.05 --clip-norm 1
drdp statement --event event.json --delta 1e-6 --json
drdp statement --sigma 1 --steps 20 --rate 0.05 --placement central
drdp statement --schema
"""
)
@from_run_or_file
@circumstances
@click.option("--schema", "only_schema", is_flag=True, help="Print the JSON Schema.")
@options.as_json
def statement(
    *,
    clip_norm: float | None,
    placement: str | None,
    adversary: str | None,
    output: str | None,
    data_accesses: str | None,
    no_risk: bool,
    only_schema: bool,
    as_json: bool,
    **described: Any,
) -> None:
    """A guarantee with everything that belongs to it.

    Says in plain words, or with --json as a document that follows a published
    schema, what is guaranteed to whom, on which assumptions, and what is not
    covered.  What nobody stated is shown as unknown.
    """
    if only_schema:
        click.echo(json_text(schema()))
        return
    source = read_source(**described)
    found = state(
        source.event,
        source.delta,
        Circumstances(
            unit=source.unit,
            population=source.population,
            adjacency=source.adjacency,
            clip_norm=clip_norm,
            placement=placement,
            adversary=adversary,
            output=output,
            data_accesses=data_accesses,
            delta_source=source.delta_source,
        ),
        with_risk=not no_risk,
    )
    if as_json:
        click.echo(json_text(found.to_dict()))
    else:
        show(found)


def show(found: Statement) -> None:
    """Print a statement in words."""
    document = found.to_dict()
    setting, definition = document["setting"], document["definition"]
    mechanism, accounting = document["mechanism"], document["accounting"]
    click.echo(click.wrap_text(found.sentence(), _WIDTH))
    adjacency = definition["adjacency"]
    if adjacency != UNKNOWN:
        adjacency = f"{adjacency}: {definition['neighbours']}"
    two_sided = accounting["epsilon"]["lower"] != UNKNOWN
    error = accounting["error_at_most"]
    _section(
        "Setting",
        [("placement", setting["placement"]), ("adversary", setting["adversary"])],
    )
    _section(
        "Definition",
        [
            ("unit", definition["unit"]),
            ("population", definition["population"]),
            ("adjacency", adjacency),
            ("released", definition["output"]),
            ("covers", definition["data_accesses"]),
        ],
    )
    _section(
        "Mechanism",
        [
            *(("release", line) for line in releases(found.event) or ["nothing"]),
            ("sampling", mechanism["sampling"]),
            ("steps", mechanism["steps"]),
            ("clip norm", _shown(mechanism["clip_norm"])),
        ],
    )
    _section(
        "Accounting",
        [
            (
                "epsilon",
                between(found.epsilon)
                if two_sided
                else f"at most {up(found.epsilon.upper)}",
            ),
            ("delta", f"{plain(found.delta)} ({accounting['delta_source']})"),
            ("accountant", f"{found.accountant}, certified: {found.epsilon.method}"),
            (
                "error",
                UNKNOWN if error == UNKNOWN else f"at most {up(error, 2)} in epsilon",
            ),
        ],
    )
    _section(
        "Risk (certified, at most)",
        [("figures", UNKNOWN)]
        if found.risk is None
        else [("", danger.line(figure)) for figure in found.risk],
        margin=0 if found.risk else _MARGIN,
    )
    _listed("Assumed", document["assumptions"])
    _listed("Not covered", document["not_covered"])
    versions = ", ".join(f"{name} {it}" for name, it in document["versions"].items())
    _section("Versions", [("", versions)], margin=0)


def _section(
    title: str, lines: list[tuple[str, object]], *, margin: int = _MARGIN
) -> None:
    click.echo(f"\n{title}")
    for name, value in lines:
        first = f"  {name:<{margin - 2}}" if margin else "  "
        click.echo(click.wrap_text(str(value), _WIDTH, first, " " * len(first)))


def _listed(title: str, lines: list[str]) -> None:
    click.echo(f"\n{title}")
    for line in lines:
        click.echo(click.wrap_text(line, _WIDTH, "  - ", "    "))


def _shown(value: object) -> str:
    return plain(value) if isinstance(value, float) else str(value)
