"""Argument checks: what passes is normalised, what does not is named."""

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drdp import _check
from drdp.errors import DrdpError, InvalidArgumentError

NEVER = [math.nan, "1", b"1", None, True, False, 1j, [1.0], object()]
OUTSIDE = {
    _check.positive: [0, 0.0, -0.0, -1, -5e-324, math.inf, -math.inf, 10**400],
    _check.at_least_zero: [-1, -5e-324, math.inf, -math.inf, 10**400],
    _check.rate: [-5e-324, -1, 1.0000000000000002, 1.7, math.inf, -math.inf],
    _check.probability: [0, 0.0, 1, 1.0, -0.1, 1.7, math.inf, 10**400],
}
INSIDE = {
    _check.positive: [5e-324, 1, 1.5, 1e308],
    _check.at_least_zero: [0, 0.0, 5e-324, 1, 1e308],
    _check.rate: [0, 0.0, 5e-324, 0.3, 1, 1.0],
    _check.probability: [5e-324, 0.3, 1 - 1e-16],
}


@pytest.mark.parametrize(
    ("check", "value"),
    [(check, bad) for check, list_ in OUTSIDE.items() for bad in [*list_, *NEVER]],
)
def test_a_bad_number_is_refused_by_name_and_value(check, value):
    with pytest.raises(InvalidArgumentError) as caught:
        check(the_name=value)
    message = str(caught.value)
    assert "the_name" in message
    assert repr(value) in message or "nan" in message


@pytest.mark.parametrize(
    ("check", "value"),
    [(check, good) for check, list_ in INSIDE.items() for good in list_],
)
def test_a_good_number_comes_back_as_a_float(check, value):
    result = check(x=value)
    assert type(result) is float
    assert result == value


@pytest.mark.parametrize(
    "value", [Fraction(1, 4), Decimal("0.25"), np.float64(0.25), np.float32(0.25)]
)
@pytest.mark.parametrize("check", list(OUTSIDE))
def test_other_number_types_are_welcome(check, value):
    result = check(x=value)
    assert type(result) is float
    assert result == 0.25


@pytest.mark.parametrize(
    "value",
    [-1, 1.0, 1.5, "3", None, True, False, math.nan, math.inf, [1], np.bool_(1)],
)
def test_a_bad_count_is_refused_by_name_and_value(value):
    with pytest.raises(InvalidArgumentError, match="steps") as caught:
        _check.count(steps=value)
    assert repr(value) in str(caught.value)


def test_a_count_has_a_least_value():
    assert _check.count(least=2, n=2) == 2
    with pytest.raises(InvalidArgumentError, match=r"n must be .* at least 2, got 1"):
        _check.count(least=2, n=1)


def test_a_count_comes_back_as_an_int():
    assert type(_check.count(n=np.int64(7))) is int
    assert _check.count(n=10**30) == 10**30


def test_a_bad_argument_is_also_a_value_error():
    assert issubclass(InvalidArgumentError, ValueError)
    assert issubclass(InvalidArgumentError, DrdpError)


@given(st.floats() | st.integers() | st.text() | st.none() | st.booleans())
def test_a_check_returns_what_lies_in_its_domain_or_raises(value):
    domains = {
        _check.positive: lambda x: 0.0 < x < math.inf,
        _check.at_least_zero: lambda x: 0.0 <= x < math.inf,
        _check.rate: lambda x: 0.0 <= x <= 1.0,
        _check.probability: lambda x: 0.0 < x < 1.0,
    }
    for check, domain in domains.items():
        try:
            result = check(x=value)
        except InvalidArgumentError:
            continue
        assert isinstance(value, int | float)
        assert domain(result)
