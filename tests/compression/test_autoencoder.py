"""Autoencoders learn what there is to learn, and depend on one update alone."""

import math

import numpy as np
import pytest
import torch

from drdp.compression.autoencoder import (
    Autoencoder,
    fit_autoencoder,
    fit_on_prior,
)
from drdp.compression.designs import BlockDesign, ConvDesign
from drdp.compression.fidelity import fidelity
from drdp.compression.layout import Layout
from drdp.compression.pca import Pca
from drdp.compression.random_prior import RandomPrior, prior_from, public_prior
from drdp.compression.source import Origin, Source
from drdp.errors import InvalidArgumentError
from drdp.privacy.events import NOTHING, Gaussian, NonPrivate

LENGTH = 800
PUBLIC = Source(Origin.PUBLIC)
SMALL_CONV = ConvDesign(halvings=2, channels=8, residual_blocks=1)
DESIGNS = {
    "linear": BlockDesign(4),
    "linear blocks": BlockDesign(4, blocks=2),
    "hidden layer": BlockDesign(4, hidden=12),
    "convolutions": SMALL_CONV,
}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def planted(count, seed, rank=3, noise=0.1):
    """Small updates: a fixed subspace of `rank` dimensions and some noise."""
    basis = np.linalg.qr(np.random.default_rng(99).standard_normal((LENGTH, rank)))[0]
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((count, rank)) * math.sqrt(LENGTH / rank)
    extra = noise * rng.standard_normal((count, LENGTH))
    return ((weights @ basis.T + extra) * 1e-3).astype(np.float32)


def smooth(count, seed, side=16):
    """Planes of a few low frequencies, which is what convolutions can share."""
    waves = np.cos(np.outer(np.arange(2), np.linspace(0, np.pi, side)))
    weights = np.random.default_rng(seed).standard_normal((count, 2, 2))
    planes = np.einsum("nij,ia,jb->nab", weights, waves, waves)
    return (planes.reshape(count, -1) * 1e-3).astype(np.float32)


@pytest.fixture(scope="module")
def fitted():
    torch.set_num_threads(1)
    return {
        name: fit_autoencoder(
            planted(100, 0), design, source=PUBLIC, steps=5, batch_size=4
        )
        for name, design in DESIGNS.items()
    }


# --- what they learn -----------------------------------------------------------


@pytest.mark.parametrize(
    "design",
    [BlockDesign(4), BlockDesign(6, blocks=2), BlockDesign(4, hidden=12)],
    ids=["linear", "linear blocks", "hidden layer"],
)
def test_a_planted_subspace_is_learnt(design):
    codec = fit_autoencoder(planted(200, 0), design, source=PUBLIC, steps=300)
    found = fidelity(codec, planted(40, 1))
    best = 1 / (1 + 0.1**2)
    assert found.explained > best - 0.01
    assert found.cosine > 0.98
    assert found.noise_explained < 0.05
    assert found.beats_baselines
    assert codec.relative_loss < 0.02


def test_the_convolutional_network_learns_smooth_planes():
    codec = fit_autoencoder(
        smooth(100, 0),
        SMALL_CONV,
        source=PUBLIC,
        steps=250,
        batch_size=8,
        learning_rate=1e-2,
    )
    found = fidelity(codec, smooth(20, 1))
    assert found.explained > 0.3
    assert found.cosine > 0.6
    assert found.beats_baselines


@pytest.mark.parametrize("design", [BlockDesign(8), BlockDesign(8, hidden=24)])
def test_a_structureless_prior_teaches_next_to_nothing(design):
    """Independent numbers have no subspace: at best k/d, as by chance."""
    layout = Layout.of_shapes((f"m.{i}.A", (4, 50)) for i in range(4))
    prior = public_prior(layout)
    codec = fit_on_prior(prior, design, steps=150)
    assert codec.relative_loss > 0.9
    own = fidelity(codec, prior.samples(40, seed=5))
    assert abs(own.explained) < 0.06
    real = fidelity(codec, planted(40, 1))
    assert abs(real.explained) < 0.06
    assert real.cosine < 0.2


def test_convolutions_on_the_prior_decode_to_next_to_nothing():
    layout = Layout.of_shapes([("m.0.A", (8, 32))])
    codec = fit_on_prior(public_prior(layout), SMALL_CONV, steps=60, batch_size=8)
    real = fidelity(codec, smooth(20, 1))
    assert real.explained < 0.2
    assert codec.relative_loss > 0.9


# --- independence --------------------------------------------------------------


@pytest.mark.parametrize("name", DESIGNS)
def test_a_code_depends_on_one_update_alone(fitted, name):
    """Bit for bit the same, whatever was encoded before and whoever else."""
    codec = fitted[name]
    mine = planted(1, 7)[0]
    alone = codec.encode(mine)
    for other in planted(5, 8) * np.float32(1e3):
        codec.encode(other)
        codec.decode(codec.encode(other).astype(np.float64))
    assert np.array_equal(codec.encode(mine), alone)


