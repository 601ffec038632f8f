"""``drdp epsilon`` and ``drdp delta``: what a run costs."""

from __future__ import annotations

from typing import Any

from drdp.cli import options, render
from drdp.cli.answers import spend
from drdp.cli.plan import read_plan

__all__ = ["delta", "epsilon"]


@options.command(
    examples="""
drdp epsilon --sigma 1 --steps 20 --rate 0.05
drdp epsilon --sigma 0.748028 --steps 20 --rate 0.05 --delta 1/149
"""
)
@options.sigma
@options.steps()
@options.rate()
@options.delta
@options.stage_one_noise
@options.relation
@options.compare
@options.as_json
def epsilon(compare: tuple[str, ...] | None, as_json: bool, **described: Any) -> None:
    """The epsilon that a run costs.

    Prints the certified interval that holds the true epsilon, then what other
    accountants report.
    """
    report = spend(read_plan(**described), None, compare=compare)
    render.spending(report, as_json=as_json)


@options.command(
    examples="""
drdp delta --epsilon 2 --sigma 1 --steps 20 --rate 0.05
drdp delta --epsilon 1 --sigma 0.748028 --steps 20 --rate 0.05 --json
"""
)
@options.epsilon
@options.sigma
@options.steps()
@options.rate()
@options.stage_one_noise
@options.relation
@options.compare
@options.as_json
def delta(
    epsilon: float,
    compare: tuple[str, ...] | None,
    as_json: bool,
    **described: Any,
) -> None:
    """The delta that a run costs at a given epsilon.

    Prints the certified interval that holds the true delta, then what other
    accountants report.
    """
    report = spend(read_plan(**described), epsilon, compare=compare)
    render.spending(report, as_json=as_json)
