"""The sources of noise: their laws, their seams, their threads.

Statistical tests run on fixed keys and seeds, so they always give the same
verdict; the stated rate is the chance that a correct sampler would have failed
when the key was first chosen.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special, stats

from drdp.errors import InvalidArgumentError
from drdp.mechanisms import noise
from drdp.mechanisms.noise import SecureNoise, SeededNoise
from drdp.mechanisms.protocol import NoiseSource

KEY = bytes(range(32))
SOURCES: dict[str, Callable[[], NoiseSource]] = {
    "secure": lambda: SecureNoise._with_key(KEY),
    "seeded": lambda: SeededNoise(20_260_101, "test"),
}
COUNT = 4_000_000
ALARM = 1e-4  # two-sided false-alarm rate of each single statistical test
LAWS = {"normal": stats.norm, "laplace": stats.laplace, "uniform": stats.uniform}
MOMENTS: dict[str, Callable[[int], float]] = {
    "normal": lambda k: 0.0 if k % 2 else float(special.factorial2(k - 1)),
    "laplace": lambda k: 0.0 if k % 2 else float(math.factorial(k)),
    "uniform": lambda k: 1.0 / (k + 1),
}
pytestmark = pytest.mark.parametrize("source", list(SOURCES))


@pytest.fixture(scope="module")
def draws() -> Callable[[str, str], NDArray[np.float64]]:
    kept: dict[tuple[str, str], NDArray[np.float64]] = {}

    def of(source: str, law: str) -> NDArray[np.float64]:
        if (source, law) not in kept:
            kept[source, law] = getattr(SOURCES[source](), law)(COUNT)
        return kept[source, law]

    return of


# --- laws, false-alarm rate ALARM per test and case -------------------------------


@pytest.mark.parametrize("law", list(LAWS))
def test_kolmogorov_smirnov(source: str, law: str, draws: Callable) -> None:
    found = stats.kstest(draws(source, law)[:1_000_000], LAWS[law].cdf)
    assert found.pvalue > ALARM


@pytest.mark.parametrize("law", list(LAWS))
def test_chi_square_on_a_thousand_equal_bins(
    source: str, law: str, draws: Callable
) -> None:
    bins = np.floor(1000.0 * LAWS[law].cdf(draws(source, law))).astype(int)
    counts = np.bincount(np.minimum(bins, 999), minlength=1000)
    assert stats.chisquare(counts).pvalue > ALARM


@pytest.mark.parametrize("law", list(LAWS))
def test_moments(source: str, law: str, draws: Callable) -> None:
    x = draws(source, law)
    limit = stats.norm.isf(ALARM / 8.0)
    for order in range(1, 5):
        mean, square = MOMENTS[law](order), MOMENTS[law](2 * order)
        error = math.sqrt((square - mean * mean) / x.size)
        assert abs(np.mean(x**order) - mean) < limit * error, order


@pytest.mark.parametrize("law", ["normal", "laplace"])
@pytest.mark.parametrize("side", [-1.0, 1.0])
@pytest.mark.parametrize("deviations", [3.0, 4.0, 5.0])
def test_tails_hold_what_they_should(
    source: str, law: str, side: float, deviations: float, draws: Callable
) -> None:
    edge = deviations * LAWS[law].std()
    found = int(np.count_nonzero(side * draws(source, law) > edge))
    expected = COUNT * LAWS[law].sf(edge)
    low, high = stats.poisson(expected).ppf([ALARM / 2.0, 1.0 - ALARM / 2.0])
    assert low <= found <= high


@pytest.mark.parametrize("law", ["normal", "laplace"])
def test_neighbouring_draws_are_independent(
    source: str, law: str, draws: Callable
) -> None:
    x = draws(source, law)
    limit = stats.norm.isf(ALARM / 8.0) / math.sqrt(x.size)
    for lag in (1, 2, noise._CHUNK, 8):
        assert abs(np.corrcoef(x[lag:], x[:-lag])[0, 1]) < limit
        assert abs(np.corrcoef(abs(x[lag:]), abs(x[:-lag]))[0, 1]) < limit


def test_every_bit_of_a_word_is_fair(source: str) -> None:
    words = SOURCES[source]().words(1_000_000)
    ones = [int(np.count_nonzero((words >> np.uint64(bit)) & 1)) for bit in range(64)]
    limit = stats.norm.isf(ALARM / 128.0) * math.sqrt(words.size) / 2.0
    assert np.all(np.abs(np.array(ones) - words.size / 2.0) < limit)


# --- the map from words to numbers ------------------------------------------------


def _words(*values: int) -> NDArray[np.uint64]:
    return np.array(values, dtype=np.uint64)


TOP = 1 << 63


@pytest.mark.parametrize("k", [0, 1, 2, 1000, 1 << 20, 1 << 40, 1 << 58, 1 << 62])
def test_rare_words_are_the_quantiles_they_stand_for(source: str, k: int) -> None:
    del source
    with mpmath.workdps(40):
        share = (mpmath.mpf(k) + 0.5) / mpmath.mpf(2) ** 64
        truth = mpmath.sqrt(2) * mpmath.erfinv(2 * share - 1)
        laplace = mpmath.log(2 * share)
    plus, minus = noise._normal(_words(k, k | TOP))
    assert plus == -minus
    assert abs(plus) == pytest.approx(abs(float(truth)), rel=1e-13)
    plus, minus = noise._laplace(_words(k, k | TOP))
    assert (plus, minus) == (-minus, -plus)
    assert abs(plus) == pytest.approx(abs(float(laplace)), rel=1e-13)


def test_the_ends_are_finite_and_where_the_docs_say(source: str) -> None:
    del source
    ends = _words(0, TOP - 1, TOP, 2**64 - 1)
    normal, laplace = noise._normal(ends), noise._laplace(ends)
    assert normal[0] == pytest.approx(9.15, abs=0.01)
    assert special.log_ndtr(-normal[0]) / math.log(2) == pytest.approx(-65.0)
    assert laplace[0] == pytest.approx(44.4, abs=0.05)
    assert list(normal[1::2]) == [0.0, 0.0]
    assert list(laplace[1::2]) == [0.0, 0.0]
    uniform = noise._uniform(ends)
    assert uniform[0] == 2.0**-65
    assert uniform[-1] == 1.0


# --- counts, seams and separation --------------------------------------------------


@pytest.mark.parametrize("law", ["words", "uniform", "normal", "laplace"])
@pytest.mark.parametrize("count", [0, 1, noise._CHUNK - 1, 3 * noise._CHUNK + 1])
def test_counts_and_chunks_do_not_show(source: str, law: str, count: int) -> None:
    whole = getattr(SOURCES[source](), law)(count)
    rng = SOURCES[source]()
    pieces = [getattr(rng, law)(n) for n in (count // 3, count - count // 3)]
    assert whole.shape == (count,)
    assert np.array_equal(whole, np.concatenate(pieces))


@pytest.mark.parametrize("count", [-1, 1.5, True, "3"])
def test_counts_are_checked(source: str, count: object) -> None:
    with pytest.raises(InvalidArgumentError, match="count must be"):
        SOURCES[source]().normal(count)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", [(1.5,), (True,), (None,)])
def test_paths_are_checked(source: str, path: tuple) -> None:
    with pytest.raises(InvalidArgumentError, match="path must consist"):
        SOURCES[source]().spawn(*path)


def test_draws_from_many_threads_never_coincide(source: str) -> None:
    rng = SOURCES[source]()
    gate = threading.Barrier(4)

    def some(_: int) -> NDArray[np.uint64]:
        gate.wait()
        return np.concatenate([rng.words(257) for _ in range(200)])

    with ThreadPoolExecutor(4) as pool:
        found = np.concatenate(list(pool.map(some, range(4))))
    assert np.unique(found).size == found.size  # by chance: 2^-31
