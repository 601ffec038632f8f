"""The packed Llama in float64, shared beginnings, biases, and per-example gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from drdp.errors import InvalidArgumentError
from drdp.fedsim.examples import Example
from drdp.fedsim.local import LoraShape
from drdp.fedsim.lora.layout import Layout
from drdp.fedsim.lora.packed import PackedLlama
from drdp.fedsim.lora.packing import Packing, Shape
from drdp.fedsim.lora.per_example import clipped_sum, per_example_gradients
from drdp.fedsim.lora.stack import StackedModel
from tests.fedsim import stacked_parts as parts

MODELS = ["grouped, tied", "one group, untied", "no groups, wide heads", "one layer"]
# Lengths that fall into several rectangles.
SHAPE = [[9, 14, 50], [40], [5, 5, 11], [23, 60]]


def with_a_beginning(lengths: Any, common: int, seed: int = 8) -> list[list[Example]]:
    """Rows of which each client's have their first tokens in common."""
    clients = parts.clients_of(seed, lengths)
    for rows in clients:
        for row in rows[1:]:
            row.tokens[:common] = rows[0].tokens[:common]
    return clients


def found_and_true(
    model: Any, batch: Any, shape: LoraShape | None = None, **more: Any
) -> tuple[Tensor, Tensor]:
    """Gradients in float64, packed and by the reference."""
    double = parts.twin(model).double()
    layout = Layout.of(model, shape or LoraShape(rank=3, alpha=5.0))
    frozen = torch.from_numpy(layout.drawn(5)[1])
    stack = parts.random_stack(layout, len(batch))
    losses, truth = parts.reference(model, layout, stack, frozen, batch)
    out = torch.full_like(stack, torch.nan)
    packed = PackedLlama(double, layout, frozen=frozen, **more)
    assert torch.allclose(packed.gradients(stack, batch, out), losses, rtol=1e-13)
    return out, truth


@pytest.mark.parametrize("freeze_a", [False, True], ids=["both", "only B"])
@pytest.mark.parametrize("name", MODELS)
def test_the_mathematics_is_exact(name: str, freeze_a: bool) -> None:
    shape = LoraShape(rank=3, alpha=5.0, targets=parts.ALL, freeze_a=freeze_a)
    batch = parts.clients_of(2, SHAPE)
    assert parts.relative(*found_and_true(parts.shared(name), batch, shape)) < 1e-12


@pytest.mark.parametrize("common", [1, 3, 20])
def test_shared_beginnings_change_nothing(common: int) -> None:
    lengths = [[50, 43, 58], [44, 44], [42]]
    batch = with_a_beginning(lengths, common)
    model = parts.shared("grouped, tied")
    found, truth = found_and_true(model, batch)
    assert parts.relative(found, truth) < 1e-12
    apart, _ = found_and_true(model, batch, share_beginnings=False)
    assert parts.relative(found, apart) < 1e-12
    cpu, heads = torch.device("cpu"), Shape(2, 2, 8)
    packed = Packing.of(batch, heads, cpu)
    plain = Packing.of(batch, heads, cpu, share=False)
    saved = sum(common * (len(rows) - 1) for rows in batch)
    assert len(plain.tokens) == sum(len(row) - 1 for rows in batch for row in rows)
    # Random tokens may agree a little longer.
    assert 0 <= len(plain.tokens) - saved - len(packed.tokens) <= 4
    assert packed.split.counts[2] == 41


def test_a_beginning_is_shared_up_to_the_first_token_that_predicts() -> None:
    tokens = np.arange(10, dtype=np.int32)
    rows = [Example(tokens, 6), Example(tokens.copy(), 4), Example(tokens[:9], 6)]
    packed = Packing.of([rows], Shape(1, 1, 2), torch.device("cpu"))
    # Token 3 predicts in the second row, so that tokens 0, 1, 2 are shared.
    assert len(packed.tokens) == 3 + 6 + 6 + 5
    assert (
        parts.relative(*found_and_true(parts.shared("grouped, tied"), [rows])) < 1e-12
    )


def test_biases_of_queries_keys_and_values() -> None:
    torch.manual_seed(3)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=parts.VOCABULARY,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
            initializer_range=0.15,
            head_dim=8,
        )
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0.0, 0.3)
    batch = parts.clients_of(2, SHAPE)
    assert parts.relative(*found_and_true(model, batch)) < 1e-12


def test_a_pass_leaves_nothing_for_the_next() -> None:
    """Buffers are used again: larger, smaller and larger batches in turn."""
    model = parts.shared("grouped, tied")
    layout = Layout.of(model, LoraShape(rank=3))
    packed = PackedLlama(model, layout)
    first, second = parts.clients_of(2, SHAPE), parts.clients_of(3, [[8, 6]])
    stack = parts.random_stack(layout, 4).float()
    before, after = torch.empty_like(stack), torch.empty_like(stack)
    packed.gradients(stack, first, before)
    packed.gradients(stack[:1], second, torch.empty_like(stack[:1]))
    packed.losses(stack[:1], second)
    packed.gradients(stack, first, after)
    assert torch.equal(before, after)


