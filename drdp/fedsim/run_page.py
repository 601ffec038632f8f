"""A run's findings as a page: the guarantee first, then what it cost and brought."""

from __future__ import annotations

import math
from typing import Any

from drdp import __version__
from drdp.fedsim.digits import about, size, up
from drdp.fedsim.drawing import Line
from drdp.fedsim.findings import Document
from drdp.fedsim.guarantee_page import banners, guarantee_part
from drdp.fedsim.markup import (
    Figures,
    bullets,
    details,
    facts,
    page,
    paragraph,
    section,
    table,
)
from drdp.fedsim.operator_page import operator_part

__all__ = ["run_page"]


_MEASURED = (
    "The released mean update is public, and so is how long its noise is in the mean;"
    " what is left is an estimate of the signal. Signal-to-noise ratios measured"
    " without noise are private."
)


def run_page(found: Document) -> str:
    """The page.

    Args:
        found: From `drdp.fedsim.findings.run_findings`.
    """
    figures = Figures()
    parts = [
        guarantee_part(found),
        _spending(found, figures),
        _utility(found, figures),
        _signal(found, figures),
        _reconstruction(found),
        _communication(found),
        _timing(found),
        _configuration(found),
        _ledger(found),
    ]
    if "private" in found:
        parts.append(operator_part(found["private"], figures))
    return page(
        f"drdp run {found['name']}: method {found['method']}",
        banners(found),
        parts,
        f"Made by drdp {__version__} from the run's folder. Epsilons are rounded up;"
        " the page loads nothing and runs nothing.",
    )


def _spending(found: Document, figures: Figures) -> str:
    told = found["spending"]
    if told is None:
        return section("epsilon", "Epsilon by round", [paragraph("No round was run.")])
    rounds, accountants = told["rounds"], told["accountants"]
    if not any(e > 0.0 for one in accountants for e in one["epsilon"]):
        text = "Nothing was released about private data: epsilon stays 0."
        return section("epsilon", "Epsilon by round", [paragraph(text)])
    if told["epsilon"] == math.inf:
        text = "Epsilon is infinite: some releases have no protection."
        return section("epsilon", "Epsilon by round", [paragraph(text)])
    lines = [
        Line(one["name"], list(zip(rounds, one["epsilon"], strict=True)), style)
        for style, one in enumerate(accountants)
    ]
    if told["budget"] is not None:
        budget = told["budget"]
        lines.append(Line(f"budget {about(budget)}", [(r, budget) for r in rounds], 5))
    rows = [
        [
            str(round_),
            *(
                (up if one["bound"] == "upper" else about)(one["epsilon"][k], 5)
                for one in accountants
            ),
        ]
        for k, round_ in enumerate(rounds)
    ]
    names = [one["name"] for one in accountants]
    caption = f"Epsilon at delta {up(told['delta'])} by round, by accountant"
    text = (
        "What has been spent after each round, computed from the ledger. The"
        " certified line is the guarantee; the others show what other ways of"
        " accounting say of the same run. An estimate can lie below the truth."
    )
    last = ", ".join(f"{one['name']} {up(one['epsilon'][-1])}" for one in accountants)
    return section(
        "epsilon",
        "Epsilon by round",
        [
            paragraph(text),
            figures.figure(
                caption,
                f"after round {rounds[-1]}: {last}",
                lines,
                "round",
                "epsilon",
                table(caption, ("round", *names), rows, numbers=range(len(names) + 1)),
                from_zero=True,
                whole=True,
            ),
        ],
    )


def _utility(found: Document, figures: Figures) -> str:
    metrics, spending = found["utility"], found["spending"]
    if not metrics:
        text = paragraph("Nothing has been measured yet.")
        return section("utility", "Utility", [text])
    cost: dict[int, float] = {}
    if spending is not None:
        certified = spending["accountants"][0]["epsilon"]
        cost = dict(zip(spending["rounds"], certified, strict=True))
    parts = [
        paragraph(
            "Measured on held-out data, which the guarantee does not cover.", "note"
        )
    ]
    for place, (name, values) in enumerate(metrics.items()):
        rows = [
            [str(r), up(cost[r], 5) if r in cost else "", about(value, 5)]
            for r, value in values
        ]
        header = ("round", "epsilon, certified", name)
        numbers = table(f"{name} by round", header, rows, numbers=(0, 1, 2))
        first, last = values[0][1], values[-1][1]
        seen = f"from {about(first)} to {about(last)}"
        if len(values) == 1:
            parts.append(numbers)
            continue
        drawn = [
            figures.figure(
                f"{name} by round",
                seen,
                [Line(name, values)],
                "round",
                name,
                numbers,
                whole=True,
            )
        ]
        against = [(cost[r], value) for r, value in values if r in cost]
        if len(against) > 1 and 0.0 < against[-1][0] < math.inf:
            drawn.append(
                figures.figure(
                    f"{name} against certified epsilon",
                    seen,
                    [Line(name, against, 2)],
                    "epsilon, certified",
                    name,
                    numbers,
                )
            )
        block = Figures.beside(drawn)
        parts.append(block if place == 0 else details(f"Also: {name}, {seen}", block))
    return section("utility", "Utility by round and against epsilon", parts)


