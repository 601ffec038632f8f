"""Exact per-example gradients of one adapter, and their clipped sum, in one pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import torch

from drdp import _check
from drdp.errors import InvalidArgumentError
from drdp.fedsim.examples import Example
from drdp.fedsim.lora.tiers import ClientGradients

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ClippedSum", "clipped_sum", "per_example_gradients"]

_MOST_TOGETHER: Final = 256


class ClippedSum(NamedTuple):
    """A sum of per-example gradients, each clipped to a norm.

    Args:
        total: Flat float64; changes by at most the clip norm with one example.
        norms: Each example's gradient norm before clipping; private.
        losses: Each example's mean loss; private.
    """

    total: NDArray[np.float64]
    norms: NDArray[np.float64]
    losses: NDArray[np.float64]


def per_example_gradients(
    model: ClientGradients,
    parameters: NDArray[np.float32],
    examples: Sequence[Example],
    *,
    memory: float = 4e9,
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """The gradient of each example's own mean loss, some examples at a time.

    Each example is a client of one row; the adapter that all share is not copied.
    One pass costs about as much as that of the plain, summed gradient.

    Args:
        model: The model with the adapter's layout.
        parameters: The adapter, flat.
        examples: In any number.
        memory: Bytes a pass may use beside the model, about.

    Yields:
        Losses, shape (b,), and gradients, shape (b, n), of the next examples; the
        arrays are overwritten by the next step.

    Raises:
        InvalidArgumentError: The parameters have another length.
    """
    memory = _check.positive(memory=memory)
    length = model.layout.length
    if parameters.shape != (length,):
        raise InvalidArgumentError(
            f"parameters must have shape ({length},), got {parameters.shape}"
        )
    own = torch.from_numpy(np.asarray(parameters, dtype=np.float32))
    own = own[None].to(model.device)
    start = 0
    room = own.new_empty(0, length)
    while start < len(examples):
        stop, needed = start, 0
        while stop < len(examples) and stop < start + _MOST_TOGETHER:
            needed += model.memory(1, len(examples[stop]))
            if stop > start and needed > memory:
                break
            stop += 1
        if len(room) < stop - start:
            room = own.new_empty(stop - start, length)
        out = room[: stop - start]
        losses = model.gradients(own, [[one] for one in examples[start:stop]], out)
        yield losses.float().cpu().numpy(), out.cpu().numpy()
        start = stop


def clipped_sum(
    model: ClientGradients,
    parameters: NDArray[np.float32],
    examples: Sequence[Example],
    *,
    clip_norm: float,
    memory: float = 4e9,
) -> ClippedSum:
    """The sum over examples of g min(1, clip_norm / |g|): DP-SGD before its noise.

    Norms are of the float32 gradients, taken in float64, and what is added is scaled
    in float64, so that the bound holds up to float64 rounding.

    Args:
        model: The model with the adapter's layout.
        parameters: The adapter, flat.
        examples: The sampled examples; may be empty.
        clip_norm: The largest norm of one example's part.
        memory: Bytes a pass may use beside the model, about; the sum needs no
            more for more examples.

    A gradient that is not finite counts as zero; its norm says so, to the operator.

    References: Abadi et al. 2016, arXiv:1607.00133, Algorithm 1.
    """
    clip_norm = _check.positive(clip_norm=clip_norm)
    total = np.zeros(model.layout.length)
    norms, losses = [np.zeros(0)], [np.zeros(0)]
    for means, gradients in per_example_gradients(
        model, parameters, examples, memory=memory
    ):
        for gradient in gradients:
            wide = gradient.astype(np.float64)
            norm = float(np.linalg.norm(wide))
            if np.isfinite(norm):
                total += wide * min(1.0, clip_norm / max(norm, 1e-300))
            norms.append(np.array([norm]))
        losses.append(means.astype(np.float64))
    return ClippedSum(total, np.concatenate(norms), np.concatenate(losses))
