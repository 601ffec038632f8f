"""Private rounds for Flower (1.35 or later): a strategy wrapper and a client mod.

The server wraps a strategy of Flower in `PrivateStrategy`, the clients may add
`private_mod`, and the accountant is `drdp.privacy.adapters.flower.PldAccountant`.
"""

from __future__ import annotations

from drdp.fedsim.flower.in_process import InProcessGrid
from drdp.fedsim.flower.mod import private_mod
from drdp.fedsim.flower.strategy import PrivateStrategy, RoundFacts

__all__ = ["InProcessGrid", "PrivateStrategy", "RoundFacts", "private_mod"]
