"""The run's trainer: both engines compute the same updates."""

import numpy as np
import pytest

from drdp.fedsim.data import read_rows
from drdp.fedsim.examples import encode_rows
from drdp.fedsim.local import LocalSteps, LoraShape
from drdp.fedsim.lora.clients import Clients, clients_of
from drdp.fedsim.models import load_model
from drdp.fedsim.partition import iid


def built(at_once: int | str, steps: LocalSteps, freeze_a: bool) -> Clients:
    language = load_model("tiny")
    rows = read_rows("dolly-sample").rows[:24]
    examples = encode_rows(rows, language.tokenizer, max_length=48).examples
    return clients_of(
        language,
        examples,
        iid(len(examples), 5, seed=1),
        held_out=examples[:4],
        shape=LoraShape(freeze_a=freeze_a),
        steps=steps,
        at_once=at_once,
    )


@pytest.mark.parametrize("freeze_a", [False, True])
@pytest.mark.parametrize(
    ("steps", "close"),
    [
        (LocalSteps(optimiser="gradient"), 1e-5),
        (LocalSteps(optimiser="sgd", learning_rate=0.1, steps=3), 1e-4),
        (LocalSteps(optimiser="adamw", learning_rate=1e-3, epochs=1), 2e-2),
    ],
    ids=["gradient", "sgd", "adamw"],
)
def test_together_is_one_by_one(
    steps: LocalSteps, close: float, freeze_a: bool
) -> None:
    together, alone = built("auto", steps, freeze_a), built(1, steps, freeze_a)
    assert together.at_once
    assert not alone.at_once
    assert together.slots == alone.slots
    start = alone.initial()
    assert np.array_equal(together.initial(), start)
    rng = np.random.default_rng(0)
    start = start + 0.01 * rng.normal(size=start.shape).astype(np.float32)
    for one, other in zip(
        together.updates(start, [3, 0, 4], 9),
        alone.updates(start, [3, 0, 4], 9),
        strict=True,
    ):
        assert one.client == other.client
        assert one.loss == pytest.approx(other.loss, rel=1e-4)
        gap = np.linalg.norm(one.delta - other.delta) / np.linalg.norm(other.delta)
        assert gap < close


def test_evaluation_and_updates_agree_about_the_loss() -> None:
    trainer = built("auto", LocalSteps(optimiser="gradient", batch_size=100), False)
    (update,) = trainer.updates(trainer.initial(), [0], 3)
    assert update.loss == pytest.approx(
        trainer.evaluate(trainer.initial())["loss"], rel=0.2
    )
