"""What a command is asked about: a run that options describe, or a file.

A file holds an event in drdp's own JSON format; the options of a run then have
no place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from drdp.cli import options
from drdp.cli.plan import Plan, read_plan
from drdp.cli.render import document
from drdp.privacy.codec import loads, to_dict
from drdp.privacy.events import Adjacency, Event, adjacency_of

__all__ = ["Source", "event_file", "from_run_or_file", "load_event", "read_source"]

Wrap = TypeVar("Wrap", bound=Callable[..., Any])

_OF_A_RUN = ("noise_multiplier", "steps", "rate", "sampling", "adjacency")


@dataclass(frozen=True, slots=True)
class Source:
    """An event and what is known about it.

    `plan` is the run of the options, None for an event from a file; the unit of
    such an event is only known where it was said.
    """

    event: Event
    plan: Plan | None
    unit: str | None
    population: int | None
    delta: float
    delta_source: str

    @property
    def adjacency(self) -> Adjacency | None:
        """The neighbouring relation, if it is known."""
        return self.plan.adjacency if self.plan else adjacency_of(self.event)

    def document(self) -> dict[str, Any]:
        """What was asked about, for a JSON answer."""
        if self.plan is not None:
            return document(self.plan)
        return {
            "event": to_dict(self.event),
            "delta": self.delta,
            "delta_source": self.delta_source,
            "unit": self.unit,
            "population": self.population,
        }


event_file = options.option(
    "--event",
    "event_file",
    check=Path,
    metavar="FILE",
    text="Instead of a run: a JSON file with an event, as drdp records it.",
    required=False,
)


def from_run_or_file(wrapped: Wrap) -> Wrap:
    """The options of a run, all optional, or ``--event FILE``."""
    for add in (
        options.relation,
        options.delta,
        options.rate(required=False),
        options.steps(required=False),
        options.optional_sigma,
        event_file,
    ):
        wrapped = add(wrapped)
    return wrapped


def read_source(*, event_file: Path | None, **described: Any) -> Source:
    """The event that options or a file describe.

    Raises:
        click.UsageError: If neither or both are given, or the file cannot be read.
        CodecError: If the file holds no event.
    """
    names = {"noise_multiplier": "--sigma", "steps": "--steps", "rate": "--rate"}
    if event_file is None:
        for name, option in names.items():
            if described[name] is None:
                raise click.UsageError(
                    f"{option} is missing: give --sigma, --steps and --rate, or --event"
                )
        plan = read_plan(**described)
        return _of(plan, plan.event(), plan)
    ctx = click.get_current_context()
    for name in _OF_A_RUN:
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = names.get(name, f"--{name}")
            raise click.UsageError(f"--event and {option} exclude each other")
    source = _of(read_plan(**described), load_event(event_file), None)
    said = ctx.get_parameter_source("unit") is ParameterSource.COMMANDLINE
    return source if said else replace(source, unit=None)


def load_event(file: Path) -> Event:
    """The event in a file.

    Raises:
        click.UsageError: If the file cannot be read.
        CodecError: If it holds no event.
    """
    try:
        text = file.read_bytes()
    except OSError as error:
        raise click.UsageError(
            f"--event {file} cannot be read: {error.strerror or error}"
        ) from None
    return loads(text)


def _of(about: Plan, event: Event, plan: Plan | None) -> Source:
    return Source(
        event,
        plan,
        about.unit,
        about.population,
        about.delta or 0.0,
        about.delta_source,
    )
