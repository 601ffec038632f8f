"""Algorithm 1 as printed, its readings, and the priors made from it."""

import math
import warnings

import numpy as np
import pytest

from drdp.compression.laws import shaped
from drdp.compression.layout import Layout, Slot
from drdp.compression.moments import (
    Algorithm1,
    Detail,
    Deviation,
    Mean,
    Recursion,
    Statistics,
    collect,
)
from drdp.compression.random_prior import (
    RandomPrior,
    Spread,
    prior_from,
    public_prior,
)
from drdp.compression.released import Pool, client_vector, dimension, released_prior
from drdp.compression.source import Origin, Source
from drdp.errors import InvalidArgumentError
from drdp.privacy.events import NOTHING, Adjacency, Gaussian, NonPrivate
from drdp.privacy.stages import NoisyPriorWarning

H1, H2 = 1e-5, 1e-3


def layout(layers=3, shape=(2, 5)):
    return Layout.of_shapes(
        (f"m.layers.{i}.{kind}", shape) for i in range(layers) for kind in ("A", "B")
    )


def random_updates(clients=2, epochs=4, scale=0.01, seed=0, where=None):
    where = where or layout()
    rng = np.random.default_rng(seed)
    shape = (clients, epochs, where.length)
    return (0.003 + scale * rng.standard_normal(shape)).astype(np.float32)


# --- layout --------------------------------------------------------------------


def test_layout_knows_places_and_families():
    where = layout()
    assert (where.length, len(where.slots)) == (60, 6)
    assert where.families == ("m.layers.*.A", "m.layers.*.B")
    assert Layout.of((s.key, s.offset, s.shape) for s in where.slots) == where
    parts = {s.key: part.tolist() for s, part in where.parts(np.arange(60.0))}
    assert parts["m.layers.1.A"] == list(range(20, 30))
    assert [slot.layer for slot in where.slots] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("slots", "names"),
    [
        ([("a", 0, (2,)), ("b", 3, (2,))], "b starts at 3, expected 2"),
        ([("a", 0, (2,)), ("a", 2, (2,))], "different keys"),
        ([("a", 0, (0,))], "shape"),
        ([("", 0, (1,))], "key"),
        ([], "at least one matrix"),
    ],
)
def test_bad_layouts_are_refused(slots, names):
    with pytest.raises(InvalidArgumentError, match=names):
        Layout.of(slots)


# --- Algorithm 1 ---------------------------------------------------------------


def by_hand(sequence, *, matrix, meansq, b1=0.99, b2=0.9, h1=H1, h2=H2):
    """The printed recursion, one matrix, in the plainest form there is."""
    m, s2, sent = 0.0, 0.0, []
    for matrix_of_step in sequence:
        x = np.asarray(matrix_of_step, dtype=np.float64)
        m = b1 * m + (1 - b1) * (x if matrix else sum(x) / len(x))
        squares = [(a - (m[i] if matrix else m)) ** 2 for i, a in enumerate(x)]
        v = sum(squares) / (len(x) if meansq else 1)
        s2 = b2 * s2 + (1 - b2) * min(max(v, h1), h2)
        sent.append((m, math.sqrt(s2)))
    return sent


@pytest.mark.parametrize("mean", Mean)
@pytest.mark.parametrize("deviation", Deviation)
@pytest.mark.parametrize("recursion", Recursion)
@pytest.mark.parametrize("scale", [1e-4, 0.003, 1.0])
def test_every_reading_is_the_printed_recursion(mean, deviation, recursion, scale):
    where = layout()
    data = random_updates(scale=scale)
    algorithm = Algorithm1(recursion=recursion, mean=mean, deviation=deviation)
    sent = list(collect(data, where, algorithm))
    assert len(sent) == 8
    for client in range(2):
        for epoch in range(4):
            found = sent[4 * client + epoch]
            for place, slot in enumerate(where.slots):
                part = slice(slot.offset, slot.stop)
                if recursion is Recursion.EPOCH:
                    sequence = data[client, : epoch + 1, part]
                elif recursion is Recursion.CLIENT:
                    sequence = data[: client + 1, epoch, part]
                else:
                    sequence = [
                        data[client, epoch, other.offset : other.stop]
                        for other in where.slots[: place + 1]
                        if other.family == slot.family
                    ]
                m, s = by_hand(
                    sequence,
                    matrix=mean is Mean.MATRIX,
                    meansq=deviation is Deviation.MEANSQ,
                )[-1]
                where_mean = part if mean is Mean.MATRIX else place
                assert found.mean[where_mean] == pytest.approx(m, rel=1e-12)
                assert found.std[place] == pytest.approx(s, rel=1e-12)


