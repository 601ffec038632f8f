"""One batch's way through a packed Llama and back, written by hand.

Queries, keys and values are one product, gate and up another; the last layer
computes what response tokens need only.  Elementwise work goes through blocks of
tokens that stay in a core's cache.  Norms keep their output alone: with
y = x / rms(x) the gradient of x is (g - y mean(g y)) / rms(x).
"""

from __future__ import annotations

from typing import Final, final

import torch
from torch import Tensor

from drdp.fedsim.lora.grouped import Attention
from drdp.fedsim.lora.llama_weights import LlamaWeights
from drdp.fedsim.lora.packing import Packing, Split
from drdp.fedsim.lora.response_loss import response_loss
from drdp.fedsim.lora.room import Room

__all__ = ["LlamaPass"]

_CACHED: Final = 1 << 17  # values of a tensor that stay in a core's cache


@final
class LlamaPass:
    """Losses, and gradients if wanted, of one packed batch.

    Args:
        weights: The model, its factors loaded.
        packing: The batch.
        room: Where buffers come from; a second pass overwrites the first.
    """

    def __init__(self, weights: LlamaWeights, packing: Packing, room: Room) -> None:
        self._weights, self._packing, self._room = weights, packing, room
        self._attention = Attention(
            packing, weights.shape, room, weights.dtype, weights.theta
        )
        self._last = len(weights.layers) - 1
        shape = weights.shape
        homes = packing.outputs_home.view(-1, shape.groups * shape.queries)
        # The last layer's outputs are wanted where tokens are predicted only.
        self._response_home = homes[packing.response].reshape(-1)
        self._cached = _CACHED if packing.tokens.device.type == "cpu" else 1 << 62

    def losses(self) -> Tensor:
        """Every client's mean loss."""
        return self._means(self._each(self._forward(), weigh=False))

    def gradients(self, out: Tensor) -> Tensor:
        """Every client's mean loss; all of `out`, (clients, n), is overwritten."""
        hidden = self._forward()
        each = self._each(hidden, weigh=True)
        flow = self._new("flow", *hidden.shape).zero_()
        self._norm_back("final", hidden, flow)
        for i in range(self._last, -1, -1):
            self._second_back(i, flow, out)
            flow = self._first_back(i, flow, out)
        return self._means(each)

    def _each(self, hidden: Tensor, *, weigh: bool) -> Tensor:
        """The predicting tokens' losses; weighed, `hidden` turns to its gradient."""
        if weigh:  # the last norm's output is wanted once more
            kept = self._take("final kept", *hidden.shape)
            kept.copy_(hidden)
        return response_loss(
            hidden,
            self._weights.head,
            self._packing.targets,
            self._packing.weights if weigh else None,
            self._room,
        )

    def _means(self, each: Tensor) -> Tensor:
        packing = self._packing
        means = each.new_zeros(len(packing.split.counts))
        return means.index_add_(0, packing.owners, each * packing.weights.to(each))

    def _half(self, i: int) -> tuple[Split, Tensor]:
        """The tokens of layer i's second half, and their outputs of attention."""
        if i == self._last:
            return self._packing.response_split, self._response_home
        return self._packing.split, self._packing.outputs_home

    # --- forward ---------------------------------------------------------------

    def _forward(self) -> Tensor:
        """What the output layer reads at the response tokens."""
        weights, packing = self._weights, self._packing
        x = self._new("stream", len(packing.tokens), weights.embedding.shape[1])
        x.copy_(weights.embedding[packing.tokens])
        y = self._normed("first 0", x, None)
        for i, layer in enumerate(weights.layers):
            mixed = self._attended(i, y)
            if i == self._last:
                x = x.index_select(0, packing.response)
            split, _ = self._half(i)
            out = self._take("out", *x.shape)
            _linear(mixed, layer.mix, layer.mix_bias, out)
            if layer.to_mix is not None:
                layer.to_mix.forward(mixed, out, split)
            y = self._normed(f"second {i}", x, out)
            gates = self._take(f"gates {i}", len(y), len(layer.gates))
            _linear(y, layer.gates, None, gates)
            if layer.to_gates is not None:
                layer.to_gates.forward(y, gates, split)
            inner = self._inner(gates)
            _linear(inner, layer.down, None, out)
            if layer.to_down is not None:
                layer.to_down.forward(inner, out, split)
            y = self._normed("final" if i == self._last else f"first {i + 1}", x, out)
        return y

    def _attended(self, i: int, y: Tensor) -> Tensor:
        """What attention gives to the tokens of the layer's second half."""
        layer, shape = self._weights.layers[i], self._weights.shape
        _, home = self._half(i)
        heads = self._take("heads", len(y) + 1, len(layer.heads))
        heads[-1].zero_()
        _linear(y, layer.heads, layer.heads_bias, heads[:-1])
        if layer.to_heads is not None:
            layer.to_heads.forward(y, heads[:-1], self._packing.split)
        grouped = heads.view(-1, shape.groups, shape.members, shape.width)
        self._attention.turn(grouped[:-1])
        mixed = self._take(f"mixed {i}", len(home), shape.width)
        self._attention.forward(i, grouped, home, mixed)
        return mixed.view(-1, layer.mix.shape[1])

    def _inner(self, gates: Tensor) -> Tensor:
        """silu(gate) * up."""
        gate, up = gates.chunk(2, 1)
        inner = self._take("inner", *gate.shape)
        for part in self._blocks(inner):
            torch.ops.aten.silu.out(gate[part], out=inner[part])
            inner[part].mul_(up[part])
        return inner

    def _normed(self, name: str, x: Tensor, add: Tensor | None) -> Tensor:
        """Add to the stream in place, then divide by its root mean square."""
        y = self._take(f"{name} normed", *x.shape)
        rate = self._new(f"{name} rate", len(x), 1)
        same = y.dtype is x.dtype
        for part in self._blocks(x):
            own = x[part]
            scaled = y[part] if same else self._new("scaled", *own.shape)
            if add is not None:
                own.add_(add[part] if same else scaled.copy_(add[part]))
            size = torch.linalg.vector_norm(own, dim=1, keepdim=True)
            size.square_().div_(x.shape[1]).add_(self._weights.eps)
            torch.rsqrt(size, out=rate[part])
            torch.mul(own, rate[part], out=scaled)
            if not same:
                y[part].copy_(scaled)
        return y

    # --- and back --------------------------------------------------------------

    def _second_back(self, i: int, flow: Tensor, out: Tensor) -> None:
        """Gradients of a layer's second half; `flow` becomes that of its input."""
        layer = self._weights.layers[i]
        split, _ = self._half(i)
        down = self._cast(flow)
        gates = self._take(f"gates {i}", len(flow), len(layer.gates))
        inner = self._take("to inner", len(flow), layer.down.shape[1])
        torch.mm(down, layer.down, out=inner)
        if layer.to_down is not None:
            layer.to_down.backward(down, self._inner(gates), split, out, inner)
        to_gates = self._gates_back(gates, inner)
        to_y = self._take("to normed", *flow.shape)
        torch.mm(to_gates, layer.gates, out=to_y)
        if layer.to_gates is not None:
            y = self._take(f"second {i} normed", *flow.shape)
            layer.to_gates.backward(to_gates, y, split, out, to_y)
        self._norm_back(f"second {i}", to_y, flow)

    def _first_back(self, i: int, flow: Tensor, out: Tensor) -> Tensor:
        """Gradients of a layer's attention; returns the gradient of its input."""
        weights, packing = self._weights, self._packing
        layer, shape = weights.layers[i], weights.shape
        split, _ = self._half(i)
        total, width = len(packing.tokens), flow.shape[1]
        mix = self._cast(flow)
        to_mixed = self._take("to mixed", total + 1, layer.mix.shape[1])
        part = to_mixed[: len(flow)]
        if i == self._last:
            part = self._take("to last mixed", *part.shape)
        torch.mm(mix, layer.mix, out=part)
        if layer.to_mix is not None:
            mixed = self._take(f"mixed {i}", *part.shape)
            layer.to_mix.backward(mix, mixed, split, out, part)
        if i == self._last:
            to_mixed.zero_().index_copy_(0, packing.response, part)
            whole = self._new("whole flow", total, width).zero_()
            flow = whole.index_copy_(0, packing.response, flow)
        to_mixed[-1].zero_()
        to_heads = self._take("heads", total, len(layer.heads))
        grouped = to_heads.view(-1, shape.groups, shape.members, shape.width)
        self._attention.backward(i, to_mixed, grouped)
        self._attention.turn(grouped, back=True)
        # Nothing before the first layer is trained.
        to_y = self._take("to normed", total, width) if i else None
        if to_y is not None:
            torch.mm(to_heads, layer.heads, out=to_y)
        if layer.to_heads is not None:
            y = self._take(f"first {i} normed", total, width)
            layer.to_heads.backward(to_heads, y, packing.split, out, to_y)
        if to_y is not None:
            self._norm_back(f"first {i}", to_y, flow)
        return flow

    def _gates_back(self, gates: Tensor, grad: Tensor) -> Tensor:
        """The gradient of gate and up; `grad`, of silu(gate) * up, is spent."""
        gate, up = gates.chunk(2, 1)
        to_gates = self._take("to gates", *gates.shape)
        to_gate, to_up = to_gates.chunk(2, 1)
        for part in self._blocks(grad):
            own = grad[part]
            torch.ops.aten.silu.out(gate[part], out=to_up[part])
            to_up[part].mul_(own)
            own.mul_(up[part])
            torch.ops.aten.silu_backward.grad_input(
                own, gate[part], grad_input=to_gate[part]
            )
        return to_gates

    def _norm_back(self, name: str, grad: Tensor, flow: Tensor) -> None:
        """Add to `flow` the gradient of a norm's input."""
        kept = "final kept" if name == "final" else f"{name} normed"
        y = self._take(kept, *grad.shape)
        rate = self._new(f"{name} rate", len(grad), 1)
        same = grad.dtype is flow.dtype
        for part in self._blocks(flow):
            own, onto = grad[part], y[part]
            if not same:
                own = self._new("scaled", *own.shape).copy_(own)
                onto = self._new("onto", *own.shape).copy_(onto)
            both = torch.mul(own, onto, out=self._new("both", *own.shape))
            along = both.sum(1, keepdim=True).div_(flow.shape[1])
            own.addcmul_(onto, along, value=-1.0)
            flow[part].addcmul_(own, rate[part])

    def _blocks(self, x: Tensor) -> list[slice]:
        step = max(1, self._cached // x.shape[1])
        return [slice(start, start + step) for start in range(0, len(x), step)]

    def _cast(self, x: Tensor) -> Tensor:
        if x.dtype is self._weights.dtype:
            return x
        return self._take("cast", *x.shape).copy_(x)

    def _take(self, name: str, *shape: int) -> Tensor:
        return self._room.take(name, *shape, dtype=self._weights.dtype)

    def _new(self, name: str, *shape: int) -> Tensor:
        return self._room.take(name, *shape, dtype=self._weights.stream)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor) -> None:
    if bias is None:
        torch.mm(x, weight.T, out=out)
    else:
        torch.addmm(bias, x, weight.T, out=out)
