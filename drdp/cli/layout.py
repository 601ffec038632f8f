"""One table in five forms: text, markdown, csv, latex and json."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence

import click

from drdp.cli.render import columns, json_text
from drdp.cli.tabulate import Table

__all__ = ["FORMS", "laid_out"]

_WIDTH = 79


def laid_out(table: Table, form: str) -> str:
    """The table as text in one of `FORMS`, without a last line break."""
    return FORMS[form](table)


def _text(table: Table) -> str:
    every = [cells for section in table.sections for cells in section.lines]
    header, *lines = columns(table.header, every)
    blocks, start = [table.title], 0
    for section in table.sections:
        stop = start + len(section.lines)
        blocks.append("\n".join([section.title, header, *lines[start:stop]]))
        start = stop
    notes = "\n".join(click.wrap_text(note, _WIDTH, "- ", "  ") for note in table.notes)
    return "\n\n".join([*blocks, notes])


def _markdown(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("*", "\\*") for cell in cells) + " |"

    rule = "|" + " --- |" * len(table.header)
    blocks = [f"**{table.title}**"]
    for section in table.sections:
        rows = "\n".join(line(cells) for cells in section.lines)
        blocks.append(f"{section.title}\n\n{line(table.header)}\n{rule}\n{rows}")
    notes = "\n".join(f"- {note.replace('*', chr(92) + '*')}" for note in table.notes)
    return "\n\n".join([*blocks, notes])


def _csv(table: Table) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(table.records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({**record} for record in table.records)
    return stream.getvalue().removesuffix("\n")


def _latex(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        shown = ("$\\infty$" if cell == "inf" else cell for cell in cells)
        return "  " + " & ".join(shown) + r" \\"

    count = len(table.header)
    body: list[str] = []
    for section in table.sections:
        body += [
            r"  \midrule",
            rf"  \multicolumn{{{count}}}{{l}}{{{section.title}}} \\",
        ]
        body += [line(cells) for cells in section.lines]
    return "\n".join(
        [
            *(f"% {note}" for note in table.notes),
            r"% needs \usepackage{booktabs}",
            rf"\begin{{tabular}}{{{'r' * count}}}",
            r"  \toprule",
            line(table.header),
            *body,
            r"  \bottomrule",
            r"\end{tabular}",
        ]
    )


def _json(table: Table) -> str:
    return json_text(
        {
            "title": table.title,
            **table.about,
            "rows": table.records,
            "notes": table.notes,
        }
    )


FORMS: Mapping[str, Callable[[Table], str]] = {
    "text": _text,
    "markdown": _markdown,
    "csv": _csv,
    "latex": _latex,
    "json": _json,
}