@pytest.mark.parametrize("name", DESIGNS)
def test_batches_change_no_code(fitted, name):
    """The network has no batch statistics, in training mode neither."""
    codec = fitted[name]
    batch = torch.from_numpy(planted(6, 7) / np.float32(codec.scale))
    for mode in (True, False):
        codec.network.train(mode)
        with torch.no_grad():
            together = codec.network.encode(batch)
            apart = torch.cat([codec.network.encode(row[None]) for row in batch])
        assert torch.allclose(together, apart, atol=1e-5)
    assert not list(codec.network.buffers())


@pytest.mark.parametrize("name", DESIGNS)
def test_shapes_and_no_gradients(fitted, name):
    codec = fitted[name]
    update = planted(1, 7)[0]
    code = codec.encode(update)
    assert (code.dtype, code.shape) == (np.float32, (codec.code_length,))
    back = codec.decode(code.astype(np.float64))
    assert (back.dtype, back.shape) == (np.float32, (LENGTH,))
    assert not codec.network.training
    assert not any(w.requires_grad for w in codec.network.parameters())
    assert codec.message_bits == 32 * codec.code_length
    code[:] = 0
    assert codec.encode(update).any()
    with pytest.raises(InvalidArgumentError, match="update must be finite"):
        codec.encode(update * np.float32(math.nan))
    with pytest.raises(InvalidArgumentError, match="code must have length"):
        codec.decode(np.zeros(3))


def test_only_linear_ones_claim_a_bound_and_it_holds(fitted):
    for name, codec in fitted.items():
        linear = name.startswith("linear")
        assert codec.linear_decode == linear
        assert math.isfinite(codec.expansion) == linear
        assert math.isnan(codec.noise_gain) != linear
    codec = fit_autoencoder(
        planted(20, 0), BlockDesign(6, blocks=3), source=PUBLIC, steps=2
    )
    decoder = np.array([codec.decode(row) for row in np.eye(6)], dtype=np.float64)
    assert codec.noise_gain == pytest.approx(np.linalg.norm(decoder), rel=1e-5)
    matrix = np.array([codec.encode(row) for row in np.eye(LENGTH, dtype=np.float32)])
    assert codec.expansion == pytest.approx(np.linalg.norm(matrix, 2), rel=1e-5)
    codes = np.array([codec.encode(update) for update in planted(6, 3)], dtype=float)
    mean_first = codec.decode(codes.mean(axis=0))
    mean_last = np.mean([codec.decode(code) for code in codes], axis=0)
    gap = np.linalg.norm(mean_first - mean_last) / np.linalg.norm(mean_last)
    assert gap < 1e-6


def test_group_normalisation_takes_the_length_out(fitted):
    """Documented: such a code says the direction of an update only."""
    codec = fitted["convolutions"]
    update = planted(1, 7)[0] * np.float32(100)
    assert codec.encode(update * 2) == pytest.approx(codec.encode(update), rel=1e-2)


# --- the event -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "event"),
    [
        (PUBLIC, NOTHING),
        (Source(Origin.PROXY), NOTHING),
        (Source(Origin.RELEASED, 5.0), Gaussian(5.0)),
        (Source(Origin.AS_PRINTED), NonPrivate()),
        (Source(Origin.CLIENT_UPDATES), NonPrivate()),
    ],
)
def test_the_event_is_that_of_the_samples_and_survives_a_file(source, event, tmp_path):
    codec = fit_autoencoder(planted(8, 0), BlockDesign(2), source=source, steps=1)
    assert codec.event == event
    path = tmp_path / "codec.safetensors"
    codec.save(path)
    assert Autoencoder.load(path).event == event


def test_the_source_cannot_be_forgotten():
    with pytest.raises(TypeError, match="source"):
        fit_autoencoder(planted(8, 0), BlockDesign(2), steps=1)


def test_a_codec_takes_the_source_of_its_prior():
    layout = Layout.of_shapes([("m.0.A", (8, 100))])
    data = [[update] for update in planted(3, 0)]
    printed = prior_from(data, layout, source=Source(Origin.AS_PRINTED))
    released = RandomPrior(layout, printed.components, Source(Origin.RELEASED, 4.0))
    for prior, event in ((printed, NonPrivate()), (released, Gaussian(4.0))):
        assert fit_on_prior(prior, BlockDesign(2), steps=1).event == event


# --- fitting -------------------------------------------------------------------


