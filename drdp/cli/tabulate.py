"""The tables that can be printed, as cells for people and records for programs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from drdp.cli import paper
from drdp.cli.answers import Answer, Inversion, invert
from drdp.cli.numbers import about, plain, up
from drdp.cli.plan import Plan
from drdp.cli.render import document
from drdp.privacy.curves import Interval

__all__ = ["Section", "Table", "grid_table", "paper_table"]

Cells = Sequence[str]

_PAPER_NOTES = (
    (
        "sigma is the noise at which the central limit theorem of Gaussian DP reports"
        " the GDP epsilon: an estimate, no bound."
    ),
    (
        "The RDP epsilon is a bound at the same, unrounded sigma.  For Qwen the paper"
        " states 4 rounds, but its RDP column only comes out with 5; it is reproduced"
        " with 5 here.  Every other column has 4."
    ),
    (
        "The certified epsilon is what that sigma really gives (poisson sampling,"
        " add-remove, the stated rounds and delta).  UNDER-REPORTS: the GDP epsilon of"
        " the paper is proved too small."
    ),
)
_GRID_NOTES = (
    (
        "certified: noise that is proved to keep to the budget, rounded up.  gdp and"
        " rdp: the noise those accountants ask for, and the epsilon it really spends."
    ),
    (
        "* under-reports: the noise is proved too small for the budget (gdp is an"
        " estimate, no bound)."
    ),
)


@dataclass(frozen=True, slots=True)
class Section:
    """Some lines of a table under a title of their own."""

    title: str
    lines: Sequence[Cells]


@dataclass(frozen=True, slots=True)
class Table:
    """A table: rounded cells with notes, and the same in full precision."""

    title: str
    header: Cells
    sections: Sequence[Section]
    notes: Sequence[str]
    records: Sequence[Mapping[str, Any]]
    about: Mapping[str, Any]


def paper_table() -> Table:
    """Table 3 of the DR-Encoder paper beside the certified epsilon."""
    rows = paper.rows()
    sections = [
        Section(
            f"{model.name}: rate {plain(model.rate)}, {model.steps} rounds,"
            f" delta {model.delta}",
            [_paper_cells(row) for row in rows if row.model is model],
        )
        for model in paper.MODELS
    ]
    return Table(
        "Table 3 of the DR-Encoder paper, recomputed",
        ("sigma", "RDP epsilon", "GDP epsilon", "certified epsilon", ""),
        sections,
        _PAPER_NOTES,
        [_paper_record(row) for row in rows],
        {"preset": "dr-encoder", "sampling": "poisson", "adjacency": "add-remove"},
    )


def _paper_cells(row: paper.Row) -> Cells:
    return (
        f"{row.noise_multiplier:.2f}",
        _two_decimals(row.rdp_epsilon),
        _two_decimals(row.gdp_epsilon),
        _two_decimals(0.5 * (row.certified.lower + row.certified.upper)),
        "UNDER-REPORTS" if row.under_reports else "",
    )


def _two_decimals(value: float) -> str:
    return "inf" if math.isinf(value) else f"{value:.2f}"


def _paper_record(row: paper.Row) -> Mapping[str, Any]:
    return {
        "model": row.model.name,
        "rate": row.model.rate,
        "steps": row.model.steps,
        "rdp_steps": row.model.rdp_steps,
        "delta": float(row.model.delta),
        "noise_multiplier": row.noise_multiplier,
        "rdp_epsilon": row.rdp_epsilon,
        "gdp_epsilon": row.gdp_epsilon,
        **_ends(row.certified),
        "under_reports": row.under_reports,
    }


def grid_table(plan: Plan, epsilons: Sequence[float]) -> Table:
    """The noise that each of several budgets needs, and what others would say."""
    reports = [
        invert(
            "noise_multiplier",
            plan,
            epsilon,
            accountant="pld",
            compare=("gdp", "rdp"),
        )
        for epsilon in epsilons
    ]
    rate = float(plan.rate or 1)
    return Table(
        "Noise multiplier for each privacy budget",
        ("epsilon", "certified", "gdp", "really spends", "rdp", "really spends"),
        [
            Section(
                f"{plan.sampling} sampling at rate {plain(rate)}, {plan.steps} rounds,"
                f" delta {plain(plan.delta or 0)}, {plan.adjacency}",
                [_grid_cells(report) for report in reports],
            )
        ],
        (*_GRID_NOTES, f"unit: {plan.unit}.  delta: {plan.delta_source}."),
        [_grid_record(report) for report in reports],
        document(plan),
    )


def _grid_cells(report: Inversion) -> Cells:
    cells = [plain(report.epsilon), up(report.answer.value or 0, 5)]
    for other in report.others:
        mark = " *" if report.verdict(other) == "under-reports" else ""
        cells += [_noise(other), _spent(other) + mark]
    return cells


def _noise(answer: Answer) -> str:
    return "none" if answer.value is None else up(answer.value, 5)


def _spent(answer: Answer) -> str:
    return "-" if answer.certified is None else about(answer.certified, 4)


def _grid_record(report: Inversion) -> Mapping[str, Any]:
    record: dict[str, Any] = {
        "epsilon": report.epsilon,
        "noise_multiplier": report.answer.value,
        **_ends(report.answer.certified),
    }
    for other in report.others:
        name = other.accountant
        record[f"{name}_noise_multiplier"] = other.value
        record.update(_ends(other.certified, f"{name}_"))
        record[f"{name}_under_reports"] = report.verdict(other) == "under-reports"
    return record


def _ends(interval: Interval | None, prefix: str = "") -> Mapping[str, Any]:
    return {
        f"{prefix}certified_lower": None if interval is None else interval.lower,
        f"{prefix}certified_upper": None if interval is None else interval.upper,
    }
