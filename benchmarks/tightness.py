"""Claim: lower bounds come near the truth, and a million canaries take seconds.

Run ``python -m benchmarks.tightness`` in the repository root; it takes some two
minutes and prints a table of docs/audit.md.  With ``--quick`` it takes a tenth of
the trials.
"""

from __future__ import annotations

import math
import time

import numpy as np

from benchmarks.audit import DELTA, SIGMA, five
from benchmarks.measure import Section, is_quick, show, table
from drdp.cli.numbers import down, nearest
from drdp.fedsim.auditing import audit_simulation
from drdp.privacy.audit import gaussian_epsilon
from drdp.privacy.black_box import judged
from drdp.privacy.events import Gaussian
from drdp.privacy.findings import Finding, judged_canaries


def plain(samples: int) -> tuple[Finding, float]:
    """A Gaussian release with mu = 1 and nothing else."""
    rng = np.random.default_rng(3)
    half = samples // 2
    outside = rng.normal(size=(half, 1))
    inside = 1.0 + rng.normal(size=(half, 1))
    return judged(inside, outside, delta=DELTA, event=Gaussian(1.0)), 1.0


def summed(runs: int) -> tuple[Finding, float]:
    """The sum view of the simulator, one code-space canary among five clients."""
    share = 2 * SIGMA / 5
    true = 2.0 / (share * math.sqrt(5))
    return audit_simulation(five(share), delta=DELTA, runs=runs, seed=2), true


def shared(canaries: int) -> tuple[Finding, float]:
    """Many canaries in one run, mu = 2 each, with independent noise."""
    rng = np.random.default_rng(4)

    def run() -> tuple[np.ndarray, np.ndarray]:
        inside = rng.random(canaries) < 0.5
        return 2.0 * inside + rng.normal(size=canaries), inside

    scores, inside = run()
    return judged_canaries(scores, inside, run(), delta=1e-9, event=Gaussian(0.5)), 2.0


def measure(*, quick: bool) -> Section:
    """One row per kind of audit."""
    part = 10 if quick else 1
    cases = [
        ("plain Gaussian", 10**6 // part, DELTA, plain),
        ("simulator, the sum", 4000 // part, DELTA, summed),
        ("canaries in one run", 10**6 // part, 1e-9, shared),
    ]
    rows = []
    for name, trials, delta, case in cases:
        begun = time.perf_counter()
        found, mu = case(trials)
        took = time.perf_counter() - begun
        true, proven = gaussian_epsilon(mu, delta), gaussian_epsilon(found.mu, delta)
        rows.append(
            (
                name,
                f"{trials:,}",
                f"{down(found.mu, 4)} of {nearest(mu, 4)}",
                f"{down(proven, 4)} of {nearest(true, 4)}",
                f"{down(100 * proven / true, 3)} %",
                str(found.verdict),
                f"{took:.1f}",
            )
        )
    text = table(
        ("audit", "trials", "mu", "epsilon of mu", "share", "verdict", "seconds"), rows
    )
    return Section("Tightness", "python -m benchmarks.tightness", text)


if __name__ == "__main__":
    show(measure(quick=is_quick(__doc__)))