def test_the_model_is_left_as_it_was() -> None:
    model = parts.llama()
    before = {name: p.clone() for name, p in model.named_parameters()}
    layout = Layout.of(model, LoraShape())
    batch = parts.clients_of(2, SHAPE)
    stack = parts.random_stack(layout, 4).float()
    for kind in (PackedLlama, StackedModel):
        for bf16 in (False, True):
            together = kind(model, layout, bf16=bf16)
            together.gradients(stack, batch, torch.empty_like(stack))
    after = dict(model.named_parameters())
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert type(model.model.layers[0].self_attn.q_proj) is torch.nn.Linear


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu', not 'silu'"),
        ({"mlp_bias": True}, "mlp_bias is True"),
        ({"attention_dropout": 0.1}, "attention_dropout is 0.1"),
        (
            {"rope_parameters": {"rope_type": "linear", "factor": 2.0}},
            "rope type is 'linear'",
        ),
    ],
)
def test_models_that_it_would_get_wrong_are_refused(
    change: dict[str, Any], said: str
) -> None:
    model = parts.llama(**change)
    with pytest.raises(InvalidArgumentError, match=said):
        PackedLlama(model, Layout.of(model, LoraShape()))


def test_other_architectures_and_other_targets_are_refused() -> None:
    model = parts.llama(tie_word_embeddings=False)
    layout = Layout.of(model, LoraShape(targets=("q_proj", "lm_head")))
    with pytest.raises(InvalidArgumentError, match="lie in the model's layers, got lm"):
        PackedLlama(model, layout)
    with pytest.raises(InvalidArgumentError, match="it is a Linear"):
        PackedLlama(torch.nn.Linear(2, 2), layout)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", [PackedLlama, StackedModel])
def test_a_gpu_gives_the_same(kind: Any) -> None:
    model = parts.llama().cuda()
    layout = Layout.of(model, LoraShape(rank=3))
    batch = parts.clients_of(2, SHAPE)
    stack = parts.random_stack(layout, len(batch)).float()
    _, truth = parts.reference(model.cpu(), layout, stack, torch.zeros(0), batch)
    out = torch.empty_like(stack).cuda()
    kind(model.cuda(), layout).gradients(stack.cuda(), batch, out)
    assert parts.relative(out.cpu(), truth) < 1e-3


# --- per example ---------------------------------------------------------------


@pytest.mark.parametrize("kind", [PackedLlama, StackedModel])
@pytest.mark.parametrize("freeze_a", [False, True], ids=["both", "only B"])
@pytest.mark.parametrize("memory", [1.0, 1e12], ids=["one by one", "at once"])
def test_per_example_gradients_are_exact(
    memory: float, freeze_a: bool, kind: Any
) -> None:
    model = parts.shared("grouped, tied")
    layout = Layout.of(model, LoraShape(rank=3, freeze_a=freeze_a))
    frozen = torch.from_numpy(layout.drawn(5)[1])
    flat = parts.random_stack(layout, 1)[0].float()
    rows = [row for rows in parts.clients_of(2, SHAPE) for row in rows]
    together = kind(model, layout, frozen=frozen)
    stack = flat.repeat(len(rows), 1)
    wanted = [[row] for row in rows]
    losses, truth = parts.reference(model, layout, stack, frozen, wanted)
    passes = [
        (loss.copy(), gradient.copy())
        for loss, gradient in per_example_gradients(
            together, flat.numpy(), rows, memory=memory
        )
    ]
    assert len(passes) == (1 if memory > 1e6 else len(rows))
    found = np.concatenate([gradient for _, gradient in passes])
    assert parts.relative(torch.from_numpy(found), truth) < 1e-5
    assert np.allclose(np.concatenate([x for x, _ in passes]), losses, rtol=1e-6)
    norms = truth.norm(dim=1)
    clip = float(norms.median())
    summed = clipped_sum(together, flat.numpy(), rows, clip_norm=clip, memory=memory)
    exact = (truth * (clip / norms).clamp(max=1.0)[:, None]).sum(0)
    assert parts.relative(torch.from_numpy(summed.total)[None], exact[None]) < 1e-5
    assert np.allclose(summed.norms, norms, rtol=1e-5)
    assert np.allclose(summed.losses, losses, rtol=1e-6)


def test_one_example_moves_a_clipped_sum_by_at_most_the_clip_norm() -> None:
    model = parts.shared("one layer")
    layout = Layout.of(model, LoraShape(rank=3))
    flat = parts.random_stack(layout, 1)[0].float().numpy()
    rows = [row for rows in parts.clients_of(2, SHAPE) for row in rows]
    together = PackedLlama(model, layout)
    for clip in (1e-3, 1.0):
        for left_out in range(3):
            rest = rows[:left_out] + rows[left_out + 1 :]
            whole, less = (
                clipped_sum(together, flat, some, clip_norm=clip).total
                for some in (rows, rest)
            )
            assert np.linalg.norm(whole - less) <= clip * (1 + 1e-5)
    none = clipped_sum(together, flat, [], clip_norm=1.0)
    assert not none.total.any()
    assert none.norms.shape == none.losses.shape == (0,)


def test_bad_parameters_are_named() -> None:
    model = parts.shared("one layer")
    layout = Layout.of(model, LoraShape(rank=3))
    together = PackedLlama(model, layout)
    rows = parts.clients_of(2, [[8]])[0]
    with pytest.raises(InvalidArgumentError, match="parameters must have shape"):
        next(per_example_gradients(together, np.zeros(3, dtype=np.float32), rows))
    broken = np.full(layout.length, np.nan, dtype=np.float32)
    found = clipped_sum(together, broken, rows, clip_norm=1.0)
    assert not found.total.any()
    assert np.isnan(found.norms).all()
