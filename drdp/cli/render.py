"""How reports look: aligned text for people, one JSON object for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import click

from drdp.cli.answers import MOST_STEPS, Answer, Inversion, Spending, Verdict
from drdp.cli.numbers import about, between, down, nearest, plain, up
from drdp.cli.plan import Plan
from drdp.privacy.curves import Interval

__all__ = [
    "answer_table",
    "certified_part",
    "columns",
    "document",
    "guarantee",
    "inversion",
    "json_text",
    "kind",
    "spending",
]

_LABELS = {"noise_multiplier": "noise multiplier", "steps": "rounds", "rate": "rate"}
_HEADERS = {"noise_multiplier": "noise", "steps": "rounds", "rate": "rate"}
_NEIGHBOURS = {
    "add-remove": "one {} more or less",
    "zero-out": "one {}'s contribution replaced by zero",
    "replace-one": "one {}'s data replaced by other data",
}
_DRAWS = {
    "poisson": "each {unit} joins a round with probability {share}",
    "fixed": "a share of {share} of all {unit}s is drawn each round",
    "truncated": "each {unit} joins with probability {share}, at most {most} stay",
    "allocation": "each {unit} in {some} of every {rounds} rounds, at random",
    "shuffle": "{rounds} random batches an epoch; no amplification is claimed",
    "all": "every {unit} takes part in every round",
}
_WIDTH = 79
_ADVERSARY = (
    "sees every released model, but not who takes part in a round;",
    "the noise is central: added once to the sum of a round",
)
_KNOWING = ("sees every released model and who takes part in a round;", _ADVERSARY[1])


def json_text(values: Mapping[str, Any]) -> str:
    """One JSON object; infinity is the string "inf", and NaN never appears."""
    return json.dumps(_finite(values), allow_nan=False, indent=2)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return value


def columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Cells aligned to the left, two spaces apart and two in."""
    widths = [max(map(len, cells)) for cells in zip(header, *rows, strict=True)]
    return [
        "  " + "  ".join(map(str.ljust, line, widths)).rstrip()
        for line in (header, *rows)
    ]


def inversion(report: Inversion, *, as_json: bool) -> None:
    """Print what a budget allows, and what other accountants would have said."""
    if as_json:
        click.echo(json_text(_inversion_document(report)))
        return
    answer = report.answer
    plan, certified = answer.plan, answer.certified
    if plan is None or certified is None:
        raise TypeError("the first answer of a report is never a problem")
    label = _LABELS[report.unknown]
    sort = "certified" if answer.accountant == "pld" else kind(answer)
    value = click.style(_value(report, answer), bold=True)
    click.echo(f"{label:<18} {value}  ({answer.accountant}, {sort})")
    click.echo(
        f"{'certified epsilon':<18} {between(certified)}  at delta"
        f" {plain(plan.delta or 0)}"
    )
    remark = _remark(report)
    if remark:
        click.echo(f"{'':<18} {remark}")
    if report.others:
        click.echo(
            "\nThe same target by other accountants, and what it really costs:\n"
        )
        header = (
            "accountant",
            _HEADERS[report.unknown],
            "kind",
            "really spends epsilon",
            "",
        )
        answer_table(
            header, report.others, [_row(report, one) for one in report.others]
        )
    guarantee(plan, certified)


def _remark(report: Inversion) -> str:
    """What a reader of the first lines must not miss."""
    answer = report.answer
    if answer.value == 0:
        return "nothing keeps to the budget: raise --epsilon or --sigma"
    if report.unknown == "steps" and answer.value == MOST_STEPS:
        return "or more: larger numbers are not looked for"
    verdict = report.verdict(answer)
    return "" if verdict == "within" else _verdict(verdict, report, answer)


def _row(report: Inversion, answer: Answer) -> Sequence[str]:
    if answer.certified is None:
        return (answer.accountant, "none", "", "", "")
    return (
        answer.accountant,
        _value(report, answer),
        kind(answer),
        about(answer.certified),
        _verdict(report.verdict(answer), report, answer),
    )


def _value(report: Inversion, answer: Answer) -> str:
    value = answer.value or 0
    match report.unknown:
        case "noise_multiplier":
            return up(value)
        case "rate":
            return _share(answer.plan) if answer.plan else down(value)
    return f"{value:.0f}"


def _share(plan: Plan) -> str:
    """The sampling rate; a count where a fixed number is drawn from a known one."""
    drawn = _sample_size(plan)
    if drawn is not None:
        return f"{drawn}/{plan.population}"
    return down(float(plan.rate or 0))


def _sample_size(plan: Plan) -> int | None:
    """How many are drawn, where a fixed number is drawn from a known one."""
    if plan.sampling != "fixed" or plan.population is None:
        return None
    return int((plan.rate or 0) * plan.population)


def _verdict(verdict: Verdict, report: Inversion, answer: Answer) -> str:
    if answer.certified is None or verdict == "within":
        return "within the budget"
    if verdict == "not-certified":
        return "not certified"
    return f"UNDER-REPORTS by {nearest(answer.certified.lower - report.epsilon, 3)}"


def kind(answer: Answer) -> str:
    """Whether an accountant's answer is a bound or an estimate."""
    return "estimate" if answer.bound == "estimate" else "bound"


def answer_table(
    header: Sequence[str], answers: Sequence[Answer], rows: Sequence[Sequence[str]]
) -> None:
    """The rows, and under them why some accountant has no answer."""
    for line in columns(header, rows):
        marked = click.style("UNDER-REPORTS", fg="red")
        click.echo(line.replace("UNDER-REPORTS", marked))
    for answer in answers:
        if answer.problem is not None:
            text = f"{answer.accountant}: {answer.problem}"
            click.echo(click.wrap_text(text, _WIDTH, "  ", "    "))


