"""Many clients trained at once end where each ends alone, and where peft ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import peft
import pytest
import torch
from numpy.typing import NDArray

from drdp.errors import InvalidArgumentError
from drdp.fedsim.lora.layout import Layout
from drdp.fedsim.lora.local import ClientRows, LocalOptimiser, SingleStep
from drdp.fedsim.lora.packed import PackedLlama
from drdp.fedsim.lora.rows import IGNORED, Row
from drdp.fedsim.lora.stack import StackedModel
from drdp.fedsim.lora.together import StackedTrainer
from tests.fedsim import stacked_parts as parts

# peft asks transformers 5 under the name that transformers 4 had.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_check:FutureWarning")

RANK, ALPHA = 3, 5.0
# Different numbers of rows and of tokens; with batches of two, last steps of one.
SHAPE = [[9, 14, 12], [20], [5, 5, 11, 8, 13], [7, 7], [16, 6, 9]]
ENGINES = {"stacked": StackedModel, "packed": PackedLlama}
OPTIMISERS = {
    "adamw": LocalOptimiser(learning_rate=3e-3),
    "sgd": LocalOptimiser(name="sgd", learning_rate=0.3, weight_decay=0.02),
}


def setting(only_b: bool = False, seed: int = 4) -> tuple[Any, ...]:
    """A model, its layout, parameters with B set, frozen factors, and rows."""
    model = parts.shared("grouped, tied")
    layout = Layout.of(model, rank=RANK, alpha=ALPHA, only_b=only_b)
    _, frozen = layout.drawn(seed)
    flat = parts.random_stack(layout, 1)[0].float().numpy()
    return model, layout, flat, frozen, parts.clients_of(6, SHAPE)


def trainer(
    engine: str,
    optimiser: Any,
    *,
    only_b: bool = False,
    epochs: int = 2,
    clients: list[list[Row]] | None = None,
    **more: Any,
) -> StackedTrainer:
    model, layout, flat, frozen, rows = setting(only_b)
    return StackedTrainer(
        ENGINES[engine](parts.twin(model), layout, frozen=torch.from_numpy(frozen)),
        ClientRows(clients or rows, batch_size=2, epochs=epochs),
        initial=flat,
        optimiser=optimiser,
        **more,
    )


def deltas(
    found: StackedTrainer, clients: Sequence[int], seed: int = 0
) -> torch.Tensor:
    updates = list(found.updates(found.initial(), clients, seed))
    assert [update.client for update in updates] == list(clients)
    return torch.from_numpy(np.stack([update.delta for update in updates]))


def with_peft(
    optimiser: LocalOptimiser, only_b: bool, client: int, seed: int
) -> tuple[NDArray[np.float32], float]:
    """The sequential loop that everybody writes."""
    model, layout, flat, frozen, rows = setting(only_b)
    adapted = peft.get_peft_model(
        parts.twin(model),
        peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(parts.QKVO)),
    )
    state = layout.state(flat, frozen)
    peft.set_peft_model_state_dict(adapted, state)
    factors = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    if only_b:
        for name in list(factors):
            if "lora_A" in name:
                factors.pop(name).requires_grad_(False)
    rate, decay = optimiser.rate(client), optimiser.weight_decay
    kinds = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    stepper = kinds[optimiser.name](factors.values(), lr=rate, weight_decay=decay)
    losses = []
    for batch in ClientRows(rows, batch_size=2, epochs=2).steps(client, seed):
        length = max(len(row.input_ids) for row in batch)
        ids = torch.zeros(len(batch), length, dtype=torch.int64)
        labels = torch.full_like(ids, IGNORED)
        for i, row in enumerate(batch):
            ids[i, : len(row.input_ids)] = torch.from_numpy(row.input_ids)
            labels[i, : len(row.labels)] = torch.from_numpy(row.labels)
        loss = adapted(input_ids=ids, labels=labels).loss
        stepper.zero_grad()
        loss.backward()
        stepper.step()
        losses.append(float(loss.detach()))
    after, _ = layout.flat(peft.get_peft_model_state_dict(adapted))
    return after - flat, math.fsum(losses) / len(losses)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("only_b", [False, True], ids=["both", "only B"])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_ends_where_the_sequential_peft_loop_ends(
    name: str, only_b: bool, engine: str
) -> None:
    together = trainer(engine, OPTIMISERS[name], only_b=only_b)
    start = together.initial()
    for update in together.updates(start, range(5), seed=7):
        delta, loss = with_peft(OPTIMISERS[name], only_b, update.client, 7)
        assert parts.relative(
            torch.from_numpy(update.delta), torch.from_numpy(delta)
        ) < (1e-3 if name == "adamw" else 5e-5)
        assert update.loss == pytest.approx(loss, rel=1e-5)
        assert update.examples == 2 * len(SHAPE[update.client])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", OPTIMISERS)
def test_together_is_one_at_a_time(name: str, engine: str) -> None:
    one = deltas(trainer(engine, OPTIMISERS[name], clients_at_once=1), range(5))
    for at_once in (2, 5, "auto"):
        many = trainer(engine, OPTIMISERS[name], clients_at_once=at_once)
        assert parts.relative(deltas(many, range(5)), one) < 5e-4


@pytest.mark.parametrize("engine", ENGINES)
def test_an_update_does_not_depend_on_who_trains_beside(engine: str) -> None:
    sgd = OPTIMISERS["sgd"]
    rows = setting()[-1]
    few = deltas(trainer(engine, sgd), [3, 0])
    changed = [rows[0], *parts.clients_of(9, SHAPE)[1:3], *rows[3:]]
    many = deltas(trainer(engine, sgd, clients=changed), [4, 0, 2, 3, 1])
    assert parts.relative(many[[3, 1]], few) < 1e-5


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("only_b", [False, True], ids=["both", "only B"])
def test_a_single_step_is_minus_the_gradient(only_b: bool, engine: str) -> None:
    model, layout, flat, frozen, rows = setting(only_b)
    found = trainer(engine, SingleStep(), only_b=only_b, clients_at_once=3)
    batches = [
        ClientRows(rows, batch_size=2, epochs=1).steps(k, 0)[0] for k in range(5)
    ]
    stack = torch.from_numpy(flat).repeat(5, 1)
    _, truth = parts.reference(model, layout, stack, torch.from_numpy(frozen), batches)
    assert parts.relative(deltas(found, range(5)), -truth) < 1e-5


@pytest.mark.parametrize("engine", ENGINES)
def test_every_client_has_its_own_step_size(engine: str) -> None:
    rates = [0.1, 0.2, 0.3, 0.4, 0.5]
    several = LocalOptimiser(name="sgd", learning_rate=rates, weight_decay=0.0)
    found = deltas(trainer(engine, several), range(5))
    for client, rate in enumerate(rates):
        one = LocalOptimiser(name="sgd", learning_rate=rate, weight_decay=0.0)
        alone = deltas(trainer(engine, one), [client])
        assert parts.relative(found[client : client + 1], alone) < 1e-5


def identities(steps: Sequence[Sequence[Row]]) -> tuple[int, ...]:
    return tuple(id(row) for step in steps for row in step)


def test_the_order_of_rows_depends_on_client_and_seed_alone() -> None:
    rows = setting()[-1]
    data = ClientRows(rows, batch_size=2, steps=4)
    steps = data.steps(2, seed=1)
    assert [len(step) for step in steps] == [2, 2, 1, 2]
    again = ClientRows(rows[:3], batch_size=2, steps=4).steps(2, seed=1)
    assert identities(again) == identities(steps)
    assert set(identities(steps[:3])) == {id(row) for row in rows[2]}
    assert len({identities(data.steps(2, seed=seed)) for seed in range(20)}) > 10


def test_memory_decides_how_many_clients_go_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[int, int]] = []
    plain = StackedModel.gradients

    def watched(self: StackedModel, parameters: Any, batch: Any, out: Any) -> Any:
        cost = [
            self.memory(len(rows), max(len(row.inputs) for row in rows))
            for rows in batch
        ]
        seen.append((len(batch), sum(cost)))
        return plain(self, parameters, batch, out)

    monkeypatch.setattr(StackedModel, "gradients", watched)
    deltas(trainer("stacked", SingleStep(), memory=1e12), range(5))
    ((clients, everything),) = seen
    assert clients == 5
    for share in (0.8, 0.5, 1e-9):
        seen.clear()
        budget = share * everything
        deltas(trainer("stacked", SingleStep(), memory=budget), range(5))
        assert sum(clients for clients, _ in seen) == 5
        assert all(cost <= budget or clients == 1 for clients, cost in seen)
        assert 1 < len(seen) <= 5


def test_evaluation_is_the_mean_over_predicted_tokens() -> None:
    model, layout, flat, _, rows = setting()
    held_out = [row for own in rows for row in own] * 2
    found = trainer("stacked", SingleStep(), held_out=held_out)
    total = sum(
        float(
            parts.reference_loss(
                model, layout, torch.from_numpy(flat).double(), torch.zeros(0), [row]
            )
        )
        * row.predicted
        for row in held_out
    )
    mean = total / sum(row.predicted for row in held_out)
    assert found.evaluate(flat) == {"loss": pytest.approx(mean, rel=1e-6)}
    assert trainer("stacked", SingleStep()).evaluate(flat) == {}


def test_layout_has_the_names_of_peft_and_its_way_back() -> None:
    model, layout, flat, _, _ = setting()
    adapted = peft.get_peft_model(
        parts.twin(model), peft.LoraConfig(r=RANK, target_modules=list(parts.QKVO))
    )
    state = layout.state(flat)
    theirs = peft.get_peft_model_state_dict(adapted)
    assert list(state) == list(theirs)
    assert all(state[name].shape == theirs[name].shape for name in state)
    assert np.array_equal(layout.flat(state)[0], flat)
    drawn, _ = layout.drawn(1)
    assert np.count_nonzero(drawn) == sum(s.inputs * RANK for s in layout.slots)
    only_b = Layout.of(model, rank=RANK, only_b=True)
    with pytest.raises(InvalidArgumentError, match="frozen must be given"):
        only_b.state(np.zeros(only_b.length, dtype=np.float32))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"initial": np.zeros(3, dtype=np.float32)}, "initial must have shape"),
        ({"clients_at_once": 0}, "clients_at_once must be a whole number"),
        ({"memory": 0.0}, "memory must be positive"),
    ],
)
def test_bad_arguments_are_named(change: dict[str, Any], said: str) -> None:
    model, layout, flat, _, rows = setting()
    arguments: dict[str, Any] = {"initial": flat, "optimiser": SingleStep()} | change
    stacked = StackedModel(parts.twin(model), layout)
    with pytest.raises(InvalidArgumentError, match=said):
        StackedTrainer(stacked, ClientRows(rows, batch_size=1, steps=1), **arguments)


def test_bad_requests_are_named() -> None:
    found = trainer("stacked", SingleStep())
    with pytest.raises(InvalidArgumentError, match=r"clients must lie in \[0, 5\)"):
        next(found.updates(found.initial(), [5], 0))
    with pytest.raises(InvalidArgumentError, match="parameters must have shape"):
        next(found.updates(np.zeros(2, dtype=np.float32), [0], 0))
    with pytest.raises(InvalidArgumentError, match="either steps or epochs"):
        ClientRows([], batch_size=1)
    with pytest.raises(InvalidArgumentError, match="client 0"):
        ClientRows([[]], batch_size=1, steps=1)
    with pytest.raises(InvalidArgumentError, match="name must be 'adamw' or 'sgd'"):
        LocalOptimiser(name="adam")  # type: ignore[arg-type]