def test_weights_and_range_of_the_paper():
    """After 20 epochs, to seven digits."""
    mean, variance = Algorithm1().weights(20)
    assert mean == pytest.approx(0.1820931, abs=1e-7)
    assert variance == pytest.approx(0.8784233, abs=1e-7)
    low, high = Algorithm1().std_range(20)
    assert low == pytest.approx(0.0029638, abs=1e-7)
    assert high == pytest.approx(0.0296382, abs=1e-7)


@pytest.mark.parametrize(("scale", "end"), [(1e-9, 0), (10.0, 1)])
def test_the_range_is_attained_whatever_the_data(scale, end):
    data = random_updates(clients=1, epochs=20, scale=scale) - np.float32(0.003)
    *_, last = collect(data, layout(), Algorithm1())
    assert last.std == pytest.approx(Algorithm1().std_range(20)[end], rel=1e-9)
    assert np.abs(last.std - [0.0029638, 0.0296382][end]).max() < 1e-7


def test_constant_updates_show_the_weight_and_its_correction():
    data = np.full((1, 20, 60), 0.5, dtype=np.float32)
    *_, plain = collect(data, layout(), Algorithm1())
    *_, corrected = collect(data, layout(), Algorithm1(bias_correction=True))
    assert plain.mean == pytest.approx(0.5 * 0.1820931, abs=1e-7)
    assert corrected.mean == pytest.approx(0.5)
    assert corrected.std == pytest.approx(math.sqrt(H2))


def test_clamp_of_seven_billion_parameters():
    """RMS 1.305e-3 (FedCG's updates): the mean square is always clamped to h1,
    and the squared norm of a matrix of 32,768 numbers always to h2."""
    where = Layout.of_shapes([("w", (8, 4096))])
    x = np.random.default_rng(0).standard_normal((1, 1, 32_768)) * 1.305e-3
    for deviation, end in ((Deviation.MEANSQ, H1), (Deviation.NORM2, H2)):
        (sent,) = collect(x, where, Algorithm1(deviation=deviation))
        assert float(sent.std[0]) == pytest.approx(math.sqrt(0.1 * end))


def test_order_of_layers_is_by_number_not_by_name():
    keys = [f"m.{i}.A" for i in (0, 10, 2)]
    where = Layout.of_shapes((key, (1, 2)) for key in keys)
    algorithm = Algorithm1(recursion=Recursion.LAYER)
    update = np.array([1, 1, 3, 3, 2, 2], dtype=np.float32)
    (sent,) = collect([[update]], where, algorithm)
    first, tenth, second = sent.mean
    assert first < second < tenth
    assert tenth == pytest.approx(0.01 * (0.99**2 * 1 + 0.99 * 2 + 3))


def test_clients_stay_apart_unless_the_recursion_is_over_clients():
    data = random_updates()
    other = data.copy()
    other[0] *= 2
    for recursion in Recursion:
        algorithm = Algorithm1(recursion=recursion)
        second = list(collect(data, layout(), algorithm))[4:]
        changed = list(collect(other, layout(), algorithm))[4:]
        same = all(
            np.array_equal(a.mean, b.mean) for a, b in zip(second, changed, strict=True)
        )
        assert same == (recursion is not Recursion.CLIENT)


