"""LoRA factors of every client beside one fused linear layer of packed tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from drdp.fedsim.lora.layout import Layout, Place
from drdp.fedsim.lora.packing import Split
from drdp.fedsim.lora.room import Room

__all__ = ["FusedFactors", "Member"]

Member = tuple[Place, Tensor]  # an adapted layer, and its columns in the fused output


@final
class FusedFactors:
    """The factors of the layers that were fused into one, for all clients.

    Layers that read the same input share one product with all their A stacked;
    B is block diagonal.  Clients with equally many tokens go through batched
    products, others one by one.

    Args:
        name: Where buffers are kept.
        members: The adapted ones among the fused layers.
        outputs: Width of the fused output.
        layout: The layout of the flat parameters.
        room: Where buffers come from.
        dtype: What is computed in.
        gain: A weight of each input that the fused layer has multiplied in, and
            A has to have as well, shape (inputs,).
    """

    def __init__(
        self,
        name: str,
        members: Sequence[Member],
        outputs: int,
        layout: Layout,
        room: Room,
        dtype: torch.dtype,
        *,
        gain: Tensor | None = None,
    ) -> None:
        self._gain = gain
        self._name, self._members, self._outputs = name, members, outputs
        self._layout, self._room, self._dtype = layout, room, dtype
        self._depth = layout.rank * len(members)
        self._a = self._b = torch.empty(0)

    def load(self, parameters: Tensor, frozen: Tensor) -> None:
        """Copy the factors of all clients, or those that all of them share."""
        layout, rank, alike = self._layout, self._layout.rank, len(parameters)
        home = frozen if layout.freeze_a else parameters
        inputs = self._members[0][0].inputs
        self._a = self._take("a", len(home), self._depth, inputs)
        self._b = self._take("b", alike, self._depth, self._outputs).zero_()
        for i, (place, columns) in enumerate(self._members):
            block = slice(i * rank, (i + 1) * rank)
            a = layout.a(home, place)
            self._a[:, block].copy_(a if self._gain is None else a * self._gain)
            scaled = layout.b(parameters, place).transpose(1, 2) * layout.scale
            self._b[:, block].index_copy_(2, columns, scaled.to(self._dtype))

    def forward(self, x: Tensor, out: Tensor, split: Split) -> None:
        """Add the adapters' part to `out`, (tokens, outputs), and keep A x."""
        low = self._take("low", len(x), self._depth)
        clients = len(split.counts)
        if len(self._a) == 1:
            torch.mm(x, self._a[0].T, out=low)
        elif split.equal:
            torch.bmm(_by(x, clients), self._a.transpose(1, 2), out=_by(low, clients))
        else:
            for k, (start, stop) in enumerate(split.spans()):
                torch.mm(x[start:stop], self._a[k].T, out=low[start:stop])
        self._add(low, self._b, split, out)

    def backward(
        self,
        grad: Tensor,
        x: Tensor,
        split: Split,
        gradients: Tensor,
        to_x: Tensor | None,
    ) -> None:
        """Write the factors' gradients, and add to the gradient of the input.

        Args:
            grad: The gradient of the fused output, (tokens, outputs).
            x: The fused layer's input.
            split: The tokens of each client.
            gradients: Shape (clients, layout.length); the places of these
                factors are overwritten.
            to_x: The gradient of the input, to which this part is added.
        """
        clients, depth = len(split.counts), self._depth
        low = self._take("low", len(x), depth)
        back = self._spare("back", len(x), depth)
        to_b = self._spare("to b", clients, depth, self._outputs)
        to_a = None
        if not self._layout.freeze_a:
            to_a = self._spare("to a", clients, depth, x.shape[1])
        alike = len(self._b) == 1
        if alike:
            torch.mm(grad, self._b[0].T, out=back)
        if split.equal:
            own_grad, own_back = _by(grad, clients), _by(back, clients)
            if not alike:
                torch.bmm(own_grad, self._b.transpose(1, 2), out=own_back)
            torch.bmm(_by(low, clients).transpose(1, 2), own_grad, out=to_b)
            if to_a is not None:
                torch.bmm(own_back.transpose(1, 2), _by(x, clients), out=to_a)
        else:
            for k, (start, stop) in enumerate(split.spans()):
                own_grad, own_back = grad[start:stop], back[start:stop]
                if not alike:
                    torch.mm(own_grad, self._b[k].T, out=own_back)
                torch.mm(low[start:stop].T, own_grad, out=to_b[k])
                if to_a is not None:
                    torch.mm(own_back.T, x[start:stop], out=to_a[k])
        if to_x is not None:
            self._add(back, self._a, split, to_x)
        self._store(gradients, to_a, to_b)

    def _add(self, low: Tensor, factors: Tensor, split: Split, out: Tensor) -> None:
        """Add every client's tokens times its factors."""
        clients = len(split.counts)
        if len(factors) == 1:
            out.addmm_(low, factors[0])
        elif split.equal:
            _by(out, clients).baddbmm_(_by(low, clients), factors)
        else:
            for k, (start, stop) in enumerate(split.spans()):
                out[start:stop].addmm_(low[start:stop], factors[k])

    def _store(self, gradients: Tensor, to_a: Tensor | None, to_b: Tensor) -> None:
        layout, rank = self._layout, self._layout.rank
        for i, (place, columns) in enumerate(self._members):
            block = slice(i * rank, (i + 1) * rank)
            if to_a is not None:
                own = layout.a(gradients, place).copy_(to_a[:, block])
                if self._gain is not None:
                    own.mul_(self._gain)
            own = to_b[:, block].index_select(2, columns).to(gradients.dtype)
            layout.b(gradients, place).copy_(own.transpose(1, 2).mul_(layout.scale))

    def _spare(self, name: str, *shape: int) -> Tensor:
        """A buffer for the moment, the same for all layers."""
        return self._room.take(name, *shape, dtype=self._dtype)

    def _take(self, name: str, *shape: int) -> Tensor:
        return self._room.take(f"{self._name} {name}", *shape, dtype=self._dtype)


def _by(x: Tensor, clients: int) -> Tensor:
    return x.view(clients, -1, x.shape[-1])
