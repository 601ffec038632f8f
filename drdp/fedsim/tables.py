"""What a comparison came to, in the form of the DR-Encoder paper's tables.

Tables 2, 4 and 5 of arXiv:2412.17053: methods by disciplines, methods and budgets
by disciplines, and what is sent.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from drdp.compression.communication import mebibytes, table_five
from drdp.fedsim.benchmark_part import TITLES, at_chance, with_error
from drdp.fedsim.comparison import Finished
from drdp.fedsim.digits import about, size
from drdp.fedsim.marks import AVERAGE, HARD

__all__ = ["Table", "as_csv", "as_markdown", "told"]

_SHORT = {
    "social sciences": "soc.",
    "humanities": "hum.",
    AVERAGE: "average",
    HARD: "hard",
}
_DATALESS = ("base", "public")
_BUDGETLESS = (*_DATALESS, "cent")


class Table(NamedTuple):
    """A table with a caption, and what has to be known to read it."""

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str]


def told(
    found: Sequence[Finished],
    methods: Sequence[str],
    epsilons: Sequence[float],
    *,
    short: bool = True,
) -> list[Table]:
    """All tables of a comparison.

    Args:
        found: The finished runs.
        methods: In the order of the rows.
        epsilons: In the order of the columns.
        short: Whether rows have to fit into 80 columns; then disciplines have
            short names, and only the average has its standard error.

    Guarantees:
        A row whose runs have no finite epsilon is marked, whatever noise its
        rounds had.
    """
    exams = list(dict.fromkeys(name for run in found for name in run.benchmarks))
    apart = tuple(f"{name}_" for name in exams)
    metrics = [
        name for name in found[0].after if not (apart and name.startswith(apart))
    ]
    tables = [_by_budget(metric, found, methods, epsilons) for metric in metrics]
    for exam in exams:
        plain = [run for run in found if run.task.epsilon == math.inf]
        title = f"{TITLES.get(exam, exam)}, % right"
        if plain:
            without = f"{title}, without noise (the paper's Table 2)"
            tables.append(_by_discipline(without, exam, plain, methods, short=short))
        if len(plain) < len(found):
            by = f"{title}, by method and budget (the paper's Table 4)"
            tables.append(_by_discipline(by, exam, found, methods, short=short))
    return [*tables, _messages(found, methods), _table_five()]


def as_markdown(tables: Sequence[Table]) -> str:
    """Tables as a Markdown document."""
    parts = []
    for one in tables:
        lines = [f"**{one.title}**", "", _line(one.header)]
        lines.append("|" + " --- |" * len(one.header))
        lines += [_line(row) for row in one.rows]
        parts.append("\n".join(lines))
        parts += one.notes
    return "\n\n".join(parts) + "\n"


def as_csv(found: Sequence[Finished]) -> str:
    """One line a run, for other programs; an infinite epsilon is ``inf``."""
    names = list(dict.fromkeys(name for run in found for name in run.after))
    errors = list(dict.fromkeys(name for run in found for name in run.errors))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        [
            *("method", "budget", "seed", "certified_epsilon", "delta"),
            *(f"{name}_{when}" for name in names for when in ("before", "after")),
            *(f"{name}_standard_error" for name in errors),
            *("numbers", "message_bytes", "setup_numbers", "setup_bytes"),
        ]
    )
    for run in found:
        task = run.task
        budget = "" if task.method in _BUDGETLESS else task.epsilon
        writer.writerow(
            [
                *(task.method, budget, task.seed, run.epsilon, run.delta),
                *(
                    values.get(name, "")
                    for name in names
                    for values in (run.before, run.after)
                ),
                *(run.errors.get(name, "") for name in errors),
                *(run.numbers, run.message_bytes, run.setup_numbers, run.setup_bytes),
            ]
        )
    return stream.getvalue()


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _by_budget(
    metric: str,
    found: Sequence[Finished],
    methods: Sequence[str],
    epsilons: Sequence[float],
) -> Table:
    """Means over seeds, methods down and budgets across."""
    rows = []
    for method in methods:
        mine = [run for run in found if run.task.method == method]
        cells = [method]
        for epsilon in epsilons:
            at = (math.inf,) if method in _BUDGETLESS else (epsilon,)
            values = [run.after[metric] for run in mine if run.task.epsilon in at]
            cells.append(f"{_mean(values):.4f}" if values else "")
        rows.append([*cells, _private(mine)])
    start = {run.task.seed: run.before[metric] for run in found}
    return Table(
        f"{metric} on held-out data, {_mean(list(start.values())):.4f} before",
        ["method", *(f"epsilon {_budget(e)}" for e in epsilons), "private"],
        rows,
        [],
    )


def _by_discipline(
    title: str,
    exam: str,
    found: Sequence[Finished],
    methods: Sequence[str],
    *,
    short: bool,
) -> Table:
    """Methods and budgets down, disciplines across: means over seeds."""
    groups = list(found[0].benchmarks[exam]["marks"])
    rows, starred = [], False
    for method, epsilon, runs in _groups(found, methods):
        exposed = any(run.epsilon == math.inf for run in runs)
        star = "*" if exposed and epsilon != math.inf else ""
        starred = starred or bool(star)
        budget = "-" if method in _BUDGETLESS else _budget(epsilon)
        cells = [method, budget + star]
        marks = [run.benchmarks[exam]["marks"] for run in runs]
        for group in groups:
            value = _means([one[group]["after"] for one in marks])
            bare = short and group != AVERAGE
            cells.append(f"{value[0]:.1f}" if bare else with_error(value))
        changes = [one[AVERAGE]["change"] for one in marks]
        rows.append([*cells, with_error(_means(changes), sign=True)])
    first = found[0].benchmarks[exam]
    text = (
        f"{first['questions']:,} questions; chance is {about(first['chance'], 3)}; in"
        " brackets standard errors over the choice of questions. The change is that of"
        " the average by training."
    )
    notes = [text]
    if len({run.task.seed for run in found}) > 1:
        notes.append(
            "Means over seeds of figures and of standard errors, which more seeds do"
            " not lower here."
        )
    if starred:
        notes.append("* not private: epsilon is infinite, whatever noise rounds add.")
    if all(at_chance(run.benchmarks[exam]) for run in found):
        notes.append(
            "Before training the model answers no better than by guessing: these"
            " figures cannot tell methods apart."
        )
    names = [_SHORT.get(group, group) if short else group for group in groups]
    return Table(title, ["method", "epsilon", *names, "change"], rows, notes)


def _groups(
    found: Sequence[Finished], methods: Sequence[str]
) -> Iterator[tuple[str, float, list[Finished]]]:
    """Runs that differ in their seed alone, in the order of the paper's Table 4."""
    for method in methods:
        mine = [run for run in found if run.task.method == method]
        for epsilon in sorted({run.task.epsilon for run in mine}):
            yield method, epsilon, [run for run in mine if run.task.epsilon == epsilon]


