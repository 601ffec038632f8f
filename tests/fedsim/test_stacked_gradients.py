"""Gradients of many clients in one pass: against float64, and one at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, MixtralConfig, MixtralForCausalLM

from drdp.errors import InvalidArgumentError
from drdp.fedsim.examples import Example
from drdp.fedsim.local import LoraShape
from drdp.fedsim.lora.layout import Layout
from drdp.fedsim.lora.packed import PackedLlama
from drdp.fedsim.lora.stack import StackedModel
from tests.fedsim import stacked_parts as parts

RAGGED = [[9, 14], [20], [5, 5, 11], [7, 7]]
EQUAL = [[9, 12], [12, 9], [10, 11]]
MODELS = ["grouped, tied", "one group, untied", "no groups, wide heads", "one layer"]
ENGINES = {"stacked": StackedModel, "packed": PackedLlama}


def build(engine: str, model: nn.Module, layout: Layout, frozen: Tensor, **more: Any):
    return ENGINES[engine](model, layout, frozen=frozen, **more)


def case(
    model: nn.Module, shape: Any, targets: Any = parts.QKVO, freeze_a: bool = False
) -> tuple[Layout, Tensor, Tensor, list[list[Example]]]:
    """A layout, float32 parameters of every client, frozen factors and rows."""
    shape_ = LoraShape(rank=3, alpha=5.0, targets=targets, freeze_a=freeze_a)
    layout = Layout.of(model, shape_)
    frozen = torch.from_numpy(layout.drawn(5)[1])
    stack = parts.random_stack(layout, len(shape)).float()
    return layout, stack, frozen, parts.clients_of(2, shape)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("freeze_a", [False, True], ids=["both", "only B"])
@pytest.mark.parametrize("shape", [RAGGED, EQUAL], ids=["ragged", "equal"])
@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_the_true_ones(
    name: str, shape: Any, freeze_a: bool, engine: str
) -> None:
    model = parts.shared(name)
    layout, stack, frozen, batch = case(model, shape, freeze_a=freeze_a)
    losses, truth = parts.reference(model, layout, stack, frozen, batch)
    out = torch.full_like(stack, torch.nan)
    found = build(engine, model, layout, frozen).gradients(stack, batch, out)
    assert parts.relative(out, truth) < 1e-5
    assert torch.allclose(found.double(), losses, rtol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "targets",
    [parts.ALL, ("v_proj",), ("gate_proj", "down_proj"), ("q_proj", "up_proj")],
)
def test_any_linear_layer_can_be_a_target(targets: Any, engine: str) -> None:
    model = parts.shared("grouped, tied")
    layout, stack, frozen, batch = case(model, RAGGED, targets)
    _, truth = parts.reference(model, layout, stack, frozen, batch)
    out = torch.empty_like(stack)
    build(engine, model, layout, frozen).gradients(stack, batch, out)
    assert parts.relative(out, truth) < 1e-5


@pytest.mark.parametrize("engine", ENGINES)
def test_the_slice_of_a_client_is_its_gradient_alone(engine: str) -> None:
    model = parts.shared("grouped, tied")
    layout, stack, frozen, batch = case(model, RAGGED)
    together = build(engine, model, layout, frozen)
    out, alone = torch.empty_like(stack), torch.empty_like(stack)
    losses = together.gradients(stack, batch, out)
    for k, rows in enumerate(batch):
        loss = together.gradients(stack[k : k + 1], [rows], alone[k : k + 1])
        assert float(loss[0]) == pytest.approx(float(losses[k]), rel=1e-6)
    assert parts.relative(out, alone) < 3e-6


@pytest.mark.parametrize("engine", ENGINES)
def test_other_clients_leave_a_gradient_as_it_is(engine: str) -> None:
    model = parts.shared("grouped, tied")
    layout, stack, frozen, batch = case(model, RAGGED)
    together = build(engine, model, layout, frozen)
    before, after = torch.empty_like(stack), torch.empty_like(stack)
    together.gradients(stack, batch, before)
    changed = [rows[:] for rows in batch]
    row = changed[2][1]
    tokens = (row.tokens + 1) % parts.VOCABULARY
    changed[2][1] = Example(tokens, row.start)
    stack[3] *= 2.0
    together.gradients(stack, changed, after)
    assert torch.equal(before[:2], after[:2])
    assert parts.relative(after[2:3], before[2:3]) > 1e-2
    assert parts.relative(after[3:], before[3:]) > 1e-2


@pytest.mark.parametrize("engine", ENGINES)
def test_bfloat16_is_as_close_as_its_digits_allow(engine: str) -> None:
    model = parts.shared("grouped, tied")
    layout, stack, frozen, batch = case(model, RAGGED)
    losses, truth = parts.reference(model, layout, stack, frozen, batch)
    out = torch.empty_like(stack)
    found = build(engine, model, layout, frozen, bf16=True).gradients(stack, batch, out)
    assert out.dtype is torch.float32
    assert 1e-4 < parts.relative(out, truth) < 0.06
    assert torch.allclose(found.double(), losses, rtol=0.02)


@pytest.mark.parametrize("engine", ENGINES)
def test_losses_without_gradients_are_the_same(engine: str) -> None:
    model = parts.shared("grouped, tied")
    layout, stack, frozen, batch = case(model, RAGGED)
    together = build(engine, model, layout, frozen)
    found = together.losses(stack, batch)
    with_gradients = together.gradients(stack, batch, torch.empty_like(stack))
    assert torch.allclose(found, with_gradients, rtol=1e-6)


def test_checkpointing_changes_nothing() -> None:
    model = parts.shared("grouped, tied")
    layout, stack, frozen, batch = case(model, RAGGED)
    plain, kept = torch.empty_like(stack), torch.empty_like(stack)
    build("stacked", model, layout, frozen).gradients(stack, batch, plain)
    checkpointed = build("stacked", model, layout, frozen, checkpointing=True)
    checkpointed.gradients(stack, batch, kept)
    assert torch.equal(plain, kept)


# --- what is refused -----------------------------------------------------------


def test_dropout_is_refused() -> None:
    model = parts.llama(attention_dropout=0.1)
    with pytest.raises(InvalidArgumentError, match="attention_dropout must be 0"):
        StackedModel(model, Layout.of(model, LoraShape()))
    other = GPT2LMHeadModel(
        GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=11, n_positions=8)
    )
    layout = Layout.of(parts.llama(), LoraShape())
    with pytest.raises(InvalidArgumentError, match="dropout must be 0"):
        StackedModel(other, layout)


def test_layers_that_are_not_linear_or_not_there_are_refused() -> None:
    model = GPT2LMHeadModel(
        GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=11, n_positions=8)
    )
    with pytest.raises(InvalidArgumentError, match="c_attn is a Conv1D"):
        Layout.of(model, LoraShape(targets=("c_attn",)))
    with pytest.raises(InvalidArgumentError, match="no layer named q_proj"):
        Layout.of(model, LoraShape(targets=("q_proj",)))


def test_a_model_that_routes_tokens_trains_its_attention_only() -> None:
    torch.manual_seed(0)
    model = MixtralForCausalLM(
        MixtralConfig(
            vocab_size=parts.VOCABULARY,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            num_local_experts=2,
            attn_implementation="eager",
        )
    )
    layout = Layout.of(model, LoraShape())
    batch = parts.clients_of(1, EQUAL)
    stack = parts.random_stack(layout, len(batch)).float()
    together = StackedModel(model, layout)
    out, alone = torch.empty_like(stack), torch.empty_like(stack)
    together.gradients(stack, batch, out)
    for k, rows in enumerate(batch):
        together.gradients(stack[k : k + 1], [rows], alone[k : k + 1])
    assert parts.relative(out, alone) < 1e-5
