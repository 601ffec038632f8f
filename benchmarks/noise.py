"""Claim: noise that nobody can predict is made at a hundred million and more a minute.

Run ``python -m benchmarks.noise`` in the repository root.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.measure import Section, is_quick, show, table
from drdp.mechanisms.noise import SecureNoise, SeededNoise

COUNT = 1 << 22
REPEATS = 9
TESTED = 10_000_000


def sources() -> dict[str, Any]:
    """What is measured: drdp's sources, then generators one could predict."""
    import torch

    torch.set_num_threads(1)
    philox = np.random.Generator(np.random.Philox(1))
    sfc = np.random.Generator(np.random.SFC64(1))
    generator = torch.Generator().manual_seed(1)
    return {
        "SecureNoise": SecureNoise(),
        "SeededNoise": SeededNoise(1),
        "numpy Philox": _Peer(philox.standard_normal, philox.laplace),
        "numpy SFC64": _Peer(sfc.standard_normal, sfc.laplace),
        "torch, float32": _Peer(
            lambda n: torch.randn(n, generator=generator).numpy(), None
        ),
        "torch, float64": _Peer(
            lambda n: torch.randn(n, generator=generator, dtype=torch.float64).numpy(),
            None,
        ),
    }


class _Peer:
    def __init__(
        self, normal: Callable[[int], Any], laplace: Callable[..., Any] | None
    ) -> None:
        self.normal = normal
        self.laplace = (lambda n: laplace(size=n)) if laplace else None
        self.words = None


def measured(quick: bool = False) -> Section:
    """Samples a minute, and how far 10 million of them are from their law."""
    rows = []
    count, tested = (COUNT >> 4, TESTED // 20) if quick else (COUNT, TESTED)
    for name, source in sources().items():
        row = [name]
        for law in ("words", "normal", "laplace"):
            draw = getattr(source, law)
            row.append("-" if draw is None else _rate(draw, count))
        x = np.asarray(source.normal(tested), dtype=float)
        found = stats.kstest(x, stats.norm.cdf)
        beyond = int(np.count_nonzero(abs(x) > 5.0))
        row += [f"{found.statistic * math.sqrt(tested):.2f}", f"{beyond}"]
        rows.append(row)
    expected = 2.0 * stats.norm.sf(5.0) * tested
    head = ["source", "words", "normal", "Laplace", "KS", "beyond 5"]
    text = (
        "Million samples a minute of processor time, in one thread; float64 but for"
        " torch's float32."
        " Two last columns: the Kolmogorov-Smirnov distance of"
        f" {tested:,} normal numbers times the root of their number (below 1.95 in"
        " 999 of 1,000 runs of a perfect source), and how many of them lie beyond 5"
        f" ({expected:.1f} expected).\n\n" + table(head, rows)
    )
    return Section("Noise", "python -m benchmarks.noise", text)


def _rate(draw: Callable[[int], Any], count: int) -> str:
    draw(1000)
    taken = []
    for _ in range(REPEATS):
        start = time.process_time()
        draw(count)
        taken.append(time.process_time() - start)
    return f"{count / median(taken) * 60.0 / 1e6:,.0f}"


if __name__ == "__main__":
    show(measured(is_quick(__doc__)))
