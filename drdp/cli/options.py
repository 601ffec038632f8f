"""The options that commands share: their names, aliases and domains.

A value is checked here, at the door, and refused with the option's first name,
the domain and what was given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import click

__all__ = [
    "ACCOUNTANTS",
    "ADJACENCIES",
    "LONGEST_LIST",
    "PICTURES",
    "SAMPLINGS",
    "Command",
    "accountant",
    "as_json",
    "choices",
    "command",
    "compare",
    "delta",
    "epsilon",
    "listed",
    "option",
    "optional_epsilon",
    "optional_sigma",
    "picture",
    "positive",
    "probability",
    "rate",
    "relation",
    "sampling_rate",
    "sigma",
    "sigmas",
    "stage_one_noise",
    "steps",
    "whole",
]

Wrap = TypeVar("Wrap", bound=Callable[..., Any])
Check = Callable[[str], Any]

ACCOUNTANTS = ("pld", "rdp", "gdp", "edgeworth", "prv")
ADJACENCIES = ("add-remove", "zero-out", "replace-one")
SAMPLINGS = ("poisson", "fixed", "truncated", "allocation", "shuffle", "all")
PICTURES = ("png", "svg", "pdf")
_LARGEST_COUNT = 10**9
LONGEST_LIST = 100
_LONGEST = 400  # characters of a number; Python's own limit is near 4300 digits


class Option(click.Option):
    """An option that goes by its first name in messages and in the help."""

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """The first name alone, quoted; aliases would drown the message."""
        return f"'{self.opts[0]}'"

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """One name in the margin, the aliases after the explanation."""
        record = super().get_help_record(ctx)
        aliases = [name for name in self.opts[1:] if name.startswith("--")]
        if record is None or not aliases or self.is_flag:
            return record
        return (
            f"{self.opts[0]} {self.metavar}",
            f"{record[1]}  [also {', '.join(aliases)}]",
        )


class Command(click.Command):
    """A command that refuses an option given twice, alias or not."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Count the options before their values are looked at."""
        _, _, order = self.make_parser(ctx).parse_args(list(args))
        for parameter in order:
            repeated = order.count(parameter)
            often = getattr(parameter, "is_flag", False) or parameter.multiple
            if repeated > 1 and not often:
                raise click.BadParameter(
                    f"given {repeated} times; give it once", ctx, parameter
                )
        return super().parse_args(ctx, args)


