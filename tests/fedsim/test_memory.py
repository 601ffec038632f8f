"""What a stage of a run needed does not stay with the process."""

import ctypes
import gc
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from drdp.compression.autoencoder import fit_on_prior
from drdp.compression.designs import BlockDesign
from drdp.compression.layout import Layout
from drdp.compression.random_prior import public_prior
from drdp.fedsim.data import read_rows
from drdp.fedsim.examples import encode_rows
from drdp.fedsim.local import LocalSteps, LoraShape
from drdp.fedsim.lora import StackedTrainer, scoring
from drdp.fedsim.memory import give_back
from drdp.fedsim.models import load_model

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def resident() -> int:
    """Bytes of this process that are in memory."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no VmRSS")


@linux
def test_freed_pieces_go_back_to_the_system() -> None:
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("not glibc")
    give_back()
    pieces = [np.ones(4_000) for _ in range(4_000)]  # 128 MB, too small to be mapped
    kept = pieces[-1]  # the last one keeps the heap from shrinking by itself
    del pieces
    before = resident()
    assert give_back()
    assert before - resident() > 64e6
    assert kept.all()


@linux
def test_a_trainer_in_bfloat16_lets_the_model_s_file_go(tmp_path: Path) -> None:
    tiny = load_model("tiny", device="cpu")
    tiny.model.save_pretrained(tmp_path)
    tiny.tokenizer.save_pretrained(tmp_path)
    language = load_model(str(tmp_path), device="cpu")
    encoded = encode_rows(
        read_rows("dolly-sample").rows[:8], language.tokenizer, max_length=48
    )
    file = str(tmp_path / "model.safetensors")
    assert file in Path("/proc/self/maps").read_text(encoding="utf-8")
    trainer = StackedTrainer(
        language,
        encoded.examples,
        (np.arange(4),),
        shape=LoraShape(rank=2),
        steps=LocalSteps(steps=1, precision="bfloat16"),
    )
    give_back()
    assert trainer.tier == "packed"
    assert file not in Path("/proc/self/maps").read_text(encoding="utf-8")


def test_a_fitted_codec_keeps_its_weights_and_nothing_else() -> None:
    prior = public_prior(Layout.of_shapes([("w", (64, 64))]))
    codec = fit_on_prior(prior, BlockDesign(8), steps=2)
    assert all(weight.grad is None for weight in codec.network.parameters())
    give_back()
    sizes = {weight.shape for weight in codec.network.parameters()}
    alive = [
        thing
        for thing in gc.get_objects()
        if type(thing) in {torch.Tensor, torch.nn.Parameter} and thing.shape in sizes
    ]
    own = {id(weight) for weight in codec.network.parameters()}
    assert {id(thing) for thing in alive} <= own


def test_losses_are_the_same_with_few_logits_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    language = load_model("tiny", device="cpu")
    examples = encode_rows(
        read_rows("dolly-sample").rows[:12], language.tokenizer, max_length=64
    ).examples
    scorer = scoring.Scorer(language.model, 0, bfloat16=False)
    whole, tokens = scorer.measure(examples)
    monkeypatch.setattr(scoring, "_ROWS", 7)
    few, again = scorer.measure(examples)
    assert np.array_equal(tokens, again)
    np.testing.assert_allclose(few, whole, rtol=1e-6)
    assert tokens.max() > 7
