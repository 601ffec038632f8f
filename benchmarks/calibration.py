"""Claim: the noise for a target, certified, a thousand times sooner than the peers.

Run ``python -m benchmarks.calibration`` in the repository root.
"""

from __future__ import annotations

import math
from functools import partial

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
from benchmarks.peers import NOISE, prepared
from benchmarks.settings import USUAL, Setting, reference
from drdp.privacy import pld
from drdp.privacy._special import solve_gaussian_mu
from drdp.privacy.calibration import calibrate, within
from drdp.privacy.events import Gaussian, PoissonSampled
from drdp.privacy.kernel import compiled

RTOL = 1e-6
CAP = 1e6
KERNEL, PUBLIC = "drdp kernel", "drdp"


def guess(setting: Setting) -> float:
    """The noise of the Gaussian limit."""
    mu = solve_gaussian_mu(setting.epsilon or 0.0, setting.delta)
    square = (mu / setting.rate) ** 2 / setting.steps
    return 1.0 / math.sqrt(math.log1p(square))


def by_kernel(setting: Setting) -> float:
    """The compiled search, its starting point included."""
    start = guess(setting)
    row = np.array([[0.0], [setting.rate], [start], [setting.steps], [math.inf]])
    row[0] = 1.0 if setting.rate == 1.0 else 0.0
    noise, _, status = compiled().noise_for(
        tuple(row), setting.epsilon, math.log(setting.delta), start, RTOL, CAP
    )
    return noise if status == 0 else math.nan


def by_door(setting: Setting) -> float:
    """The public search from its usual starting point, nothing remembered."""
    pld._prepare.cache_clear()
    pld._solve.cache_clear()
    return calibrate(
        lambda noise: PoissonSampled(setting.rate, Gaussian(noise)) * setting.steps,
        pld.pld_curve,
        within(setting.epsilon or 0.0, setting.delta),
        rtol=RTOL,
    )


def measure(*, quick: bool = False) -> dict[str, dict[str, Timed]]:
    """Ask drdp and every peer for the noise of every setting."""
    peers = prepared(NOISE)
    compiled()
    found = {}
    for setting in USUAL:
        answers = {}
        for name, ask in ((KERNEL, by_kernel), (PUBLIC, by_door)):
            value = ask(setting)
            answers[name] = Timed(timed(partial(ask, setting)), value)
        for name, ask in peers.items():
            answers[name] = apart(partial(ask, setting), 2.0 if quick else 30.0)
        found[setting.name] = answers
    return found


def section(found: dict[str, dict[str, Timed]]) -> Section:
    """All findings as tables."""
    truths = reference()

    def cell(setting: str, name: str) -> str:
        answer, truth = found[setting][name], truths[setting].noise_multiplier
        if not answer.answered or truth is None:
            return answer.note or "no answer"
        return f"{seconds(answer.seconds)}, {answer.value / truth - 1.0:+.1e}"

    def ratio(setting: str, name: str, ours: str) -> float:
        answer = found[setting][name]
        # A peer that was given up on took at least this long.
        return answer.seconds / found[setting][ours].seconds

    names = list(next(iter(found.values())))
    ratios = []
    for name in names:
        for ours in (KERNEL, PUBLIC):
            if name in (KERNEL, PUBLIC):
                continue
            each = {s: ratio(s, name, ours) for s in found}
            known = [value for value in each.values() if math.isfinite(value)]
            cells = [
                "-"
                if not math.isfinite(value)
                else f"{'' if found[s][name].answered else '> '}{value:.3g}"
                for s, value in each.items()
            ]
            mean = f"{geometric_mean(known):.0f}" if known else "-"
            ratios.append((f"{name} / {ours}", mean, *cells))
    targets = (
        (
            s.name,
            (
                f"epsilon {s.epsilon:g}, delta {s.delta:.3g}, rate {s.rate:.4g},"
                f" steps {s.steps:,}"
            ),
            f"{truths[s.name].noise_multiplier:.12g}",
        )
        for s in USUAL
    )
    text = "\n\n".join(
        (
            (
                "The noise multiplier that meets a target."
                f" `{PUBLIC}` is `calibrate` with `pld_curve`, nothing remembered and"
                f" starting from 1; `{KERNEL}` is the compiled search from the"
                f" Gaussian limit. Both search to a relative {RTOL:g} and return what"
                " was tested private. Errors are relative, in the noise multiplier,"
                " against"
                " 40-digit arithmetic; a negative one would violate the target."
            ),
            table(("setting", "target", "true noise multiplier"), targets),
            "Time and relative error:",
            table(
                ("", *found),
                ((name, *(cell(s, name) for s in found)) for name in names),
            ),
            (
                "How many times sooner, and the geometric mean (a peer given up on"
                " counts with the time it was given):"
            ),
            table(("", "mean", *found), ratios),
        )
    )
    return Section("Noise from a target", "python -m benchmarks.calibration", text)


if __name__ == "__main__":
    show(section(measure(quick=is_quick(__doc__))))
