"""What options say about a ledger: its terms, its budget, one release."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from drdp.cli import options
from drdp.cli.plan import read_plan
from drdp.cli.source import event_file, load_event, read_source
from drdp.privacy.adjacency import Adjacency
from drdp.privacy.events import Event
from drdp.privacy.filters import (
    ApproxDPFilter,
    Budget,
    GaussianFilter,
    RenyiFilter,
    ZeroConcentratedFilter,
    best_order,
)
from drdp.privacy.fixed_budget import FixedBudget
from drdp.privacy.ledger import Ledger

__all__ = ["from_release_or_file", "read_budget", "read_release", "read_terms"]

Wrap = TypeVar("Wrap", bound=Callable[..., Any])


def from_release_or_file(wrapped: Wrap) -> Wrap:
    """The options of some rounds, or ``--event FILE``."""
    for add in (
        options.option(
            "--max-batch",
            check=options.whole,
            metavar="B",
            text="The most clients that a round can hold, with --sampling truncated.",
            required=False,
        ),
        options.option(
            "--sampling",
            check=options.choices(*options.SAMPLINGS),
            metavar="HOW",
            text="How clients are drawn; as for drdp epsilon.",
            default="poisson",
        ),
        options.steps(required=False),
        options.rate(required=False),
        options.optional_sigma,
        event_file,
    ):
        wrapped = add(wrapped)
    return wrapped


def read_terms(**described: Any) -> tuple[Event | None, dict[str, Any]]:
    """The release that options describe, if any, and the terms of a ledger."""
    names = ("noise_multiplier", "rate", "steps", "event_file")
    if all(described[name] is None for name in names):
        del described["event_file"]
        event, about = None, read_plan(**described)
        adjacency, delta = about.adjacency, about.delta or 0.0
        population = about.population
    else:
        if described["event_file"] is None and described["steps"] is None:
            described["steps"] = 1
        source = read_source(**described)
        event, delta, population = source.event, source.delta, source.population
        adjacency = source.adjacency or Adjacency(
            described["adjacency"] or Adjacency.ADD_REMOVE
        )
    return event, {
        "delta": delta,
        "unit": described["unit"],
        "population": population,
        "adjacency": adjacency,
    }


def read_budget(
    name: str,
    epsilon: float | None,
    plan: Event | None,
    delta: float,
    order: list[float] | None,
    slack: float | None,
) -> Budget | None:
    """The budget that options describe.

    Raises:
        click.UsageError: If options are missing, or contradict each other.
    """
    for option, value, owner in (
        ("--order", order, "renyi"),
        ("--slack", slack, "approx"),
    ):
        if value is not None and name != owner:
            raise click.UsageError(f"{option} belongs to --filter {owner}, not {name}")
    if name == "none":
        if epsilon is not None:
            raise click.UsageError("--filter none has no --epsilon: it sets no limit")
        return None
    if epsilon is None:
        raise click.UsageError("give --epsilon, the budget; or --filter none")
    match name:
        case "fixed":
            if plan is None:
                raise click.UsageError(
                    "--filter fixed needs the plan: give --sigma and --rate, or"
                    " --event; for parameters chosen on the way take --filter renyi"
                )
            return FixedBudget(epsilon, delta, plan)
        case "renyi":
            if order is None and plan is None:
                raise click.UsageError(
                    "--filter renyi needs --order, or what the releases will be like"
                    " (--sigma and --rate) to choose one"
                )
            if order is not None:
                return RenyiFilter(epsilon, delta, tuple(order))
            if plan is None:
                raise TypeError("checked above")
            return RenyiFilter(epsilon, delta, (best_order(epsilon, delta, plan),))
        case "zcdp":
            return ZeroConcentratedFilter(epsilon, delta)
        case "gaussian":
            return GaussianFilter(epsilon, delta)
    return ApproxDPFilter(epsilon, delta, slack)


def read_release(
    ledger: Ledger,
    *,
    event_file: Path | None,
    noise_multiplier: float | None,
    rate: Any,
    steps: int | None,
    sampling: str,
    max_batch: int | None,
) -> Event:
    """What will be released, under the neighbouring relation of a ledger.

    Raises:
        click.UsageError: If options are missing, or contradict each other.
    """
    if event_file is not None:
        if any(value is not None for value in (noise_multiplier, rate, steps)):
            raise click.UsageError("--event and --sigma, --rate, --steps exclude")
        return load_event(event_file)
    if noise_multiplier is None or rate is None:
        raise click.UsageError("give --sigma and --rate, or --event: what is released")
    return read_plan(
        sampling=sampling,
        adjacency=str(ledger.terms.adjacency),
        unit="client",
        population=ledger.terms.population,
        noise_multiplier=noise_multiplier,
        rate=rate,
        steps=steps or 1,
        max_batch=max_batch,
    ).event()
