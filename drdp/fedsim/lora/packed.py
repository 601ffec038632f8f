"""A Llama that runs many clients' adapters on packed rows in one pass."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from drdp.fedsim.lora.layout import Layout
from drdp.fedsim.lora.llama_pass import LlamaPass
from drdp.fedsim.lora.llama_weights import LlamaWeights
from drdp.fedsim.lora.packing import Batch, Packing
from drdp.fedsim.lora.room import Room

__all__ = ["PackedLlama"]


@final
class PackedLlama:
    """Many clients' losses and gradients in one pass over packed rows.

    Holds weights of its own; the model it is made from is left as it was.

    Args:
        model: A `LlamaForCausalLM`, or a `Qwen2ForCausalLM` without windows.
        layout: Which of its linear layers have adapters.
        frozen: The frozen factors where only B is trained.
        bf16: Whether to store weights and compute products in bfloat16; the
            residual stream, norms, loss and gradients stay float32.
        share_beginnings: Whether the tokens that all rows of a client's step
            begin with are computed once (exact; see `packing`).

    Guarantees:
        Row k of the gradients depends on row k of the parameters and on the rows
        of client k; other clients change it by rounding only.

    Raises:
        InvalidArgumentError: The model is of another kind; the message says in
            what.  `StackedModel` takes any.
    """

    tier = "packed"

    def __init__(
        self,
        model: nn.Module,
        layout: Layout,
        *,
        frozen: Tensor | None = None,
        bf16: bool = False,
        share_beginnings: bool = True,
    ) -> None:
        self.layout, self.device = layout, next(model.parameters()).device
        self._share = share_beginnings
        self._room = Room(self.device)
        self._weights = LlamaWeights(model, layout, self._room, bf16=bf16)
        none = torch.zeros(1, layout.frozen_length)
        self._frozen = (none if frozen is None else frozen[None]).to(self.device)

    def gradients(self, parameters: Tensor, batch: Batch, out: Tensor) -> Tensor:
        """Every client's gradient of its own mean loss.

        Args:
            parameters: Shape (clients, layout.length), or (1, layout.length) if
                all have the same.
            batch: The rows of each client, in the same order.
            out: Where the gradients go, shape (clients, layout.length).

        Returns:
            The mean losses, shape (clients,).
        """
        with torch.inference_mode():
            return self._pass(parameters, batch).gradients(out)

    def losses(self, parameters: Tensor, batch: Batch) -> Tensor:
        """Every client's mean loss, shape (clients,), without a gradient."""
        with torch.inference_mode():
            return self._pass(parameters, batch).losses()

    def memory(self, rows: int, length: int) -> int:
        """Bytes that one client's pass keeps, about, for `rows` of `length`."""
        weights = self._weights
        shape, hidden = weights.shape, weights.embedding.shape[1]
        queries = shape.groups * shape.queries
        values = 2 * hidden + 2 * weights.inner + queries * length
        values += shape.width * (2 * queries + 2 * shape.groups)
        values *= len(weights.layers)
        values += 8 * (hidden + weights.inner)  # buffers that all layers use
        kept = rows * length * values * weights.dtype.itemsize
        return kept + 16 * self.layout.length

    def _pass(self, parameters: Tensor, batch: Batch) -> LlamaPass:
        weights = self._weights
        packing = Packing.of(batch, weights.shape, self.device, share=self._share)
        for layer in weights.layers:
            for factors in layer.factors():
                factors.load(parameters, self._frozen)
        return LlamaPass(weights, packing, self._room)
