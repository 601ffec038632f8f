"""The integer samplers: their laws, their close calls, the bits they use.

Statistical tests run on fixed seeds, so they always give the same verdict; the
stated rate is the chance that a correct sampler would have failed when the seed
was first chosen.
"""

from __future__ import annotations

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from benchmarks.discrete import naive_discrete_gaussian
from drdp.errors import InvalidArgumentError
from drdp.mechanisms import discrete_gaussian as gaussian_module
from drdp.mechanisms import skellam as skellam_module
from drdp.mechanisms.discrete_gaussian import discrete_gaussian
from drdp.mechanisms.enclosure import exp_minus, product, ratio
from drdp.mechanisms.lookup import Lookup, bernoulli_exp
from drdp.mechanisms.noise import SeededNoise
from drdp.mechanisms.skellam import skellam

COUNT = 1_000_000
ALARM = 1e-4  # false-alarm rate of each single statistical test
SCALES = [0.5, 2.0, 50.0, 64.0, 65.0, 1000.0]
VARIANCES = [0.02, 0.5, 4.0, 100.0, 1e4, 1e6]
WORD = 1 << 64


class Scripted:
    """Words that were written down; more than these must not be asked for."""

    secure = False

    def __init__(self, words: list[int]) -> None:
        self.left = list(words)

    def words(self, count: int) -> np.ndarray:
        taken, self.left = self.left[:count], self.left[count:]
        assert len(taken) == count, "more words than expected"
        return np.array(taken, dtype=np.uint64)


class Counting:
    """Seeded words, counted."""

    secure = False

    def __init__(self, seed: int) -> None:
        self.inner, self.taken = SeededNoise(seed), 0

    def words(self, count: int) -> np.ndarray:
        self.taken += count
        return self.inner.words(count)


def gaussian_law(scale: float) -> tuple[np.ndarray, np.ndarray]:
    reach = math.ceil(12 * scale) + 2
    x = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (x / scale) ** 2)
    return x, weights / weights.sum()


def skellam_law(variance: float) -> tuple[np.ndarray, np.ndarray]:
    reach = math.ceil(12 * math.sqrt(variance)) + 12
    x = np.arange(-reach, reach + 1)
    if variance > 1e5:
        return x, stats.norm.pdf(x, scale=math.sqrt(variance))  # for its bins alone
    return x, special.ive(np.abs(x), variance)


