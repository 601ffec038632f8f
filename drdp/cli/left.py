"""``drdp calibrate --ledger``: the noise that what is left of a budget needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from drdp.cli import ledger_report
from drdp.cli.plan import read_plan
from drdp.privacy.ledger import Ledger
from drdp.privacy.remainder import calibrate_left

__all__ = ["calibrate"]

_ELSEWHERE = {  # what the ledger, or its kind of budget, has already settled
    "epsilon": "--epsilon",
    "delta": "--delta",
    "advantage": "--advantage",
    "tpr": "--tpr",
    "fpr": "--fpr",
    "accountant": "--accountant",
    "compare": "--compare",
    "unit": "--unit",
    "population": "--population",
    "adjacency": "--adjacency",
}


def calibrate(file: Path, *, as_json: bool, **described: Any) -> None:
    """Print the noise of some rounds that use up what a ledger has left.

    Raises:
        click.UsageError: If an option contradicts the ledger.
    """
    ctx = click.get_current_context()
    for name, option in _ELSEWHERE.items():
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"--ledger and {option} exclude each other: the ledger has settled it"
            )
    with Ledger.open(file, read_only=True) as ledger:
        terms = ledger.terms
        plan = read_plan(
            **{
                **described,
                "unit": "client",
                "population": terms.population,
                "adjacency": str(terms.adjacency),
                "delta": None,
            }
        )
        noise = calibrate_left(lambda sigma: plan.with_noise(sigma).event(), ledger)
        event = plan.with_noise(noise).event()
        ledger_report.calibrated(ledger, noise, event, as_json=as_json)
