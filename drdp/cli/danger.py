"""How figures of risk look: aligned text for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from drdp.cli import render
from drdp.cli.answers import Answer
from drdp.cli.exposure import Aim, Protection
from drdp.cli.numbers import about, between, down, nearest, plain, up
from drdp.cli.plan import Plan
from drdp.cli.render import columns, document, json_text
from drdp.privacy.curves import Interval
from drdp.privacy.figures import Figure

__all__ = ["line", "measure", "protection", "table", "table_document"]

_DIGITS = 4
_WIDTH = 79
_AT_MOST = "at most: certified; no attack on a single unit exceeds it."
_REACHED = "  reached: the best attack does at least this, on the worst data."
_PRIOR = (
    "Guessing alone reaches an advantage of 0, a true positive rate equal to the"
    " FPR, and the prior: the chance of being right without the release."
)
_WORDS = {
    "advantage": "membership advantage, TPR - FPR",
    "true_positive_rate": "true positive rate",
    "bayes_success": "right guesses of membership",
    "positive_predictive_value": "membership claims that are right",
    "reconstruction": "data reconstructed",
}


def measure(figure: Figure) -> str:
    """What a figure is about, in words."""
    parts = []
    if figure.fpr is not None:
        parts.append(f"FPR {plain(figure.fpr)}")
    if figure.prior == 0.5 and figure.name != "reconstruction":
        parts.append("even odds")
    elif figure.prior is not None:
        parts.append(f"prior {_share(figure.prior)}")
    return f"{_WORDS[figure.name]}{' at ' if parts else ''}{', '.join(parts)}"


def line(figure: Figure) -> str:
    """One figure in a line."""
    return f"{up(figure.upper, _DIGITS):<10} {measure(figure)}"


def _share(value: float) -> str:
    """A probability; one in 256 reads better than 0.00390625."""
    text = plain(value)
    one_in = round(1.0 / value)
    return f"1/{one_in}" if len(text) > 6 and value == 1.0 / one_in else text


def table(plan: Plan, found: Sequence[Figure], epsilon: Interval) -> None:
    """Print every figure, then the guarantee that they belong to."""
    click.echo("What an attacker can achieve, whatever the attack:\n")
    lower = any(figure.lower is not None for figure in found)
    header = ["measure", "at most", *(["reached"] if lower else [])]
    rows = []
    for figure in found:
        row = [measure(figure), up(figure.upper, _DIGITS)]
        if lower:
            row.append("" if figure.lower is None else down(figure.lower, _DIGITS))
        rows.append(row)
    for text in columns(header, rows):
        click.echo(text)
    click.echo()
    for note in (_AT_MOST + (_REACHED if lower else ""), _PRIOR):
        click.echo(click.wrap_text(note, _WIDTH))
    render.guarantee(plan, epsilon)


def table_document(
    plan: Plan, found: Sequence[Figure], epsilon: Interval
) -> dict[str, Any]:
    """The same as one JSON object."""
    return {
        **document(plan),
        **render.certified_part(epsilon),
        "bound": "upper",
        "figures": [
            {
                "name": figure.name,
                "fpr": figure.fpr,
                "prior": figure.prior,
                "upper": figure.upper,
                "lower": figure.lower,
            }
            for figure in found
        ],
    }


def protection(report: Protection, *, as_json: bool) -> None:
    """Print the noise that a bound on risk needs, by several accountants."""
    if as_json:
        click.echo(json_text(_protection_document(report)))
        return
    aim, answer = report.aim, report.answer
    if answer.plan is None or answer.certified is None or answer.value is None:
        raise TypeError("the first answer of a report is never a problem")
    kind = "certified" if answer.accountant == "pld" else render.kind(answer)
    value = click.style(up(answer.value), bold=True)
    click.echo(f"{'noise multiplier':<19} {value}  ({answer.accountant}, {kind})")
    figure = "advantage" if aim.fpr is None else "TPR"
    at = "" if aim.fpr is None else f"  at FPR {plain(aim.fpr)}"
    click.echo(f"{'certified ' + figure:<19} {between(answer.certified)}{at}")
    if report.verdict(answer) != "within":
        click.echo(f"{'':<19} {_verdict(report, answer)}")
    click.echo(
        f"{'certified epsilon':<19} {between(report.epsilon)}  at delta"
        f" {plain(answer.plan.delta or 0)}"
    )
    if report.others:
        click.echo(
            "\nThe same target by other accountants, and what it really allows:\n"
        )
        header = ("accountant", "noise", "kind", f"really allows {figure}", "")
        rows = [_row(report, one) for one in report.others]
        render.answer_table(header, report.others, rows)
    render.guarantee(answer.plan, report.epsilon)


def _row(report: Protection, answer: Answer) -> Sequence[str]:
    if answer.certified is None or answer.value is None:
        return (answer.accountant, "none", "", "", "")
    return (
        answer.accountant,
        up(answer.value),
        render.kind(answer),
        about(answer.certified, _DIGITS),
        _verdict(report, answer),
    )


def _verdict(report: Protection, answer: Answer) -> str:
    verdict = report.verdict(answer)
    if answer.certified is None or verdict == "within":
        return "within the target"
    if verdict == "not-certified":
        return "not certified"
    gap = answer.certified.lower - report.aim.limit
    return f"UNDER-REPORTS by {nearest(gap, 3)}"


def _protection_document(report: Protection) -> dict[str, Any]:
    answer = report.answer
    return {
        "solved_for": "noise_multiplier",
        "target": _aim(report.aim),
        **({} if answer.plan is None else document(answer.plan)),
        "accountant": answer.accountant,
        "bound": answer.bound,
        "verdict": report.verdict(answer),
        report.aim.figure: _ends(answer.certified),
        **render.certified_part(report.epsilon),
        "comparisons": [
            {
                "accountant": other.accountant,
                "noise_multiplier": other.value,
                "bound": other.bound,
                report.aim.figure: _ends(other.certified),
                "verdict": None if other.problem else report.verdict(other),
                "problem": other.problem,
            }
            for other in report.others
        ],
    }


def _aim(aim: Aim) -> dict[str, Any]:
    return {"figure": aim.figure, "at_most": aim.limit, "fpr": aim.fpr}


def _ends(interval: Interval | None) -> dict[str, float] | None:
    if interval is None:
        return None
    return {"lower": interval.lower, "upper": interval.upper}
