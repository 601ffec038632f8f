"""Small simulations for audits: codes of a few numbers, clients who send constants."""

from __future__ import annotations

from typing import Any

import numpy as np

from drdp.compression.identity import Identity
from drdp.compression.protocol import Compressor
from drdp.fedsim.canaries import Crowd, direction
from drdp.fedsim.cohort import Cohorts
from drdp.fedsim.protection import Protection
from drdp.fedsim.simulate import Simulation

DELTA = 1e-5
LENGTH = 8


def audited(
    cohort: Cohorts,
    clients: int,
    *,
    length: int = LENGTH,
    crowd: float = 0.0,
    codec: Compressor | None = None,
    size: float | None = None,
    **protection: Any,
) -> Simulation:
    """A simulation whose clients all send `crowd` times one direction."""
    towards = crowd * direction("crowd", 0, 0, length)
    return Simulation(
        Crowd(clients, towards.astype(np.float32)),
        codec or Identity(length),
        Protection(cohort, **({"clip_norm": 1.0} | protection)),
        size=size,
    )
