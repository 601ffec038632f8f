"""Measured losses: token-weighted, the same in any batch, compared in pairs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from drdp.errors import DataError, InvalidArgumentError
from drdp.fedsim.data import read_rows
from drdp.fedsim.evaluation import HeldOutLoss, paired_difference
from drdp.fedsim.examples import Encoded, encode_rows
from drdp.fedsim.local import LocalSteps, LoraShape
from drdp.fedsim.lora import LoraTrainer
from drdp.fedsim.lora.scoring import Scorer, prefers_bfloat16, store_bfloat16
from drdp.fedsim.lora.tiny import byte_tokenizer
from drdp.fedsim.models import load_model


@pytest.fixture(scope="module")
def encoded() -> Encoded:
    rows = read_rows("dolly-sample").rows[:40]
    return encode_rows(rows, byte_tokenizer(), max_length=200)


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer(load_model("tiny").model, 1, bfloat16=False)


def test_losses_are_those_of_the_whole_model_row_by_row(
    scorer: Scorer, encoded: Encoded
) -> None:
    sums, counts = scorer.measure(encoded.examples)
    model = load_model("tiny").model
    for example, found, count in zip(encoded.examples, sums, counts, strict=True):
        tokens = torch.from_numpy(example.tokens.astype(np.int64))
        labels = torch.from_numpy(example.labels.astype(np.int64))
        with torch.no_grad():
            logits = model(input_ids=tokens[None]).logits[0]
        wanted = cross_entropy(logits[:-1], labels[1:], reduction="sum")
        assert found == pytest.approx(float(wanted), rel=1e-5)
        assert count == example.response_length


def test_the_head_on_responses_alone_changes_nothing(
    scorer: Scorer, encoded: Encoded
) -> None:
    assert scorer._split
    whole = Scorer(load_model("tiny").model, 1, bfloat16=False)
    whole._split = False
    some = encoded.examples[:8]
    assert np.allclose(scorer.measure(some)[0], whole.measure(some)[0], rtol=1e-6)


def test_a_model_that_scales_its_logits_keeps_its_own_head(encoded: Encoded) -> None:
    from transformers import GraniteConfig, GraniteForCausalLM

    config = GraniteConfig(
        vocab_size=258,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        logits_scaling=8.0,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    torch.manual_seed(0)
    model = GraniteForCausalLM(config).eval()
    scorer = Scorer(model, 1, bfloat16=False)
    assert not scorer._split
    example = encoded.examples[0]
    tokens = torch.from_numpy(example.tokens.astype(np.int64))
    with torch.no_grad():
        logits = model(input_ids=tokens[None]).logits[0, example.start - 1 : -1]
    wanted = cross_entropy(logits, tokens[example.start :], reduction="sum")
    assert scorer.measure([example])[0][0] == pytest.approx(float(wanted), rel=1e-5)


def test_evaluate_is_token_weighted(encoded: Encoded) -> None:
    trainer = LoraTrainer(
        load_model("tiny"),
        encoded.examples,
        (np.arange(2),),
        held_out=encoded.examples[:10],
        shape=LoraShape(rank=2),
    )
    found = trainer.evaluate(trainer.initial())
    loss = trainer.measure(trainer.initial())
    assert found["loss"] == loss.sums.sum() / loss.tokens.sum()
    assert found["perplexity"] == pytest.approx(np.exp(found["loss"]))
    untold = LoraTrainer(load_model("tiny"), encoded.examples, (np.arange(2),))
    assert untold.evaluate(untold.initial()) == {}
    with pytest.raises(DataError, match="no held-out examples"):
        untold.measure(untold.initial())


def test_bfloat16_is_close_and_storing_it_is_exact(encoded: Encoded) -> None:
    def measured(*, stored: bool) -> np.ndarray:
        model = load_model("tiny").model
        if stored:
            store_bfloat16(model)
            dtypes = {name: w.dtype for name, w in model.named_parameters()}
            assert dtypes["model.layers.0.mlp.up_proj.weight"] == torch.bfloat16
            assert dtypes["model.embed_tokens.weight"] == torch.float32
        return Scorer(model, 1, bfloat16=True).measure(encoded.examples[:8])[0]

    exact = Scorer(load_model("tiny").model, 1, bfloat16=False)
    rounded = measured(stored=False)
    assert np.array_equal(rounded, measured(stored=True))
    assert np.allclose(rounded, exact.measure(encoded.examples[:8])[0], rtol=0.01)


def test_bfloat16_trains_a_float32_adapter(encoded: Encoded, tmp_path: Path) -> None:
    trainer = LoraTrainer(
        load_model("tiny"),
        encoded.examples,
        (np.arange(8), np.arange(8, 16)),
        shape=LoraShape(freeze_a=True),
        steps=LocalSteps(precision="bfloat16", steps=2),
    )
    assert trainer.precision == "bfloat16"
    start = trainer.initial()
    (update,) = trainer.updates(start, [1], seed=0)
    assert update.delta.dtype == np.float32
    assert np.linalg.norm(update.delta) > 0
    (again,) = trainer.updates(start, [1], seed=0)
    assert np.array_equal(update.delta, again.delta)
    trainer.save_adapter(start, tmp_path)
    from safetensors.numpy import load_file

    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {np.dtype(np.float32)}
    frozen = saved[trainer.slots[0].key.replace("lora_B", "lora_A")]
    assert len(np.unique(frozen)) > 0.9 * frozen.size, "A is not rounded"


def test_small_models_stay_in_float32() -> None:
    assert not prefers_bfloat16(load_model("tiny").model)


def test_paired_errors_are_those_of_repeated_draws() -> None:
    # Draw examples again and again; the spread of the difference is its error.
    rng = np.random.default_rng(0)
    errors, differences = [], []
    for _ in range(400):
        tokens = rng.integers(1, 60, 150)
        hard = rng.gamma(4.0, 0.6, 150)
        old = HeldOutLoss(hard * tokens, tokens)
        change = 0.1 + 0.2 * rng.normal(size=150)
        new = HeldOutLoss((hard - change) * tokens, tokens)
        found = paired_difference(new, old)
        differences.append(found.value)
        errors.append(found.standard_error)
    assert np.mean(differences) == pytest.approx(-0.1, abs=0.003)
    assert np.mean(errors) == pytest.approx(np.std(differences), rel=0.1)
    assert np.mean(errors) < 0.3 * old.standard_error, "pairing takes out the hardness"


def test_only_the_same_examples_can_be_compared() -> None:
    one = HeldOutLoss(np.array([1.0, 2.0]), np.array([1, 2]))
    other = HeldOutLoss(np.array([1.0, 2.0]), np.array([1, 3]))
    with pytest.raises(InvalidArgumentError, match="same held-out examples"):
        paired_difference(one, other)
