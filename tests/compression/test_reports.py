"""Fidelity next to its baselines, and what travels."""

import math

import numpy as np
import pytest

from drdp.compression.communication import (
    collected_statistics,
    collected_updates,
    lora_layout,
    mebibytes,
    message_bytes,
    message_ratio,
    table_five,
)
from drdp.compression.fidelity import fidelity
from drdp.compression.identity import Identity
from drdp.compression.moments import Algorithm1, Detail, Mean, collect
from drdp.compression.pca import fit_pca
from drdp.compression.products import product_error
from drdp.compression.projection import RandomProjection, Scale
from drdp.compression.quantised import Quantised
from drdp.compression.source import Origin, Source
from drdp.errors import InvalidArgumentError
from drdp.privacy.events import NOTHING

LENGTH = 2_000


def around_a_mean(count=40, seed=0, length=LENGTH):
    """Updates of which the mean holds nine tenths of the energy."""
    mean = np.random.default_rng(5).standard_normal(length) * 3
    rng = np.random.default_rng(seed)
    return ((mean + rng.standard_normal((count, length))) * 1e-3).astype(np.float32)


class ConstantMean:
    """A decoder that has learnt the mean and nothing else."""

    event = NOTHING
    update_length = LENGTH
    code_length = 1

    def __init__(self):
        self.mean = around_a_mean(400, seed=9).mean(axis=0)

    def encode(self, update):
        return np.array([update[0]], dtype=np.float32)

    def decode(self, code):
        return self.mean + np.float32(1e-12 * code[0])


def test_a_constant_decoder_looks_good_raw_and_is_found_out():
    found = fidelity(ConstantMean(), around_a_mean())
    assert found.raw > 0.85
    assert found.raw == pytest.approx(found.mean_raw, abs=0.02)
    assert found.mean_kept > 0.98
    assert found.explained == pytest.approx(0.0, abs=1e-6)
    assert (found.kept, found.cosine) == (0.0, 0.0)
    assert not found.beats_baselines


def test_the_identity_keeps_everything():
    found = fidelity(Identity(LENGTH), around_a_mean())
    for value in (found.explained, found.kept, found.cosine, found.raw):
        assert value == pytest.approx(1.0, abs=1e-5)
    assert found.noise_explained == pytest.approx(1.0, abs=1e-5)
    assert not found.beats_baselines


@pytest.mark.parametrize("scale", Scale)
def test_a_random_projection_keeps_its_share_of_everything(scale):
    found = fidelity(RandomProjection(LENGTH, 200, 1, scale), around_a_mean())
    assert found.kept == pytest.approx(0.1, abs=0.02)
    assert found.cosine == pytest.approx(math.sqrt(0.1), abs=0.03)
    assert found.noise_kept == pytest.approx(0.1, abs=0.02)
    assert found.mean_kept == pytest.approx(0.1, abs=0.03)
    if scale is Scale.ADJOINT:
        assert found.explained == pytest.approx(0.1, abs=0.02)
    if scale is Scale.UNBIASED:
        assert found.explained < -5


def test_pca_keeps_the_planted_and_not_the_noise():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((LENGTH, 3)))[0].T
    samples = rng.standard_normal((80, 3)) @ basis + 0.005 * rng.standard_normal(
        (80, LENGTH)
    )
    codec = fit_pca(samples[:40], 3, source=Source(Origin.PUBLIC), mean_first=False)
    found = fidelity(codec, samples[40:])
    assert found.explained > 0.95
    assert found.noise_explained < 0.01
    assert found.beats_baselines
    assert math.isnan(found.mean_kept)


def test_the_report_shows_both_baselines():
    text = fidelity(RandomProjection(LENGTH, 200), around_a_mean()).text()
    assert "the mean" in text
    assert "on noise" in text
    assert len(text.splitlines()) == 6
    assert "mse" not in text.lower()


def test_figures_without_meaning_are_refused():
    with pytest.raises(InvalidArgumentError, match="at least 4, got 3"):
        fidelity(Identity(2), np.ones((3, 2)))
    with pytest.raises(InvalidArgumentError, match="must differ"):
        fidelity(Identity(2), np.ones((5, 2)))
    with pytest.raises(InvalidArgumentError, match="length 2"):
        fidelity(Identity(2), np.ones((5, 3)))


# --- communication -------------------------------------------------------------


def test_table_five_exactly():
    figures = table_five()
    assert figures.updates == 4096 * 8 * 2 * 4 * 32 * 20 == 167_772_160
    assert figures.statistics == 2 * 2 * 4 * 32 * 20 == 10_240
    assert figures.ratio == 6.103515625e-5 == 1 / 16_384
    assert mebibytes(figures.updates) == 640.0
    assert mebibytes(figures.updates, 2) == 320.0
    assert mebibytes(figures.statistics) == 0.0390625
    # The table's 160 MB and 0.078 MB are one and eight bytes a number.
    assert mebibytes(figures.updates, 1) == 160.0
    assert mebibytes(figures.statistics, 8) == 0.078125


def test_seven_billion_parameters_have_256_matrices():
    layout = lora_layout(layers=32, width=4096, rank=8)
    assert len(layout.slots) == 256
    assert {slot.size for slot in layout.slots} == {32_768}
    assert layout.length == 8_388_608
    assert len(layout.families) == 8


@pytest.mark.parametrize("detail", Detail)
@pytest.mark.parametrize("mean", Mean)
def test_the_counts_are_those_of_real_messages(detail, mean):
    layout = lora_layout(layers=2, width=16, rank=2)
    epochs = 3
    updates = np.random.default_rng(0).standard_normal((1, epochs, layout.length))
    sent = list(collect(updates, layout, Algorithm1(detail=detail, mean=mean)))
    counted = sum(statistics.numbers for statistics in sent)
    assert counted == collected_statistics(layout, epochs, detail=detail, mean=mean)
    assert collected_updates(layout, epochs) == updates.size


def test_message_sizes():
    plain = RandomProjection(LENGTH, 100)
    assert (message_bytes(plain), message_ratio(plain)) == (400, 0.05)
    assert message_bytes(Quantised(plain, 8)) == 104
    assert message_bytes(Quantised(plain, 1)) == 4 + 13
    update = around_a_mean(1)[0]
    for bits in (1, 4, 8):
        codec = Quantised(plain, bits)
        assert len(codec.message(update)) == message_bytes(codec)


# --- products ------------------------------------------------------------------


def test_noise_on_a_product_against_monte_carlo():
    """Unbiased, and with the stated error, to one percent."""
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((6, 2)) * 0.5, rng.standard_normal((2, 5)) * 0.5
    s_a, s_b = 0.2, 0.3
    draws = 40_000
    noisy_a = a + s_a * rng.standard_normal((draws, 6, 2))
    noisy_b = b + s_b * rng.standard_normal((draws, 2, 5))
    gap = noisy_a @ noisy_b - a @ b
    squared = np.square(gap).sum(axis=(1, 2))
    expected = product_error(a, b, left_std=s_a, right_std=s_b)
    assert squared.mean() == pytest.approx(expected, rel=0.01)
    assert np.abs(gap.mean(axis=0)).max() < 5 * gap.std() / math.sqrt(draws)
    only_b = product_error(a, b, left_std=0, right_std=s_b)
    assert only_b == pytest.approx(5 * s_b**2 * np.square(a).sum())
    with pytest.raises(InvalidArgumentError, match="matrices that multiply"):
        product_error(a, a, left_std=0, right_std=0)
