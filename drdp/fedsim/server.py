"""What the server does with a decoded mean update: plain, momentum or Adam steps.

Everything here is post-processing of what was released.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from drdp import _check
from drdp.errors import InvalidArgumentError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["OPTIMIZERS", "Server"]

OPTIMIZERS = ("sgd", "momentum", "adam")


@final
@dataclass(frozen=True, slots=True)
class Server:
    """Steps along mean updates.

    Args:
        optimizer: ``"sgd"``, ``"momentum"`` or ``"adam"``.
        learning_rate: Factor of the mean update; 1 with ``"sgd"`` is federated
            averaging.
        momentum: Share of the last direction that is kept.
        second: Adam's decay of squares.
        floor: Adam's epsilon.

    References: Reddi et al., arXiv:2003.00295.

    >>> import numpy as np
    >>> server = Server("momentum", learning_rate=0.5, momentum=0.9)
    >>> memory = server.start(2)
    >>> at = np.zeros(2)
    >>> for _ in range(2):
    ...     at, memory = server.step(at, np.array([1.0, -1.0]), memory)
    >>> at
    array([ 1.45, -1.45])
    """

    optimizer: str = "sgd"
    learning_rate: float = 1.0
    momentum: float = 0.9
    second: float = 0.99
    floor: float = 1e-3

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            known = ", ".join(OPTIMIZERS)
            raise InvalidArgumentError(
                f"optimizer must be one of {known}, got {self.optimizer!r}"
            )
        _check.positive(learning_rate=self.learning_rate)
        _check.rate(momentum=self.momentum)
        _check.rate(second=self.second)
        _check.positive(floor=self.floor)

    def start(self, length: int) -> dict[str, NDArray[np.float64]]:
        """The memory before the first step."""
        import numpy as np

        names = {"sgd": (), "momentum": ("first",), "adam": ("first", "square")}
        return {name: np.zeros(length) for name in names[self.optimizer]}

    def step(
        self,
        parameters: NDArray[np.float64],
        update: NDArray[np.floating],
        memory: Mapping[str, NDArray[np.float64]],
    ) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
        """The next parameters and memory; the arguments stay as they are.

        Args:
            parameters: Flat, float64.
            update: The decoded mean update, same shape: a direction to go in.
            memory: From `start` or the last step.
        """
        import numpy as np

        change = np.asarray(update, dtype=np.float64)
        if self.optimizer == "sgd":
            return parameters + self.learning_rate * change, {}
        if self.optimizer == "momentum":
            first = self.momentum * memory["first"] + change
            return parameters + self.learning_rate * first, {"first": first}
        first = self.momentum * memory["first"] + (1.0 - self.momentum) * change
        square = self.second * memory["square"] + (1.0 - self.second) * change**2
        step = first / (np.sqrt(square) + self.floor)
        return (
            parameters + self.learning_rate * step,
            {"first": first, "square": square},
        )
