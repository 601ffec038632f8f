"""Both errors of an attack: on the safe side, to the tails, in few questions."""

import math

import mpmath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drdp.privacy.tradeoff import least_error, most_power

FPRS = [
    *(0.0, 1e-300, 1e-30, 1e-12, 1e-9, 1e-6, 1e-3, 0.01, 0.1, 0.3, 0.5),
    *(0.9, 0.99, 0.9999, 1 - 1e-9, 1 - 1e-12, 1.0),
]
MUS = [1e-6, 1e-3, 0.05, 0.5, 1.0, 2.0, 4.0, 10.0]


class Gaussian:
    """mu-GDP to 40 digits, which counts how often it is asked."""

    def __init__(self, mu: float):
        self.mu, self.asked = mu, 0

    def __call__(self, epsilon: float) -> float:
        self.asked += 1
        if epsilon == math.inf:
            return 0.0
        with mpmath.workdps(40):
            mu, e = mpmath.mpf(self.mu), mpmath.mpf(epsilon)
            ahead = mpmath.ncdf(mu / 2 - e / mu)
            return float(ahead - mpmath.exp(e) * mpmath.ncdf(-mu / 2 - e / mu))


def truth(mu: float, fpr: float) -> tuple[float, float]:
    """(true positive rate, false negative rate) of the best attack."""
    if fpr in (0.0, 1.0):
        return fpr, 1.0 - fpr
    with mpmath.workdps(60):
        start = mpmath.mpf(math.sqrt(2) * 1.0) if fpr < 0.5 else mpmath.mpf(-1)
        quantile = mpmath.findroot(
            lambda x: mpmath.log(mpmath.ncdf(-x)) - mpmath.log(mpmath.mpf(fpr)),
            start,
            tol=1e-80,
            maxsteps=200,
        )
        return float(mpmath.ncdf(mu - quantile)), float(mpmath.ncdf(quantile - mu))


@pytest.mark.parametrize("mu", MUS)
@pytest.mark.parametrize("fpr", FPRS)
def test_a_gaussian_from_above_and_below(mu, fpr):
    power, error = truth(mu, fpr)
    profile = Gaussian(mu)
    above = most_power(profile, fpr, every=False)
    asked = profile.asked
    under = least_error(profile, fpr, every=False)
    # e^epsilon and the profile are rounded to the nearest float
    assert power * (1 - 1e-12) <= above
    assert under <= error * (1 + 1e-12)
    assert above == pytest.approx(power, rel=1e-6)
    assert under == pytest.approx(error, rel=1e-6, abs=1e-11)
    assert asked <= 100
    if 1e-9 <= fpr <= 0.5 and 1e-3 <= mu <= 4.0:
        assert asked <= 40

    below = most_power(profile, fpr, every=True)
    over = least_error(profile, fpr, every=True)
    assert below <= power * (1 + 1e-14)
    assert over >= error * (1 - 1e-14)
    assert below == pytest.approx(power, rel=2e-3)
    if error >= 1e-3:
        assert over == pytest.approx(error, rel=2e-3)


@given(
    st.floats(0.0, 6.0),
    st.floats(0.0, 0.5),
    st.one_of(st.floats(0.0, 1.0), st.floats(-12.0, 0.0).map(lambda x: 10.0**x)),
)
def test_approximate_dp_is_four_lines(epsilon, delta, fpr):
    """Dong, Roth and Su, equation 5: kinks at every line's end."""

    def profile(e: float) -> float:
        if e >= epsilon:
            return delta
        top = (1 - delta) / (1 + math.exp(epsilon))
        return delta + top * (math.exp(epsilon) - math.exp(e))

    error = max(
        0.0,
        1 - delta - math.exp(epsilon) * fpr,
        math.exp(-epsilon) * (1 - delta - fpr),
    )
    above = most_power(profile, fpr, every=False)
    assert above >= 1 - error - 1e-14
    assert above == pytest.approx(1 - error, rel=1e-6, abs=1e-9)
    under = least_error(profile, fpr, every=False)
    assert under <= error + 1e-15
    assert under == pytest.approx(error, rel=1e-6, abs=1e-9)
    assert most_power(profile, fpr, every=True) <= 1 - error + 1e-14
    assert least_error(profile, fpr, every=True) >= error - 1e-15


@pytest.mark.parametrize("every", [True, False])
@pytest.mark.parametrize("fpr", [0.0, 1e-9, 0.3, 1.0])
def test_the_ends(fpr, every):
    """Nothing released leaves guessing; a release in the clear leaves nothing."""
    nothing = {"profile": lambda _: 0.0, "fpr": fpr, "every": every}
    assert most_power(**nothing) == pytest.approx(fpr, rel=2e-3)
    assert least_error(**nothing) == pytest.approx(1 - fpr, rel=2e-3)

    def clear(epsilon: float) -> float:
        return 1.0 if epsilon < math.inf else 0.0

    everything = {"profile": clear, "fpr": fpr, "every": every}
    if not every:
        assert most_power(**everything) == 1.0
    assert least_error(**everything) <= 1e-14 or every


@given(st.floats(0.01, 5.0), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_more_false_alarms_find_more(mu, a, b):
    low, high = sorted((a, b))
    profile = Gaussian(mu)
    found = [most_power(profile, fpr, every=False) for fpr in (low, high)]
    assert found[0] <= found[1] * (1 + 1e-8)
    assert low <= found[0]