def test_layers_of_unequal_shape_are_refused():
    where = Layout.of_shapes([("m.0.A", (2,)), ("m.1.A", (3,))])
    with pytest.raises(InvalidArgumentError, match="equal shapes"):
        list(collect([[np.zeros(5)]], where, Algorithm1(recursion="layer")))


def test_how_many_numbers_are_sent():
    data = random_updates(clients=1, epochs=1)
    for detail, numbers in ((Detail.MEAN, 6), (Detail.MEAN_STD, 12), ("higher", 24)):
        (sent,) = collect(data, layout(), Algorithm1(detail=detail))
        assert sent.numbers == numbers
    (sent,) = collect(data, layout(), Algorithm1(mean=Mean.MATRIX))
    assert sent.numbers == 60 + 6


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"recursion": "day"}, "recursion must be one of"),
        ({"beta1": 1.0}, "beta1"),
        ({"h1": 1e-2}, "h1 must be at most h2"),
        ({"detail": "all"}, "detail must be one of"),
    ],
)
def test_bad_readings_are_named(options, names):
    with pytest.raises(InvalidArgumentError, match=names):
        Algorithm1(**options)


# --- priors --------------------------------------------------------------------


def big_layout():
    return Layout.of_shapes([("m.0.A", (40, 500)), ("m.0.B", (500, 40))])


def one_component(**values):
    where = big_layout()
    given = {"mean": np.array([0.001, -0.002]), "std": np.array([0.003, 0.02])} | values
    return where, (Statistics(**given),)


def test_synthetic_updates_have_the_moments_of_their_component():
    where, components = one_component()
    prior = RandomPrior(where, components, Source(Origin.PROXY))
    (sample,) = prior.samples(1, seed=4)
    assert (sample.dtype, sample.shape) == (np.float32, (40_000,))
    first, second = sample[:20_000].astype(float), sample[20_000:].astype(float)
    assert first.mean() == pytest.approx(0.001, abs=4 * 0.003 / 141)
    assert first.std() == pytest.approx(0.003, rel=0.03)
    assert second.mean() == pytest.approx(-0.002, abs=4 * 0.02 / 141)
    assert second.std() == pytest.approx(0.02, rel=0.03)


def test_s_may_be_read_as_a_variance():
    where, components = one_component()
    prior = RandomPrior(where, components, Source(Origin.PROXY), spread=Spread.VARIANCE)
    (sample,) = prior.samples(1)
    assert sample[:20_000].std() == pytest.approx(math.sqrt(0.003), rel=0.03)


def test_without_std_the_middle_of_the_public_range_stands_in():
    where, components = one_component(std=None)
    prior = RandomPrior(where, components, Source(Origin.PROXY))
    (sample,) = prior.samples(1)
    assert sample.std() == pytest.approx((H1 * H2) ** 0.25, rel=0.03)
    assert math.sqrt(H1) < sample.std() < math.sqrt(H2)


def test_higher_moments_are_imitated():
    where, components = one_component(
        skewness=np.array([0.0, 0.5]), kurtosis=np.array([1.0, -0.5])
    )
    prior = RandomPrior(where, components, Source(Origin.PROXY))
    samples = np.array(list(prior.samples(20)), dtype=np.float64)
    heavy = (samples[:, :20_000].ravel() - 0.001) / 0.003
    assert (heavy**4).mean() - 3 == pytest.approx(1.0, abs=0.15)
    skewed = (samples[:, 20_000:].ravel() + 0.002) / 0.02
    assert (skewed**3).mean() == pytest.approx(0.5, abs=0.02)
    assert (skewed**2).mean() == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("skewness", [-0.7, 0.0, 0.4])
@pytest.mark.parametrize("kurtosis", [-0.5, 0.0, 0.8])
def test_shaped_draws_are_standardised_and_skewed_as_asked(skewness, kurtosis):
    x = shaped(np.random.default_rng(1), 400_000, skewness, kurtosis)
    assert x.mean() == pytest.approx(0.0, abs=0.01)
    assert x.var() == pytest.approx(1.0, abs=0.02)
    assert (x**3).mean() == pytest.approx(skewness, abs=0.05)
    if skewness == 0.0:
        assert (x**4).mean() - 3 == pytest.approx(kurtosis, abs=0.1)


