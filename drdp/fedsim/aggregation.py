"""What a server makes of noised messages: which mean it takes, decoded when.

All of it is post-processing, but of different things.  The mean of the factors,
decoded after it was taken, needs the noised sum alone.  The mean of decoded
messages, and the mean of the products B A of each client's adapter, need every
message by itself; so each must have noise of its own, enough to be seen alone.
For a linear decoder both orders give the same, and the sum is enough.

Products of noised factors have the right mean, since the factors' noises are
independent, and more noise: see `product_error`.  Stacking the factors (FLoRA)
is the same mean as an adapter of as many ranks as there are clients; an adapter
of fixed rank keeps its best approximation, which is what ``"products"`` does.

References: Wang et al., arXiv:2409.05976 (FLoRA); Sun et al., arXiv:2403.12313
(why the mean of factors is not the mean of products).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, final

from drdp.errors import InvalidArgumentError, UnsoundThreatModelError
from drdp.fedsim.protection import MechanismName, Protection
from drdp.fedsim.server import Server
from drdp.privacy.threat import Placement, View

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from drdp.compression.layout import Layout
    from drdp.compression.protocol import Compressor
    from drdp.fedsim.config import ServerStep

__all__ = [
    "Aggregation",
    "DecodedMean",
    "Gathered",
    "Pair",
    "ProductMean",
    "aggregation_of",
    "pairs_of",
    "product_error",
]


@final
@dataclass(frozen=True, slots=True)
class Pair:
    """Where the two factors of one layer lie in a flat vector.

    Args:
        a: Where A begins.
        a_shape: (rank, inputs).
        b: Where B begins.
        b_shape: (outputs, rank).
    """

    a: int
    a_shape: tuple[int, int]
    b: int
    b_shape: tuple[int, int]

    def factors(self, flat: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """A and B as views of a flat vector."""
        a = flat[self.a : self.a + math.prod(self.a_shape)]
        b = flat[self.b : self.b + math.prod(self.b_shape)]
        return a.reshape(self.a_shape), b.reshape(self.b_shape)


def pairs_of(layout: Layout) -> tuple[Pair, ...]:
    """The factor pairs of an adapter.

    Raises:
        InvalidArgumentError: If a factor has no partner, as with A frozen.
    """
    slots = {slot.key: slot for slot in layout.slots}
    pairs = []
    for key, slot in slots.items():
        partner = slots.get(key.replace("lora_A", "lora_B"))
        if "lora_A" not in key or partner is None:
            continue
        (rank, inputs), (outputs, _) = slot.shape, partner.shape
        pairs.append(Pair(slot.offset, (rank, inputs), partner.offset, (outputs, rank)))
    if 2 * len(pairs) != len(slots):
        raise InvalidArgumentError(
            "server.aggregation products needs both factors of every layer; with"
            " lora.freeze_a the mean of B is the mean of products already: use factors"
        )
    return tuple(pairs)


@final
@dataclass(frozen=True, slots=True)
class Aggregation:
    """Which mean of a round's messages the server steps along.

    Args:
        decode: ``"after"`` the messages were summed, or ``"before"``.
        pairs: The factor pairs, for the mean of products; empty for that of
            factors.
    """

    decode: str = "after"
    pairs: tuple[Pair, ...] = ()

    def __post_init__(self) -> None:
        if self.decode not in ("after", "before"):
            raise InvalidArgumentError(
                f"decode must be after or before, got {self.decode!r}"
            )
        if self.pairs and self.decode == "after":
            raise InvalidArgumentError(
                "server.aggregation products needs server.decode before: a sum of"
                " messages does not tell any client's factors"
            )

    @property
    def by_message(self) -> bool:
        """Whether every message is looked at by itself."""
        return self.decode == "before"

    def check(self, protection: Protection, server: Server) -> None:
        """Refuse what no guarantee is stated for, and what makes no sense.

        Raises:
            UnsoundThreatModelError: If single messages would be used that have not
                enough noise, or none, of their own.
            InvalidArgumentError: If products are not simply taken over.
        """
        if self.pairs and (server.optimizer, server.learning_rate) != ("sgd", 1.0):
            raise InvalidArgumentError(
                "server.aggregation products sets the adapter to the mean of products,"
                " so it needs server.optimizer sgd with server.learning_rate 1 and no"
                " server.step_norm"
            )
        if self.by_message and protection.mechanism is not MechanismName.GAUSSIAN:
            raise InvalidArgumentError(
                "server.decode before needs privacy.mechanism gaussian, got"
                f" {protection.mechanism}: integer messages are decoded as a sum"
            )
        if not self.by_message or not protection.noisy:
            return
        if protection.placement is Placement.CENTRAL:
            raise UnsoundThreatModelError(
                "server.decode before uses every message by itself, but with placement"
                " central only their sum has noise; leave server.decode at after, which"
                " is the same for a linear decoder, or use placement local"
            )
        alone = protection.view is View.MESSAGES
        if protection.placement is Placement.DISTRIBUTED and not alone:
            raise UnsoundThreatModelError(
                "server.decode before uses every message by itself, but with placement"
                f" distributed and view {protection.view} the guarantee is about their"
                " sum, and one message has one share of the noise; use view messages or"
                " placement local, or leave server.decode at after"
            )

    def gathered(self, codec: Compressor, parameters: NDArray[Any]) -> Gathered | None:
        """What takes in a round's messages; None where their sum is enough."""
        if self.pairs:
            return ProductMean(codec, self.pairs, parameters)
        return DecodedMean(codec) if self.by_message else None


