"""The weights of a Llama as a packed pass wants them: fused, ordered, folded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, final

import torch
from torch import Tensor, nn

from drdp.errors import InvalidArgumentError
from drdp.fedsim.lora.fused import FusedFactors, Member
from drdp.fedsim.lora.layout import Layout, Place
from drdp.fedsim.lora.packing import Shape
from drdp.fedsim.lora.room import Room

__all__ = ["LlamaLayer", "LlamaWeights", "why_not_packed"]

_KINDS: Final = ("LlamaForCausalLM", "Qwen2ForCausalLM")
_HEADS: Final = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
_MIX: Final = ("self_attn.o_proj",)
_GATES: Final = ("mlp.gate_proj", "mlp.up_proj")
_DOWN: Final = ("mlp.down_proj",)


def why_not_packed(model: nn.Module) -> str:
    """What keeps a model from being packed, or an empty string."""
    if type(model).__name__ not in _KINDS:
        return f"it is a {type(model).__name__}, not one of {', '.join(_KINDS)}"
    config: Any = model.config
    rope = getattr(config, "rope_parameters", None)
    if rope is None:  # transformers 4
        rope = {"rope_theta": getattr(config, "rope_theta", 1e4)}
        rope |= getattr(config, "rope_scaling", None) or {}
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
    for name, parameter in model.named_parameters():
        if not parameter.is_floating_point() or parameter.dtype.itemsize < 2:
            return f"its {name} is quantised ({parameter.dtype})"
    return ""


@final
@dataclass(frozen=True, slots=True, eq=False)
class LlamaLayer:
    """One layer's weights, and the factors beside them.

    Args:
        heads: Queries, keys and values, ordered by key-value head; the weight of
            the norm before them is multiplied in.
        heads_bias: Their bias, in the same order.
        mix: What mixes the heads' outputs.
        mix_bias: Its bias.
        gates: Gate and up, the norm before them multiplied in.
        down: The way down.
        to_heads: Factors of `heads`, and so on.
        to_mix: ...
        to_gates: ...
        to_down: ...
    """

    heads: Tensor
    heads_bias: Tensor | None
    mix: Tensor
    mix_bias: Tensor | None
    gates: Tensor
    down: Tensor
    to_heads: FusedFactors | None
    to_mix: FusedFactors | None
    to_gates: FusedFactors | None
    to_down: FusedFactors | None

    def factors(self) -> list[FusedFactors]:
        """The factors that there are."""
        every = (self.to_heads, self.to_mix, self.to_gates, self.to_down)
        return [one for one in every if one is not None]


@final
class LlamaWeights:
    """Copies of a model's weights, fused.

    Args:
        model: A model for which `why_not_packed` finds nothing.
        layout: Which of its layers have adapters.
        room: Where the factors' buffers come from.
        bf16: Whether to hold the weights in bfloat16.

    Attributes:
        stream: The dtype of the residual stream, norms and loss.
        dtype: The dtype of matrix products.
        shape: The heads of an attention layer.
        inner: Width between gate and down.
        eps: What norms add under the root.
        theta: The base of rotary positions.
        embedding: Shape (vocabulary, hidden).
        head: The output layer, with the last norm's weight multiplied in.
        layers: From the first to the last.

    Raises:
        InvalidArgumentError: The model is of another kind, or a target lies
            outside its layers.
    """

    def __init__(
        self, model: nn.Module, layout: Layout, room: Room, *, bf16: bool
    ) -> None:
        if reason := why_not_packed(model):
            raise InvalidArgumentError(
                f"model can't be packed: {reason}; use StackedModel, which takes any"
            )
        config: Any = model.config
        first = next(model.parameters())
        self.stream = torch.promote_types(first.dtype, torch.float32)
        self.dtype = torch.bfloat16 if bf16 else self.stream
        heads, groups = config.num_attention_heads, config.num_key_value_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // heads
        self.shape = Shape(groups, heads // groups, width)
        self.inner = int(config.intermediate_size)
        self.eps = float(config.rms_norm_eps)
        rope = getattr(config, "rope_parameters", None) or {}
        self.theta = float(rope.get("rope_theta") or config.rope_theta)
        self._named = {name: p.detach() for name, p in model.named_parameters()}
        self._layout, self._room, self._device = layout, room, first.device
        table = self._named["model.embed_tokens.weight"]
        self.embedding = table.to(self.dtype)
        head = self._named.get("lm_head.weight", table)
        self.head = self._folded(head, self._named["model.norm.weight"])
        places = {place.module: place for place in layout.places}
        order = self._grouped()
        self.layers = [
            self._layer(f"model.layers.{i}.", order, places)
            for i in range(config.num_hidden_layers)
        ]
        del self._named
        if places:
            raise InvalidArgumentError(
                f"targets must lie in the model's layers, got {', '.join(places)}"
            )

    def _grouped(self) -> Tensor:
        """Rows of queries, keys and values, ordered by key-value head."""
        shape = self.shape
        size = shape.groups * shape.width
        rows = torch.arange(size * shape.members, device=self._device)
        parts = torch.split(rows, [size * shape.queries, size, size])
        grouped = [part.view(shape.groups, -1, shape.width) for part in parts]
        return torch.cat(grouped, 1).reshape(-1)

    def _layer(self, at: str, order: Tensor, places: dict[str, Place]) -> LlamaLayer:
        first = self._named[f"{at}input_layernorm.weight"]
        second = self._named[f"{at}post_attention_layernorm.weight"]
        return LlamaLayer(
            heads=self._folded(self._fused(at, _HEADS)[order], first),
            heads_bias=self._bias(at, _HEADS, order),
            mix=self._fused(at, _MIX).to(self.dtype),
            mix_bias=self._bias(at, _MIX),
            gates=self._folded(self._fused(at, _GATES), second),
            down=self._fused(at, _DOWN).to(self.dtype),
            to_heads=self._factors(at, _HEADS, places, first, order),
            to_mix=self._factors(at, _MIX, places),
            to_gates=self._factors(at, _GATES, places, second),
            to_down=self._factors(at, _DOWN, places),
        )

    def _fused(self, at: str, names: tuple[str, ...]) -> Tensor:
        return torch.cat([self._named[f"{at}{name}.weight"] for name in names])

    def _folded(self, weight: Tensor, norm: Tensor) -> Tensor:
        return (weight.to(self.stream) * norm.to(self.stream)).to(self.dtype)

    def _bias(
        self, at: str, names: tuple[str, ...], order: Tensor | None = None
    ) -> Tensor | None:
        named: Mapping[str, Tensor] = self._named
        parts = [named[key] for name in names if (key := f"{at}{name}.bias") in named]
        if not parts:
            return None
        fused = torch.cat(parts).to(self.dtype)
        return fused if order is None else fused[order]

    def _factors(
        self,
        at: str,
        names: tuple[str, ...],
        places: dict[str, Place],
        gain: Tensor | None = None,
        order: Tensor | None = None,
    ) -> FusedFactors | None:
        """The factors of fused layers; they leave `places`."""
        sizes = [self._named[f"{at}{name}.weight"].shape[0] for name in names]
        # Where each row of the parts has gone in the fused output.
        home = torch.arange(sum(sizes), device=self._device)
        if order is not None:
            home = order.argsort()
        members: list[Member] = [
            (places.pop(at + name), columns)
            for name, columns in zip(names, torch.split(home, sizes), strict=True)
            if at + name in places
        ]
        if not members:
            return None
        return FusedFactors(
            at + names[0],
            members,
            sum(sizes),
            self._layout,
            self._room,
            self.dtype,
            # A copy: the model's own may keep a mapped file open.
            gain=None if gain is None else gain.to(self.stream, copy=True),
        )
