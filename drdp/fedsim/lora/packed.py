"""A Llama that runs many clients' adapters on packed rows, backward by hand.

No token is padded but inside attention; queries, keys and values are one
product, gate and up another; the last layer computes what response tokens need
only; activations lie in buffers that are used again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from drdp.errors import InvalidArgumentError
from drdp.fedsim.lora.fused import FusedFactors, Member
from drdp.fedsim.lora.grouped import Attention
from drdp.fedsim.lora.layout import Layout
from drdp.fedsim.lora.packing import Packing, Shape, Split
from drdp.fedsim.lora.response_loss import response_loss
from drdp.fedsim.lora.room import Room
from drdp.fedsim.lora.rows import Batch

__all__ = ["PackedLlama", "why_not_packed"]

_KINDS: Final = ("LlamaForCausalLM", "Qwen2ForCausalLM")


def why_not_packed(model: nn.Module) -> str:
    """What keeps a model from being packed, or an empty string."""
    config: Any = getattr(model, "config", None)
    if type(model).__name__ not in _KINDS:
        return f"it is a {type(model).__name__}, not one of {', '.join(_KINDS)}"
    rope = getattr(config, "rope_parameters", None) or {}
    settings = {
        "hidden_act": (config.hidden_act, "silu"),
        "rope type": (rope.get("rope_type", "default"), "default"),
        "attention_dropout": (config.attention_dropout, 0.0),
        "mlp_bias": (getattr(config, "mlp_bias", False), False),
        "use_sliding_window": (getattr(config, "use_sliding_window", False), False),
    }
    for name, (value, wanted) in settings.items():
        if value != wanted:
            return f"its {name} is {value!r}, not {wanted!r}"
    if any(
        p.dtype.itemsize < 2 or not p.is_floating_point() for p in model.parameters()
    ):
        return "its weights are quantised"
    return ""


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """One layer's weights, and the factors beside them."""

    heads: Tensor  # queries, keys and values, grouped by key-value head
    heads_bias: Tensor | None
    mix: Tensor
    mix_bias: Tensor | None
    gates: Tensor  # gate and up
    down: Tensor
    norm: Tensor
    second_norm: Tensor
    to_heads: FusedFactors | None
    to_mix: FusedFactors | None
    to_gates: FusedFactors | None
    to_down: FusedFactors | None

    def factors(self) -> list[FusedFactors]:
        """The factors that there are."""
        every = (self.to_heads, self.to_mix, self.to_gates, self.to_down)
        return [one for one in every if one is not None]


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

    def __init__(
        self,
        model: nn.Module,
        layout: Layout,
        *,
        frozen: Tensor | None = None,
        bf16: bool = False,
        share_beginnings: bool = True,
    ) -> None:
        if reason := why_not_packed(model):
            raise InvalidArgumentError(
                f"model can't be packed: {reason}; use StackedModel, which takes any"
            )
        config: Any = model.config
        first = next(model.parameters())
        self.layout, self.device = layout, first.device
        self._stream = torch.promote_types(first.dtype, torch.float32)
        self._dtype = torch.bfloat16 if bf16 else self._stream
        self._share = share_beginnings
        self._room = Room(self.device)
        self._eps = float(config.rms_norm_eps)
        self._theta = float(config.rope_parameters["rope_theta"])
        heads, groups = config.num_attention_heads, config.num_key_value_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // heads
        self._shape = Shape(groups, heads // groups, width)
        self._inner = int(config.intermediate_size)
        named = dict(model.named_parameters())
        self._embedding = named["model.embed_tokens.weight"].detach().to(self._dtype)
        head = named.get("lm_head.weight")
        self._head = self._embedding if head is None else head.detach().to(self._dtype)
        self._norm = named["model.norm.weight"].detach().to(self._stream)
        none = torch.zeros(1, layout.frozen_length)
        self._frozen = (none if frozen is None else frozen[None]).to(self.device)
        slots = {slot.module: slot for slot in layout.slots}
        self._layers = [
            self._layer(i, named, slots) for i in range(config.num_hidden_layers)
        ]
        if slots:
            raise InvalidArgumentError(
                f"targets must lie in the model's layers, got {', '.join(slots)}"
            )

    def gradients(self, parameters: Tensor, batch: Batch, out: Tensor) -> Tensor:
        """Every client's gradient of its own mean loss.

        Args:
            parameters: Shape (clients, layout.length).
            batch: The rows of each client, in the same order.
            out: Where the gradients go, the shape of `parameters`.

        Returns:
            The mean losses, shape (clients,).
        """
        with torch.inference_mode():
            return _Pass(self, parameters, batch).gradients(out)

    def losses(self, parameters: Tensor, batch: Batch) -> Tensor:
        """Every client's mean loss, shape (clients,), without a gradient."""
        with torch.inference_mode():
            return _Pass(self, parameters, batch).losses()

    def memory(self, rows: int, length: int) -> int:
        """Bytes that one client's pass keeps, about, for `rows` of `length`."""
        shape, layers = self._shape, len(self._layers)
        queries = shape.groups * shape.queries
        values = shape.width * (2 * queries + shape.groups * 2) + 2 * self._inner
        values += self._norm.numel() + queries * length
        size = values * self._dtype.itemsize + 8 * self._norm.numel()
        return rows * length * layers * size + 16 * self.layout.length

    def _layer(
        self, i: int, named: Mapping[str, Tensor], slots: dict[str, Any]
    ) -> _Layer:
        start = f"model.layers.{i}."
        shape = self._shape

        def weight(name: str, kind: str = "weight") -> Tensor | None:
            found = named.get(f"{start}{name}.{kind}")
            return None if found is None else found.detach()

        def fused(names: tuple[str, ...], kind: str, order: Tensor) -> Tensor | None:
            parts = [weight(name, kind) for name in names]
            there = [part for part in parts if part is not None]
            if not there:
                return None
            return torch.cat(there).index_select(0, order).to(self._dtype)

        def factors(names: tuple[str, ...], order: Tensor) -> FusedFactors | None:
            """The factors of fused layers whose rows were put in this order."""
            home = order.argsort()  # where each row of the parts has gone
            members: list[Member] = []
            begin = 0
            for name in names:
                height = named[f"{start}{name}.weight"].shape[0]
                if (slot := slots.pop(start + name, None)) is not None:
                    members.append((slot, home[begin : begin + height]))
                begin += height
            if not members:
                return None
            return FusedFactors(
                start + names[0],
                members,
                len(order),
                self.layout,
                self._room,
                self._dtype,
            )

        def plain(size: int) -> Tensor:
            return torch.arange(size, device=self.device)

        heads = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
        mix, gates, down = (
            ("self_attn.o_proj",),
            ("mlp.gate_proj", "mlp.up_proj"),
            ("mlp.down_proj",),
        )
        rows = plain(shape.groups * shape.members * shape.width)
        cut = shape.groups * shape.queries * shape.width
        order = torch.cat(
            [
                part.view(shape.groups, -1, shape.width)
                for part in (rows[:cut], *rows[cut:].chunk(2))
            ],
            1,
        ).reshape(-1)
        hidden = plain(self._norm.numel())
        inner = plain(2 * self._inner)
        weights = {
            "heads": fused(heads, "weight", order),
            "mix": fused(mix, "weight", hidden),
            "gates": fused(gates, "weight", inner),
            "down": fused(down, "weight", hidden),
        }
        return _Layer(
            **weights,  # type: ignore[arg-type]
            heads_bias=fused(heads, "bias", order),
            mix_bias=fused(mix, "bias", hidden),
            norm=weight("input_layernorm").to(self._stream),  # type: ignore[union-attr]
            second_norm=weight("post_attention_layernorm").to(self._stream),  # type: ignore[union-attr]
            to_heads=factors(heads, order),
            to_mix=factors(mix, hidden),
            to_gates=factors(gates, inner),
            to_down=factors(down, hidden),
        )


@final
class _Pass:
    """One batch on its way through a packed model and back."""

    def __init__(self, model: PackedLlama, parameters: Tensor, batch: Batch) -> None:
        self._model, self._room = model, model._room
        self._packing = packing = Packing.of(
            batch, model._shape, model.device, share=model._share
        )
        self._clients = len(batch)
        self._attention = Attention(
            packing, model._shape, self._room, model._dtype, model._theta
        )
        for layer in model._layers:
            for factors in layer.factors():
                factors.load(parameters, model._frozen)
        self._last = len(model._layers) - 1
        shape = model._shape
        size = shape.groups * shape.queries
        # The last layer's outputs are wanted where tokens are predicted only.
        self._response_home = packing.outputs_home.view(-1, size)[
            packing.response
        ].reshape(-1)

    def losses(self) -> Tensor:
        hidden = self._forward()
        model, packing = self._model, self._packing
        return self._means(
            response_loss(hidden, model._head, packing.targets, None, self._room)
        )

    def gradients(self, out: Tensor) -> Tensor:
        hidden = self._forward()
        model, packing = self._model, self._packing
        each = response_loss(
            hidden, model._head, packing.targets, packing.weights, self._room
        )
        grad = self._new("flow", *hidden.shape).zero_()
        self._norm_back("final", hidden, model._norm, grad)
        for i in range(self._last, -1, -1):
            grad = self._layer_back(i, grad, out)
        return self._means(each)

    def _means(self, each: Tensor) -> Tensor:
        weights = self._packing.weights.to(each.dtype)
        means = each.new_zeros(self._clients)
        return means.index_add_(0, self._packing.owners, each * weights)

    def _split(self, i: int) -> tuple[Split, Tensor]:
        """The tokens that layer i's second half works on."""
        packing = self._packing
        if i == self._last:
            return packing.response_split, self._response_home
        return packing.split, packing.outputs_home

    # --- forward ---------------------------------------------------------------

    def _forward(self) -> Tensor:
        """What the output layer reads at the response tokens."""
        model, packing = self._model, self._packing
        x = self._new("stream 0", len(packing.tokens), model._embedding.shape[1])
        x.copy_(model._embedding[packing.tokens])
        for i in range(len(model._layers)):
            x = self._layer_forward(i, x)
        return self._normed("final", x, model._norm)

    def _layer_forward(self, i: int, x: Tensor) -> Tensor:
        model, packing = self._model, self._packing
        layer, shape = model._layers[i], model._shape
        split, home = self._split(i)
        y = self._normed(f"first {i}", x, layer.norm)
        heads = self._take("heads", len(x) + 1, len(layer.heads))
        heads[-1].zero_()
        self._linear(y, layer.heads, layer.heads_bias, heads[:-1])
        if layer.to_heads is not None:
            layer.to_heads.forward(y, heads[:-1], packing.split)
        grouped = heads.view(-1, shape.groups, shape.members, shape.width)
        self._attention.turn(grouped[:-1])
        mixed = self._take(f"mixed {i}", len(home), shape.width)
        self._attention.forward(i, grouped, home, mixed)
        mixed = mixed.view(-1, layer.mix.shape[1])
        out = self._take("out", len(mixed), len(layer.mix))
        self._linear(mixed, layer.mix, layer.mix_bias, out)
        if layer.to_mix is not None:
            layer.to_mix.forward(mixed, out, split)
        middle = self._new(f"middle {i}", *out.shape)
        if i == self._last:
            x = x.index_select(0, packing.response)
        torch.add(x, out, out=middle)
        y = self._normed(f"second {i}", middle, layer.second_norm)
        gates = self._take(f"gates {i}", len(y), len(layer.gates))
        self._linear(y, layer.gates, None, gates)
        if layer.to_gates is not None:
            layer.to_gates.forward(y, gates, split)
        inner = self._inner(gates)
        self._linear(inner, layer.down, None, out)
        if layer.to_down is not None:
            layer.to_down.forward(inner, out, split)
        after = self._new(f"stream {i + 1}", *out.shape)
        return torch.add(middle, out, out=after)

    def _inner(self, gates: Tensor) -> Tensor:
        """silu(gate) * up."""
        gate, up = gates.chunk(2, 1)
        inner = self._take("inner", *gate.shape)
        inner.copy_(gate)
        functional.silu(inner, inplace=True)
        return inner.mul_(up)

    def _linear(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor
    ) -> None:
        if bias is None:
            torch.mm(x, weight.T, out=out)
        else:
            torch.addmm(bias, x, weight.T, out=out)

    def _normed(self, name: str, x: Tensor, weight: Tensor) -> Tensor:
        """x / rms(x) * weight; keeps x's place by name for the way back."""
        size = torch.linalg.vector_norm(x, dim=1, keepdim=True).square_()
        rate = self._new(f"{name} rate", len(x), 1)
        torch.rsqrt(size.div_(x.shape[1]).add_(self._model._eps), out=rate)
        scaled = self._new("scaled", *x.shape)
        torch.mul(x, rate, out=scaled)
        y = self._take(f"{name} normed", *x.shape)
        return torch.mul(scaled, weight, out=y)

    # --- and back --------------------------------------------------------------

    def _layer_back(self, i: int, grad: Tensor, out: Tensor) -> Tensor:
        """The gradient of layer i's input from that of its output."""
        model, packing = self._model, self._packing
        layer, shape = model._layers[i], model._shape
        split, _ = self._split(i)
        rows, width = grad.shape
        # Second half: grad is added to in place.
        down = self._cast(grad)
        gates = self._take(f"gates {i}", rows, len(layer.gates))
        inner = self._take("to inner", rows, layer.down.shape[1])
        torch.mm(down, layer.down, out=inner)
        if layer.to_down is not None:
            kept = self._inner(gates)
            layer.to_down.backward(down, kept, split, out, inner)
        to_gates = self._gates_back(gates, inner)
        y = self._take("to normed", rows, width)
        torch.mm(to_gates, layer.gates, out=y)
        if layer.to_gates is not None:
            read = self._take(f"second {i} normed", rows, width)
            layer.to_gates.backward(to_gates, read, split, out, y)
        self._norm_back(f"second {i}", y, layer.second_norm, grad)
        # First half: attention.
        mix = self._cast(grad)
        total = len(packing.tokens)
        heads = self._take("to mixed", total + 1, layer.mix.shape[1])
        part = heads[:rows]
        if i == self._last:
            part = self._take("to last mixed", rows, layer.mix.shape[1])
        torch.mm(mix, layer.mix, out=part)
        if layer.to_mix is not None:
            mixed = self._take(f"mixed {i}", *part.shape)
            layer.to_mix.backward(mix, mixed, split, out, part)
        if i == self._last:
            heads.zero_().index_copy_(0, packing.response, part)
            whole = self._new("whole flow", total, width).zero_()
            grad = whole.index_copy_(0, packing.response, grad)
        heads[-1].zero_()
        to_heads = self._take("heads", total, len(layer.heads))
        grouped = to_heads.view(-1, shape.groups, shape.members, shape.width)
        self._attention.backward(i, heads, grouped)
        self._attention.turn(grouped, back=True)
        # Nothing before the first layer is trained.
        y_grad = self._take("to normed", total, width) if i else None
        if y_grad is not None:
            torch.mm(to_heads, layer.heads, out=y_grad)
        if layer.to_heads is not None:
            read = self._take(f"first {i} normed", total, width)
            layer.to_heads.backward(to_heads, read, packing.split, out, y_grad)
        if y_grad is not None:
            self._norm_back(f"first {i}", y_grad, layer.norm, grad)
        return grad

    def _gates_back(self, gates: Tensor, grad: Tensor) -> Tensor:
        """The gradient of gate and up from that of silu(gate) * up."""
        gate, up = gates.chunk(2, 1)
        to_gates = self._take("to gates", *gates.shape)
        to_gate, to_up = to_gates.chunk(2, 1)
        to_up.copy_(gate)
        functional.silu(to_up, inplace=True)
        to_up.mul_(grad)
        grad.mul_(up)
        torch.ops.aten.silu_backward.grad_input(grad, gate, grad_input=to_gate)
        return to_gates

    def _norm_back(self, name: str, grad: Tensor, weight: Tensor, flow: Tensor) -> None:
        """Add to `flow` the gradient of a norm's input; uses x = y rate^-1."""
        x = self._read(name, *grad.shape)
        rate = self._new(f"{name} rate", len(grad), 1)
        scaled = self._new("scaled", *grad.shape)
        torch.mul(grad, weight, out=scaled)
        other = self._new("other", *grad.shape)
        torch.mul(scaled, x, out=other)
        along = other.sum(1, keepdim=True).div_(x.shape[1]).mul_(rate).mul_(rate)
        flow.addcmul_(torch.addcmul(scaled, x, along, value=-1.0, out=scaled), rate)

    def _read(self, name: str, rows: int, width: int) -> Tensor:
        """The input of a norm."""
        if name == "final":
            return self._new(f"stream {self._last + 1}", rows, width)
        which, _, layer = name.partition(" ")
        return self._new(
            f"{'stream' if which == 'first' else 'middle'} {layer}", rows, width
        )

    def _cast(self, x: Tensor) -> Tensor:
        if x.dtype is self._model._dtype:
            return x
        return self._take("cast", *x.shape).copy_(x)

    def _take(self, name: str, *shape: int) -> Tensor:
        return self._room.take(name, *shape, dtype=self._model._dtype)

    def _new(self, name: str, *shape: int) -> Tensor:
        return self._room.take(name, *shape, dtype=self._model._stream)
