"""``drdp table``: the paper's table of noise and epsilon, or any grid."""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource

from drdp.cli import layout, options
from drdp.cli.plan import read_plan
from drdp.cli.tabulate import grid_table, paper_table
from drdp.cli.threat_table import KINDS, threat_table
from drdp.privacy.events import Adjacency

__all__ = ["table"]


@options.command(
    examples="""
drdp table
drdp table --preset dr-encoder --format markdown
drdp table --preset ew-tune
drdp table --preset dr-encoder --threat as-printed
drdp table --epsilons 0.25,0.5,1,2,4,8 --steps 20 --rate 0.05 --delta 1e-5
"""
)
@options.option(
    "--preset",
    check=options.choices("dr-encoder", "ew-tune"),
    metavar="NAME",
    text="dr-encoder: Table 3 of the paper, the default without --epsilons."
    "  ew-tune: the noise of the EW-Tune paper.",
    required=False,
)
@options.option(
    "--threat",
    check=options.choices(*KINDS),
    metavar="KIND",
    text="as-printed: the epsilon of the paper's noise against each adversary;"
    " repaired: the noise that its claims need.",
    required=False,
)
@options.option(
    "--epsilons",
    check=options.listed(options.positive, most=options.LONGEST_LIST),
    metavar="E,E,..",
    text="A grid of privacy budgets; needs --steps and --rate.",
    required=False,
)
@options.steps(required=False)
@options.rate(required=False)
@options.delta
@options.relation
@options.option(
    "--format",
    "form",
    check=options.choices(*layout.FORMS),
    metavar="FORM",
    text="text, markdown, csv, latex or json.",
    default="text",
)
@options.as_json
def table(
    preset: str | None,
    threat: str | None,
    epsilons: list[float] | None,
    form: str,
    as_json: bool,
    **described: Any,
) -> None:
    """The paper's table of noise and epsilon, or any grid.

    Without --epsilons this is Table 3 of the DR-Encoder paper, computed from
    first principles, with the certified epsilon of each row beside it; --preset
    ew-tune does the same for the noise of the EW-Tune paper.  With --epsilons,
    --steps and --rate it is the noise that each budget needs.  With --threat it
    is what the paper's noise is worth against each adversary, under --adjacency
    replace-one (the default) or zero-out.
    """
    _refuse_contradictions(preset, threat, epsilons, form, as_json)
    if epsilons is not None:
        content = grid_table(read_plan(**described), epsilons)
    elif preset == "ew-tune":
        from drdp.cli.ew_tune import ew_tune_table

        content = ew_tune_table()
    elif threat is not None:
        content = threat_table(threat, _relation(described["adjacency"]))
    else:
        content = paper_table()
    click.echo(layout.laid_out(content, "json" if as_json else form))


def _relation(adjacency: str | None) -> Adjacency:
    relation = Adjacency(adjacency or "replace-one")
    if relation is Adjacency.ADD_REMOVE:
        raise click.UsageError(
            "--threat with noise at the clients is not defined under --adjacency"
            " add-remove; use replace-one or zero-out"
        )
    return relation


def _refuse_contradictions(
    preset: str | None,
    threat: str | None,
    epsilons: list[float] | None,
    form: str,
    as_json: bool,
) -> None:
    """Refuse options that would silently have no effect."""
    ctx = click.get_current_context()
    given = {
        parameter.name: parameter.opts[0]
        for parameter in ctx.command.params
        if parameter.name
        and ctx.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    }
    if as_json and "form" in given and form != "json":
        raise click.UsageError(f"--json and --format {form} exclude each other")
    if threat is not None and preset == "ew-tune":
        raise click.UsageError(
            f"--threat {threat} is about --preset dr-encoder, not {preset}"
        )
    if epsilons is None:
        kept = {"adjacency"} if threat is not None else set()
        for name in given.keys() - {"preset", "threat", "form", "as_json"} - kept:
            raise click.UsageError(
                f"{given[name]} describes a grid: give --epsilons as well"
            )
        return
    if threat is not None:
        raise click.UsageError(f"--threat {threat} and --epsilons exclude each other")
    if preset is not None:
        raise click.UsageError(f"--preset {preset} and --epsilons exclude each other")
    for name, option in {"steps": "--steps", "rate": "--rate"}.items():
        if name not in given:
            raise click.UsageError(f"--epsilons needs {option} as well")
