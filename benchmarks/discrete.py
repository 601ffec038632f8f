"""Claim: exact integer noise costs no more than floating-point noise.

Run ``python -m benchmarks.discrete`` in the repository root.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from itertools import count

import numpy as np

from benchmarks.measure import Section, is_quick, seconds, show, table, timed
from drdp.mechanisms import discrete_gaussian as gaussian_module
from drdp.mechanisms import skellam as skellam_module
from drdp.mechanisms.discrete_gaussian import discrete_gaussian
from drdp.mechanisms.gaussian import GaussianMechanism
from drdp.mechanisms.integer_noise import DiscreteGaussianMechanism, SkellamMechanism
from drdp.mechanisms.modular import secure_sum
from drdp.mechanisms.noise import SecureNoise
from drdp.mechanisms.skellam import skellam

COUNT = 4_000_000
LENGTH = 1_000_000
CLIENTS = 4
SCALES = (0.5, 2.0, 50.0, 1000.0, 1e6)
VARIANCES = (4.0, 1e4, 1e6, 1e8)


def naive_discrete_gaussian(count: int, square: Fraction, *, seed: int) -> list[int]:
    """The baseline: Canonne, Kamath and Steinke's algorithm with fractions.

    Args:
        count: How many draws.
        square: s^2.
        seed: Of Python's own generator, which is asked for whole numbers only.

    References: arXiv:2004.00010, Algorithms 1 to 3.
    """
    rng = random.Random(seed)

    def coin(power: Fraction) -> bool:
        """True with probability e^-power, for a power of at most 1."""
        k = 1
        while rng.randrange(power.denominator * k) < power.numerator:
            k += 1
        return k % 2 == 1

    def any_coin(power: Fraction) -> bool:
        while power > 1:
            if not coin(Fraction(1)):
                return False
            power -= 1
        return coin(power)

    def laplace(scale: int) -> int:
        """P(x) proportional to e^(-|x| / scale)."""
        while True:
            low = rng.randrange(scale)
            if not coin(Fraction(low, scale)):
                continue
            high = 0
            while coin(Fraction(1)):
                high += 1
            size, negative = low + scale * high, rng.randrange(2)
            if size or not negative:
                return -size if negative else size

    root = 0
    while (root + 1) ** 2 <= square:
        root += 1
    scale, found = root + 1, []
    while len(found) < count:
        x = laplace(scale)
        if any_coin((abs(x) - square / scale) ** 2 / (2 * square)):
            found.append(x)
    return found


def rates(size: int) -> list[tuple[str, ...]]:
    """Draws per second of each sampler, and how long its table takes to make."""
    rng, rows = SecureNoise(), []

    def row(name: str, size: int, draw: Callable[[], object], setup: float) -> None:
        draw()
        rows.append((name, f"{size / timed(draw) / 1e6:.3g}", seconds(setup)))

    row("64-bit words alone", size, partial(rng.words, size), 0.0)
    row("float Gaussian", size, partial(rng.normal, size), 0.0)
    for scale in SCALES:
        gaussian_module._tables.cache_clear()
        setup = timed(lambda s=scale: gaussian_module._tables(Fraction(s)), most=1)
        draw = partial(discrete_gaussian, size, scale, rng)
        row(f"discrete Gaussian, s = {scale:g}", size, draw, setup)
    for variance in VARIANCES:
        skellam_module._table.cache_clear()
        setup = timed(lambda v=variance: skellam_module._table(Fraction(v)), most=1)
        draw = partial(skellam, size, variance, rng)
        row(f"Skellam, variance {variance:g}", size, draw, setup)
    for scale in (2.0, 1000.0):
        seeds = count()
        draw = lambda s=scale, k=seeds: naive_discrete_gaussian(  # noqa: E731
            1000, Fraction(s) ** 2, seed=next(k)
        )
        row(f"plain Python with fractions, s = {scale:g}", 1000, draw, 0.0)
    return rows


def pipeline(length: int) -> list[tuple[str, ...]]:
    """Seconds of each step for one client of a distributed sum, and of the server."""
    rng, rows = SecureNoise(), []
    vector = np.random.default_rng(1).normal(size=length).astype(np.float32)
    plain = GaussianMechanism(noise_multiplier=1.0, clip_norm=1.0)
    clipped = plain.bound(vector)
    rows.append(
        (
            "float Gaussian",
            seconds(timed(lambda: plain.bound(vector))),
            seconds(timed(lambda: plain.release(clipped, rng))),
            "",
            "",
            "32",
        )
    )
    for kind in (DiscreteGaussianMechanism, SkellamMechanism):
        mechanism = kind(
            noise_multiplier=1.0,
            clip_norm=1.0,
            granularity=2.0**-14,
            length=length,
            clients=CLIENTS,
            survivors=CLIENTS,
            adjacency="zero-out",
        )
        bounded = mechanism.bound(vector)
        messages = [mechanism.share(bounded, rng) for _ in range(CLIENTS)]
        total = secure_sum(messages, mechanism.bits)
        mechanism.unwrap(total)
        calls = (
            lambda m=mechanism: m.bound(vector),
            lambda m=mechanism, b=bounded: m.share(b, rng),
            lambda m=mechanism, s=messages: secure_sum(s, m.bits),
            lambda m=mechanism, t=total: m.unwrap(t),
        )
        rows.append(
            (
                kind.__name__,
                *(seconds(timed(call, budget=1.0)) for call in calls),
                str(mechanism.bits),
            )
        )
    return rows


def section(*, quick: bool = False) -> Section:
    """The findings as two tables."""
    size, length = (COUNT // 8, LENGTH // 8) if quick else (COUNT, LENGTH)
    draws = table(("sampler", "million draws a second", "table made in"), rates(size))
    steps = table(
        ("mechanism", "bound", "share or release", "sum", "unwrap", "bits"),
        pipeline(length),
    )
    text = (
        f"{size:,} draws from `SecureNoise`, in one thread. A table is made once for"
        f" each scale or variance.\n\n{draws}\n\nOne client's vector of {length:,}"
        f" float32 numbers: clipped, rotated and rounded (`bound`), noised (`share`),"
        f" {CLIENTS} messages added (`sum`) and decoded (`unwrap`); a step of 2^-14 of"
        f" the clip norm.\n\n{steps}"
    )
    return Section("Integer noise", "python -m benchmarks.discrete", text)


if __name__ == "__main__":
    show(section(quick=is_quick(__doc__)))