def spending(report: Spending, *, as_json: bool) -> None:
    """Print what a run costs, and what other accountants report."""
    if as_json:
        click.echo(json_text(_spending_document(report)))
        return
    plan, certified = report.plan, report.certified
    value = click.style(between(certified), bold=True)
    at = (
        f"at delta {plain(plan.delta or 0)}"
        if report.epsilon is None
        else f"at epsilon {plain(report.epsilon)}"
    )
    click.echo(f"certified {report.quantity}  {value}  {at}")
    if report.others:
        click.echo(f"\nThe {report.quantity} that other accountants report:\n")
        header = ("accountant", report.quantity, "kind", "")
        rows = [_reported(report, one) for one in report.others]
        answer_table(header, report.others, rows)
    guarantee(plan, certified, report)


def _reported(report: Spending, answer: Answer) -> Sequence[str]:
    if answer.value is None:
        return (answer.accountant, "none", "", "")
    certified = report.certified
    verdict = "no less than the certified value"
    if report.verdict(answer) == "under-reports":
        verdict = f"UNDER-REPORTS by {nearest(certified.lower - answer.value, 3)}"
    return answer.accountant, up(answer.value), kind(answer), verdict


def guarantee(plan: Plan, certified: Interval, report: Spending | None = None) -> None:
    """The guarantee in words, with everything it assumes."""
    asked = None if report is None else report.epsilon
    epsilon = up(certified.upper) if asked is None else plain(asked)
    delta = plain(plan.delta or 0) if asked is None else up(certified.upper)
    source = "" if asked is not None else f" ({plan.delta_source})"
    rate = plan.rate or 1
    sampling = _DRAWS[plan.sampling].format(
        unit=plan.unit,
        share=_share(plan),
        most=plan.max_batch,
        some=rate.numerator,
        rounds=rate.denominator,
    )
    noise = "(2 x clip norm)" if plan.per_replacement else "clip norm"
    neighbours = _NEIGHBOURS[plan.adjacency].format(plan.unit)
    z = plan.stage_one_noise
    first = (
        f"one release with noise multiplier {plain(z)}, before the rounds" if z else ""
    )
    lines = (
        ("unit", plan.unit),
        ("adjacency", f"{plan.adjacency}: {neighbours}"),
        ("sampling", f"{plan.sampling}: {sampling}"),
        ("rounds", f"{plan.steps}, each of which releases a model"),
        *([("stage one", first)] if first else []),
        ("noise", f"noise multiplier {up(plan.noise_multiplier or 0)}"),
        ("", f"= noise standard deviation / {noise}"),
        ("delta", delta + source),
        ("adversary", _adversary(plan)[0]),
        ("", _adversary(plan)[1]),
        ("certified by", certified.method),
    )
    click.echo(
        f"\nGuarantee: epsilon {epsilon} and delta {delta} for every {plan.unit}"
    )
    for name, text in lines:
        click.echo(f"  {name:<12} {text}")


def _adversary(plan: Plan) -> tuple[str, str]:
    return _KNOWING if plan.sampling in ("shuffle", "all") else _ADVERSARY


def document(plan: Plan) -> dict[str, Any]:
    """The assumptions of a plan under the keys that every command shares."""
    return {
        "delta": plan.delta,
        "delta_source": plan.delta_source,
        "noise_multiplier": plan.noise_multiplier,
        "stage_one_noise": plan.stage_one_noise,
        "noise_multiplier_divisor": (
            "2 * clip_norm" if plan.per_replacement else "clip_norm"
        ),
        "steps": plan.steps,
        "rate": None if plan.rate is None else float(plan.rate),
        "sampling": plan.sampling,
        "adjacency": str(plan.adjacency),
        "unit": plan.unit,
        "population": plan.population,
        "sample_size": _sample_size(plan),
        "max_batch": plan.max_batch,
        "adversary": " ".join(_adversary(plan)),
    }


def _inversion_document(report: Inversion) -> dict[str, Any]:
    answer = report.answer
    plan = answer.plan
    return {
        "solved_for": report.unknown,
        "epsilon": report.epsilon,
        **({} if plan is None else document(plan)),
        "accountant": answer.accountant,
        "bound": answer.bound,
        "verdict": report.verdict(answer),
        **certified_part(answer.certified),
        "comparisons": [
            {
                "accountant": other.accountant,
                report.unknown: other.value,
                "bound": other.bound,
                **certified_part(other.certified),
                "verdict": None if other.problem else report.verdict(other),
                "problem": other.problem,
            }
            for other in report.others
        ],
    }


def _spending_document(report: Spending) -> dict[str, Any]:
    return {
        "solved_for": report.quantity,
        "epsilon": report.epsilon,
        **document(report.plan),
        **({} if report.epsilon is None else {"delta_source": "the answer"}),
        report.quantity: report.certified.upper,
        "accountant": "pld",
        "bound": "upper",
        **certified_part(report.certified),
        "comparisons": [
            {
                "accountant": other.accountant,
                report.quantity: other.value,
                "bound": other.bound,
                "verdict": None if other.problem else report.verdict(other),
                "problem": other.problem,
            }
            for other in report.others
        ],
    }


def certified_part(interval: Interval | None) -> dict[str, Any]:
    """A certified interval under the keys that every command shares."""
    if interval is None:
        return {"method": None, "certified": None}
    ends = {"lower": interval.lower, "upper": interval.upper}
    return {"method": interval.method, "certified": ends}
