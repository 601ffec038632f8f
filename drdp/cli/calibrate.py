"""``drdp calibrate``: the noise that a privacy budget or a bound on risk needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from drdp.cli import options, render
from drdp.cli.answers import invert
from drdp.cli.plan import Plan, read_plan

__all__ = ["calibrate"]


@options.command(
    examples="""
drdp calibrate --epsilon 2 --steps 20 --rate 0.05
drdp calibrate --epsilon 8 --delta 1/149 --steps 20 --rate 0.05 --json
drdp calibrate --epsilon 2 --steps 20 --rate 1/20 --sampling fixed
drdp calibrate --epsilon 2 --steps 20 --rate 0.05 --compare all
drdp calibrate --epsilon 2 --steps 20 --rate 0.05 --stage-one-noise 10
drdp calibrate --advantage 0.1 --steps 20 --rate 0.05
drdp calibrate --tpr 0.05 --fpr 0.01 --steps 20 --rate 0.05
drdp calibrate --ledger run.db --steps 20 --rate 0.05
"""
)
@options.optional_epsilon
@options.option(
    "--advantage",
    check=options.probability,
    metavar="A",
    text="Instead of --epsilon: the largest membership advantage, TPR - FPR, that"
    " any attack may have.",
    required=False,
)
@options.option(
    "--tpr",
    check=options.probability,
    metavar="P",
    text="Instead of --epsilon: the largest true positive rate that any"
    " membership attack may have at --fpr.",
    required=False,
)
@options.option(
    "--fpr",
    check=options.probability,
    metavar="P",
    text="The false positive rate of --tpr.",
    required=False,
)
@options.option(
    "--ledger",
    check=Path,
    metavar="FILE",
    text="Instead of --epsilon: use up what the budget of this ledger has left.",
    required=False,
)
@options.delta
@options.steps()
@options.rate()
@options.stage_one_noise
@options.relation
@options.accountant
@options.compare
@options.as_json
def calibrate(
    *,
    epsilon: float | None,
    advantage: float | None,
    tpr: float | None,
    fpr: float | None,
    ledger: Path | None,
    accountant: str,
    compare: tuple[str, ...] | None,
    as_json: bool,
    **described: Any,
) -> None:
    """The noise that a privacy budget, or a bound on risk, needs.

    Prints the noise multiplier of the certified accountant first, then what
    other accountants would have said and what that noise really costs.  The
    printed noise is rounded up, so it is private as printed.
    """
    if ledger is not None:
        from drdp.cli import left

        left.calibrate(ledger, as_json=as_json, **described)
        return
    _refuse_contradictions(epsilon, advantage, tpr, fpr)
    plan = read_plan(**described)
    how: dict[str, Any] = {"accountant": accountant, "compare": compare}
    if epsilon is None:
        _for_risk(plan, advantage, tpr, fpr, how, as_json)
        return
    report = invert("noise_multiplier", plan, epsilon, **how)
    render.inversion(report, as_json=as_json)


def _for_risk(
    plan: Plan,
    advantage: float | None,
    tpr: float | None,
    fpr: float | None,
    how: dict[str, Any],
    as_json: bool,
) -> None:
    from drdp.cli import danger
    from drdp.cli.exposure import Aim, protect

    aim = (
        Aim("true_positive_rate", tpr or 0.0, fpr)
        if advantage is None
        else Aim("advantage", advantage)
    )
    danger.protection(protect(plan, aim, **how), as_json=as_json)


def _refuse_contradictions(
    epsilon: float | None, advantage: float | None, tpr: float | None, fpr: float | None
) -> None:
    """Exactly one target, and a whole one."""
    targets = {"--epsilon": epsilon, "--advantage": advantage, "--tpr": tpr}
    given = [name for name, value in targets.items() if value is not None]
    if len(given) > 1:
        raise click.UsageError(f"{' and '.join(given)} exclude each other")
    if fpr is not None and given != ["--tpr"]:
        raise click.UsageError(f"--fpr {fpr:g} belongs to --tpr: give --tpr as well")
    if not given:
        raise click.UsageError(
            "give --epsilon, or --advantage, or --tpr with --fpr, or --ledger: what may"
            " be spent"
        )
    if tpr is not None:
        if fpr is None:
            raise click.UsageError(f"--tpr {tpr:g} needs --fpr as well")
        if tpr <= fpr:
            raise click.UsageError(
                f"--tpr {tpr:g} must be above --fpr {fpr:g}, which guessing reaches"
            )
