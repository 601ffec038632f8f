"""The options that say what an event does not know about its run."""

from __future__ import annotations

from collections.abc import Callable

import click

from drdp.cli import options
from drdp.cli.options import Wrap

__all__ = ["circumstances", "told"]


def told(
    *names: str, metavar: str, text: str, default: str | None = None
) -> Callable[[Wrap], Wrap]:
    """An option that takes words as they are."""
    return options.option(
        *names,
        check=str.strip,
        metavar=metavar,
        text=text,
        required=False,
        default=default,
    )


def circumstances(wrapped: Wrap) -> Wrap:
    """What a statement says beside the event, and whether it has figures of risk."""
    for add in (
        click.option("--no-risk", is_flag=True, help="Leave the figures of risk out."),
        told(
            "--covers",
            "data_accesses",
            metavar="TEXT",
            text="Which uses of the data this is about, e.g. one run.",
        ),
        told(
            "--released",
            "output",
            metavar="TEXT",
            text="What is released, e.g. every model.",
        ),
        told("--adversary", metavar="TEXT", text="What the adversary sees."),
        told("--placement", metavar="TEXT", text="Who adds the noise, e.g. central."),
        options.option(
            "--clip-norm",
            check=options.positive,
            metavar="C",
            text="The largest L2 norm of one contribution.",
            required=False,
        ),
    ):
        wrapped = add(wrapped)
    return wrapped
