"""Claim: a codec costs milliseconds, and what it keeps is told by its samples.

Run ``python -m benchmarks.compression`` in the repository root.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from benchmarks.measure import Section, is_quick, seconds, show, table, timed
from drdp.compression.autoencoder import fit_autoencoder, fit_on_prior
from drdp.compression.communication import lora_layout, message_bytes
from drdp.compression.designs import BlockDesign, ConvDesign
from drdp.compression.fidelity import Fidelity, fidelity
from drdp.compression.identity import Identity
from drdp.compression.layout import Layout
from drdp.compression.pca import fit_pca
from drdp.compression.projection import RandomProjection
from drdp.compression.protocol import Codec
from drdp.compression.quantised import Quantised
from drdp.compression.random_prior import public_prior
from drdp.compression.sketch import CountSketch
from drdp.compression.source import Origin, Source

LENGTHS = (368_640, 921_600)
CODE = 64
PUBLIC = Source(Origin.PUBLIC)
RANK = 8
FITTED_ON = 64
JUDGED_ON = 32
STEPS = 80


class Cost(NamedTuple):
    """The time and size of one codec for one length of update."""

    name: str
    length: int
    fit: float
    encode: float
    decode: float
    code: int
    message: int


class Kept(NamedTuple):
    """What one codec keeps of planted updates."""

    name: str
    code: int
    found: Fidelity


def layout(length: int) -> Layout:
    """LoRA of rank 8 on four modules in each of 30 layers."""
    return lora_layout(layers=30, width=length // (30 * 4 * 2 * 8), rank=8)


def planted(layout: Layout, count: int, seed: int) -> np.ndarray:
    """A shared mean, a subspace of `RANK` dimensions and noise, equal in energy."""
    fixed = np.random.default_rng(7)
    length = layout.length
    mean = fixed.standard_normal(length, dtype=np.float32)
    basis = fixed.standard_normal((RANK, length), dtype=np.float32)
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((count, RANK), dtype=np.float32) / math.sqrt(RANK)
    noise = rng.standard_normal((count, length), dtype=np.float32)
    return (mean + weights @ basis + noise) * np.float32(1e-3)


def codecs(
    public: np.ndarray, where: Layout, *, steps: int
) -> Iterator[tuple[str, float, Codec]]:
    """Each codec with its name and how long it took to make."""
    length = where.length
    makers = {
        "identity": lambda: Identity(length),
        "random projection": lambda: RandomProjection(length, CODE),
        "count sketch, 4 rows": lambda: CountSketch(length, CODE, rows=4),
        "PCA of public updates": lambda: fit_pca(public, CODE // 2, source=PUBLIC),
        "the same in 8 bits": lambda: Quantised(
            fit_pca(public, CODE // 2, source=PUBLIC), 8
        ),
        "linear, random prior": lambda: fit_on_prior(
            public_prior(where), BlockDesign(CODE), steps=steps, batch_size=8
        ),
        "linear, public updates": lambda: fit_autoencoder(
            public, BlockDesign(CODE), source=PUBLIC, steps=steps, batch_size=8
        ),
        "convolutions, random prior": lambda: fit_on_prior(
            public_prior(where), ConvDesign(), steps=max(2, steps // 8), batch_size=4
        ),
    }
    for name, make in makers.items():
        start = time.perf_counter()
        codec = make()
        yield name, time.perf_counter() - start, codec


def measure(*, quick: bool = False) -> tuple[list[Cost], list[Kept]]:
    """Time every codec on both lengths, and judge it on the shorter one."""
    costs, kept = [], []
    for length in (30_720,) if quick else LENGTHS:
        judged = length <= LENGTHS[0]
        where = layout(length)
        public = planted(where, FITTED_ON, seed=1)
        fresh = planted(where, JUDGED_ON, seed=2)
        steps = STEPS if judged and not quick else STEPS // 10
        for name, fit, codec in codecs(public, where, steps=steps):
            update = fresh[0]
            code = codec.encode(update).astype(np.float64)
            costs.append(
                Cost(
                    name,
                    length,
                    fit,
                    timed(lambda codec=codec, u=update: codec.encode(u)),
                    timed(lambda codec=codec, c=code: codec.decode(c)),
                    codec.code_length,
                    message_bytes(codec),
                )
            )
            if judged:
                found = fidelity(codec, fresh)
                kept.append(Kept(name, codec.code_length, found))
    return costs, kept


def section(costs: list[Cost], kept: list[Kept]) -> Section:
    """The findings as two tables."""
    first = table(
        ("codec", "update", "fit", "encode", "decode", "code", "message, bytes"),
        (
            (
                c.name,
                f"{c.length:,}",
                seconds(c.fit),
                seconds(c.encode),
                seconds(c.decode),
                f"{c.code:,}",
                f"{c.message:,}",
            )
            for c in costs
        ),
    )
    second = table(
        ("codec", "code", "mean", "innovation", "cosine", "on noise", "all", "by mean"),
        (
            (
                k.name,
                f"{k.code:,}",
                f"{k.found.mean_kept:.4f}",
                f"{k.found.kept:.4f}",
                f"{k.found.cosine:.4f}",
                f"{k.found.noise_kept:.4f}",
                f"{k.found.raw:.4f}",
                f"{k.found.mean_raw:.4f}",
            )
            for k in kept
        ),
    )
    text = (
        "Times are of one update on one core. `fit` includes drawing the public"
        f" randomness or fitting: PCA on {FITTED_ON} updates, networks in {STEPS} steps"
        " of Adam for the shorter update and a tenth of that for the longer one, an"
        " eighth of either for convolutions; a quick run takes a tenth.\n\n"
        f"{first}\n\n"
        f"Kept of {JUDGED_ON} fresh synthetic updates that consist, in equal parts of"
        f" energy, of a shared mean, a shared subspace of {RANK} dimensions and"
        " independent noise, so that half of the innovation can be kept at best by"
        " a short code. `innovation` is the share of its energy that is kept after"
        " the best common rescaling, `on noise` the same for Gaussian noise, `all`"
        " the explained energy with the mean counted in, and `by mean` what"
        " predicting the mean of the others explains of that. These updates are"
        " planted: real ones are for the results page to judge.\n\n"
        f"{second}"
    )
    return Section("Compression", "python -m benchmarks.compression", text)


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    show(section(*measure(quick=is_quick(__doc__))))
