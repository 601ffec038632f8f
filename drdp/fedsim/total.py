"""The running sum of a round's bounded codes, and what was seen on the way."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from drdp.fedsim.randomness import Randomness
from drdp.fedsim.trainer import Update
from drdp.privacy.threat import Placement, View

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from drdp.compression.protocol import Compressor
    from drdp.fedsim.aggregation import Gathered
    from drdp.fedsim.simulate import Simulation
    from drdp.mechanisms.adaptive import AdaptiveClip

__all__ = ["Diagnostics", "Total"]


@final
@dataclass(frozen=True, slots=True)
class Diagnostics:
    """What only the operator may look at: it is not covered by the guarantee.

    Args:
        clients: How many took part.
        loss: Their mean training loss.
        clipped: The share of contributions that were cut down.
        zeroed: How many contributions had entries that were not finite.
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


@final
class Total:
    """A round's sum of bounded codes, and of shares where the clip norm is steered.

    Args:
        simulation: The parts of the run.
        codec: Of the round.
        round_: The round's number, from 0.
        randomness: Where noise comes from.
        clip_norm: Of the round, where it is steered; None for the run's own.
    """

    def __init__(
        self,
        simulation: Simulation,
        codec: Compressor,
        round_: int,
        randomness: Randomness,
        clip_norm: float | None = None,
    ) -> None:
        import numpy as np

        protection = simulation.protection
        self._protection, self._codec, self._round = protection, codec, round_
        self._randomness = randomness
        self._mechanism = simulation.mechanism(clip_norm)
        self._rule: AdaptiveClip | None = simulation.rule(clip_norm)
        self._central = protection.placement is Placement.CENTRAL
        self.shares = 0.0  # halves: their sum is exact
        self.sum = np.zeros(codec.code_length)
        self._codes = np.zeros(codec.code_length)
        self._updates = np.zeros(codec.update_length)
        self._norms: list[float] = []
        self._losses: list[float] = []
        self._zeroed = 0
        self.keeps = False
        self.gathered: Gathered | None = None
        self._messages: list[tuple[int, NDArray[np.float64]]] = []

    def add(self, update: Update) -> None:
        """Encode, bound and add one client's update, with its noise if it has some."""
        import numpy as np

        finite = bool(np.isfinite(update.delta).all())
        self._zeroed += not finite
        clean = update.delta
        if not finite:
            clean = np.nan_to_num(clean, nan=0.0, posinf=0.0, neginf=0.0)
        code = self._codec.encode(clean)
        self._updates += clean
        self._codes += code
        self._norms.append(float(np.linalg.norm(code.astype(np.float64))))
        self._losses.append(update.loss)
        value = code.astype(np.float64)
        if self._mechanism is not None:
            bounded = self._mechanism.bounded(value)
            value = np.asarray(bounded.value, dtype=np.float64)
            if self._rule is not None:
                self.shares += self._rule.share(bounded)
        if self._mechanism is not None and not self._central:
            digest = hashlib.sha256(value.tobytes()).digest()
            source = self._randomness.source(
                "message", self._round, update.client, digest
            )
            value = np.asarray(self._mechanism.release(value, source))
        if self.keeps and not self._central:
            self._messages.append((update.client, value))
        if self.gathered is not None:
            self.gathered.add(value)
        self.sum += value

    def seen(self) -> dict[int, NDArray[np.float64]]:
        """The messages that the view shows, to be asked for after the charge."""
        protection = self._protection
        if protection.view is View.MESSAGES:
            return dict(self._messages)
        if protection.view is View.COLLUDING and protection.colluding:
            return dict(self._messages[-protection.colluding :])
        return {}

    @property
    def digest(self) -> bytes:
        """A hash of everything that is to be released, and of the noise's scale.

        The scale belongs to it: the same sum under two clip norms would be hidden
        twice by the same noise times two known factors, and so not at all.
        """
        content = self.sum.tobytes()
        if self._rule is not None:
            content += f" {self.shares!r} {self._rule.clip_norm!r}".encode()
        return hashlib.sha256(content).digest()

    def released(self, digest: bytes) -> NDArray[np.float64]:
        """The sum as it may leave."""
        import numpy as np

        if self._mechanism is None or not self._central:
            return self.sum
        source = self._randomness.source("noise", self._round, digest)
        return np.asarray(self._mechanism.release(self.sum, source), dtype=np.float64)

    def steered(self, digest: bytes) -> float | None:
        """The next round's clip norm, from the noised count; None if it is fixed."""
        if self._rule is None:
            return None
        source = self._randomness.source("count", self._round, digest)
        return self._rule.step(self.shares, source).clip_norm

    def diagnostics(self) -> Diagnostics:
        """What only the operator may see."""
        import numpy as np

        clients, noise, limit = len(self._norms), 0.0, math.inf
        if self._mechanism is not None:
            noise = self._mechanism.noise_std * math.sqrt(len(self.sum))
            limit = self._mechanism.clip_norm or math.inf
        decoded = self._codec.decode(self._codes / max(clients, 1))
        if not self._central:
            noise *= math.sqrt(clients)
        signal = float(np.linalg.norm(self._codes))
        return Diagnostics(
            clients=clients,
            loss=float(np.mean(self._losses)) if clients else math.nan,
            clipped=sum(n > limit for n in self._norms) / max(clients, 1),
            zeroed=self._zeroed,
            signal_to_noise=signal / noise if noise > 0.0 else math.inf,
            kept=_cosine(self._updates, decoded),
            code_norm=float(np.median(self._norms)) if clients else math.nan,
        )


def _cosine(one: NDArray[Any], other: NDArray[Any]) -> float:
    import numpy as np

    norms = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    return float(np.dot(one, other)) / norms if norms > 0.0 else 0.0
