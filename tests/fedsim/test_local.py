"""Local steps: the same batches for every engine, and arguments by name."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drdp.errors import InvalidArgumentError
from drdp.fedsim.local import LocalSteps, LoraShape, batches

SEEDS = st.integers(0, 2**63)


@given(st.integers(1, 30), st.integers(1, 8), st.integers(1, 3), SEEDS)
def test_an_epoch_uses_every_example_once(
    examples: int, batch_size: int, epochs: int, seed: int
) -> None:
    steps = LocalSteps(epochs=epochs, batch_size=batch_size)
    plan = batches(examples, steps, client=3, seed=seed)
    assert len(plan) == steps.batch_count(examples)
    used = np.concatenate(plan)
    counts = np.bincount(used, minlength=examples)
    assert (counts == epochs).all()
    assert max(map(len, plan)) <= batch_size


@given(st.integers(1, 30), st.integers(1, 12), SEEDS)
def test_steps_go_on_where_a_pass_ends(examples: int, count: int, seed: int) -> None:
    plan = batches(examples, LocalSteps(steps=count), client=0, seed=seed)
    assert len(plan) == count
    counts = np.bincount(np.concatenate(plan), minlength=examples)
    assert counts.max() - counts.min() <= 1


def test_client_and_seed_decide() -> None:
    def drawn(client: int, seed: int) -> list[int]:
        plan = batches(100, LocalSteps(epochs=1), client=client, seed=seed)
        return np.concatenate(plan).tolist()

    assert drawn(1, 2) == drawn(1, 2)
    assert len({tuple(drawn(c, s)) for c in range(4) for s in range(4)}) == 16


def test_four_steps_unless_told_otherwise() -> None:
    assert LocalSteps().batch_count(100) == 4
    assert LocalSteps(optimiser="gradient").batch_count(100) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"optimiser": "lion"}, "optimiser must be 'adamw', 'sgd' or 'gradient'"),
        ({"precision": "int8"}, "precision must be"),
        ({"steps": 1, "epochs": 1}, "give steps or epochs, not both"),
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"epochs": 0}, "epochs must be a whole number of at least 1"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"weight_decay": -1.0}, "weight_decay must be"),
        ({"optimiser": "gradient", "steps": 2}, "takes one batch"),
        ({"optimiser": "gradient", "epochs": 1}, "takes one batch"),
    ],
)
def test_bad_steps_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        LocalSteps(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 0}, "rank must be"),
        ({"alpha": -1.0}, "alpha must be positive"),
        ({"targets": "q_proj"}, "targets must be a tuple"),
        ({"targets": ()}, "targets must be a tuple"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_bad_shapes_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        LoraShape(**arguments)  # type: ignore[arg-type]
