"""Attacks on what is not noised: tokens from a LoRA gradient, data from a decoder."""

import numpy as np
import pytest
import torch

from drdp.compression.autoencoder import fit_autoencoder
from drdp.compression.designs import BlockDesign
from drdp.compression.pca import fit_pca
from drdp.compression.projection import RandomProjection
from drdp.compression.source import Origin, Source
from drdp.errors import InvalidArgumentError
from drdp.fedsim.data import read_rows
from drdp.fedsim.examples import encode_rows
from drdp.fedsim.local import LocalSteps, LoraShape
from drdp.fedsim.lora import LoraTrainer
from drdp.fedsim.models import load_model
from drdp.fedsim.spans import decoder_rows, distances, telling
from drdp.mechanisms.gaussian import GaussianMechanism
from drdp.mechanisms.noise import SeededNoise
from drdp.privacy.events import NonPrivate

torch.set_num_threads(1)


def test_tokens_are_read_off_an_unprotected_message() -> None:
    """DAGER's span test on the tiny model, and what clip and noise leave of it."""
    language = load_model("tiny")
    rows = read_rows("dolly-sample").rows[:8]
    found = encode_rows(rows, language.tokenizer, max_length=40)
    example = found.examples[3]
    trainer = LoraTrainer(
        language,
        [example],
        (np.array([0]),),
        shape=LoraShape(rank=48, targets=("v_proj",)),
        steps=LocalSteps(optimiser="gradient", steps=1, batch_size=1),
    )
    (update,) = trainer.updates(trainer.initial(), [0], 0)
    slots = {slot.key: slot for slot in trainer.slots}
    key = next(k for k in slots if "layers.0." in k and "lora_B" in k)

    def part(flat, name):  # type: ignore[no-untyped-def]
        slot = slots[name]
        return flat[slot.offset : slot.offset + slot.size].reshape(slot.shape)

    layer = language.model.model.layers[0]
    with torch.no_grad():
        inputs = layer.input_layernorm(language.model.get_input_embeddings().weight)
    start = part(trainer.initial(), key.replace("lora_B", "lora_A"))
    candidates = inputs.detach().numpy() @ start.T
    there = np.zeros(len(candidates), dtype=bool)
    there[example.tokens[:-1]] = True  # the last token feeds nothing that is scored

    bare = distances(part(update.delta, key), candidates)
    assert telling(bare, there) == 1.0
    assert bare[there].max() < 0.05 < bare[~there].min()

    norm = float(np.linalg.norm(update.delta))
    mechanism = GaussianMechanism(noise_multiplier=1.0, clip_norm=norm)
    noised = mechanism.release(mechanism.bound(update.delta), SeededNoise(1))
    after = distances(part(noised, key), candidates, rank=int(there.sum()))
    assert telling(after, there) < 0.7


def test_a_codec_hides_single_tokens_but_is_no_protection() -> None:
    """A projection to few numbers leaves a matrix that no longer has the span."""
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(5, 30))
    gradient = (rng.normal(size=(20, 5)) @ inputs).astype(np.float32)
    others = rng.normal(size=(50, 30))
    there = np.arange(55) < 5
    candidates = np.concatenate([inputs, others])
    assert telling(distances(gradient, candidates), there) == 1.0
    codec = RandomProjection(600, 60, seed=1)
    back = codec.decode(codec.encode(gradient.ravel())).reshape(20, 30)
    assert telling(distances(back, candidates, rank=5), there) < 1.0


def test_a_decoder_fitted_on_clients_spans_their_updates() -> None:
    """FedCG's decoder tells who was in its training set; a random prior's cannot."""
    rng = np.random.default_rng(2)
    updates = rng.normal(size=(40, 300)).astype(np.float32)
    there = np.arange(40) < 20
    private = fit_autoencoder(
        updates[:20],
        BlockDesign(20, blocks=1),
        source=Source(Origin.CLIENT_UPDATES),
        steps=150,
        batch_size=20,
    )
    assert private.event == NonPrivate()
    shown = distances(decoder_rows(private), updates)
    assert telling(shown, there) > 0.95
    assert shown[there].mean() < 0.7 * shown[~there].mean()
    prior = fit_pca(rng.normal(size=(40, 300)), 20, source=Source(Origin.PUBLIC))
    assert 0.2 < telling(distances(decoder_rows(prior), updates), there) < 0.8


def test_a_decoder_that_is_not_linear_has_no_span() -> None:
    codec = fit_autoencoder(
        np.random.default_rng(3).normal(size=(8, 20)),
        BlockDesign(4, blocks=1, hidden=3),
        source=Source(Origin.PUBLIC),
        steps=2,
    )
    with pytest.raises(InvalidArgumentError, match="linear decoder"):
        decoder_rows(codec)
    with pytest.raises(InvalidArgumentError, match="rows as long"):
        distances(np.ones((2, 3)), np.ones((2, 4)))