def test_out_of_reach_moments_are_brought_back():
    """The nearest skewness is that of one half alone, or some on the way there."""
    rng = np.random.default_rng(1)
    for skewness, kurtosis, reached in (
        (50.0, 0.0, 0.995),  # the half-normal law's
        (-50.0, 0.0, -0.995),
        (0.9, -1.0, 0.258),  # flat halves: most of it lies between
    ):
        x = shaped(rng, 400_000, skewness, kurtosis)
        assert (x**3).mean() == pytest.approx(reached, abs=0.02)
        assert x.var() == pytest.approx(1.0, abs=0.02)
    assert np.isfinite(shaped(rng, 10_000, 0.0, 1e9)).all()
    assert np.abs(shaped(rng, 10_000, 0.0, -5.0)).max() < 2.0


def test_samples_depend_on_seed_and_number_alone():
    prior = public_prior(layout(), components=8)
    five = list(prior.samples(5, seed=1))
    three = list(prior.samples(3, seed=1))
    assert np.array_equal(five[:3], three)
    assert not np.array_equal(five[0], five[1])
    assert not np.array_equal(five[0], next(prior.samples(1, seed=2)))
    endless = prior.samples(seed=1)
    assert np.array_equal([next(endless) for _ in range(5)], five)


def test_the_public_prior_is_log_uniform_in_the_range_and_free():
    prior = public_prior(layout(layers=50), components=200)
    std = np.array([c.std for c in prior.components]).ravel()
    logs = (np.log(std) - 0.5 * math.log(H1)) / (0.5 * math.log(H2 / H1))
    assert 0.0 <= logs.min() < 0.01
    assert 0.99 < logs.max() <= 1.0
    assert np.quantile(logs, [0.25, 0.5, 0.75]) == pytest.approx(
        [0.25, 0.5, 0.75], abs=0.02
    )
    assert all(not c.mean.any() for c in prior.components)
    assert prior.event == NOTHING


def test_priors_from_updates_say_what_they_cost():
    data = random_updates()
    proxy = prior_from(data, layout(), source=Source(Origin.PROXY))
    printed = prior_from(data, layout(), source=Source(Origin.AS_PRINTED))
    assert (proxy.event, printed.event) == (NOTHING, NonPrivate())
    assert len(proxy.components) == 8
    with pytest.raises(TypeError):
        prior_from(data, layout())
    with pytest.raises(InvalidArgumentError, match="collected as they are"):
        prior_from(data, layout(), source=Source(Origin.RELEASED, 5.0))


# --- released moments ----------------------------------------------------------


class Zeros:
    """Noise of size nothing, to see what is released."""

    def normal(self, count):
        return np.zeros(count)


class Ones:
    """Noise of one standard deviation."""

    def normal(self, count):
        return np.ones(count)


def sent_by(clients=40, scale=0.002, **options):
    algorithm = Algorithm1(deviation="meansq", bias_correction=True)
    data = random_updates(clients, 3, scale)
    sent = list(collect(data, layout(), algorithm))[2::3]
    return [client_vector(s, layout(), **options) for s in sent]


def release(vectors, **options):
    given = {"clients": 40, "noise_multiplier": 2.0, "rng": Zeros()} | options
    return released_prior(vectors, layout(), **given)


def test_a_client_sends_numbers_in_range_whatever_it_holds():
    for scale in (1e-9, 0.01, 1e6):
        for vector in sent_by(3, scale):
            assert vector.shape == (dimension(layout()),) == (4,)
            assert np.abs(vector).max() <= 1.0
    broken = Statistics(np.full(6, math.nan), np.full(6, math.inf))
    vector = client_vector(broken, layout())
    assert vector.tolist() == [0.0, 0.0, 1.0, 1.0]


