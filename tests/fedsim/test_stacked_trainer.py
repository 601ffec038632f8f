"""Many clients trained at once end where each ends alone with peft."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import peft
import pytest
import torch
from numpy.typing import NDArray

from drdp.errors import InvalidArgumentError
from drdp.fedsim.local import LocalSteps, LoraShape
from drdp.fedsim.lora import LoraTrainer, StackedTrainer
from drdp.fedsim.lora.layout import Layout
from drdp.fedsim.lora.stack import StackedModel
from drdp.fedsim.lora.tiers import gradients_of
from drdp.fedsim.lora.tiny import byte_tokenizer
from drdp.fedsim.models import LanguageModel, load_model
from drdp.fedsim.trainer import Update
from tests.fedsim import stacked_parts as parts

# Different numbers of rows and of tokens; with batches of two, last steps of one.
LENGTHS = [[9, 14, 12], [20], [5, 5, 11, 8, 13], [7, 7], [16, 6, 9]]
EXAMPLES = [row for rows in parts.clients_of(6, LENGTHS) for row in rows]
CLIENTS = tuple(
    np.array_split(np.arange(len(EXAMPLES)), np.cumsum([len(x) for x in LENGTHS])[:-1])
)
SHAPES = {
    "both": LoraShape(rank=3, alpha=5.0, seed=2),
    "only B": LoraShape(rank=3, alpha=5.0, seed=2, freeze_a=True),
}
STEPS = {
    "adamw": LocalSteps(learning_rate=3e-3, epochs=2, batch_size=2, weight_decay=0.01),
    "sgd": LocalSteps(
        optimiser="sgd", learning_rate=0.3, epochs=2, batch_size=2, weight_decay=0.02
    ),
    "gradient": LocalSteps(optimiser="gradient", batch_size=2),
}
# AdamW divides by a gradient's size: where that is small, rounding shows.
CLOSE = {"adamw": 1e-3, "sgd": 3e-5, "gradient": 2e-5}
TIERS = ("packed", "any")


def language() -> LanguageModel:
    model = parts.twin(parts.shared("grouped, tied"))
    return LanguageModel("small", model, byte_tokenizer())  # type: ignore[arg-type]


def build(steps: str = "sgd", shape: str = "both", **more: Any) -> StackedTrainer:
    arguments: dict[str, Any] = {
        "examples": EXAMPLES,
        "clients": CLIENTS,
        "shape": SHAPES[shape],
        "steps": STEPS[steps],
    }
    return StackedTrainer(language(), **arguments | more)


def alone(steps: str = "sgd", shape: str = "both") -> LoraTrainer:
    return LoraTrainer(
        language(), EXAMPLES, CLIENTS, shape=SHAPES[shape], steps=STEPS[steps]
    )


def start(trainer: LoraTrainer | StackedTrainer) -> NDArray[np.float32]:
    """Away from the beginning, where B is zero and A has no gradient."""
    noise = np.random.default_rng(5).normal(0.0, 0.1, trainer.num_parameters)
    return trainer.initial() + noise.astype(np.float32)


def deltas(
    trainer: LoraTrainer | StackedTrainer, clients: Sequence[int], seed: int = 7
) -> torch.Tensor:
    updates = list(trainer.updates(start(trainer), clients, seed))
    assert [update.client for update in updates] == list(clients)
    return torch.from_numpy(np.stack([update.delta for update in updates]))


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("steps", STEPS)
def test_ends_where_peft_ends_one_client_at_a_time(
    steps: str, shape: str, tier: str
) -> None:
    one, many = alone(steps, shape), build(steps, shape, tier=tier)
    assert many.tier == tier
    assert many.num_parameters == one.num_parameters
    begin = start(one)
    pairs = zip(
        one.updates(begin, range(5), 7), many.updates(begin, range(5), 7), strict=True
    )
    for wanted, found in pairs:
        truth, delta = (torch.from_numpy(u.delta)[None] for u in (wanted, found))
        assert parts.relative(delta, truth) < CLOSE[steps]
        assert found.delta.dtype == np.float32
        assert found.loss == pytest.approx(wanted.loss, rel=1e-5)
        assert (found.client, found.examples) == (wanted.client, wanted.examples)


@pytest.mark.parametrize("shape", SHAPES)
def test_start_and_places_are_those_of_the_peft_trainer(shape: str) -> None:
    one, many = alone(shape=shape), build(shape=shape)
    assert np.array_equal(one.initial(), many.initial())
    assert one.slots == many.slots
    layout = Layout.of(parts.shared("grouped, tied"), SHAPES[shape])
    flat, frozen = layout.drawn(SHAPES[shape].seed)
    assert np.array_equal(flat, one.initial())
    begin = start(one)
    state = layout.state(begin, frozen)
    for slot in one.slots:
        place = begin[slot.offset : slot.offset + slot.size].reshape(slot.shape)
        assert np.array_equal(state[slot.key].numpy(), place)
    # The frozen factors are the ones that peft's model holds.
    model = one._adapter.model
    theirs = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    own = layout.state(one.initial(), frozen)
    one.scorer(one.initial())
    assert sorted(own) == sorted(theirs)
    assert all(torch.equal(own[key], theirs[key]) for key in own)
    back = layout.flat(state)
    assert np.array_equal(back[0], begin)
    assert np.array_equal(back[1], frozen)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("steps", STEPS)
def test_together_is_one_at_a_time(steps: str, tier: str) -> None:
    one = deltas(build(steps, tier=tier, clients_at_once=1), range(5))
    for at_once in (2, 5, "auto"):
        many = build(steps, tier=tier, clients_at_once=at_once)
        assert parts.relative(deltas(many, range(5)), one) < CLOSE[steps]


@pytest.mark.parametrize("tier", TIERS)
def test_an_update_does_not_depend_on_who_trains_beside(tier: str) -> None:
    few = deltas(build(tier=tier), [3, 0])
    other = parts.clients_of(9, LENGTHS)
    mine = set(CLIENTS[0]) | set(CLIENTS[3])
    changed = [
        EXAMPLES[i] if i in mine else row
        for i, row in enumerate(row for rows in other for row in rows)
    ]
    many = deltas(build(tier=tier, examples=changed), [4, 0, 2, 3, 1])
    assert parts.relative(many[[3, 1]], few) < 2e-5


@pytest.mark.parametrize("tier", TIERS)
def test_every_client_has_its_own_learning_rate(tier: str) -> None:
    rates = [0.1, 0.2, 0.3, 0.4, 0.5]
    found = deltas(build(tier=tier, learning_rates=rates), range(5))
    for client, rate in enumerate(rates):
        steps = LocalSteps(
            optimiser="sgd",
            learning_rate=rate,
            epochs=2,
            batch_size=2,
            weight_decay=0.02,
        )
        one = StackedTrainer(
            language(), EXAMPLES, CLIENTS, shape=SHAPES["both"], steps=steps, tier=tier
        )
        assert parts.relative(found[[client]], deltas(one, [client])) < 2e-5


def test_memory_decides_how_many_clients_go_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[int, int]] = []
    plain = StackedModel.gradients

    def watched(self: StackedModel, parameters: Any, batch: Any, out: Any) -> Any:
        cost = [self.memory(len(rows), max(map(len, rows))) for rows in batch]
        seen.append((len(batch), sum(cost)))
        return plain(self, parameters, batch, out)

    monkeypatch.setattr(StackedModel, "gradients", watched)
    deltas(build("gradient", tier="any"), range(5))
    ((clients, everything),) = seen
    assert clients == 5
    for share in (0.8, 0.5, 1e-9):
        seen.clear()
        budget = share * everything
        deltas(build("gradient", tier="any", memory=budget), range(5))
        assert sum(clients for clients, _ in seen) == 5
        assert all(cost <= budget or clients == 1 for clients, cost in seen)
        assert 1 < len(seen) <= 5


def test_a_group_is_given_out_before_the_next_one_trains(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passes = 0
    plain = StackedModel.gradients

    def counted(self: StackedModel, *arguments: Any) -> Any:
        nonlocal passes
        passes += 1
        return plain(self, *arguments)

    monkeypatch.setattr(StackedModel, "gradients", counted)
    trainer = build("gradient", tier="any", clients_at_once=2)
    updates = trainer.updates(start(trainer), [0, 1, 2, 3, 4], 0)
    assert [(next(updates).client, passes) for _ in range(5)] == [
        (0, 1),
        (1, 1),
        (2, 2),
        (3, 2),
        (4, 3),
    ]


def test_evaluates_and_saves_as_the_peft_trainer(tmp_path: Any) -> None:
    held_out = parts.clients_of(11, [[12, 9, 15]])[0]
    trainer = build(held_out=held_out)
    begin = start(trainer)
    model = parts.shared("grouped, tied")
    layout = Layout.of(model, SHAPES["both"])
    flat = torch.from_numpy(begin).double()
    sums = [
        float(parts.reference_loss(model, layout, flat, torch.zeros(0), [row]))
        * row.response_length
        for row in held_out
    ]
    mean = sum(sums) / sum(row.response_length for row in held_out)
    assert trainer.evaluate(begin)["loss"] == pytest.approx(mean, rel=1e-5)
    assert trainer.measure(begin).mean == pytest.approx(mean, rel=1e-5)
    trainer.save_adapter(begin, tmp_path / "adapter")
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()


def test_the_tier_is_chosen_and_named() -> None:
    assert build().tier == "packed"
    assert build(checkpointing=True).tier == "any"
    scaled = parts.llama(rope_parameters={"rope_type": "linear", "factor": 2.0})
    shape = LoraShape()
    assert gradients_of(scaled, shape).tier == "any"
    with pytest.raises(InvalidArgumentError, match="rope type is 'linear'"):
        gradients_of(scaled, shape, tier="packed")
    with pytest.raises(InvalidArgumentError, match="checkpointing needs tier 'any'"):
        gradients_of(scaled, shape, tier="packed", checkpointing=True)
    with pytest.raises(InvalidArgumentError, match="tier must be 'auto', 'packed'"):
        gradients_of(scaled, shape, tier="fast")  # type: ignore[arg-type]


@pytest.mark.parametrize("tier", TIERS)
def test_bfloat16_is_in_the_class_of_the_peft_loop(tier: str) -> None:
    truth = deltas(alone("gradient"), range(5))
    half = LocalSteps(optimiser="gradient", batch_size=2, precision="bfloat16")
    theirs = LoraTrainer(
        language(), EXAMPLES, CLIENTS, shape=SHAPES["both"], steps=half
    )
    ours = StackedTrainer(
        language(), EXAMPLES, CLIENTS, shape=SHAPES["both"], steps=half, tier=tier
    )
    assert ours.precision == "bfloat16"
    error = parts.relative(deltas(ours, range(5)), truth)
    assert 1e-4 < error < 2.0 * parts.relative(deltas(theirs, range(5)), truth)


@pytest.mark.parametrize("tier", TIERS)
def test_a_client_that_diverges_is_told_and_disturbs_nobody(tier: str) -> None:
    """An error would show whose training diverged, and its numbers are its own."""
    steps = LocalSteps(optimiser="sgd", learning_rate=0.3, steps=3, batch_size=2)

    def updates(rate: float) -> list[Update]:
        trainer = StackedTrainer(
            load_model("tiny", device="cpu"),
            EXAMPLES,
            CLIENTS,
            steps=steps,
            tier=tier,  # type: ignore[arg-type]
            clients_at_once=5,
            learning_rates=[0.3, 0.3, rate, 0.3, 0.3],
        )
        return list(trainer.updates(start(trainer), range(5), 0))

    broken, whole = updates(1e30), updates(0.3)
    assert [one.client for one in broken] == list(range(5))
    for bad, good in zip(broken, whole, strict=True):
        if bad.client == 2:
            assert not (np.isfinite(bad.delta).all() and np.isfinite(bad.loss))
        else:
            assert np.array_equal(bad.delta, good.delta)
            assert bad.loss == good.loss


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"clients_at_once": 0}, "clients_at_once must be a whole number"),
        ({"memory": 0.0}, "memory must be positive"),
        ({"learning_rates": [0.1]}, "learning_rates must be 5"),
        ({"learning_rates": [0.1, 0.1, 0.1, 0.1, 0.0]}, "learning_rate must be pos"),
    ],
)
def test_bad_arguments_are_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=said):
        build(**change)


def test_bad_requests_are_named() -> None:
    trainer = build()
    with pytest.raises(InvalidArgumentError, match=r"client must lie in \[0, 5\)"):
        next(trainer.updates(trainer.initial(), [5], 0))
    with pytest.raises(InvalidArgumentError, match="parameters must have shape"):
        next(trainer.updates(np.zeros(2, dtype=np.float32), [0], 0))
    with pytest.raises(InvalidArgumentError, match="no layer named c_attn"):
        StackedTrainer(
            language(), EXAMPLES, CLIENTS, shape=LoraShape(targets=("c_attn",))
        )