def binned(x: np.ndarray, law: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, ...]:
    """Observed and expected counts, in bins of at least 20 expected draws each."""
    values, chances = law
    step = max(1, len(values) // 2000)
    edges = np.arange(values[0], values[-1] + step + 1, step)
    seen = np.histogram(x, bins=edges - 0.5)[0]
    hoped = np.histogram(values, bins=edges - 0.5, weights=chances)[0] * x.size
    label = np.cumsum(hoped) // 20
    groups = np.unique(label, return_inverse=True)[1]
    seen, hoped = np.bincount(groups, seen), np.bincount(groups, hoped)
    if hoped[-1] < 20:
        seen[-2] += seen[-1]
        hoped[-2] += hoped[-1]
        seen, hoped = seen[:-1], hoped[:-1]
    return seen, hoped * (x.size / hoped.sum())


# --- laws ----------------------------------------------------------------------


@pytest.mark.parametrize("scale", SCALES)
def test_discrete_gaussian_passes_chi_square(scale: float) -> None:
    x = discrete_gaussian(COUNT, scale, SeededNoise(1, "chi", int(scale * 2)))
    seen, hoped = binned(x, gaussian_law(scale))
    assert seen.sum() == COUNT  # nothing fell outside 12 standard deviations
    assert stats.chisquare(seen, hoped).pvalue > ALARM


@pytest.mark.parametrize("variance", VARIANCES[:-1])
def test_skellam_passes_chi_square(variance: float) -> None:
    x = skellam(COUNT, variance, SeededNoise(2, "chi", int(variance * 100)))
    seen, hoped = binned(x, skellam_law(variance))
    assert seen.sum() == COUNT
    assert stats.chisquare(seen, hoped).pvalue > ALARM


@pytest.mark.parametrize("variance", [0.5, 40.0, 3000.0])
def test_skellam_is_a_difference_of_poissons(variance: float) -> None:
    ours = skellam(200_000, variance, SeededNoise(3))
    rng = np.random.default_rng(3)
    theirs = rng.poisson(variance / 2, 200_000) - rng.poisson(variance / 2, 200_000)
    low = min(ours.min(), theirs.min())
    counts = np.stack(
        [np.bincount(v - low, minlength=ours.max() - low + 1) for v in (ours, theirs)]
        if ours.max() >= theirs.max()
        else [
            np.bincount(v - low, minlength=theirs.max() - low + 1)
            for v in (ours, theirs)
        ]
    )
    groups = np.cumsum(counts.sum(axis=0)) // 60
    merged = np.stack([np.bincount(groups, row) for row in counts])
    merged = merged[:, merged.sum(axis=0) > 20]
    assert stats.chi2_contingency(merged).pvalue > ALARM


@pytest.mark.parametrize(("shares", "variance"), [(7, 0.3), (30, 2.0), (4, 900.0)])
def test_skellam_shares_add_up_to_skellam(shares: int, variance: float) -> None:
    rng = SeededNoise(4, shares)
    total = sum(skellam(COUNT // 4, variance, rng) for _ in range(shares))
    seen, hoped = binned(total, skellam_law(shares * variance))
    assert stats.chisquare(seen, hoped).pvalue > ALARM


@pytest.mark.parametrize("scale", [0.4, 3.0, 200.0])
def test_the_same_law_as_plain_rejection(scale: float) -> None:
    size = 20_000
    ours = discrete_gaussian(size, scale, SeededNoise(5))
    theirs = np.array(naive_discrete_gaussian(size, Fraction(scale) ** 2, seed=5))
    step = max(1, int(scale / 4))
    for values in (ours // step, theirs // step):
        assert np.ptp(values) < 60
    low = min(ours.min(), theirs.min()) // step
    rows = [np.bincount(v // step - low, minlength=70) for v in (ours, theirs)]
    table = np.stack(rows)[:, np.sum(rows, axis=0) >= 10]
    assert stats.chi2_contingency(table).pvalue > ALARM


def moments(law: tuple[np.ndarray, np.ndarray], top: int) -> list[float]:
    x, chances = law
    return [float((chances * x.astype(float) ** k).sum()) for k in range(top + 1)]


@pytest.mark.parametrize("kind", ["gaussian", "skellam"])
@pytest.mark.parametrize("size", [0.5, 4.0, 30.0, 300.0])
def test_moments(kind: str, size: float) -> None:
    if kind == "gaussian":
        x, law = discrete_gaussian(COUNT, size, SeededNoise(6)), gaussian_law(size)
    else:
        x, law = skellam(COUNT, size, SeededNoise(6)), skellam_law(size)
    true = moments(law, 8)
    for k in range(1, 5):
        error = math.sqrt((true[2 * k] - true[k] ** 2) / COUNT)
        seen = float((x.astype(float) ** k).mean())
        # two-sided, by the central limit theorem
        assert abs(seen - true[k]) < stats.norm.isf(ALARM / 2) * error


@pytest.mark.parametrize("scale", [2.0, 64.0, 5000.0])
def test_tails_are_there(scale: float) -> None:
    x = np.abs(discrete_gaussian(4 * COUNT, scale, SeededNoise(7)))
    values, chances = gaussian_law(scale)
    for far in (3.0, 4.0, 4.7):
        chance = float(chances[np.abs(values) > far * scale].sum())
        seen = int((x > far * scale).sum())
        assert stats.binomtest(seen, x.size, chance).pvalue > ALARM


def test_independence_from_draw_to_draw() -> None:
    for x in (
        discrete_gaussian(COUNT, 300.0, SeededNoise(8)),
        skellam(COUNT, 30.0, SeededNoise(8)),
    ):
        v = x / x.std()
        for lag in (1, 2, 3):
            correlation = float((v[lag:] * v[:-lag]).mean())
            assert abs(correlation) * math.sqrt(COUNT) < stats.norm.isf(ALARM / 2)


# --- exactness -----------------------------------------------------------------


@given(
    st.fractions(0, 3000, max_denominator=10**12),
    st.integers(8, 300),
)
def test_exponentials_are_enclosed(power: Fraction, bits: int) -> None:
    low, high = exp_minus(power, bits)
    with mpmath.workdps(150 + int(0.44 * float(power))):
        true = mpmath.exp(-mpmath.mpf(power.numerator) / power.denominator)
        true = mpmath.ldexp(true, bits)
        assert low <= true <= high
    assert 0 <= high - low <= 2


@given(st.lists(st.integers(0, 2**80), min_size=4, max_size=4), st.integers(1, 70))
def test_products_and_ratios_are_enclosed(ends: list[int], bits: int) -> None:
    a, b = sorted(ends[:2])
    c, d = sorted(ends[2:])
    low, high = product((a, b), (c, d), bits)
    assert Fraction(low) <= Fraction(a * c, 1 << bits)
    assert Fraction(high) >= Fraction(b * d, 1 << bits)
    low, high = ratio((a, b), (c + 1, d + 1), bits)
    assert Fraction(low) <= Fraction(a << bits, d + 1)
    assert Fraction(high) >= Fraction(b << bits, c + 1)


@pytest.mark.parametrize("scale", [0.01, 0.5, 2.0, 50.0, 64.0])
def test_gaussian_thresholds_are_exact_in_the_last_bit(scale: float) -> None:
    step, lookup, _ = gaussian_module._tables(Fraction(scale))
    assert step == 0
    with mpmath.workdps(60):
        c = 1 / (2 * mpmath.mpf(scale) ** 2)
        weights = [mpmath.exp(-c * x * x) * (2 if x else 1) for x in range(1500)]
        whole, total = mpmath.fsum(weights), mpmath.mpf(0)
        for threshold, weight in zip(lookup.thresholds, weights, strict=False):
            total += weight
            exact = int(mpmath.floor(mpmath.ldexp(total / whole, 63)))
            assert threshold == min(exact, 2**63 - 1)
    assert lookup.thresholds[-1] == 2**63 - 1


@pytest.mark.parametrize("variance", [1e-3, 0.5, 4.0, 100.0, 3333.3])
def test_skellam_thresholds_are_exact_in_the_last_bit(variance: float) -> None:
    lookup = skellam_module._table(Fraction(variance))
    with mpmath.workdps(60):
        mu, total = mpmath.mpf(variance), mpmath.mpf(0)
        for k, threshold in enumerate(lookup.thresholds):
            total += mpmath.exp(-mu) * mpmath.besseli(k, mu) * (2 if k else 1)
            exact = int(mpmath.floor(mpmath.ldexp(total, 63)))
            assert threshold == min(exact, 2**63 - 1)


@pytest.mark.parametrize("variance", [1.0, 100.0])
def test_undecided_words_are_settled_by_the_next(variance: float) -> None:
    table = skellam_module._table(Fraction(variance))
    for x in (0, 1, 5):
        first = int(table.thresholds[x])
        with mpmath.workdps(80):
            mu = mpmath.mpf(variance)
            total = mpmath.exp(-mu) * mpmath.fsum(
                mpmath.besseli(k, mu) * (2 if k else 1) for k in range(x + 1)
            )
            rest = mpmath.ldexp(total, 63) - first  # what F has beyond 63 bits
            second = int(mpmath.floor(mpmath.ldexp(rest, 64)))
        for word, sign, expected in (
            (0, 0, x),
            (second - 1, 1, -x),
            (second + 1, 0, x + 1),
            (WORD - 1, 1, -x - 1),
        ):
            rng = Scripted([first << 1 | sign, word])
            assert skellam(1, variance, rng)[0] == expected
            assert rng.left == []
        # equal in 127 bits: a third word decides
        rng = Scripted([first << 1, second, 0])
        assert skellam(1, variance, rng)[0] == x


def test_the_far_tail_is_not_cut_off() -> None:
    # U within 2^-150 of 1: beyond every table
    words = [WORD - 2, WORD - 1, WORD - 1 - (1 << 40), 0]
    far = int(skellam(1, 100.0, Scripted(words))[0])
    with mpmath.workdps(80):
        tail = [mpmath.exp(-100) * mpmath.besseli(k, 100) for k in range(800)]
        gap = mpmath.ldexp(1, -63 - 64 - 24)  # of U to 1
        assert 2 * mpmath.fsum(tail[far + 1 :]) < gap < 2 * mpmath.fsum(tail[far:])
    assert far > len(skellam_module._table(Fraction(100)).thresholds)


def test_draws_after_an_undecided_one_are_those_of_the_words_after_it() -> None:
    table = skellam_module._table(Fraction(9))
    words = SeededNoise(9).words(50)
    plain = skellam(50, 9.0, Scripted(words.tolist()))
    doubtful = words.copy()
    doubtful[20] = int(table.thresholds[2]) << 1
    found = skellam(50, 9.0, Scripted([*doubtful.tolist(), 0]))
    assert found[20] == 2
    assert np.array_equal(np.delete(found, 20), np.delete(plain, 20))


@pytest.mark.parametrize("scale", [65.0, 1000.0, 123456.789, 2.0**30])
def test_rejection_decides_as_exact_arithmetic_does(scale: float) -> None:
    exact = Fraction(scale)
    step, lookup, _ = gaussian_module._tables(exact)
    rng = np.random.default_rng(10)
    with mpmath.workdps(60):
        for _ in range(300):
            first, y = int(rng.integers(0, 2**63)), int(rng.integers(0, 1 << step))
            x = int(np.searchsorted(lookup.thresholds, first))
            power = Fraction(y * (y + (x << (step + 1)))) / (2 * exact * exact)
            chance = mpmath.exp(-mpmath.mpf(power.numerator) / power.denominator)
            cut = int(mpmath.floor(mpmath.ldexp(chance, 64)))
            # 17 words below and above the cut: decided at once or settled
            for coin, kept in ((cut - 17, True), (cut - 1, True), (cut + 1, False)):
                if not 0 <= coin < WORD or power == 0:
                    continue
                script = [first << 1, y, coin]
                if not kept:  # the next candidate is 0 and surely kept
                    script += [0, 0, 0]
                found = int(_one(scale, script)[0])
                assert found == ((x << step) + y if kept else 0)


def _one(scale: float, words: list[int]) -> np.ndarray:
    """One draw from scripted candidates, whatever is asked for at a time."""

    class Source(Scripted):
        def words(self, count: int) -> np.ndarray:
            taken, self.left = self.left[:count], self.left[count:]
            return np.array(taken + [0] * (count - len(taken)), dtype=np.uint64)

    return discrete_gaussian(1, scale, Source(words))


def test_a_coin_within_the_rounding_is_settled_by_further_words() -> None:
    power = Fraction(3, 7)
    with mpmath.workdps(80):
        scaled = mpmath.ldexp(mpmath.exp(-mpmath.mpf(3) / 7), 64)
        cut = int(mpmath.floor(scaled))
        second = int(mpmath.floor(mpmath.ldexp(scaled - cut, 64)))
    assert bernoulli_exp(power, cut - 1, Scripted([]))
    assert not bernoulli_exp(power, cut + 1, Scripted([]))
    assert bernoulli_exp(power, cut, Scripted([second - 1]))
    assert not bernoulli_exp(power, cut, Scripted([second + 1]))
    assert bernoulli_exp(Fraction(0), WORD - 1, Scripted([]))


def test_a_zero_has_no_second_sign() -> None:
    assert _one(1000.0, [1, 0, 0, 0, 0, 0])[0] == 0
    half = [0, 0, 0]
    both = discrete_gaussian(2, 1000.0, _padded([1, 0, 0, *half, (1 << 62) | 1, 5, 0]))
    assert both[0] == 0  # the first candidate, -0, is passed over
    assert both[1] < 0


def _padded(words: list[int]) -> Scripted:
    return Scripted(words + [0] * 60)


def test_a_lookup_of_a_rational_law() -> None:
    def law(bits: int) -> list[tuple[int, int]]:
        quarter = 1 << (bits - 2)
        return [(quarter, quarter), (4 * quarter, 4 * quarter)]

    lookup = Lookup(law)
    x = lookup.draws(100_000, SeededNoise(11))
    assert stats.binomtest(int((x == 0).sum()), x.size, 0.25).pvalue > ALARM
    edge = [1 << 62, (1 << 62) - 1, 0]  # U = 1/4 at the least, then just below
    assert lookup.draws(2, Scripted(edge)).tolist() == [1, 0]


# --- use of the source ---------------------------------------------------------


@pytest.mark.parametrize("scale", [0.5, 64.0])
def test_one_word_a_draw_up_to_a_scale_of_64(scale: float) -> None:
    rng = Counting(12)
    discrete_gaussian(100_000, scale, rng)
    assert rng.taken == 100_000


def test_about_three_words_a_draw_above() -> None:
    rng = Counting(13)
    discrete_gaussian(100_000, 1e5, rng)
    assert 300_000 < rng.taken < 312_000


def test_draws_are_reproducible_and_no_draw_needs_no_words() -> None:
    for draw in (
        lambda n, rng: discrete_gaussian(n, 3.0, rng),
        lambda n, rng: discrete_gaussian(n, 3e4, rng),
        lambda n, rng: skellam(n, 3.0, rng),
    ):
        assert np.array_equal(draw(100, SeededNoise(1)), draw(100, SeededNoise(1)))
        assert draw(0, Scripted([])).size == 0


@pytest.mark.parametrize(
    ("call", "name", "shown"),
    [
        (lambda rng: discrete_gaussian(3, 0.0, rng), "scale", "0.0"),
        (lambda rng: discrete_gaussian(3, math.nan, rng), "scale", "nan"),
        (lambda rng: discrete_gaussian(3, 2.0**31, rng), "scale", "2147483648.0"),
        (lambda rng: discrete_gaussian(-1, 1.0, rng), "count", "-1"),
        (lambda rng: skellam(3, -1.0, rng), "variance", "-1.0"),
        (lambda rng: skellam(3, 1e12, rng), "variance", "1000000000000.0"),
        (lambda rng: skellam(2.5, 1.0, rng), "count", "2.5"),
    ],
)
def test_bad_input_is_one_clear_line(call: object, name: str, shown: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        call(SeededNoise(1))  # type: ignore[operator]
    message = str(caught.value)
    assert name in message
    assert shown in message
    assert "\n" not in message