def test_without_noise_the_released_moments_are_the_mean_of_the_clients():
    prior = release(sent_by(mean_bound=0.1), mean_bound=0.1)
    (component,) = prior.components
    data = random_updates(40, 3, 0.002)
    algorithm = Algorithm1(deviation="meansq", bias_correction=True)
    sent = list(collect(data, layout(), algorithm))[2::3]
    for family, places in (("A", [0, 2, 4]), ("B", [1, 3, 5])):
        square = np.mean([s.std[places] ** 2 for s in sent])
        assert component.std[places] == pytest.approx(math.sqrt(square)), family
        mean = np.mean([s.mean[places] for s in sent])
        assert component.mean[places] == pytest.approx(mean, rel=1e-6), family


def test_released_moments_state_their_gaussian_and_carry_its_noise():
    for adjacency, kappa in ((Adjacency.REPLACE_ONE, 2), (Adjacency.ZERO_OUT, 1)):
        quiet = release([np.zeros(4)] * 40, adjacency=adjacency)
        loud = release([np.zeros(4)] * 40, adjacency=adjacency, rng=Ones())
        assert quiet.event == loud.event == Gaussian(2.0)
        moved = (loud.components[0].mean - quiet.components[0].mean) / H1**0.5
        # z kappa R / M with R = sqrt(4)
        assert moved == pytest.approx(2.0 * kappa * 2.0 / 40)


def test_one_client_moves_the_sum_by_no_more_than_the_noise_is_for():
    """What is summed is bounded where it is summed, whoever sent it."""
    quiet = [np.zeros(4)] * 39
    spy = Zeros()
    extreme = release([*quiet, np.full(4, 1e9)], rng=spy).components[0]
    other = release([*quiet, np.full(4, -1e9)], rng=spy).components[0]
    moved = np.abs(extreme.mean - other.mean) / H1**0.5
    assert moved == pytest.approx(2.0 / 40)
    gone = release([*quiet, np.array([math.nan] * 4)], rng=spy).components[0]
    assert gone.mean == pytest.approx(np.zeros(6))


def test_values_out_of_range_are_clamped_after_the_release():
    prior = release([np.ones(4)] * 40, rng=Ones())
    assert prior.components[0].std == pytest.approx(math.sqrt(H2))
    assert prior.components[0].mean == pytest.approx(math.sqrt(H1))


def test_moments_that_drown_are_warned_about():
    with pytest.warns(NoisyPriorWarning):
        release([np.zeros(4)] * 3, clients=3, noise_multiplier=5.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        release([np.zeros(4)] * 40)


@pytest.mark.parametrize(
    ("vectors", "options", "names"),
    [
        ([np.zeros(5)], {}, "vectors must all have 2 or 4"),
        ([np.zeros(4), np.zeros(2)], {}, "vectors must all have 4"),
        ([], {}, "got 0"),
        ([np.zeros(4)] * 41, {}, "got 41"),
        ([np.zeros(4)], {"noise_multiplier": 0.0}, "noise_multiplier"),
        ([np.zeros(4)], {"pool": "layer"}, "pool must be one of"),
    ],
)
def test_bad_releases_are_named(vectors, options, names):
    with pytest.raises(InvalidArgumentError, match=names):
        release(vectors, **options)


def test_pools_and_details():
    assert [dimension(layout(), pool) for pool in Pool] == [12, 4, 2]
    assert dimension(layout(), stds=False) == 2
    only = release([np.zeros(1)] * 40, pool=Pool.ALL)
    assert only.components[0].std is None
    algorithm = Algorithm1(mean=Mean.MATRIX, bias_correction=True)
    *_, sent = collect(random_updates(1, 1), layout(), algorithm)
    assert client_vector(sent, layout()).shape == (4,)
    *_, sent = collect(random_updates(1, 1), layout(), Algorithm1(detail="higher"))
    with pytest.raises(InvalidArgumentError, match="higher"):
        client_vector(sent, layout())


def test_slots_are_values():
    assert Slot("a", 0, (2, 3)).size == 6
