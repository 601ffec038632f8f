"""What holds for every codec that needs no network."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drdp.compression.identity import Identity
from drdp.compression.pca import Pca, fit_pca
from drdp.compression.projection import RandomProjection, Scale
from drdp.compression.quantised import Quantised, Rounding
from drdp.compression.sketch import CountSketch, Estimate
from drdp.compression.source import Origin, Source
from drdp.errors import InvalidArgumentError
from drdp.privacy.events import NOTHING, NonPrivate

LENGTH = 300
PUBLIC = Source(Origin.PUBLIC)


def rng(seed=0):
    return np.random.default_rng(seed)


def updates(count=12, length=LENGTH, seed=0):
    """Vectors whose sizes differ by orders of magnitude."""
    scale = np.exp(rng(seed).uniform(-9, 2, (count, 1)))
    return (rng(seed + 1).standard_normal((count, length)) * scale).astype(np.float32)


def pca(code_length=8):
    return fit_pca(updates(20, seed=7), code_length, source=PUBLIC)


LINEAR = {
    "identity": Identity(LENGTH),
    "projection": RandomProjection(LENGTH, 40, seed=3),
    "unbiased projection": RandomProjection(LENGTH, 40, 3, Scale.UNBIASED),
    "sketch": CountSketch(LENGTH, 60, rows=3, seed=3),
    "pca": pca(),
}
CODECS = LINEAR | {
    "median sketch": CountSketch(LENGTH, 60, 3, 3, Estimate.MEDIAN),
    "8 bits": Quantised(pca(), 8),
    "4 bits": Quantised(LINEAR["projection"], 4),
    "1 bit": Quantised(Identity(LENGTH), 1),
    "dithered": Quantised(LINEAR["sketch"], 4, Rounding.DITHERED, seed=5),
}
ORTHONORMAL = ("identity", "projection", "unbiased projection", "pca")


def norm(vector):
    return float(np.linalg.norm(np.asarray(vector, dtype=np.float64)))


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_shapes_types_and_event(codec):
    code = codec.encode(updates()[0])
    assert (code.dtype, code.shape) == (np.float32, (codec.code_length,))
    for kind in (np.float32, np.float64):
        back = codec.decode(code.astype(kind))
        assert (back.dtype, back.shape) == (np.float32, (codec.update_length,))
    assert codec.event == NOTHING
    assert codec.message_bits > 0


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_encoding_is_a_fixed_map_that_leaves_its_argument_alone(codec):
    batch = updates()
    kept = batch.copy()
    first = [codec.encode(update) for update in batch]
    again = [codec.encode(update) for update in batch[::-1]][::-1]
    assert np.array_equal(first, again)
    assert np.array_equal(batch, kept)
    codec.encode(batch[0])[:] = 7.0
    assert np.array_equal(batch, kept)


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@given(seed=st.integers(0, 10_000))
def test_codes_are_no_longer_than_the_codec_says(codec, seed):
    for update in updates(4, seed=seed):
        assert norm(codec.encode(update)) <= codec.expansion * norm(update) * (1 + 1e-6)


@pytest.mark.parametrize("name", ORTHONORMAL)
def test_orthonormal_codecs_lengthen_nothing(name):
    assert CODECS[name].expansion == 1.0


@pytest.mark.parametrize("name", ["projection", "pca", "identity"])
def test_decoding_then_encoding_is_the_identity(name):
    """P P^T = I: the adjoint is a right inverse."""
    codec = LINEAR[name]
    code = rng().standard_normal(codec.code_length)
    assert codec.encode(codec.decode(code)) == pytest.approx(code, abs=2e-6)


def test_the_expansion_of_a_sketch_is_attained_and_exceeds_one():
    """An update in the fullest bucket of its only row is as much longer."""
    codec = CountSketch(LENGTH, 20, rows=1, seed=1)
    column = [codec.encode(row) for row in np.eye(LENGTH, dtype=np.float32)]
    matrix = np.array(column, dtype=np.float64)
    assert codec.expansion == pytest.approx(np.linalg.norm(matrix, 2), rel=1e-6)
    assert codec.expansion > math.sqrt(LENGTH / 20)
    three = LINEAR["sketch"]
    matrix = np.array([three.encode(row) for row in np.eye(LENGTH, dtype=np.float32)])
    assert 1.0 < np.linalg.norm(matrix, 2) <= three.expansion


def clipped(vector, clip_norm=1.0):
    return vector * min(1.0, clip_norm / max(norm(vector), 1e-30))


def test_clipping_the_code_bounds_it_and_clipping_the_update_may_not():
    codec = CountSketch(LENGTH, 20, rows=1, seed=1)
    matrix = np.array([codec.encode(row) for row in np.eye(LENGTH, dtype=np.float32)])
    fullest = np.abs(matrix).sum(axis=0).argmax()
    update = clipped(matrix[:, fullest].astype(np.float64))
    assert norm(codec.encode(update)) > 3.5
    for one in CODECS.values():
        for some in (update, 1e4 * update, updates()[0]):
            assert norm(clipped(one.encode(some).astype(np.float64))) <= 1.0 + 1e-12
            if one.expansion == 1.0:
                assert norm(one.encode(clipped(some))) <= 1.0 + 1e-6


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_decoding_commutes_with_averaging_where_it_says_so(codec):
    codes = np.array([codec.encode(update) for update in updates()], dtype=np.float64)
    mean_first = codec.decode(codes.mean(axis=0)).astype(np.float64)
    mean_last = np.mean([codec.decode(code).astype(float) for code in codes], axis=0)
    gap = norm(mean_first - mean_last) / norm(mean_last)
    assert (gap < 1e-6) == codec.linear_decode


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_noise_moves_the_parameters_as_far_as_stated(codec):
    if not codec.linear_decode:
        assert math.isnan(codec.noise_gain)
        return
    draws = rng(1).standard_normal((1_000, codec.code_length))
    squares = [norm(codec.decode(noise)) ** 2 for noise in draws]
    assert math.sqrt(np.mean(squares)) == pytest.approx(codec.noise_gain, rel=0.05)


@pytest.mark.parametrize("codec", LINEAR.values(), ids=LINEAR)
def test_linear_codecs_are_linear(codec):
    a, b = updates(2, seed=4) / np.float32(3.0)
    together = codec.encode(a + 2 * b)
    apart = codec.encode(a) + 2 * codec.encode(b)
    assert together == pytest.approx(apart, abs=3e-6 * (norm(a) + norm(b)))


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_bad_vectors_are_refused_in_one_line(codec):
    good = updates()[0]
    for value in (math.nan, math.inf):
        bad = good.copy()
        bad[3] = value
        with pytest.raises(InvalidArgumentError, match="update must be finite"):
            codec.encode(bad)
    with pytest.raises(InvalidArgumentError, match="length"):
        codec.encode(good[:-1])
    with pytest.raises(InvalidArgumentError, match="flat vector"):
        codec.encode(good.reshape(2, -1))
    with pytest.raises(InvalidArgumentError, match="code must have length"):
        codec.decode(np.zeros(codec.code_length + 1))


# --- projections ---------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 97, 128, 360, 1021])
def test_projections_are_orthonormal_for_every_length(length):
    code = max(1, length // 3)
    codec = RandomProjection(length, code, seed=9)
    rows = np.array([codec.decode(row) for row in np.eye(code)], dtype=np.float64)
    assert np.abs(rows @ rows.T - np.eye(code)).max() < 2e-6
    whole = RandomProjection(length, length, seed=9)
    vector = rng(length).standard_normal(length).astype(np.float32)
    assert norm(whole.encode(vector)) == pytest.approx(norm(vector), rel=1e-6)
    assert whole.decode(whole.encode(vector)) == pytest.approx(vector, abs=1e-5)


def monte_carlo(codec, update, draws):
    """Mean of what is decoded over the draws, and the standard error of its norm."""
    back = np.array(
        [
            one.decode(one.encode(update)).astype(np.float64)
            for one in map(codec.redrawn, range(draws))
        ]
    )
    error = back.mean(axis=0) - np.asarray(update, dtype=np.float64)
    return back, norm(error), math.sqrt(back.var(axis=0).sum() / draws)


@pytest.mark.parametrize(
    "codec",
    [
        RandomProjection(60, 12, seed=1, scale=Scale.UNBIASED),
        CountSketch(60, 12, rows=3, seed=1),
    ],
    ids=["projection", "sketch"],
)
@pytest.mark.parametrize("update", [np.eye(60)[5], rng(2).standard_normal(60)])
def test_unbiased_over_the_seeds(codec, update):
    """The error of the mean falls as one over the root of the draws."""
    _, error, standard = monte_carlo(codec, update, 2_000)
    assert error < 1.5 * standard
    assert standard < 0.1 * norm(update)


def test_squared_error_of_a_sketch_is_as_stated():
    update = rng(2).standard_normal(60)
    back, _, _ = monte_carlo(CountSketch(60, 12, rows=3, seed=1), update, 2_000)
    squared = np.square(back - update).sum(axis=1).mean() / norm(update) ** 2
    assert squared == pytest.approx(59 / 12, rel=0.05)


@pytest.mark.parametrize(
    ("scale", "length"), [(Scale.ADJOINT, 0.2), (Scale.NORM, 1.0), (Scale.UNBIASED, 5)]
)
def test_squared_length_of_what_is_decoded(scale, length):
    update = rng(2).standard_normal(60)
    back, _, _ = monte_carlo(RandomProjection(60, 12, 1, scale), update, 1_000)
    squared = np.square(back).sum(axis=1).mean() / norm(update) ** 2
    assert squared == pytest.approx(length, rel=0.05)


def test_projections_of_other_draws_differ_and_the_same_seed_agrees():
    update = updates()[0]
    codec = RandomProjection(LENGTH, 40, seed=3)
    assert np.array_equal(codec.encode(update), LINEAR["projection"].encode(update))
    assert not np.allclose(codec.redrawn(1).encode(update), codec.encode(update))
    assert codec == LINEAR["projection"]


def test_public_draws_never_change():
    """A client of one version and a server of another must agree."""
    codec = RandomProjection(16, 4, seed=7)
    code = codec.encode(np.arange(16, dtype=np.float32))
    assert code == pytest.approx([-7.0, 11.425436, 12.542994, -13.852693], abs=1e-5)
    assert CountSketch(8, 4, seed=7).encode(np.arange(8.0)).tolist() == [9, -5, 10, -2]


def test_a_median_sketch_finds_a_heavy_coordinate():
    update = np.zeros(1_000, dtype=np.float32)
    update[123] = 5.0
    update += rng(0).standard_normal(1_000).astype(np.float32) * 0.01
    codec = CountSketch(1_000, 500, rows=5, seed=2, estimate=Estimate.MEDIAN)
    back = codec.decode(codec.encode(update))
    assert int(np.argmax(back)) == 123
    assert back[123] == pytest.approx(5.0, abs=0.2)
    assert np.abs(np.delete(back, 123)).max() < 0.5


# --- quantised -----------------------------------------------------------------


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("length", [1, 7, 64])
@pytest.mark.parametrize("rounding", Rounding)
def test_messages_hold_exactly_what_is_encoded(bits, length, rounding):
    if bits == 1 and rounding is Rounding.DITHERED:
        with pytest.raises(InvalidArgumentError, match="nearest"):
            Quantised(Identity(length), bits, rounding)
        return
    codec = Quantised(Identity(length), bits, rounding)
    for update in (*updates(5, length), np.zeros(length, dtype=np.float32)):
        message = codec.message(update)
        assert len(message) * 8 == codec.message_bits
        assert len(message) == 4 + math.ceil(bits * length / 8)
        assert np.array_equal(codec.read(message), codec.encode(update))


@pytest.mark.parametrize(("bits", "levels"), [(4, 7), (8, 127)])
@pytest.mark.parametrize("rounding", Rounding)
def test_rounding_errs_by_half_a_step_at_most(bits, levels, rounding):
    codec = Quantised(Identity(LENGTH), bits, rounding)
    for update in updates():
        step = float(np.abs(update).max()) / levels
        assert np.abs(codec.encode(update) - update).max() <= 0.5 * step * (1 + 1e-5)


def test_dither_is_unbiased_over_its_draws_and_nearest_is_not():
    update = np.array([1.0, 0.05, -0.31, 0.5], dtype=np.float32)
    dithered = Quantised(Identity(4), 4, Rounding.DITHERED)
    seen = np.array([dithered.redrawn(i).encode(update) for i in range(4_000)])
    standard = seen.std(axis=0) / math.sqrt(4_000)
    assert np.abs(seen.mean(axis=0) - update).max() < 4 * standard.max()
    biased = Quantised(Identity(4), 4).encode(update)
    assert abs(biased[1] - update[1]) > 10 * standard.max()


def test_one_bit_is_sign_times_mean_magnitude():
    code = Quantised(Identity(4), 1).encode([1.0, -3.0, 0.0, 4.0])
    assert code.tolist() == [2.0, -2.0, 2.0, 2.0]


def test_a_message_of_another_length_is_refused():
    with pytest.raises(InvalidArgumentError, match="message must have 6 bytes, got 3"):
        Quantised(Identity(2)).read(b"abc")


# --- pca -----------------------------------------------------------------------


def planted(count, length=LENGTH, rank=3, noise=0.0, seed=0):
    """Updates in a fixed subspace, and its orthonormal basis."""
    basis = np.linalg.qr(rng(99).standard_normal((length, rank)))[0].T
    weights = rng(seed).standard_normal((count, rank)) * [5.0, 3.0, 1.0][:rank]
    extra = noise * rng(seed + 1).standard_normal((count, length))
    return (weights @ basis + extra).astype(np.float32), basis


@pytest.mark.parametrize("mean_first", [True, False])
def test_pca_finds_a_planted_subspace(mean_first):
    samples, _ = planted(30)
    codec = fit_pca(iter(samples), 3, source=PUBLIC, mean_first=mean_first)
    fresh, _ = planted(5, seed=50)
    for update in fresh:
        assert codec.decode(codec.encode(update)) == pytest.approx(update, abs=1e-5)
    gram = codec.basis.astype(np.float64) @ codec.basis.T.astype(np.float64)
    assert np.abs(gram - np.eye(3)).max() < 1e-6
    assert codec.energy[-1] == pytest.approx(1.0, abs=1e-6)
    with pytest.raises(InvalidArgumentError, match="rank of the samples, 3"):
        fit_pca(samples, 4, source=PUBLIC, mean_first=mean_first)


def test_pca_is_the_singular_value_decomposition():
    samples, _ = planted(30, noise=0.1)
    codec = fit_pca(samples, 6, source=PUBLIC, mean_first=False)
    _, values, directions = np.linalg.svd(samples.astype(np.float64), False)
    overlap = np.abs(codec.basis.astype(np.float64) @ directions[:6].T)
    assert overlap == pytest.approx(np.eye(6), abs=1e-4)
    kept = np.cumsum(values**2)[:6] / np.sum(values**2)
    assert codec.energy == pytest.approx(kept, rel=1e-6)


def test_the_first_direction_is_the_mean_and_the_rest_the_principal_ones():
    samples, _ = planted(40, noise=0.1)
    samples = samples + np.float32(0.3)
    codec = fit_pca(samples, 4, source=PUBLIC)
    mean = samples.mean(axis=0, dtype=np.float64)
    assert codec.basis[0] == pytest.approx(mean / norm(mean), abs=1e-6)
    unit = mean / norm(mean)
    rest = samples - np.outer(samples @ unit, unit)
    directions = np.linalg.svd(rest, full_matrices=False)[2][:3]
    overlap = np.abs(codec.basis[1:].astype(np.float64) @ directions.T)
    assert overlap == pytest.approx(np.eye(3), abs=1e-4)


def test_ill_conditioned_samples_still_give_orthonormal_directions():
    weights = np.diag(10.0 ** -np.arange(6.0))
    basis = np.linalg.qr(rng(1).standard_normal((LENGTH, 6)))[0].T
    mixed = rng(2).standard_normal((20, 6)) @ weights @ basis
    codec = fit_pca(mixed, 5, source=PUBLIC, mean_first=False)
    gram = codec.basis.astype(np.float64) @ codec.basis.T.astype(np.float64)
    assert np.abs(gram - np.eye(5)).max() < 1e-6


def test_a_shorter_pca_is_a_prefix_and_samples_without_mean_are_refused():
    samples, _ = planted(30, noise=0.1)
    five = fit_pca(samples, 5, source=PUBLIC)
    two = fit_pca(samples, 2, source=PUBLIC)
    assert np.array_equal(five.shortened(2).basis, five.basis[:2])
    overlap = np.abs((two.basis @ five.basis[:2].T).astype(np.float64))
    assert overlap == pytest.approx(np.eye(2), abs=1e-5)
    with pytest.raises(InvalidArgumentError, match="mean_first=False"):
        fit_pca(np.concatenate([samples, -samples]), 2, source=PUBLIC)
    with pytest.raises(InvalidArgumentError, match="at least one update"):
        fit_pca([], 2, source=PUBLIC)


def test_pca_on_private_updates_says_so(tmp_path):
    samples, _ = planted(30)
    codec = fit_pca(samples, 2, source=Source(Origin.CLIENT_UPDATES))
    assert codec.event == NonPrivate()
    with pytest.raises(TypeError):
        fit_pca(samples, 2)
    path = tmp_path / "pca.safetensors"
    check = codec.save(path)
    again = Pca.load(path)
    assert again.event == NonPrivate()
    assert np.array_equal(again.basis, codec.basis)
    assert np.array_equal(again.energy, codec.energy)
    assert again.save(tmp_path / "again.safetensors") == check
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "again.safetensors",
        "pca.safetensors",
    ]


def test_damaged_or_foreign_files_are_refused(tmp_path):
    samples, _ = planted(30)
    path = tmp_path / "pca.safetensors"
    fit_pca(samples, 2, source=PUBLIC).save(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InvalidArgumentError, match="checksum"):
        Pca.load(path)
    path.write_bytes(b"not a codec at all")
    with pytest.raises(InvalidArgumentError, match="holds no codec"):
        Pca.load(path)
    with pytest.raises(InvalidArgumentError, match="no such file"):
        Pca.load(tmp_path / "missing")


# --- arguments -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: RandomProjection(10, 11), "code_length must be at most"),
        (lambda: RandomProjection(10, 0), "code_length"),
        (lambda: RandomProjection(10, 5, scale="long"), "scale must be one of"),
        (lambda: CountSketch(10, 5, rows=2), "rows must divide"),
        (lambda: CountSketch(10, 4, estimate="mode"), "estimate must be one of"),
        (lambda: Quantised(Identity(3), 3), "bits must be one of"),
        (lambda: Quantised(Identity(3), 8, "up"), "rounding must be one of"),
        (lambda: Identity(0), "update_length"),
        (lambda: Source("guess"), "origin must be one of"),
        (lambda: Source("public", 2.0), "noise_multiplier"),
        (lambda: Source("client-updates", 2.0), "noise_multiplier"),
        (lambda: Source("released"), "noise_multiplier"),
        (lambda: pca().shortened(9), "code_length"),
    ],
)
def test_bad_arguments_are_named(make, names):
    with pytest.raises(InvalidArgumentError, match=names):
        make()