def _messages(found: Sequence[Finished], methods: Sequence[str]) -> Table:
    largest = max(run.numbers for run in found) or 1
    sizes = {run.task.method: run for run in found}
    rows = [
        [
            method,
            f"{run.numbers:,}",
            size(run.message_bytes),
            f"{run.numbers / largest:.3g}",
            f"{run.setup_numbers:,}",
            size(run.setup_bytes),
        ]
        for method in methods
        if (run := sizes.get(method)) is not None
    ]
    return Table(
        "What a client sends in a round, and once before the first one",
        ["method", "numbers", "size", "ratio", "once", "size"],
        rows,
        [],
    )


def _table_five() -> Table:
    paper = table_five()
    rows = [
        [name, f"{numbers:,}", printed, size(mebibytes(numbers) * 2**20)]
        for name, numbers, printed in (
            ("FedCG", paper.updates, "160 MB"),
            ("DR-Encoder", paper.statistics, "0.078 MB"),
        )
    ]
    rows.append(["ratio", f"{paper.ratio:.2e}", "", f"{paper.ratio:.2e}"])
    note = (
        "The paper's sizes are one byte and eight bytes a number. With the default"
        " public prior, dr-encoder sends nothing before training."
    )
    return Table(
        "The paper's Table 5: a client of LLaMA-7B, rank 8, before training",
        ["method", "numbers", "paper's size", "float32"],
        rows,
        [note],
    )


def _private(runs: Sequence[Finished]) -> str:
    if runs and runs[0].task.method in _DATALESS:
        return "no private data"
    finite = [run.epsilon < math.inf for run in runs]
    return "yes" if all(finite) else "where finite" if any(finite) else "NO"


def _budget(epsilon: float) -> str:
    return "inf" if epsilon == math.inf else about(epsilon, 6)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _means(pairs: Sequence[Sequence[float]]) -> list[float]:
    return [_mean([pair[0] for pair in pairs]), _mean([pair[1] for pair in pairs])]
