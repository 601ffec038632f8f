"""The cross entropy of the response tokens, and its gradient in the same pass."""

from __future__ import annotations

import torch
from torch import Tensor

from drdp.fedsim.lora.room import Room

__all__ = ["response_loss"]

_CHUNK = 256  # rows of logits at a time: a vocabulary of 49,152 takes 50 MB


def response_loss(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    weights: Tensor | None,
    room: Room,
) -> Tensor:
    """Each token's loss; `hidden` is overwritten by its gradient.

    Sums over the vocabulary are taken of exp(logit - max), which is ten times as
    exact in float32 as a difference of logarithms.

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
    for start in range(0, len(hidden), _CHUNK):
        own = hidden[start : start + _CHUNK]
        aims = targets[start : start + _CHUNK, None]
        rows = len(own)
        logits = room.take("logits", rows, vocabulary, dtype=hidden.dtype)
        torch.mm(own, head.T, out=logits)
        most = logits.amax(1, keepdim=True).to(wide)
        aimed = logits.gather(1, aims).to(wide) - most
        chances = room.take("chances", rows, vocabulary, dtype=wide)
        torch.sub(logits, most, out=chances)
        chances.exp_()
        total = chances.sum(1, keepdim=True)
        losses[start : start + rows] = (total.log() - aimed)[:, 0]
        if weights is None:
            continue
        share = weights[start : start + rows, None].to(wide)
        torch.mul(chances, share / total, out=logits)
        logits.scatter_add_(1, aims, -share.to(logits.dtype))
        torch.mm(logits, head, out=own)
    return losses
