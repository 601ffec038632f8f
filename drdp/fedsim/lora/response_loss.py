"""The cross entropy of the response tokens, and its gradient in the same pass."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from drdp.fedsim.lora.room import Room

__all__ = ["response_loss"]

_ROWS: Final = 256  # rows of logits at a time; 50 MB with a vocabulary of 49,152
_ROWS_GPU: Final = 2048  # which smaller products would leave idle
_CACHED: Final = 1 << 18  # logits that stay in a core's cache between operations


def response_loss(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    weights: Tensor | None,
    room: Room,
) -> Tensor:
    """Each token's loss; `hidden` is overwritten by its gradient.

    Sums over the vocabulary are taken of exp(logit - max), which is several
    times as exact in float32 as differences of logarithms.

    Args:
        hidden: What the output layer reads, shape (tokens, width).
        head: The output layer's weight, (vocabulary, width).
        targets: The tokens to predict, (tokens,).
        weights: What each token's loss counts, (tokens,); without them there is
            no gradient and `hidden` stays.
        room: Where buffers come from.

    Returns:
        Losses in at least float32, shape (tokens,).
    """
    wide = torch.promote_types(hidden.dtype, torch.float32)
    losses = torch.empty(len(hidden), dtype=wide, device=hidden.device)
    vocabulary = len(head)
    most_rows = cached = _ROWS_GPU
    if hidden.device.type == "cpu":
        most_rows, cached = _ROWS, max(1, _CACHED // vocabulary)
    for start in range(0, len(hidden), most_rows):
        own = hidden[start : start + most_rows]
        aims = targets[start : start + most_rows, None]
        rows = len(own)
        share = None
        if weights is not None:
            share = weights[start : start + rows, None].to(wide)
        logits = room.take("logits", rows, vocabulary, dtype=hidden.dtype)
        torch.mm(own, head.T, out=logits)
        aimed = logits.gather(1, aims).to(wide)
        for first in range(0, rows, cached):
            part = slice(first, first + cached)
            block = logits[part]
            most = block.amax(1, keepdim=True).to(wide)
            chances = room.take("chances", *block.shape, dtype=wide)
            chances.copy_(block).sub_(most).exp_()
            total = chances.sum(1, keepdim=True)
            each = total.log() - (aimed[part] - most)
            losses[start : start + rows][part] = each[:, 0]
            if share is not None:
                chances.mul_(share[part] / total)
                lines = torch.arange(len(block), device=block.device)
                chances[lines, aims[part, 0]] -= share[part, 0]
                block.copy_(chances)
        if share is not None:
            torch.mm(logits, head, out=own)
    return losses
