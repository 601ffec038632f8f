"""What only the operator may see of a round: no guarantee covers it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

__all__ = ["Diagnostics"]


@final
@dataclass(frozen=True, slots=True)
class Diagnostics:
    """What only the operator may look at: it is not covered by the guarantee.

    Args:
        clients: How many took part.
        loss: Their mean training loss, of those whose loss is finite.
        clipped: The share of contributions that were cut down.
        zeroed: How many contributions counted as zero, because training diverged
            or the trainer gave none.
        signal_to_noise: Norm of the sum of codes / expected norm of the noise.
        kept: Cosine between the mean update and its decoded code, without noise.
        code_norm: Median norm of a code before clipping.
    """

    clients: int
    loss: float
    clipped: float
    zeroed: int
    signal_to_noise: float
    kept: float
    code_norm: float
