"""``drdp calibrate``: the noise that a privacy budget needs."""

from __future__ import annotations

from typing import Any

from drdp.cli import options, render
from drdp.cli.answers import invert
from drdp.cli.plan import read_plan

__all__ = ["calibrate"]


@options.command(
    examples="""
drdp calibrate --epsilon 2 --steps 20 --rate 0.05
drdp calibrate --epsilon 8 --delta 1/149 --steps 20 --rate 0.05 --json
drdp calibrate --epsilon 2 --steps 20 --rate 1/20 --sampling fixed
drdp calibrate --epsilon 2 --steps 20 --rate 0.05 --compare all
drdp calibrate --epsilon 2 --steps 20 --rate 0.05 --stage-one-noise 10
"""
)
@options.epsilon
@options.delta
@options.steps()
@options.rate()
@options.stage_one_noise
@options.relation
@options.accountant
@options.compare
@options.as_json
def calibrate(
    epsilon: float,
    accountant: str,
    compare: tuple[str, ...] | None,
    as_json: bool,
    **described: Any,
) -> None:
    """The noise that a privacy budget needs.

    Prints the noise multiplier of the certified accountant first, then what
    other accountants would have said and what epsilon that noise really costs.
    The printed noise is rounded up, so it is private as printed.
    """
    report = invert(
        "noise_multiplier",
        read_plan(**described),
        epsilon,
        accountant=accountant,
        compare=compare,
    )
    render.inversion(report, as_json=as_json)
