"""``drdp sweep``: noise, epsilon, delta or risk over a grid."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, TextIO

import click

from drdp.cli import layout, options
from drdp.cli.grids import NEEDS, Found, Point, Quantity, Sweep, grid, solve
from drdp.cli.numbers import nearest, plain, up
from drdp.cli.plan import read_plan
from drdp.cli.progress import watched
from drdp.cli.render import document
from drdp.cli.tabulate import Section, Table

__all__ = ["sweep"]

_ABREAST = 6  # columns of answers beside each other in 80 columns
_DIGITS = 5
_DEFAULT_FPR = 1e-3
_MOST_POINTS = 2500
_TITLES = {
    "sigma": "Noise multiplier that meets the budget",
    "epsilon": "Epsilon",
    "delta": "Delta",
    "advantage": "Membership advantage, at most",
    "tpr": "True positive rate, at most",
}


def _axis(
    name: str, *aliases: str, check: options.Check, metavar: str, text: str
) -> Callable[[options.Wrap], options.Wrap]:
    return options.option(
        f"--{name}", *aliases, check=check, metavar=metavar, text=text, required=False
    )


@options.command(
    examples="""
drdp sweep --of sigma --epsilon 0.5,1,2,4,8 --steps 20 --rate 0.01,0.05
drdp sweep --of epsilon --sigma 0.5:4:8:log --steps 10,20,40 --rate 0.05
drdp sweep --of tpr --fpr 1e-4 --sigma 0.5:4:15 --steps 20 --rate 0.05
drdp sweep --of epsilon --sigma 0.5:2:30 --steps 1:100:30 --rate 0.05
    --plot map.png --heatmap --output grid.csv
