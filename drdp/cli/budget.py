"""``drdp steps`` and ``drdp rate``: how large a run a budget allows."""

from __future__ import annotations

from typing import Any

from drdp.cli import options, render
from drdp.cli.answers import invert
from drdp.cli.plan import read_plan

__all__ = ["rate", "steps"]


@options.command(
    examples="""
drdp steps --epsilon 2 --sigma 1 --rate 0.05
drdp steps --epsilon 8 --sigma 0.8 --rate 256/60000 --unit example
"""
)
@options.epsilon
@options.delta
@options.sigma
@options.rate()
@options.relation
@options.accountant
@options.compare
@options.as_json
def steps(
    epsilon: float,
    accountant: str,
    compare: tuple[str, ...] | None,
    as_json: bool,
    **described: Any,
) -> None:
    """How many rounds a privacy budget buys.

    Prints the largest number of rounds that was tested to keep to the budget;
    0 means that not even one round does.
    """
    plan = read_plan(**described)
    report = invert("steps", plan, epsilon, accountant=accountant, compare=compare)
    render.inversion(report, as_json=as_json)


@options.command(
    examples="""
drdp rate --epsilon 2 --sigma 1 --steps 20
drdp rate --epsilon 2 --sigma 1 --steps 20 --sampling fixed --population 149
"""
)
@options.epsilon
@options.delta
@options.sigma
@options.steps()
@options.relation
@options.accountant
@options.compare
@options.as_json
def rate(
    epsilon: float,
    accountant: str,
    compare: tuple[str, ...] | None,
    as_json: bool,
    **described: Any,
) -> None:
    """The largest sampling rate that a privacy budget allows.

    The printed rate is rounded down, so it is private as printed; 1 means that
    no sampling is needed.
    """
    plan = read_plan(**described)
    report = invert("rate", plan, epsilon, accountant=accountant, compare=compare)
    render.inversion(report, as_json=as_json)