@pytest.mark.parametrize("name", DESIGNS)
def test_fitting_is_deterministic_and_leaves_torch_alone(name, fitted):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    again = fit_autoencoder(
        planted(100, 0), DESIGNS[name], source=PUBLIC, steps=5, batch_size=4
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert again.checksum == fitted[name].checksum
    other = fit_autoencoder(
        planted(100, 0), DESIGNS[name], source=PUBLIC, steps=5, batch_size=4, seed=1
    )
    assert other.checksum != again.checksum


@pytest.mark.parametrize("name", DESIGNS)
def test_files_keep_every_bit(name, fitted, tmp_path):
    codec = fitted[name]
    path = tmp_path / "codec.safetensors"
    assert codec.save(path) == codec.checksum
    again = Autoencoder.load(path)
    assert again.checksum == codec.checksum
    update = planted(1, 7)[0]
    code = codec.encode(update)
    assert np.array_equal(again.encode(update), code)
    assert np.array_equal(again.decode(code), codec.decode(code))
    with pytest.raises(InvalidArgumentError, match="'autoencoder'"):
        Pca.load(path)


def test_progress_is_told_after_each_step():
    told = []
    fit_autoencoder(
        planted(8, 0),
        BlockDesign(2),
        source=PUBLIC,
        steps=3,
        progress=lambda step, steps, loss: told.append((step, steps, loss)),
    )
    assert [(step, steps) for step, steps, _ in told] == [(1, 3), (2, 3), (3, 3)]
    assert all(0 < loss < 2 for *_, loss in told)


def test_bad_fits_are_named():
    def fit(samples, **options):
        given = {"design": BlockDesign(2), "source": PUBLIC, "steps": 2} | options
        return fit_autoencoder(samples, **given)

    bad = planted(8, 0)
    bad[3, 5] = math.nan
    for samples, options, names in (
        (iter(planted(20, 0)), {}, "steps \\* batch_size = 32 updates, got 20"),
        (np.zeros((4, 9)), {}, "all zero"),
        (bad, {}, "must be finite"),
        ([], {}, "at least one update"),
        (planted(8, 0), {"steps": 0}, "steps"),
        (planted(8, 0), {"learning_rate": -1.0}, "learning_rate"),
        (planted(8, 0), {"learning_rate": 1e30, "steps": 20}, "converge"),
        (planted(8, 0), {"design": BlockDesign(LENGTH + 1)}, "numbers must be at most"),
    ):
        with pytest.raises(InvalidArgumentError, match=names):
            fit(samples, **options)


# --- designs -------------------------------------------------------------------


def test_the_paper_s_plane_and_code():
    """LLaMA-7B, rank 8: one plane [1, 4096, 2048] and a code of 1/64."""
    design = ConvDesign()
    assert design.plane(8_388_608) == (4096, 2048)
    assert design.code_length(8_388_608) == 131_072
    assert design.code_length(8_388_608) / 8_388_608 == 0.015625


@pytest.mark.parametrize("length", [1, 5, 1_000, 368_640, 921_600])
@pytest.mark.parametrize("halvings", [1, 3, 6])
def test_planes_hold_the_update_with_little_padding(length, halvings):
    height, width = ConvDesign(halvings=halvings).plane(length)
    assert height % 2**halvings == width % 2**halvings == 0
    assert height * width >= length
    assert height * width - length < width * max(2**halvings, 4)


@pytest.mark.parametrize("channels", [1, 3, 8])
@pytest.mark.parametrize("halvings", [1, 2, 4])
def test_code_length_is_a_matter_of_channels_and_halvings(channels, halvings):
    design = ConvDesign(halvings, channels, residual_blocks=1)
    codec = fit_autoencoder(planted(4, 0), design, source=PUBLIC, steps=1)
    height, width = design.plane(LENGTH)
    assert codec.code_length == channels * height * width // 4**halvings
    code = codec.encode(planted(1, 1)[0])
    assert code.shape == (codec.code_length,)
    assert codec.decode(code).shape == (LENGTH,)


@pytest.mark.parametrize("numbers", [1, 7, 30, LENGTH])
def test_block_codes_have_any_length(numbers):
    codec = fit_autoencoder(planted(4, 0), BlockDesign(numbers), source=PUBLIC, steps=1)
    assert codec.code_length == len(codec.encode(planted(1, 1)[0])) == numbers


def test_large_block_networks_are_split_to_stay_small():
    for length in (368_640, 921_600):
        for numbers in (8, 64, 256):
            blocks, width, code = BlockDesign(numbers).shape(length)
            assert blocks * code == numbers
            assert blocks * width >= length
            assert 2 * blocks * width * code <= (1 << 24) * 1.01
    with pytest.raises(InvalidArgumentError, match="blocks must divide numbers=4"):
        BlockDesign(4, blocks=3)
    with pytest.raises(InvalidArgumentError, match="normalisation must be one of"):
        ConvDesign(normalisation="batch")


def test_size_of_the_paper_s_encoder():
    """0.94 MiB of float32 weights, as an independent reproduction reports."""
    from drdp.compression.networks import network

    weights = network(ConvDesign(), 4096, seed=0).encoder.parameters()
    size = sum(weight.numel() for weight in weights) * 4
    assert size / 2**20 == pytest.approx(0.94, abs=0.01)
