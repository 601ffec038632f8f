"""Parts of an HTML page as text, everything that is put in escaped.

>>> paragraph("a < b")
'<p>a &lt; b</p>'
>>> table("Two", ("x", "y"), [("1", "2")], numbers=(1,)).count('class="n"')
2
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import count
from typing import Any, final

from drdp.fedsim.drawing import Line, Tick, chart, swatch
from drdp.fedsim.style import sheet

__all__ = [
    "Figures",
    "banner",
    "bullets",
    "details",
    "facts",
    "headline",
    "page",
    "paragraph",
    "section",
    "table",
    "ticks",
]

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(title: str, top: Sequence[str], parts: Sequence[str], bottom: str) -> str:
    """A whole document that loads nothing and runs nothing.

    Args:
        title: Plain text.
        top: What stands in the header, as HTML.
        parts: The sections, as HTML.
        bottom: Plain text for the footer.
    """
    header, main = "\n".join(top), "\n".join(parts)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>
{sheet()}
</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
{header}
</header>
<main>
{main}
</main>
<footer>
{paragraph(bottom)}
</footer>
</body>
</html>
"""


def section(name: str, title: str, parts: Sequence[str]) -> str:
    """A titled section; `name` is its anchor."""
    inner = "\n".join(part for part in parts if part)
    return (
        f'<section id="{escape(name)}" aria-labelledby="{escape(name)}-title">\n'
        f'<h2 id="{escape(name)}-title">{escape(title)}</h2>\n{inner}\n</section>'
    )


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f"<p{_kind(kind)}>{escape(text)}</p>"


def banner(title: str, text: str, *, alarm: bool) -> str:
    """A warning that cannot be overlooked."""
    kind = "banner alarm" if alarm else "banner"
    return (
        f'<p class="{kind}" role="note"><strong>{escape(title)}</strong>'
        f" {escape(text)}</p>"
    )


def headline(big: str, words: str) -> str:
    """The one thing to read."""
    return (
        f'<p class="sentence"><span class="big">{escape(big)}</span>'
        f" {escape(words)}</p>"
    )


def bullets(lines: Sequence[str]) -> str:
    """A list of plain texts."""
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def facts(values: Mapping[str, str]) -> str:
    """Names and values, side by side."""
    rows = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
        for name, value in values.items()
    )
    return f'<dl class="facts">{rows}</dl>'


def details(summary: str, inner: str) -> str:
    """Something to unfold."""
    return f"<details><summary>{escape(summary)}</summary>\n{inner}\n</details>"


def table(
    caption: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: Sequence[int] = (),
) -> str:
    """A table whose first column names its rows.

    Args:
        caption: What it shows.
        header: The names of the columns.
        rows: Their texts.
        numbers: Which columns are aligned to the right.
    """

    def cell(tag: str, column: int, text: str, more: str = "") -> str:
        kind = ' class="n"' if column in numbers else ""
        return f"<{tag}{kind}{more}>{escape(text)}</{tag}>"

    top = "".join(cell("th", k, text, ' scope="col"') for k, text in enumerate(header))
    body = "\n".join(
        "<tr>"
        + "".join(
            cell("td", k, text) if k else cell("th", k, text, ' scope="row"')
            for k, text in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    name = escape(caption)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{name}">'
        f"<table><caption>{name}</caption>"
        f"<thead><tr>{top}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


@final
class Figures:
    """Figures of one page, numbered in order."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def figure(
        self,
        caption: str,
        description: str,
        lines: Sequence[Line],
        across: str,
        up: str,
        numbers: str,
        **options: Any,
    ) -> str:
        """A chart with caption, legend and the same numbers as a table.

        Args:
            caption: What the figure shows.
            description: What can be seen, for those who cannot see it.
            lines: As for `chart`.
            across: As for `chart`.
            up: As for `chart`.
            numbers: A table of what is drawn, as HTML.
            **options: As for `chart`.
        """
        drawn = chart(caption, description, lines, across, up, **options)
        if not drawn:
            return numbers
        legend = ""
        if len(lines) > 1:
            entries = "".join(
                f"<li>{swatch(line.style)}<span>{escape(line.name)}</span></li>"
                for line in lines
            )
            legend = f'<ul class="legend">{entries}</ul>'
        number = next(self._numbers)
        return (
            f"<figure><figcaption>Figure {number}. {escape(caption)}</figcaption>\n"
            f"{drawn}\n{legend}{details('The numbers as a table', numbers)}</figure>"
        )

    @staticmethod
    def beside(figures: Sequence[str]) -> str:
        """Figures next to each other, where there is room."""
        inner = "\n".join(one for one in figures if one)
        return f'<div class="figures">{inner}</div>'


def ticks(names: Sequence[str]) -> list[Tick]:
    """Places 0, 1, ... for an axis of names."""
    return [(float(k), name) for k, name in enumerate(names)]


def _kind(kind: str) -> str:
    return f' class="{escape(kind)}"' if kind else ""
