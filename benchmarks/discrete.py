"""Claim: exact integer noise costs no more than floating-point noise.

Run ``python -m benchmarks.discrete`` in the repository root.
"""

from __future__ import annotations

import random
import time
from fractions import Fraction
from functools import partial

import numpy as np

from benchmarks.measure import Section, is_quick, seconds, show, table
from drdp.mechanisms.discrete_gaussian import discrete_gaussian
from drdp.mechanisms.integer_noise import DiscreteGaussianMechanism, SkellamMechanism
from drdp.mechanisms.modular import secure_sum
from drdp.mechanisms.noise import SecureNoise, SeededNoise
from drdp.mechanisms.skellam import skellam

COUNT = 10_000_000
LENGTH = 1_000_000
CLIENTS = 4


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
