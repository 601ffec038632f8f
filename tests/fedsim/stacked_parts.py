"""Small seeded Llamas, random rows, and gradients that are exact in float64."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from drdp.fedsim.examples import Example
from drdp.fedsim.lora.layout import Layout

torch.set_num_threads(1)

VOCABULARY = 97
QKVO = ("q_proj", "k_proj", "v_proj", "o_proj")
ALL = (*QKVO, "gate_proj", "up_proj", "down_proj")


def llama(seed: int = 0, **changes: Any) -> LlamaForCausalLM:
    """Three layers, four heads in two groups, tied embeddings, weights of order 1."""
    settings: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "tie_word_embeddings": True,
        "initializer_range": 0.15,
        "attn_implementation": "eager",
    }
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**settings | changes)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def rows_of(rng: np.random.Generator, lengths: Sequence[int]) -> list[Example]:
    """Random rows; the second half of each is predicted."""
    return [
        Example(rng.integers(0, VOCABULARY, length).astype(np.int32), length // 2)
        for length in lengths
    ]


def clients_of(seed: int, shape: Sequence[Sequence[int]]) -> list[list[Example]]:
    """One list of rows per client, with the given lengths."""
    rng = np.random.default_rng(seed)
    return [rows_of(rng, lengths) for lengths in shape]


def random_stack(layout: Layout, clients: int, seed: int = 3) -> Tensor:
    """Parameters of order 0.1, B included, in float64."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(0.0, 0.1, (clients, layout.length)))


def relative(found: Tensor, truth: Tensor) -> float:
    """The relative L2 distance of each row, the largest."""
    apart = (found.double() - truth.double()).norm(dim=-1)
    return float((apart / truth.double().norm(dim=-1)).max())


# --- the reference: every operation in float64 ---------------------------------


def _norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * weight


def _turned(x: Tensor, theta: float) -> Tensor:
    """Rotary positions, (heads, length, width): pairs (i, i + width / 2)."""
    length, width = x.shape[1:]
    speed = theta ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * speed
    low, high = x[..., : width // 2], x[..., width // 2 :]
    return torch.cat(
        (
            low * angle.cos() - high * angle.sin(),
            high * angle.cos() + low * angle.sin(),
        ),
        -1,
    )


def reference_loss(
    model: nn.Module,
    layout: Layout,
    flat: Tensor,
    frozen: Tensor,
    rows: Sequence[Example],
) -> Tensor:
    """A client's mean loss in float64, row by row, without transformers."""
    config: Any = model.config
    named = dict(model.named_parameters())
    slots = {place.module: place for place in layout.places}
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    width = config.head_dim

    def weight(name: str) -> Tensor:
        return named[name].detach().double()

    def linear(x: Tensor, name: str) -> Tensor:
        out = x @ weight(f"{name}.weight").T
        if f"{name}.bias" in named:
            out = out + weight(f"{name}.bias")
        if name in slots:
            home = frozen if layout.freeze_a else flat
            a = layout.a(home[None], slots[name])[0]
            b = layout.b(flat[None], slots[name])[0]
            out = out + layout.scale * (x @ a.T) @ b.T
        return out

    total, count = flat.new_zeros(()), 0
    for row in rows:
        x = weight("model.embed_tokens.weight")[
            torch.from_numpy(row.tokens[:-1]).long()
        ]
        length = len(x)
        mask = torch.full((length, length), -torch.inf, dtype=torch.float64).triu(1)
        for i in range(config.num_hidden_layers):
            at = f"model.layers.{i}."
            y = _norm(x, weight(at + "input_layernorm.weight"), config.rms_norm_eps)
            q, k, v = (
                linear(y, f"{at}self_attn.{n}_proj").view(length, -1, width)
                for n in "qkv"
            )
            theta = config.rope_parameters["rope_theta"]
            q, k = (_turned(z.transpose(0, 1), theta) for z in (q, k))
            k, v = (
                z.repeat_interleave(heads // groups, 0) for z in (k, v.transpose(0, 1))
            )
            scores = q @ k.transpose(1, 2) / width**0.5 + mask
            mixed = (scores.softmax(-1) @ v).transpose(0, 1).reshape(length, -1)
            x = x + linear(mixed, at + "self_attn.o_proj")
            name = at + "post_attention_layernorm.weight"
            y = _norm(x, weight(name), config.rms_norm_eps)
            gate = linear(y, at + "mlp.gate_proj")
            y = gate * torch.sigmoid(gate) * linear(y, at + "mlp.up_proj")
            x = x + linear(y, at + "mlp.down_proj")
        x = _norm(x, weight("model.norm.weight"), config.rms_norm_eps)
        head = "lm_head" if "lm_head.weight" in named else "model.embed_tokens"
        targets = torch.from_numpy(row.tokens[row.start :]).long()
        logits = x[row.start - 1 :] @ weight(f"{head}.weight").T
        total = total - logits.log_softmax(-1).gather(1, targets[:, None]).sum()
        count += len(targets)
    return total / count


def reference(
    model: nn.Module,
    layout: Layout,
    stack: Tensor,
    frozen: Tensor,
    batch: Sequence[Sequence[Example]],
) -> tuple[Tensor, Tensor]:
    """Losses and gradients of every client in float64."""
    losses, gradients = [], []
    for flat, rows in zip(stack.double(), batch, strict=True):
        leaf = flat.clone().requires_grad_()
        loss = reference_loss(model, layout, leaf, frozen.double(), rows)
        loss.backward()
        losses.append(loss.detach())
        gradients.append(leaf.grad)
    return torch.stack(losses), torch.stack(gradients)


def twin(model: nn.Module) -> nn.Module:
    """A copy that may be changed."""
    return copy.deepcopy(model)


@functools.cache
def shared(name: str) -> LlamaForCausalLM:
    """A model that no test changes."""
    kinds: dict[str, dict[str, Any]] = {
        "grouped, tied": {},
        "one group, untied": {"num_key_value_heads": 1, "tie_word_embeddings": False},
        "no groups, wide heads": {"num_key_value_heads": 4, "head_dim": 16},
        "one layer": {"num_hidden_layers": 1},
    }
    return llama(1, **kinds[name])
