"""Held-out loss with what a comparison of two models needs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, final

from drdp.errors import InvalidArgumentError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Difference", "HeldOutLoss", "paired_difference"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class HeldOutLoss:
    """The loss of each held-out response.

    Args:
        sums: Summed negative log-likelihood of each example's response, in nats.
        tokens: How many tokens each response has.

    >>> import numpy as np
    >>> loss = HeldOutLoss(np.array([2.0, 4.0]), np.array([1, 2]))
    >>> loss.mean, loss.per_example.tolist(), round(loss.perplexity, 3)
    (2.0, [2.0, 2.0], 7.389)
    """

    sums: NDArray[np.float64]
    tokens: NDArray[np.int64]

    @property
    def mean(self) -> float:
        """Nats per response token: every token counts the same."""
        return float(self.sums.sum() / self.tokens.sum())

    @property
    def perplexity(self) -> float:
        """exp of the mean."""
        return math.exp(min(self.mean, 700.0))

    @property
    def per_example(self) -> NDArray[np.float64]:
        """Nats per token of each example."""
        return self.sums / self.tokens

    @property
    def standard_error(self) -> float:
        """Of the mean, over the choice of examples."""
        return _ratio_error(self.sums, self.tokens, self.mean)


class Difference(NamedTuple):
    """One mean loss minus another, and its standard error over paired examples."""

    value: float
    standard_error: float


def paired_difference(new: HeldOutLoss, old: HeldOutLoss) -> Difference:
    """How much the mean loss changed, measured on the same examples.

    The standard error is that of a ratio of sums over examples, of the first order
    (the delta method); pairing takes out what both models find hard.

    Raises:
        InvalidArgumentError: The two were not measured on the same examples.

    References: Cochran, Sampling Techniques (1977), section 6.4.

    >>> import numpy as np
    >>> tokens = np.array([2, 2, 4])
    >>> old = HeldOutLoss(np.array([4.0, 6.0, 8.0]), tokens)
    >>> new = HeldOutLoss(np.array([3.0, 5.0, 6.0]), tokens)
    >>> paired_difference(new, old)
    Difference(value=-0.5, standard_error=0.0)
    """
    if new.tokens.shape != old.tokens.shape or (new.tokens != old.tokens).any():
        raise InvalidArgumentError("the losses must be of the same held-out examples")
    change = new.sums - old.sums
    value = float(change.sum() / old.tokens.sum())
    return Difference(value, _ratio_error(change, old.tokens, value))


def _ratio_error(
    sums: NDArray[np.float64], tokens: NDArray[np.int64], ratio: float
) -> float:
    count = len(sums)
    if count < 2:
        return math.inf
    spread = float(((sums - ratio * tokens) ** 2).sum()) * count / (count - 1)
    return math.sqrt(spread) / float(tokens.sum())