"""
)
@options.option(
    "--of",
    "quantity",
    check=options.choices(*NEEDS),
    metavar="WHAT",
    text="What to compute: sigma, epsilon, delta, advantage or tpr.",
)
@_axis(
    "sigma",
    "--noise-multiplier",
    check=grid(options.positive),
    metavar="GRID",
    text="Noise multipliers: values separated by commas, or first:last:count, or"
    " first:last:count:log.",
)
@_axis(
    "epsilon",
    "--target-epsilon",
    check=grid(options.positive),
    metavar="GRID",
    text="Privacy budgets, likewise.",
)
@_axis(
    "steps",
    "--rounds",
    "--num-steps",
    check=grid(options.whole, whole=True),
    metavar="GRID",
    text="Numbers of rounds, likewise.",
)
@_axis(
    "rate",
    "--sample-rate",
    "--sampling-probability",
    check=grid(options.sampling_rate),
    metavar="GRID",
    text="Sampling rates, likewise.",
)
@_axis(
    "delta",
    "--target-delta",
    check=grid(options.probability),
    metavar="GRID",
    text="Deltas, likewise.  Default: 1e-5, or min(1e-5, N^-1.1) with --population N.",
)
@click.option(
    "--allow-large-delta", is_flag=True, help="Accept a delta of 1/N and more."
)
@options.option(
    "--fpr",
    check=options.probability,
    metavar="P",
    text="The false positive rate of --of tpr.  Default: 0.001.",
    required=False,
)
@options.relation
@options.accountant
@options.option(
    "--format",
    "form",
    check=options.choices(*layout.FORMS),
    metavar="FORM",
    text="text, markdown, csv, latex or json; csv is written as it is found."
    "  Default: text, or what the name of --output ends in.",
    required=False,
)
@options.option(
    "--output",
    check=Path,
    metavar="FILE",
    text="Write the table into this file.",
    required=False,
)
@options.picture("Draw into this .png, .svg or .pdf file as well.")
@click.option("--heatmap", is_flag=True, help="Draw two grids as a map, not as lines.")
@options.as_json
def sweep(
    *,
    quantity: Quantity,
    sigma: list[float] | None,
    epsilon: list[float] | None,
    steps: list[int] | None,
    rate: list[Fraction] | None,
    delta: list[float] | None,
    allow_large_delta: bool,
    fpr: float | None,
    accountant: str,
    form: str | None,
    output: Path | None,
    picture: Path | None,
    heatmap: bool,
    as_json: bool,
    **described: Any,
) -> None:
    """Noise, epsilon, delta or risk over a grid of one or two quantities.

    A point without an answer is printed as "none".  An interrupted run leaves
    what it had written of a csv.
    """
    axes = {
        "sigma": sigma,
        "epsilon": epsilon,
        "steps": steps,
        "rate": rate,
        "delta": delta,
    }
    form = _form(form, output, as_json)
    _refuse_contradictions(quantity, axes, fpr, heatmap, picture)
    deltas: Sequence[float | None] = delta or [None]
    plans = [
        read_plan(
            delta=one, allow_large_delta=allow_large_delta, rate=share, **described
        )
        for one in deltas
        for share in rate or []
    ]
    needs = (*NEEDS[quantity], *(["delta"] if quantity in ("sigma", "epsilon") else []))
    values = {name: axes[name] or [plans[0].delta] for name in needs}
    job = Sweep(
        quantity,
        plans[0],
        values,
        accountant,
        (fpr or _DEFAULT_FPR) if quantity == "tpr" else None,
    )
    if len(job.varied) > 2:
        names = ", ".join(f"--{name}" for name in job.varied)
        raise click.UsageError(f"at most two grids, got {names}")
    if len(job.points) > _MOST_POINTS:
        raise click.UsageError(
            f"at most {_MOST_POINTS} points, got {len(job.points)}: make a grid coarser"
        )
    with _stream(output) as stream:
        found = _answered(job, stream if form == "csv" else None)
        if form != "csv":
            text = layout.laid_out(_table(job, found), form)
            stream.write(text + "\n")
    if picture is not None:
        from drdp.cli import plot

        plot.save_sweep(job, found, picture, heatmap=heatmap)
    for path in (output, picture):
        if path is not None:
            click.echo(f"wrote {path}", err=output is None)


def _form(form: str | None, output: Path | None, as_json: bool) -> str:
    if as_json and form not in (None, "json"):
        raise click.UsageError(f"--json and --format {form} exclude each other")
    if as_json:
        return "json"
    if form is not None or output is None:
        return form or "text"
    endings = {"md": "markdown", "tex": "latex", "txt": "text"}
    ending = output.suffix[1:].lower()
    ending = endings.get(ending, ending)
    if ending not in layout.FORMS:
        raise click.UsageError(
            f"--output {output} does not end in .csv, .json, .md, .tex or .txt: give"
            " --format as well"
        )
    return ending


def _refuse_contradictions(
    quantity: str,
    axes: Mapping[str, object],
    fpr: float | None,
    heatmap: bool,
    picture: Path | None,
) -> None:
    for name in NEEDS[quantity]:
        if axes[name] is None:
            raise click.UsageError(f"--of {quantity} needs --{name}")
    used = (*NEEDS[quantity], *(["delta"] if quantity in ("sigma", "epsilon") else []))
    for name, values in axes.items():
        if values is not None and name not in used:
            raise click.UsageError(f"--{name} has no effect on --of {quantity}")
    if fpr is not None and quantity != "tpr":
        raise click.UsageError(f"--fpr has no effect on --of {quantity}")
    if heatmap:
        if picture is None:
            raise click.UsageError("--heatmap needs --plot")
        grids = [v for v in axes.values() if isinstance(v, list) and len(v) > 1]
        if len(grids) != 2:
            raise click.UsageError(f"--heatmap needs two grids, got {len(grids)}")


@contextmanager
def _stream(output: Path | None) -> Iterator[TextIO]:
    if output is None:
        yield sys.stdout
        return
    try:
        with output.open("w", encoding="utf-8", newline="") as file:
            yield file
    except OSError as error:
        raise click.UsageError(
            f"--output {output} cannot be written: {error.strerror or error}"
        ) from None


def _answered(job: Sweep, stream: TextIO | None) -> list[Found]:
    """Every answer; each goes to the csv as soon as it is there."""
    points = job.points
    answers: Iterable[Found] = solve(job)
    if stream is None or not stream.isatty():
        answers = watched(answers, len(points))
    found, writer = [], None
    for point, answer in zip(points, answers, strict=True):
        found.append(answer)
        if stream is not None:
            record = _record(job, point, answer)
            if writer is None:
                writer = csv.DictWriter(stream, list(record), lineterminator="\n")
                writer.writeheader()
            writer.writerow(record)
            stream.flush()
    return found


def _record(job: Sweep, point: Point, answer: Found) -> dict[str, Any]:
    given = {
        name: float(value) if isinstance(value, Fraction) else value
        for name, value in point.items()
    }
    if job.fpr is not None:
        given["fpr"] = job.fpr
    return {
        **given,
        job.quantity: answer.value,
        "bound": None if answer.value is None else answer.bound,
        "problem": answer.problem,
    }


def _table(job: Sweep, found: Sequence[Found]) -> Table:
    points = job.points
    shown = {
        tuple(point.values()): _cell(job, answer)
        for point, answer in zip(points, found, strict=True)
    }
    names = list(job.axes)
    down = job.varied[0] if job.varied else names[0]
    across = job.varied[1] if len(job.varied) > 1 else None

    def cell(**at: Any) -> str:
        return shown[tuple(at.get(name, job.axes[name][0]) for name in names)]

    header, sections = _laid(job, down, across, cell)
    return Table(
        _TITLES[job.quantity],
        header,
        sections,
        _notes(job, found),
        [_record(job, *pair) for pair in zip(points, found, strict=True)],
        _about(job),
    )


def _laid(
    job: Sweep, down: str, across: str | None, cell: Callable[..., str]
) -> tuple[Sequence[str], list[Section]]:
    """One column of answers, a few beside each other, or many in blocks."""
    fixed = ", ".join(
        f"{name} {_value(values[0])}"
        for name, values in job.axes.items()
        if name not in (down, across)
    )
    rows = job.axes[down]
    if across is None:
        single = [(_value(v), cell(**{down: v})) for v in rows]
        return (down, job.quantity), [Section(fixed, single)]
    columns = job.axes[across]
    if len(columns) <= _ABREAST:
        header = (down, *(f"{across} {_value(v)}" for v in columns))
        lines = [
            (_value(v), *(cell(**{down: v, across: w}) for w in columns)) for v in rows
        ]
        return header, [Section(fixed, lines)]
    return (down, job.quantity), [
        Section(
            f"{across} {_value(w)}, {fixed}",
            [(_value(v), cell(**{down: v, across: w})) for v in rows],
        )
        for w in columns
    ]


def _cell(job: Sweep, answer: Found) -> str:
    if answer.value is None:
        return "none"
    rounded = up if answer.bound == "upper" or job.quantity == "sigma" else nearest
    return rounded(answer.value, _DIGITS)


def _value(value: Any) -> str:
    return str(value) if isinstance(value, int) else plain(float(value))


def _about(job: Sweep) -> dict[str, Any]:
    """What all points share, under the keys of every command."""
    varied = ("noise_multiplier", "steps", "rate", "delta", "sample_size")
    told = {k: v for k, v in document(job.plan).items() if k not in varied}
    return {"quantity": job.quantity, "accountant": job.accountant, **told}


def _notes(job: Sweep, found: Sequence[Found]) -> list[str]:
    plan = job.plan
    bounds = {answer.bound for answer in found if answer.value is not None}
    kind = "certified, rounded up" if job.accountant == "pld" else "a bound"
    if bounds - {"upper"}:
        kind = "an estimate, no bound"
    notes = [
        f"accountant {job.accountant}: {kind}.",
        f"{plan.sampling} sampling, {plan.adjacency}, unit {plan.unit}."
        + (f"  delta: {plan.delta_source}." if "delta" in job.axes else ""),
    ]
    if job.fpr is not None:
        notes.append(f"at a false positive rate of {plain(job.fpr)}.")
    problems = dict.fromkeys(one.problem for one in found if one.problem)
    return [*notes, *(f"none: {problem}" for problem in problems if problem)]