def _signal(found: Document, figures: Figures) -> str:
    told = found["signal"]
    if told is None or not (told["steps"] or told["forecast"]):
        text = paragraph("Nothing has been released yet.")
        return section("signal", "Signal and noise", [text])
    parts = [bullets(told["forecast"])] if told["forecast"] else []
    steps, noise = told["steps"], told["noise_norm"]
    if steps:
        lines = [Line("norm of the released mean update", steps)]
        header, columns = ["round", "released norm"], [0, 1]
        rows = [[str(r), about(norm)] for r, norm in steps]
        if noise:
            lines.append(
                Line("expected norm of its noise", [(r, noise) for r, _ in steps], 1)
            )
            header += ["noise, expected", "signal to noise, estimate"]
            columns += [2, 3]
            for row, (_, norm) in zip(rows, steps, strict=True):
                ratio = math.sqrt(max(0.0, norm * norm - noise * noise)) / noise
                row += [about(noise), about(ratio, 3)]
        caption = "Length of what was released, and of the noise in it"
        parts += [
            paragraph(_MEASURED if noise else "How long each released mean update is."),
            figures.figure(
                caption,
                f"last norm {about(steps[-1][1])}"
                + (f", noise {about(noise)}" if noise else ""),
                lines,
                "round",
                "norm",
                table(caption, header, rows, numbers=columns),
                from_zero=True,
                whole=True,
            ),
        ]
    return section("signal", "Signal and noise", parts)


def _reconstruction(found: Document) -> str:
    told = found["reconstruction"]
    if told is None:
        text = paragraph("No codec has been made yet.")
        return section("reconstruction", "Reconstruction", [text])
    values = {
        "Update": f"{told['update_length']:,} numbers",
        "Code": f"{told['code_length']:,} numbers",
        "Share": about(told["ratio"], 3),
    }
    alignment = found["signal"]["alignment"]
    if alignment is not None:
        values["Alignment"] = (
            f"{about(alignment, 3)} (norm of the mean of clipped codes, in clip norms,"
            " on public data)"
        )
    text = (
        "How much of the mean update survives encoding is measured on clients' updates"
        " without noise, so it is private: it is shown with --private only."
    )
    parts = [facts(values), paragraph(text, "note")]
    return section("reconstruction", "Reconstruction", parts)


def _communication(found: Document) -> str:
    told = found["communication"]
    if told is None:
        text = paragraph("No message has been sent yet.")
        return section("communication", "Communication", [text])
    codes, full = told["codes"], told["full_updates"]

    def row(name: str, numbers: str, volume: str) -> list[str]:
        ratio = full[volume] / codes[volume] if codes[volume] else math.nan
        return [
            name,
            f"{round(codes[numbers]):,}",
            size(codes[volume]),
            size(full[volume]),
            "" if math.isnan(ratio) else f"{about(ratio, 3)}x",
        ]

    rows = [
        row("one contribution in one round", "numbers", "bytes"),
        row("one round, expected", "round_numbers", "round_bytes"),
        row("all rounds, expected", "total_numbers", "total_bytes"),
    ]
    header = ("sent by", "numbers", "bytes", "as full updates", "saved")
    text = (
        f"From clients to the server, with {about(told['expected_cohort'])}"
        f" contributions a round expected and {found['rounds_done']} rounds. What the"
        " server sends to clients, and the cost of secure aggregation, are not counted."
    )
    volume = table("Messages", header, rows, numbers=(1, 2, 3, 4))
    parts = [volume, paragraph(text, "note")]
    return section("communication", "Communication", parts)


def _timing(found: Document) -> str:
    told = found["timing"]
    if told["round_seconds"] is None:
        text = paragraph(
            "Times tell how many clients took part: they are for the operator alone."
        )
        return section("timing", "Timing", [text])
    values = {
        "A round": f"about {told['round_seconds']} s, evaluation included",
        "All rounds": f"about {told['total_seconds']} s",
    }
    text = "Private: the time of a round tells how many clients took part."
    return section("timing", "Timing", [facts(values), paragraph(text, "note")])


def _configuration(found: Document) -> str:
    blocks = []
    for name, settings in found["configuration"].items():
        rows = [[key, _shown(value)] for key, value in settings.items()]
        blocks.append(table(f"[{name}]", ("setting", "value"), rows))
    return section("configuration", "Configuration", [Figures.beside(blocks)])


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value))
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _ledger(found: Document) -> str:
    told = found["ledger"]
    if told is None:
        text = paragraph("No ledger has been opened yet: nothing was spent.")
        return section("ledger", "Ledger", [text])
    budget = "none"
    if told["budget"] is not None:
        epsilon, delta = told["budget"]
        budget = f"epsilon {about(epsilon, 6)} at delta {up(delta)}"
    values = {
        "Entries": f"{told['entries']:,}",
        "Head": told["head"],
        "Unit": told["unit"],
        "Adjacency": told["adjacency"],
        "Budget": budget,
    }
    rows = []
    for one in told["rows"]:
        many = one["from"] != one["to"]
        label = one["first"] + (f" to {one['last']}" if many else "")
        count = f"{one['to'] - one['from'] + 1} x " if many else ""
        number = f"{one['from']}" + (f" to {one['to']}" if many else "")
        rows.append(
            [
                number,
                one["kind"],
                label,
                count + one["released"] if one["released"] else "",
                one["hash"][:12],
            ]
        )
    header = ("entry", "kind", "for", "released", "hash")
    text = (
        "Each hash covers its entry and the hash before it, so the head covers all."
        " The chain was verified when this page was made; whoever has noted the head"
        " can tell later whether anything was changed. Times are left out: they tell"
        " how many clients took part."
    )
    return section(
        "ledger",
        "Ledger",
        [facts(values), paragraph(text, "note"), table("Entries", header, rows)],
    )
