"""Claim: clipping and noise cost seconds where models have a hundred million numbers.

Run ``python -m benchmarks.mechanisms`` in the repository root.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

from benchmarks.measure import Section, is_quick, seconds, show, table
from drdp.mechanisms.gaussian import GaussianMechanism
from drdp.mechanisms.noise import SecureNoise, SeededNoise

SIZES = (1_000_000, 10_000_000, 100_000_000)
REPEATS = 5
CLIP = 1.0


def calls(update: np.ndarray[Any, Any]) -> dict[str, Callable[[], Any]]:
    """What is timed on one float32 vector; those that clip return what they got."""
    import torch

    torch.set_num_threads(1)
    mechanism = GaussianMechanism(noise_multiplier=1.0, clip_norm=CLIP)
    tensor = torch.from_numpy(update)
    secure, seeded = SecureNoise(), SeededNoise(1)
    bounded = mechanism.bound(update)
    opacus = {mode: _opacus(tensor, secure_mode=mode) for mode in (False, True)}
    return {
        "numpy sum": update.sum,
        "torch sum": tensor.sum,
        "drdp clip": lambda: mechanism.bound(update),
        "drdp clip, torch": lambda: mechanism.bound(tensor).numpy(),
        "drdp noise, secure": lambda: mechanism.release(bounded, secure),
        "drdp noise, seeded": lambda: mechanism.release(bounded, seeded),
        "Opacus clip": lambda: _opacus_clip(opacus[False], tensor),
        "Opacus noise": opacus[False].add_noise,
        "Opacus noise, secure_mode": opacus[True].add_noise,
    }


def _opacus(tensor: Any, *, secure_mode: bool) -> Any:
    import torch
    from opacus.optimizers import DPOptimizer

    parameter = torch.nn.Parameter(torch.zeros_like(tensor))
    optimizer = DPOptimizer(
        torch.optim.SGD([parameter], lr=0.1),
        noise_multiplier=1.0,
        max_grad_norm=CLIP,
        expected_batch_size=1,
        secure_mode=secure_mode,
    )
    _opacus_clip(optimizer, tensor)
    optimizer.add_noise()
    return _Unmarked(optimizer)


def _opacus_clip(optimizer: Any, tensor: Any) -> Any:
    (parameter,) = optimizer.params
    parameter.summed_grad = None
    parameter.grad_sample = tensor.view(1, -1)  # a batch of one example
    optimizer.clip_and_accumulate()
    return parameter.summed_grad.numpy()


class _Unmarked:
    """An Opacus optimizer that may add noise to one sum many times."""

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer
        self.params = optimizer.params
        self.clip_and_accumulate = optimizer.clip_and_accumulate

    def add_noise(self) -> None:
        for parameter in self.params:
            parameter.summed_grad = parameter.summed_grad.detach()  # without a mark
        self._optimizer.add_noise()


def measured(quick: bool = False) -> Section:
    """Medians, and by how much a clipped norm is off the clip norm."""
    sizes = SIZES[:1] if quick else SIZES
    rows: dict[str, list[str]] = {}
    for size in sizes:
        update = np.random.default_rng(1).standard_normal(size, dtype=np.float32)
        for name, call in calls(update).items():
            found = call()
            cell = seconds(_median(call))
            if "clip" in name:
                cell += f", {_excess(found):+.1e}"
            rows.setdefault(name, [name]).append(cell)
            del found
    text = (
        "One float32 update, one thread, medians of"
        f" {REPEATS} calls in processor time. Clipping: also the exact norm of the"
        " result divided by the clip norm, less 1; above 0 means that the sensitivity"
        " is larger than stated."
        " Opacus' noise is that of `DPOptimizer.add_noise`, with `secure_mode` its sum"
        " of four draws, from torch's ordinary generator in both cases.\n\n"
        + table(
            ["", *(f"{size // 1_000_000} million" for size in sizes)], rows.values()
        )
    )
    return Section("Mechanisms", "python -m benchmarks.mechanisms", text)


def _median(call: Callable[[], Any]) -> float:
    taken = []
    for _ in range(REPEATS):
        start = time.process_time()
        call()
        taken.append(time.process_time() - start)
    return median(taken)


def _excess(clipped: Any) -> float:
    """The norm over the clip norm, less 1; right to 1e-12."""
    parts = np.array_split(np.asarray(clipped), max(1, clipped.size // 10_000))
    squares = (np.dot(part, part) for part in (p.astype(np.float64) for p in parts))
    return math.sqrt(math.fsum(map(float, squares))) / CLIP - 1.0


if __name__ == "__main__":
    show(measured(is_quick(__doc__)))
