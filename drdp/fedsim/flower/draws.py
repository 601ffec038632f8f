"""Which nodes of a federation take part in a round, drawn so that it can be claimed.

Every draw rests on a source of 64-bit words that nobody can predict; Flower's
own strategies use Python's `random`, which can be.

>>> from drdp.mechanisms.noise import SeededNoise
>>> poisson(range(40), 0.125, SeededNoise(7))
[13, 24, 25, 35]
>>> fixed_size(range(40), 5, SeededNoise(7))
[13, 14, 19, 20, 22]
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from flwr.serverapp import Grid

if TYPE_CHECKING:
    from drdp.mechanisms.protocol import NoiseSource

__all__ = ["connected", "fixed_size", "poisson"]

_WORDS = 1 << 64
_POLL = 0.5  # seconds


def connected(grid: Grid, least: int, patience: float) -> list[int]:
    """The connected nodes, once there are at least `least` of them.

    Args:
        grid: Flower's grid.
        least: How many are needed.
        patience: How many seconds to wait for them.

    Raises:
        TimeoutError: If there are fewer for that long.
    """
    end = time.monotonic() + patience
    while len(nodes := sorted(set(grid.get_node_ids()))) < least:
        if time.monotonic() >= end:
            raise TimeoutError(
                f"{least} nodes are needed and {len(nodes)} are connected after"
                f" {patience} s; start more, or let the strategy wait longer"
            )
        time.sleep(min(_POLL, patience))
    return nodes


def poisson(nodes: Iterable[int], rate: float, rng: NoiseSource) -> list[int]:
    """Each node by a coin of its own, with probability `rate`.

    Guarantees:
        The probability is the double that is accounted for, rounded down to a
        multiple of 2^-64: never above it.  The result may be empty.
    """
    among = list(nodes)
    below = int(math.ldexp(rate, 64))
    words = rng.words(len(among))
    return [node for node, word in zip(among, words, strict=True) if int(word) < below]


def fixed_size(nodes: Iterable[int], size: int, rng: NoiseSource) -> list[int]:
    """Exactly `size` nodes, every such subset being as likely as any other."""
    among = list(nodes)
    for i in range(size):
        j = i + _below(len(among) - i, rng)
        among[i], among[j] = among[j], among[i]
    return sorted(among[:size])


def _below(bound: int, rng: NoiseSource) -> int:
    """A whole number below `bound`, all being equally likely."""
    most = _WORDS - _WORDS % bound
    while True:
        word = int(rng.words(1)[0])
        if word < most:
            return word % bound
