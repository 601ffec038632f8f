"""The nodes of the contour: what is cut off, and what neighbours are told."""

import math

import mpmath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drdp.privacy.contour import limit_far
from drdp.privacy.moments import beyond, grid_effort, grid_step, log_moment
from drdp.privacy.nodes import cumulants, gather, lifted, reaches, shifted

ATOMS = st.tuples(
    st.floats(-6.0, -0.05).map(lambda x: 10.0**x),
    st.floats(-0.5, 1.5).map(lambda x: 10.0**x),
    st.integers(1, 10**6).map(float),
)


def terms_of(rate, noise, count, cut=math.inf):
    return ([0.0], [rate], [noise], [count], [cut])


def truncated_moment(order, rate, noise, cut):
    """log E_Q[(1 + u)^order; x <= cut] by quadrature."""
    with mpmath.workdps(30):
        q, s = mpmath.mpf(rate), mpmath.mpf(noise)

        def integrand(x):
            u = q * mpmath.expm1((x - 0.5) / s**2)
            return (1 + u) ** order * mpmath.npdf(x, 0, s)

        low, step = -12.0 * noise, noise
        ends = [low + step * i for i in range(int((cut - low) / step) + 1)]
        return float(mpmath.log(mpmath.quad(integrand, [*ends, cut])))


@pytest.mark.parametrize("effort", [14.0, 22.0, 30.0])
@pytest.mark.parametrize(
    ("order", "rate", "noise", "cut"),
    [
        # the tilted law piles up against the cut, or reaches beyond it
        (12.82, 0.0152, 1.2717, 14.2808),
        (14.0, 0.0152, 1.2717, 12.9),
        (3.0, 0.0043, 0.655, 7.0),
        (40.0, 1e-4, 1.33, 14.0),
    ],
)
def test_a_cut_moment_is_as_exact_as_a_whole_one(order, rate, noise, cut, effort):
    truth = truncated_moment(order, rate, noise, cut)
    found = log_moment(order, rate, noise, cut, effort)[0]
    assert found == pytest.approx(truth, abs=math.exp(-effort) + 1e-13)


@given(ATOMS, st.floats(-60.0, -5.0))
def test_what_is_cut_off_has_no_more_than_its_chance(atom, log_cost):
    rate, noise, count = atom
    terms, limits = terms_of(*atom), [0.0]
    limit_far(terms, log_cost, limits)
    with mpmath.workdps(40):
        plain = mpmath.ncdf(-mpmath.mpf(limits[0]) / noise)
        shifted_by_one = mpmath.ncdf(-mpmath.mpf(limits[0] - 1) / noise)
        allowed = mpmath.exp(log_cost)
        assert count * plain <= allowed * (1 + mpmath.mpf("1e-9"))
        assert count * rate * shifted_by_one <= allowed * (1 + mpmath.mpf("1e-9"))


@given(ATOMS, st.floats(1.0, 30.0), st.floats(0.0, 12.0))
@settings(max_examples=10)
def test_the_mass_beyond_is_bounded(atom, order, far):
    rate, noise, _ = atom
    high = 1.0 + far * noise
    with mpmath.workdps(30):
        q, s = mpmath.mpf(rate), mpmath.mpf(noise)

        def integrand(x):
            u = q * mpmath.expm1((x - 0.5) / s**2)
            return (1 + u) ** order * mpmath.npdf(x, 0, s)

        # beyond the last end the bump about x = order has long fallen off
        last = max(order, high) + 14.0 * noise
        ends = [high + (last - high) * i / 10 for i in range(11)]
        truth = float(mpmath.log(mpmath.quad(integrand, ends)))
    assert beyond(order, rate, noise, high) >= truth - 1e-9


@given(
    ATOMS,
    st.booleans(),
    st.floats(-1.5, 1.5).map(lambda x: 10.0**x),
    st.floats(-0.9, 3.0),
    st.floats(0.0, 30.0),
)
@settings(max_examples=100)
def test_a_neighbour_is_never_told_too_small_a_moment(atom, remove, size, shift, y):
    """`period` rests on it: log M(c + d) - log M(c) from the nodes at c."""
    terms = terms_of(*atom)
    order = 1.0 + size if remove else -size
    d = shift * size if remove else -shift * size
    effort = 20.0
    nodes, moment, _, _ = gather(terms, order, y / math.sqrt(atom[2]), effort)
    truth = cumulants(terms, order + d, 30.0)[0]
    slack = 1e-9 * (1.0 + abs(moment))
    here = cumulants(terms, order, 30.0)[0]
    assert moment == pytest.approx(here, abs=math.exp(-effort) + slack)
    bound = lifted(terms, nodes, order, d)[0]
    assert bound + slack >= truth - moment
    if reaches(terms, nodes, order, d) and abs(truth) < 1e3:
        near = shifted(terms, nodes, order, d)[0]
        assert near == pytest.approx(truth - moment, abs=0.05 + 0.02 * abs(truth))


@given(ATOMS, st.floats(-30.0, 30.0), st.floats(8.0, 40.0))
def test_the_effort_of_a_step_is_what_it_was_made_for(atom, order, effort):
    rate, noise, _ = atom
    step, _ = grid_step(noise, order, rate, 0.0, 1.0, effort, math.pi)
    found = grid_effort(step, noise, order, rate)
    assert found >= effort - 1e-6
    # more is only found where a better shift lies between those that are tried
    assert found <= effort * 1.1 or (order < 0.0 and noise > 5.0)
    assert grid_effort(2.0 * step, noise, order, rate) < found
