"""Claim: ten thousand certified epsilons in a second on one core.

Run ``python -m benchmarks.batch`` in the repository root.
"""

from __future__ import annotations

import math
import time
from functools import partial
from typing import NamedTuple

import numpy as np

from benchmarks.measure import Section, is_quick, seconds, show, table
from drdp.privacy.kernel import compiled

COUNT = 10_000
AIM = 1e-9
CAP = 1e6
SEED = 20_240_901


class Finding(NamedTuple):
    """One aim: its time in all, of single answers, and what is left."""

    aim: float
    total: float
    each: list[float]
    one_way: list[float]
    unanswered: int
    widest: float


def inputs(count: int) -> tuple[np.ndarray, ...]:
    """rate, steps, noise, log delta: mu = rate sqrt(steps) / noise in 0.1..10."""
    rng = np.random.default_rng(SEED)
    columns: list[tuple[float, float, float, float]] = []
    while len(columns) < count:
        mu, steps, noise = np.exp(
            rng.uniform(np.log([0.1, 100.0, 0.6]), np.log([10.0, 1e7, 30.0]))
        )
        steps = float(round(steps))
        rate = mu * noise / math.sqrt(steps)
        if rate < 1.0:
            log_delta = rng.uniform(math.log(1e-12), math.log(1e-3))
            columns.append((rate, steps, noise, log_delta))
    return tuple(np.array(columns).T.copy())


def measure(*, quick: bool = False) -> list[Finding]:
    """Time `many` as a whole, then every answer alone."""
    kernels = compiled()
    rates, steps, noises, log_deltas = inputs(1_000 if quick else COUNT)
    found = []
    for aim in (AIM, 1e-6):
        ends = tuple(np.zeros(len(rates)) for _ in range(4))
        call = partial(kernels.many, 0, rates, steps, noises, ends[3], log_deltas)
        call(aim, CAP, *ends[:3])
        start = time.perf_counter()
        call(aim, CAP, *ends[:3])
        total = time.perf_counter() - start
        low, high, statuses, _ = ends
        each, one_way = [], []
        for i in range(0, len(rates), 5):
            row = tuple(
                np.array([value])
                for value in (0.0, rates[i], noises[i], steps[i], math.inf)
            )
            asked = log_deltas[i]
            start = time.perf_counter()
            kernels.worst(row, True, asked, aim, CAP, asked)
            middle = time.perf_counter()
            guess = kernels.first_guess(row, True, asked, True)
            kernels.answer(row, True, True, asked, guess, aim, CAP, asked, -math.inf)
            one_way.append(time.perf_counter() - middle)
            each.append(middle - start)
        done = statuses == 0.0
        width = (high - low)[done] / np.maximum(1.0, high[done])
        widest = float(width.max(initial=0.0))
        found.append(Finding(aim, total, each, one_way, int((~done).sum()), widest))
    return found


def section(found: list[Finding]) -> Section:
    """The findings as a table."""

    def quantile(values: list[float], share: float) -> str:
        return seconds(float(np.quantile(values, share)))

    rows = (
        (
            f"{f.aim:g}",
            seconds(f.total),
            quantile(f.each, 0.5),
            quantile(f.each, 0.99),
            quantile(f.one_way, 0.5),
            str(f.unanswered),
            f"{f.widest:.1e}",
        )
        for f in found
    )
    head = (
        "aim",
        "all together",
        "median",
        "99th percentile",
        "median, remove only",
        "unanswered",
        "widest",
    )
    count = 5 * len(found[0].each)
    text = (
        f"{count:,} random questions (seed {SEED}): mu = rate sqrt(steps) / noise from"
        " 0.1 to 10, steps from 100 to 10^7, noise from 0.6 to 30, delta from 1e-12"
        " to 1e-3, all log-uniform. `many` answers them one after the other in one"
        " thread. Single answers are timed on every fifth, the call from Python"
        " included. Width is in epsilon, relative where that is above 1; what the"
        " kernel leaves unanswered the accountant answers.\n\n"
        f"{table(head, rows)}"
    )
    return Section("Many at once", "python -m benchmarks.batch", text)


if __name__ == "__main__":
    show(section(measure(quick=is_quick(__doc__))))
