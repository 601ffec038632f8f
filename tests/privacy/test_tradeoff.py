"""Both errors of an attack: on the safe side, to the tails, in few questions."""

import math

import mpmath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drdp.privacy.tradeoff import (
    least_error,
    most_power,
    sure_power,
    sure_power_of_either,
)

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
    above = most_power(profile, fpr)
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

    below = sure_power(profile, profile, fpr)
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
    above = most_power(profile, fpr)
    assert above >= 1 - error - 1e-14
    assert above == pytest.approx(1 - error, rel=1e-6, abs=1e-9)
    under = least_error(profile, fpr, every=False)
    assert under <= error + 1e-15
    assert under == pytest.approx(error, rel=1e-6, abs=1e-9)
    assert sure_power(profile, profile, fpr) <= 1 - error + 1e-14
    assert least_error(profile, fpr, every=True) >= error - 1e-15


def nothing(_: float) -> float:
    return 0.0


def everything(epsilon: float) -> float:
    return 1.0 if epsilon < math.inf else 0.0


@pytest.mark.parametrize("fpr", [0.0, 1e-9, 0.3, 1.0])
def test_the_ends(fpr):
    """Nothing released leaves guessing; a release in the clear leaves nothing."""
    assert most_power(nothing, fpr) == pytest.approx(fpr, rel=1e-9)
    assert sure_power(nothing, nothing, fpr) == fpr
    assert sure_power_of_either(nothing, fpr) == fpr
    for every in (True, False):
        left = least_error(nothing, fpr, every=every)
        assert left == pytest.approx(1 - fpr, rel=2e-3)
    assert most_power(everything, fpr) == 1.0
    assert sure_power_of_either(everything, fpr) == pytest.approx(1.0)
    assert least_error(everything, fpr, every=False) == 0.0


@given(st.floats(0.01, 6.0), st.floats(0.0, 1.0))
def test_without_knowing_the_order_less_is_sure(mu, fpr):
    profile = Gaussian(mu)
    sure = sure_power_of_either(profile, fpr)
    power, _ = truth(mu, fpr)
    assert fpr <= sure <= power * (1 + 1e-12)
    if 1e-6 <= fpr <= 0.5:
        assert sure >= 0.45 * power


@given(
    st.floats(0.05, 0.95),
    st.one_of(st.just(0.0), st.floats(1e-6, 0.9)),
    st.one_of(st.just(0.0), st.floats(1e-9, 1.0)),
)
def test_two_different_orders(catch, alarm, fpr):
    """A single yes-or-no answer: (alarm, catch) is the one corner there is."""
    if catch <= alarm:
        return
    rates = [(catch, alarm), (1 - alarm, 1 - catch)]

    def order(tpr: float, far: float):
        def profile(epsilon: float) -> float:
            if epsilon == math.inf:
                return 0.0 if far > 0.0 else tpr
            x = math.exp(min(epsilon, 700.0))
            return max(0.0, tpr - x * far, 1 - tpr - x * (1 - far))

        return profile

    def power(tpr: float, far: float) -> float:
        if fpr <= far:
            return tpr * fpr / far if far else tpr
        return tpr + (1 - tpr) * (fpr - far) / (1 - far)

    forth, back = (order(*pair) for pair in rates)
    exact = [power(*pair) for pair in rates]
    slack = 1 + 1e-9
    assert sure_power(forth, back, fpr) <= exact[0] * slack
    assert sure_power(back, forth, fpr) <= exact[1] * slack
    assert sure_power(forth, back, fpr) >= exact[0] * (1 - 2e-2)

    def worse(epsilon: float) -> float:
        return max(forth(epsilon), back(epsilon))

    assert sure_power_of_either(worse, fpr) <= max(exact) * slack
    assert most_power(worse, fpr) >= max(exact) / slack


@given(st.floats(0.01, 5.0), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_more_false_alarms_find_more(mu, a, b):
    low, high = sorted((a, b))
    profile = Gaussian(mu)
    found = [most_power(profile, fpr) for fpr in (low, high)]
    assert found[0] <= found[1] * (1 + 1e-8)
    assert low <= found[0]
