"""Tokenised examples, and which of their tokens are to be predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from drdp.errors import InvalidArgumentError

__all__ = ["IGNORED", "Batch", "Row"]

IGNORED = -100  # the label that Hugging Face models leave out of the loss


@final
@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One tokenised example.

    The loss of a row looks at the tokens whose label is not `IGNORED`; each is
    predicted from the tokens before it, so the label of the first token never
    counts.  Tokens after the last label are dropped: a causal model's loss does
    not depend on them.

    Args:
        input_ids: Token ids, shape (length,).
        labels: The same ids, or `IGNORED` where there is nothing to predict.

    Raises:
        InvalidArgumentError: The shapes differ, or no label counts.

    >>> row = Row(np.array([5, 6, 7, 8]), np.array([-100, -100, 7, -100]))
    >>> row.inputs.tolist(), row.targets.tolist()
    ([5, 6], [-100, 7])
    """

    input_ids: NDArray[np.int64]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        ids = np.asarray(self.input_ids, dtype=np.int64)
        labels = np.asarray(self.labels, dtype=np.int64)
        if ids.ndim != 1 or ids.shape != labels.shape:
            raise InvalidArgumentError(
                f"labels must have the shape of input_ids, got {labels.shape} for "
                f"{ids.shape}"
            )
        (counted,) = np.nonzero(labels[1:] != IGNORED)
        if not len(counted):
            raise InvalidArgumentError(
                "labels must mark at least one token after the first; all of the "
                f"{len(labels)} tokens are left out (was the response cut off?)"
            )
        last = int(counted[-1]) + 2
        object.__setattr__(self, "input_ids", ids[:last])
        object.__setattr__(self, "labels", labels[:last])

    @property
    def inputs(self) -> NDArray[np.int64]:
        """What the model reads: every token that something is predicted from."""
        return self.input_ids[:-1]

    @property
    def targets(self) -> NDArray[np.int64]:
        """What each of `inputs` has to predict, or `IGNORED`."""
        return self.labels[1:]

    @property
    def predicted(self) -> int:
        """How many tokens the loss looks at."""
        return int(np.count_nonzero(self.targets != IGNORED))


# The rows of one step, client by client.
Batch: TypeAlias = Sequence[Sequence[Row]]