class Gathered(Protocol):
    """Takes in noised messages one by one, and gives the change they ask for."""

    def add(self, message: NDArray[np.float64]) -> None:
        """One more message."""
        ...

    def change(self, size: float) -> NDArray[np.float64]:
        """The change of the parameters, for a public size of a cohort."""
        ...


@final
class DecodedMean:
    """The mean of decoded messages.

    Args:
        codec: Decodes them.
    """

    def __init__(self, codec: Compressor) -> None:
        import numpy as np

        self._codec, self._sum = codec, np.zeros(codec.update_length)

    def add(self, message: NDArray[np.float64]) -> None:
        """One more message."""
        self._sum += self._codec.decode(message)

    def change(self, size: float) -> NDArray[np.float64]:
        """Their sum, divided by the public size of a cohort."""
        return self._sum / size


@final
class ProductMean:
    """The mean of clients' products B A, as factors of the rank that there is.

    Args:
        codec: Decodes messages to changes of the factors.
        pairs: Where the factors are.
        parameters: The factors that clients began with.

    Guarantees:
        The mean is ``B A + (1/size) sum ((B + dB_i)(A + dA_i) - B A)``; where its
        rank is no more than the adapter's, the new factors' product is that mean.
        Otherwise it is the closest one of that rank in Frobenius norm.

    Memory grows with the cohort: one decoded update for each message.
    """

    def __init__(
        self, codec: Compressor, pairs: tuple[Pair, ...], parameters: NDArray[Any]
    ) -> None:
        import numpy as np

        self._codec, self._pairs = codec, pairs
        self._start = np.asarray(parameters, dtype=np.float64)
        self._updates: list[NDArray[np.float32]] = []

    def add(self, message: NDArray[np.float64]) -> None:
        """One more message."""
        self._updates.append(self._codec.decode(message))

    def change(self, size: float) -> NDArray[np.float64]:
        """New factors minus old ones."""
        import numpy as np

        found = self._start.copy()
        for pair in self._pairs:
            a, b = pair.factors(self._start)
            moved = [pair.factors(self._start + one) for one in self._updates]
            # The stack of all factors: its product is the mean of products.
            left = np.hstack(
                [b * (1.0 - len(moved) / size), *(one / size for _, one in moved)]
            )
            right = np.vstack([a, *(one for one, _ in moved)])
            new_a, new_b = pair.factors(found)
            new_a[:], new_b[:] = _nearest(left, right, len(a), _size_of_row(a))
        return found - self._start


def product_error(
    a: NDArray[Any], b: NDArray[Any], noise_a: float, noise_b: float
) -> float:
    """Expected squared Frobenius norm of the noise in a product of noised factors.

    Args:
        a: A, shape (rank, inputs).
        b: B, shape (outputs, rank).
        noise_a: Standard deviation of the noise on each number of A.
        noise_b: The same for B, independent of it.

    Returns:
        ``outputs s_B^2 ||A||^2 + inputs s_A^2 ||B||^2
        + outputs inputs rank s_A^2 s_B^2``; the last part grows with the fourth
        power of the noise.

    >>> import numpy as np
    >>> product_error(np.ones((1, 2)), np.ones((3, 1)), 0.5, 0.1)
    1.575
    """
    rank, inputs = a.shape
    outputs = b.shape[0]
    on_a, on_b = noise_a * noise_a, noise_b * noise_b
    single = outputs * on_b * float((a * a).sum()) + inputs * on_a * float(
        (b * b).sum()
    )
    return float(single + outputs * inputs * rank * on_a * on_b)


def aggregation_of(server: ServerStep, layout: Layout) -> Aggregation:
    """What settings ask for."""
    products = server.aggregation == "products"
    return Aggregation(server.decode, pairs_of(layout) if products else ())


def _size_of_row(a: NDArray[Any]) -> float:
    import numpy as np

    return float(np.linalg.norm(a)) / math.sqrt(len(a)) or 1.0


def _nearest(
    left: NDArray[Any], right: NDArray[Any], rank: int, row: float
) -> tuple[NDArray[Any], NDArray[Any]]:
    """A and B of that rank, nearest to ``left @ right``; rows of A have norm `row`.

    So A stays as large as it was, and local learning rates keep their meaning.
    """
    import numpy as np

    one, upper = np.linalg.qr(left)
    other, lower = np.linalg.qr(right.T)
    u, values, v = np.linalg.svd(upper @ lower.T, full_matrices=False)
    a = np.zeros((rank, right.shape[1]))
    b = np.zeros((left.shape[0], rank))
    kept = min(rank, len(values))
    a[:kept] = row * (other @ v[:kept].T).T
    b[:, :kept] = one @ (u[:, :kept] * values[:kept]) / row
    return a, b
