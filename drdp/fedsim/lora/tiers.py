"""Which model computes many clients' gradients: packed, or any architecture."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from drdp.errors import InvalidArgumentError
from drdp.fedsim.local import LoraShape, Precision
from drdp.fedsim.lora.layout import Layout
from drdp.fedsim.lora.llama_weights import why_not_packed
from drdp.fedsim.lora.packed import PackedLlama
from drdp.fedsim.lora.packing import Batch
from drdp.fedsim.lora.scoring import prefers_bfloat16
from drdp.fedsim.lora.stack import StackedModel

__all__ = ["ClientGradients", "Tier", "gradients_of"]

Tier: TypeAlias = Literal["auto", "packed", "any"]


class ClientGradients(Protocol):
    """A model that gives the gradients of many clients in one pass.

    `StackedModel` and `PackedLlama` are the two.
    """

    tier: str
    layout: Layout
    device: torch.device

    def gradients(self, parameters: Tensor, batch: Batch, out: Tensor) -> Tensor:
        """Write every client's gradient of its mean loss; return the losses."""
        ...

    def losses(self, parameters: Tensor, batch: Batch) -> Tensor:
        """Every client's mean loss."""
        ...

    def memory(self, rows: int, length: int) -> int:
        """Bytes that one client's pass over `rows` of `length` tokens keeps."""
        ...


def gradients_of(
    model: nn.Module,
    shape: LoraShape,
    *,
    tier: Tier = "auto",
    precision: Precision = "auto",
    checkpointing: bool = False,
) -> ClientGradients:
    """The fitting model for many clients' gradients.

    Args:
        model: A causal model of transformers without an adapter; it is left as it
            is.
        shape: The adapters; their frozen factors are drawn from its seed.
        tier: ``"auto"`` packs where it can.
        precision: ``"auto"`` takes bfloat16 where it is faster.
        checkpointing: Whether to compute blocks again on the way back; only
            ``"any"`` can.

    Raises:
        InvalidArgumentError: The tier is unknown or does not fit the model.
    """
    if tier not in {"auto", "packed", "any"}:
        raise InvalidArgumentError(
            f"tier must be 'auto', 'packed' or 'any', got {tier!r}"
        )
    if tier == "packed" and checkpointing:
        raise InvalidArgumentError("checkpointing needs tier 'any', got 'packed'")
    layout = Layout.of(model, shape)
    frozen = torch.from_numpy(layout.drawn(shape.seed)[1])
    bf16 = precision == "bfloat16" or (precision == "auto" and prefers_bfloat16(model))
    fits = not why_not_packed(model) and not checkpointing
    if tier == "packed" or (tier == "auto" and fits):
        return PackedLlama(model, layout, frozen=frozen, bf16=bf16)
    return StackedModel(
        model, layout, frozen=frozen, bf16=bf16, checkpointing=checkpointing
    )
