"""The sum of a round's bounded codes, whatever one client's training gave.

What a client sends can change the sum, within its bound, and nothing else: not
whether the round takes place, nor what the others add.  An update that is not
finite, or that the codec cannot take, counts as zero.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, final

from drdp.errors import InvalidArgumentError
from drdp.fedsim.diagnostics import Diagnostics
from drdp.fedsim.integer_messages import code_of_sum, message
from drdp.fedsim.protection import Protection
from drdp.fedsim.randomness import Randomness
from drdp.fedsim.trainer import Update
from drdp.privacy.threat import Placement, View

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from drdp.compression.protocol import Compressor
    from drdp.fedsim.aggregation import Gathered
    from drdp.fedsim.bounds import Bounds
    from drdp.mechanisms.integer_noise import (
        DiscreteGaussianMechanism,
        SkellamMechanism,
    )
    from drdp.mechanisms.protocol import NoiseSource

__all__ = ["LARGEST", "Total"]


@final
class Total:
    """A round's sum of bounded codes, and of shares where the clip norm is steered.

    An update is encoded, bounded, noised and added, and then forgotten.

    Args:
        protection: The promise.
        codec: Of the round.
        round_: The round's number, from 0.
        randomness: Where noise comes from.
        cohort: Who was asked, each of them once.
        bounds: What bounds and hides codes in this round.
        keeps: Whether messages are held for an observer.

    Guarantees:
        Each client of the cohort adds one vector of norm at most the clip norm,
        which depends on its own update alone, and zero where that update, its
        loss or its code is not finite or the codec refuses it.  No update that has
        the right length raises anything, warnings included.
    """

    def __init__(
        self,
        protection: Protection,
        codec: Compressor,
        round_: int,
        randomness: Randomness,
        cohort: Sequence[int],
        bounds: Bounds,
        *,
        keeps: bool = False,
    ) -> None:
        import numpy as np

        self._protection, self._codec, self._round = protection, codec, round_
        self._randomness, self._integers = randomness, bounds.integers
        self._mechanism, self._rule = bounds.mechanism, bounds.rule
        self._central = protection.placement is Placement.CENTRAL
        self._awaited = dict.fromkeys(cohort)
        self.shares = 0.0  # halves: their sum is exact
        self.sum: NDArray[Any] = np.zeros(codec.code_length)
        if self._integers is not None:
            size = self._integers.aggregation.grid.dimension
            self.sum = np.zeros(size, dtype=np.int64)
        self._codes = np.zeros(codec.code_length)
        self._updates = np.zeros(codec.update_length)
        self._norms = array("d")
        self._loss, self._measured, self._zeroed = 0.0, 0, 0
        shown = {View.MESSAGES: None, View.COLLUDING: protection.colluding}
        self._messages: deque[tuple[int, NDArray[np.float64]]] = deque(
            maxlen=shown.get(protection.view, 0) if keeps else 0
        )
        self.gathered: Gathered | None = None
        self._apart = False  # whether updates stay at their clients

    def add(self, update: Update) -> None:
        """Encode, bound and add one client's update, with its noise if it has some.

        Raises:
            InvalidArgumentError: If the client was not asked, or gave an update
                before, or the update has another length or no numbers: the trainer
                is at fault, not the client's data.
        """
        import numpy as np

        self._expect(update.client)
        del self._awaited[update.client]
        delta = np.asarray(update.delta)
        length = self._codec.update_length
        if delta.shape != (length,) or delta.dtype.kind != "f":
            raise InvalidArgumentError(
                f"the trainer gave an update of shape {delta.shape} and type"
                f" {delta.dtype}, but parameters are {length} floating-point numbers"
            )
        with np.errstate(all="ignore"):
            code = self._code(delta, update.loss)
        self._add(update.client, code)
        if math.isfinite(update.loss):
            self._loss += float(update.loss)
            self._measured += 1

    @property
    def bits(self) -> int:
        """Messages are whole numbers modulo 2^bits.

        Raises:
            InvalidArgumentError: If they are not, because the noise is Gaussian.
        """
        if self._integers is None or self._integers.bits is None:
            raise InvalidArgumentError(
                "secure sums are of integers: set privacy.mechanism to skellam or"
                " discrete-gaussian"
            )
        return self._integers.bits

    def take(
        self, client: int, bounded: NDArray[Any], seen: Diagnostics | None
    ) -> None:
        """Add what a client bounded itself, in a total of its own of one client.

        Args:
            client: Who.
            bounded: The `sum` of that total.
            seen: Its diagnostics, where the client shows them to this server.

        Guarantees:
            Where this server adds the noise, the vector is bounded once more: a
            client that sends more than its bound does not count for more.

        Raises:
            InvalidArgumentError: If the client was not asked, or has sent one
                before, or the vector has another length or other numbers.
        """
        import numpy as np

        self._expect(client)
        if bounded.shape != self.sum.shape or bounded.dtype != self.sum.dtype:
            raise InvalidArgumentError(
                f"client {client} sent a vector of shape {bounded.shape} and type"
                f" {bounded.dtype}, but codes have {self.sum.size} of {self.sum.dtype}"
            )
        del self._awaited[client]
        self._apart = True
        if self._integers is not None:
            self._take_integers(bounded, self._integers)
        else:
            if self._central and self._mechanism is not None:
                bounded = np.asarray(self._mechanism.bound(bounded), dtype=np.float64)
            self.sum += bounded
            self._codes += bounded
            if self.gathered is not None:
                self.gathered.add(bounded)
        self._norms.append(math.nan if seen is None else seen.code_norm)
        self._zeroed += 0 if seen is None else seen.zeroed
        if seen is not None and math.isfinite(seen.loss):
            self._loss += seen.loss
            self._measured += 1

    def take_sum(self, total: NDArray[np.int64], clients: Sequence[int]) -> None:
        """The sum of several clients' messages, as secure aggregation shows it.

        Args:
            total: Modulo 2^bits.
            clients: Whose messages are in it.  Of the others there is nothing, not
                even noise: `Protection.check_round` says whether these are enough.
        """
        from drdp.mechanisms.modular import secure_sum

        for client in clients:
            self._expect(client)
            del self._awaited[client]
            self._norms.append(math.nan)
        self._apart = True
        self.sum = secure_sum([self.sum, total], self.bits)

    def complete(self) -> None:
        """Count clients of whom no update came as zero, with their noise."""
        for client in list(self._awaited):
            del self._awaited[client]
            self._add(client, None)

    @property
    def digest(self) -> bytes:
        """A hash of everything that is to be released, and of the noise's scale.

        The scale belongs to it: the same sum under two clip norms would be hidden
        twice by the same noise times two known factors, and so not at all.
        """
        return self._digest(self.sum)

    def seen(self) -> dict[int, NDArray[np.float64]]:
        """The messages that the view shows, to be asked for after the charge."""
        return dict(self._messages)

    def released(self, digest: bytes) -> NDArray[np.float64]:
        """The sum as it may leave."""
        import numpy as np

        source = self._randomness.source("noise", self._round, digest)
        if self._integers is not None:
            if self._central:
                return self._integers.release(self.sum, source)
            return code_of_sum(self._integers, self.sum)
        if self._mechanism is None or not self._central:
            return self.sum
        return np.asarray(self._mechanism.release(self.sum, source), dtype=np.float64)

    def steered(self) -> float | None:
        """The next round's clip norm, from the noised count; None if it is fixed.

        To be asked for after the round was paid for.
        """
        if self._rule is None:
            return None
        source = self._randomness.source("count", self._round, self.digest)
        return self._rule.step(self.shares, source).clip_norm

    def diagnostics(self) -> Diagnostics:
        """What only the operator may see."""
        import numpy as np

        clients, protection = len(self._norms), self._protection
        noise, limit = protection.noise_std, protection.clip_norm
        if self._mechanism is not None:
            noise = self._mechanism.noise_std
            limit = self._mechanism.clip_norm or math.inf
        noise *= math.sqrt(self._codec.code_length)
        decoded = self._codec.decode(self._codes / max(clients, 1))
        if not self._central:
            noise *= math.sqrt(clients)
        signal = float(np.linalg.norm(self._codes))
        return Diagnostics(
            clients=clients,
            loss=self._loss / self._measured if self._measured else math.nan,
            clipped=sum(n > limit for n in self._norms) / max(clients, 1),
            zeroed=self._zeroed,
            signal_to_noise=self._ratio(signal, noise),
            kept=math.nan if self._apart else _cosine(self._updates, decoded),
            code_norm=float(np.median(self._norms)) if clients else math.nan,
        )

    def _ratio(self, signal: float, noise: float) -> float:
        if self._apart and self._integers is not None:
            return math.nan  # codes stay at their clients
        return signal / noise if noise > 0.0 else math.inf

    def _take_integers(
        self,
        sent: NDArray[np.int64],
        mechanism: DiscreteGaussianMechanism | SkellamMechanism,
    ) -> None:
        """A client's integers, which are zero if they are longer than they may be."""
        from drdp.mechanisms.modular import secure_sum

        if not self._central:
            self.sum = secure_sum([self.sum, sent], self.bits)
            return
        length = sum(number * number for number in sent.tolist())  # exact
        if length > mechanism.aggregation.grid.limit:
            self._zeroed += 1
            return
        self.sum += sent

    def _expect(self, client: int) -> None:
        if client not in self._awaited:
            raise InvalidArgumentError(
                f"the trainer gave an update of client {client}, who was not"
                " asked or has given one already: it would count more than its bound"
            )

    def _code(self, delta: NDArray[Any], loss: float) -> NDArray[np.float64] | None:
        """The code of an update; None where it counts as zero."""
        import numpy as np

        if not (math.isfinite(loss) and bool((np.abs(delta) <= LARGEST).all())):
            return None
        try:
            code = self._codec.encode(delta.astype(np.float32, copy=False))
        except InvalidArgumentError:  # the length is right, so it is the numbers
            return None
        wide = code.astype(np.float64)
        if not bool((np.abs(wide) <= LARGEST).all()):
            return None
        self._updates += delta
        return wide

    def _digest(self, hidden: NDArray[Any]) -> bytes:
        """One value under two amounts of the same noise would be given away."""
        plan = self._protection
        scale = [plan.noise_std, plan.clip_norm, plan.mechanism, plan.granularity]
        if self._rule is not None:
            scale += [self.shares, self._rule.clip_norm]
        return hashlib.sha256(hidden.tobytes() + repr(scale).encode()).digest()

    def _add(self, client: int, code: NDArray[np.float64] | None) -> None:
        import numpy as np

        if code is None:
            self._zeroed += 1
            code = np.zeros(self._codec.code_length)
        self._codes += code
        self._norms.append(float(np.linalg.norm(code)))
        if self._integers is not None:
            self._add_integers(client, code, self._integers)
            return
        value = code
        if self._mechanism is not None:
            bounded = self._mechanism.bounded(code)
            value = np.asarray(bounded.value, dtype=np.float64)
            if self._rule is not None:
                self.shares += self._rule.share(bounded)
        if self._mechanism is not None and not self._central:
            source = self._randomness.source(
                "message", self._round, client, self._digest(value)
            )
            value = np.asarray(self._mechanism.release(value, source))
        if not self._central:
            self._messages.append((client, value))
        if self.gathered is not None:
            self.gathered.add(value)
        self.sum += value

    def _add_integers(
        self,
        client: int,
        code: NDArray[np.float64],
        mechanism: DiscreteGaussianMechanism | SkellamMechanism,
    ) -> None:
        """Rounded on the grid, with a share of noise where noise comes in shares.

        Roundings are keyed by the code, so that a round that is computed again
        rounds the same code alike.
        """

        def source(purpose: str) -> NoiseSource:
            digest = self._digest(code)
            return self._randomness.source(purpose, self._round, client, digest)

        rounding = source("rounding")
        if self._central:
            self.sum += mechanism.aggregation.grid.rounded(code, rounding).value
            return
        from drdp.mechanisms.modular import known_bits, secure_sum

        sent = message(mechanism, code, rounding=rounding, noise=source("message"))
        if self._messages.maxlen != 0:
            self._messages.append((client, code_of_sum(mechanism, sent)))
        self.sum = secure_sum([self.sum, sent], known_bits(mechanism.bits or 0))


LARGEST = 1e30
"""Of a number in an update or a code; beyond it float32 sums of squares overflow."""


def _cosine(one: NDArray[Any], other: NDArray[Any]) -> float:
    import numpy as np

    norms = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    return float(np.dot(one, other)) / norms if norms > 0.0 else 0.0
