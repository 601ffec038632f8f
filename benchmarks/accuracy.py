"""Claim: a narrow certified interval on any input, and no failure.

Run ``python -m benchmarks.accuracy`` in the repository root.
"""

from __future__ import annotations

import math
import re
import time
import warnings
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from benchmarks.accountants import fresh
from benchmarks.measure import FAILURES, Section, is_quick, seconds, show, table
from benchmarks.settings import Setting
from drdp.privacy.kernel import compiled

COUNT = 1_000
PATIENCE = 120.0
SEED = 20_240_902
QUANTILES = (0.5, 0.9, 0.95, 0.99, 1.0)


class Finding(NamedTuple):
    """One question's answer: its width, relative where epsilon is above 1."""

    setting: Setting
    seconds: float
    width: float
    method: str


def inputs(count: int) -> list[Setting]:
    """Log-uniform settings over the whole domain."""
    rng = np.random.default_rng(SEED)
    low, high = np.log([1e-6, 0.2, 1.0, 1e-30]), np.log([1.0, 100.0, 1e7, 0.1])
    found = []
    for i in range(count):
        rate, noise, steps, delta = np.exp(rng.uniform(low, high))
        whole = max(1, round(float(steps)))
        found.append(Setting(f"R{i}", float(rate), whole, float(noise), float(delta)))
    return found


def measure(*, quick: bool = False) -> list[Finding]:
    """Ask about the inputs in order; a warning counts as a failure."""
    compiled()
    patience = time.perf_counter() + (20.0 if quick else PATIENCE)
    fresh(Setting("warm", 0.01, 100, 1.0, 1e-5))
    fresh(Setting("warm, rare", 1.4e-5, 2_000_000, 0.9, 1e-20))
    found = []
    for setting in inputs(100 if quick else COUNT):
        start = time.perf_counter()
        if start > patience:
            break
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                low, high, method = fresh(setting)
        except (*FAILURES, Warning) as error:
            low, high, method = 0.0, math.nan, f"fails: {type(error).__name__}"
        spent = time.perf_counter() - start
        width = (high - low) / max(1.0, high) if math.isfinite(high) else math.inf
        found.append(Finding(setting, spent, width, method))
    return found


def section(found: list[Finding]) -> Section:
    """Shares by path, quantiles of width and time, and the worst inputs."""
    count = len(found)
    ways = Counter(_path(f) for f in found)
    shares = []
    for way, times in ways.most_common():
        some = [f for f in found if _path(f) == way]
        shares.append(
            (
                way,
                f"{times / count:.1%}",
                *_spread([f.width for f in some], (0.5, 1.0), "{:.1e}".format),
                *_spread([f.seconds for f in some], (0.5, 1.0), seconds),
            )
        )
    widths = np.array([f.width for f in found])
    head = ("path", "share", "median width", "widest", "median time", "slowest")
    names = tuple("all" if q == 1.0 else f"{q:.0%}" for q in QUANTILES)
    quantiles = (
        (
            "width",
            *_spread([f.width for f in found], QUANTILES, "{:.1e}".format),
        ),
        ("time", *_spread([f.seconds for f in found], QUANTILES, seconds)),
    )
    widest = sorted(found, key=lambda f: -f.width)
    slowest = sorted(found, key=lambda f: -f.seconds)
    worst = (
        (f.setting.text(), f.method, f"{f.width:.1e}", seconds(f.seconds))
        for f in (*widest[:5], *slowest[:5])
    )
    text = "\n\n".join(
        (
            (
                f"{count:,} random inputs (seed {SEED}; {COUNT:,}, or as many as take"
                f" {PATIENCE:.0f} s), log-uniform: rate 1e-6 to 1, noise"
                " 0.2 to 100, steps 1 to 10^7, delta 1e-30 to 0.1. Width is that of the"
                " certified interval of epsilon, relative where epsilon is above 1."
                " That the intervals contain the truth is tested in `tests/oracles`."
            ),
            table(head, shares),
            table(("at most, in a share of", *names), quantiles),
            (
                f"At most 1e-6 wide: {np.mean(widths <= 1e-6):.1%}; at most 1e-3:"
                f" {np.mean(widths <= 1e-3):.1%}; failures, warnings or infinite:"
                f" {int((~np.isfinite(widths)).sum())}."
            ),
            "The five widest and the five slowest:",
            table(("input", "path", "width", "time"), worst),
        )
    )
    return Section("Any input", "python -m benchmarks.accuracy", text)


def _path(found: Finding) -> str:
    return re.sub(r" of step \S+", "", found.method)


def _spread(
    values: list[float], shares: tuple[float, ...], text: Callable[[float], str]
) -> list[str]:
    return [text(float(np.quantile(values, q, method="higher"))) for q in shares]


if __name__ == "__main__":
    show(section(measure(quick=is_quick(__doc__))))