def command(
    *, examples: str, table: str = ""
) -> Callable[[Callable[..., Any]], click.Command]:
    """A command whose help ends with examples, one a line, after a table if any."""
    lines = "\n".join(f"  {line}" for line in examples.strip().splitlines())
    first = f"\b\n{table}\n\n" if table else ""
    return click.command(
        cls=Command,
        epilog=f"{first}\b\nExamples:\n{lines}",
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def _number(text: str) -> float:
    top, slash, bottom = text.partition("/")
    try:
        if len(text) > _LONGEST:
            raise ValueError
        return int(top) / int(bottom) if slash else float(top)
    except (ValueError, ZeroDivisionError, OverflowError):
        raise click.BadParameter(f"must be a number, got {text!r:.60}") from None


def positive(text: str) -> float:
    """A finite number above zero."""
    number = _number(text)
    if not 0.0 < number < math.inf:
        raise click.BadParameter(f"must be positive and finite, got {text:.60}")
    return number


def probability(text: str) -> float:
    """A number strictly between 0 and 1; ``1/149`` is understood."""
    number = _number(text)
    if not 0.0 < number < 1.0:
        raise click.BadParameter(f"must lie strictly between 0 and 1, got {text:.60}")
    return number


def sampling_rate(text: str) -> Fraction:
    """A rate in (0, 1], kept exactly as it was written; ``1/20`` is understood."""
    if not 0.0 < _number(text) <= 1.0:
        raise click.BadParameter(f"must lie in (0, 1], got {text:.60}")
    top, _, bottom = text.partition("/")
    return Fraction(int(top), int(bottom)) if bottom else Fraction(top)


def whole(text: str) -> int:
    """A whole number from 1 to a thousand million; ``1e6`` is understood."""
    number = _number(text)
    if not number.is_integer() or not 1 <= number <= _LARGEST_COUNT:
        raise click.BadParameter(
            f"must be a whole number from 1 to {_LARGEST_COUNT:,}, got {text:.60}"
        )
    return int(number)


def listed(check: Check, *, most: int) -> Check:
    """Values separated by commas, each checked, in the order given."""

    def read(text: str) -> list[Any]:
        parts = [part.strip() for part in text.split(",")]
        if not all(parts):
            raise click.BadParameter(
                f"must be values separated by commas, got {text!r:.60}"
            )
        if len(parts) > most:
            raise click.BadParameter(f"takes at most {most} values, got {len(parts)}")
        return [check(part) for part in parts]

    return read


def choices(*known: str) -> Check:
    """One of a few words."""

    def read(text: str) -> str:
        if text not in known:
            raise click.BadParameter(f"must be one of {', '.join(known)}; got {text!r}")
        return text

    return read


def option(
    *names: str,
    check: Check,
    metavar: str,
    text: str,
    required: bool = True,
    default: str | None = None,
) -> Callable[[Wrap], Wrap]:
    """An option whose value passes through `check`."""

    def read(ctx: click.Context, parameter: click.Parameter, value: str | None) -> Any:
        return None if value is None else check(value)

    return click.option(
        *names,
        cls=Option,
        type=str,
        callback=read,
        metavar=metavar,
        help=text,
        required=required and default is None,
        # click tells an absent default from one that is None
        **({} if default is None else {"default": default, "show_default": True}),
    )


def _epsilon(required: bool) -> Callable[[Wrap], Wrap]:
    return option(
        "--epsilon",
        "--target-epsilon",
        check=positive,
        metavar="E",
        text="The privacy budget: an epsilon above 0.",
        required=required,
    )


epsilon, optional_epsilon = _epsilon(required=True), _epsilon(required=False)


def _sigma(required: bool) -> Callable[[Wrap], Wrap]:
    return option(
        "--sigma",
        "--noise-multiplier",
        "noise_multiplier",
        check=positive,
        metavar="S",
        text="Noise standard deviation / clip norm, or / (2 x clip norm) with"
        " --sampling fixed.",
        required=required,
    )


sigma, optional_sigma = _sigma(required=True), _sigma(required=False)
sigmas = option(
    "--sigma",
    "--noise-multiplier",
    "noise_multipliers",
    check=listed(positive, most=LONGEST_LIST),
    metavar="S,S,..",
    text="Noise multipliers, separated by commas.",
)


def steps(required: bool = True) -> Callable[[Wrap], Wrap]:
    """``--steps``, the number of rounds."""
    return option(
        "--steps",
        "--rounds",
        "--num-steps",
        check=whole,
        metavar="T",
        text="Number of rounds, each of which releases a model.",
        required=required,
    )


def rate(required: bool = True) -> Callable[[Wrap], Wrap]:
    """``--rate``, the sampling rate."""
    return option(
        "--rate",
        "--sample-rate",
        "--sampling-probability",
        check=sampling_rate,
        metavar="Q",
        text="Share of the clients in a round, in (0, 1]; 1 is no sampling.",
        required=required,
    )


def delta(wrapped: Wrap) -> Wrap:
    """``--delta``, or what a population makes of it."""
    given = option(
        "--delta",
        "--target-delta",
        check=probability,
        metavar="D",
        text="The delta of the guarantee, in (0, 1).  Default: 1e-5, or"
        " min(1e-5, N^-1.1) with --population N.",
        required=False,
    )
    allowed = click.option(
        "--allow-large-delta",
        is_flag=True,
        help="Accept a delta of 1/N and more.",
    )
    return given(allowed(wrapped))


def relation(wrapped: Wrap) -> Wrap:
    """How clients are drawn, and which data sets are neighbours."""
    for add in (
        option(
            "--unit",
            check=choices("client", "example"),
            metavar="UNIT",
            text="Whom the guarantee protects: client or example.",
            default="client",
        ),
        option(
            "--population",
            check=whole,
            metavar="N",
            text="Number of clients in all.",
            required=False,
        ),
        option(
            "--adjacency",
            check=choices(*ADJACENCIES),
            metavar="REL",
            text="add-remove, zero-out or replace-one.  Default: add-remove, or"
            " replace-one with --sampling fixed, or zero-out with shuffle.",
            required=False,
        ),
        option(
            "--sampling",
            check=choices(*SAMPLINGS),
            metavar="HOW",
            text="poisson (each client joins with probability Q), fixed (a fixed"
            " number is drawn), truncated (poisson, but at most --max-batch),"
            " allocation (with Q = 1/t, each client in one of every t rounds, at"
            " random), shuffle (random batches of one size) or all (every client"
            " in every round).",
            default="poisson",
        ),
        option(
            "--max-batch",
            check=whole,
            metavar="B",
            text="The most clients that a round can hold, with --sampling truncated.",
            required=False,
        ),
    ):
        wrapped = add(wrapped)
    return wrapped


stage_one_noise = option(
    "--stage-one-noise",
    check=positive,
    metavar="Z",
    text="Noise multiplier of one release before the rounds, about all clients:"
    " the DR-Encoder's statistics.  Default: no such release.",
    required=False,
)
accountant = option(
    "--accountant",
    check=choices(*ACCOUNTANTS),
    metavar="NAME",
    text="pld (certified), rdp, gdp or edgeworth (estimates), or prv.",
    default="pld",
)


def compare(wrapped: Wrap) -> Wrap:
    """``--compare``, the accountants whose answers come after."""
    one_of = choices(*ACCOUNTANTS, "all", "none")

    def read(text: str) -> tuple[str, ...]:
        names = listed(one_of, most=len(ACCOUNTANTS))(text)
        if len(names) > 1 and {"all", "none"} & set(names):
            raise click.BadParameter(f"all and none stand alone, got {text!r}")
        known: dict[str, tuple[str, ...]] = {"all": ACCOUNTANTS, "none": ()}
        return known.get(names[0], tuple(dict.fromkeys(names)))

    return option(
        "--compare",
        check=read,
        metavar="NAMES",
        text="Other accountants to ask, separated by commas, or all, or none."
        "  Default: gdp,rdp, and pld where it is not asked already.",
        required=False,
    )(wrapped)


def picture(text: str) -> Callable[[Wrap], Wrap]:
    """``--plot``, the file of a picture."""

    def read(name: str) -> Path:
        path = Path(name)
        if path.suffix[1:].lower() not in PICTURES:
            known = ", ".join(f".{form}" for form in PICTURES)
            raise click.BadParameter(f"must end in one of {known}; got {name!r}")
        return path

    return option(
        "--plot", "picture", check=read, metavar="FILE", text=text, required=False
    )


as_json = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object instead."
)
