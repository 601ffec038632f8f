"""Claim: epsilon at a delta, certified, a thousand times sooner than the peers.

Run ``python -m benchmarks.accountants`` in the repository root.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benchmarks.measure import (
    Section,
    Timed,
    apart,
    geometric_mean,
    is_quick,
    seconds,
    show,
    table,
    timed,
)
from benchmarks.peers import EPSILON, prepared
from benchmarks.settings import HARD, USUAL, Setting, Truth, reference
from drdp.privacy import pld
from drdp.privacy.kernel import compiled

AIM = 1e-9
CAP = 1e6
KERNEL, PUBLIC = "drdp kernel", "drdp"
SAME_ENGINE = ("jax-privacy PLD", "riskcal PLD")  # as dp-accounting PLD


class Finding(NamedTuple):
    """All answers to one setting."""

    setting: Setting
    truth: Truth
    width: float
    method: str
    answers: dict[str, Timed]

    def ratio(self, peer: str, ours: str) -> float:
        """How many times longer the peer takes; nan where it has no answer."""
        theirs = self.answers.get(peer)
        if theirs is None or not theirs.answered:
            return math.nan
        return theirs.seconds / self.ours(ours).seconds

    def ours(self, which: str) -> Timed:
        """drdp's time: where the kernel passes, that of the public function."""
        kernel = self.answers[which]
        return kernel if kernel.answered else self.answers[PUBLIC]


def terms(setting: Setting) -> tuple[Any, ...]:
    """The composition as the kernels take it."""
    kind = 1.0 if setting.rate == 1.0 else 0.0
    row = (kind, setting.rate, setting.noise_multiplier, setting.steps, math.inf)
    return tuple(np.array([float(value)]) for value in row)


def fresh(setting: Setting) -> pld.Interval:
    """The public answer, nothing remembered."""
    pld._prepare.cache_clear()
    pld._solve.cache_clear()
    return pld.epsilon_interval(setting.event(), setting.delta)


def measure(*, quick: bool = False) -> list[Finding]:
    """Ask drdp and every peer about every setting."""
    truths = reference()
    kernels = compiled()
    peers = prepared(EPSILON)
    found = []
    for setting in (*USUAL, *HARD):
        row, asked = terms(setting), math.log(setting.delta)
        low, high, _, _, status = kernels.worst(row, True, asked, AIM, CAP, asked)
        answer = fresh(setting)
        spent = timed(partial(kernels.worst, row, True, asked, AIM, CAP, asked))
        note = "" if status == 0 else "passes"
        answers = {
            KERNEL: Timed(spent, 0.5 * (low + high) if not note else math.nan, note),
            PUBLIC: Timed(timed(partial(fresh, setting)), answer.upper),
        }
        for name, ask in peers.items():
            if name in SAME_ENGINE and (quick or setting in HARD):
                continue
            limit = 2.0 if quick else 60.0 if setting in USUAL else 10.0
            answers[name] = apart(partial(ask, setting), limit)
        width = answer.upper - answer.lower
        truth = truths[setting.name]
        found.append(Finding(setting, truth, width, answer.method, answers))
    return found


def section(found: list[Finding]) -> Section:
    """All findings as tables."""
    text = [
        (
            "epsilon at a given delta, both directions of adding and removing one unit."
            f" `{PUBLIC}` is `epsilon_interval` with nothing remembered, its error that"
            f" of the certified upper end. `{KERNEL}` is the compiled contour sum with"
            f" its certificate at an aim of {AIM:g}, its error that of the interval's"
            ' middle; it "passes" where the public function takes another path.'
            " Peers are asked for their upper bound at their default accuracy,"
            " prv-accountant at two."
            " Errors are in epsilon, against 40-digit arithmetic"
            " (`benchmarks/make_reference.py`)."
        ),
        table(
            ("setting", "", "true epsilon", "certified width", "path"),
            (
                (
                    f.setting.name,
                    f.setting.text(),
                    f"{f.truth.epsilon:.12g}",
                    f"{f.width:.1e}",
                    f.method,
                )
                for f in found
            ),
        ),
    ]
    for title, chosen in (("S", USUAL), ("H", HARD)):
        some = [f for f in found if f.setting in chosen]
        text.append(
            f"Time and error in epsilon, {title}{1} to {title}{len(some)}:"
            f"\n\n{_answers(some)}"
        )
    text.append(f"How many times sooner, and the geometric mean:\n\n{_ratios(found)}")
    return Section(
        "epsilon from delta", "python -m benchmarks.accountants", "\n\n".join(text)
    )


def _answers(found: list[Finding]) -> str:
    def cell(finding: Finding, name: str) -> str:
        answer = finding.answers.get(name, Timed(math.nan, math.nan, "-"))
        if answer.note == "passes":
            return f"passes, {seconds(answer.seconds)}"
        if answer.note:
            return answer.note
        return f"{seconds(answer.seconds)}, {answer.value - finding.truth.epsilon:+.1e}"

    return table(
        ("", *(f.setting.name for f in found)),
        ((name, *(cell(f, name) for f in found)) for name in found[0].answers),
    )


def _ratios(found: list[Finding]) -> str:
    usual = [f for f in found if f.setting in USUAL]
    rows = []
    for name in found[0].answers:
        if name in (KERNEL, PUBLIC):
            continue
        for ours in (KERNEL, PUBLIC):
            each = [f.ratio(name, ours) for f in found]
            mean = [r for f in usual if math.isfinite(r := f.ratio(name, ours))]
            cells = [f"{r:.3g}" if math.isfinite(r) else "-" for r in each]
            summary = f"{geometric_mean(mean):.0f}" if mean else "-"
            least = f"{min(mean):.3g}" if mean else "-"
            label = f"{name} / {ours}"
            rows.append((label, summary, least, *cells))
    head = ("", "mean S", "least S", *(f.setting.name for f in found))
    return table(head, rows)


if __name__ == "__main__":
    show(section(measure(quick=is_quick(__doc__))))
