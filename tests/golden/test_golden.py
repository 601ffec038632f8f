"""Published and independently computed values, row by row.

Each table names where its numbers come from (``source``, ``place``) and how
far an answer may be from them (``tolerance``, absolute).
"""

import csv
from functools import partial
from pathlib import Path

import pytest

from drdp.privacy import risk
from drdp.privacy.calibration import calibrate, calibrate_count, within
from drdp.privacy.distributed import discrete_gaussian_gap, rounded_norm
from drdp.privacy.events import FixedSizeSampled
from drdp.privacy.gdp import (
    clt_mu,
    clt_mu_fixed_size,
    clt_noise_multiplier,
    gdp_curve,
)
from drdp.privacy.pld import delta_interval, epsilon_interval, pld_curve
from drdp.privacy.rdp import rdp, rdp_curve
from tests.golden.notation import event_of, number

HERE = Path(__file__).parent
# What Opacus tries where it is not told otherwise.
OPACUS_ORDERS = (*(1 + k / 10 for k in range(1, 100)), *range(12, 64))
ACCOUNTANTS = {
    "gdp": gdp_curve,
    "rdp": rdp_curve,
    "rdp classic": partial(rdp_curve, conversion="classic"),
    "rdp opacus orders": partial(rdp_curve, orders=OPACUS_ORDERS),
    "rdp classic opacus orders": partial(
        rdp_curve, conversion="classic", orders=OPACUS_ORDERS
    ),
    "rdp order 2": partial(rdp_curve, orders=[2]),
    "rdp order 5": partial(rdp_curve, orders=[5]),
    "rdp optimal order 2": partial(rdp_curve, conversion="optimal", orders=[2]),
    "rdp optimal order 5": partial(rdp_curve, conversion="optimal", orders=[5]),
    "pld": pld_curve,
}


def table(name: str) -> list:
    with (HERE / f"{name}.csv").open(newline="") as file:
        return [
            pytest.param(row, id=f"{row['id']}-line{line}")
            for line, row in enumerate(csv.DictReader(file), start=2)
        ]


def close(row: dict[str, str]):
    return pytest.approx(number(row["value"]), rel=0, abs=number(row["tolerance"]))


@pytest.mark.parametrize("row", table("epsilon"))
def test_epsilon(row):
    event, delta = event_of(row["event"]), number(row["delta"])
    name = row["accountant"]
    if name.startswith("pld"):
        low, high, _ = epsilon_interval(event, delta)
        if name != "pld upper":
            assert low == close(row)
        if name != "pld lower":
            assert high == close(row)
    else:
        assert ACCOUNTANTS[name](event).epsilon(delta) == close(row)


@pytest.mark.parametrize("row", table("delta"))
def test_delta(row):
    event, epsilon = event_of(row["event"]), number(row["epsilon"])
    if row["accountant"] == "pld":
        fine = min(1e-6, max(1e-9, number(row["tolerance"])))
        low, high, _ = delta_interval(event, epsilon, tolerance=fine)
        assert low == close(row)
        assert high == close(row)
    else:
        assert ACCOUNTANTS[row["accountant"]](event).delta(epsilon) == close(row)


@pytest.mark.parametrize("row", table("noise"))
def test_noise(row):
    epsilon, delta = number(row["epsilon"]), number(row["delta"])
    if row["accountant"] == "clt":
        steps, _, rate, _ = row["event"].split()
        found = clt_noise_multiplier(epsilon, delta, float(rate), int(steps))
    else:
        found = calibrate(
            lambda z: event_of(row["event"], z=z),
            ACCOUNTANTS[row["accountant"]],
            within(epsilon, delta),
            rtol=min(1e-4, number(row["tolerance"]) / 100),
        )
    assert found == close(row)


@pytest.mark.parametrize("row", table("count"))
def test_count(row):
    found = calibrate_count(
        lambda n: event_of(row["event"], n=n),
        ACCOUNTANTS[row["accountant"]],
        within(number(row["epsilon"]), number(row["delta"])),
    )
    assert found == int(row["value"])


@pytest.mark.parametrize("row", table("renyi"))
def test_renyi_divergence(row):
    assert rdp(event_of(row["event"]), number(row["order"])) == close(row)


@pytest.mark.parametrize("row", table("mu"))
def test_mu_of_the_clt(row):
    mu = {"poisson": clt_mu, "fixed": clt_mu_fixed_size}[row["sampling"]]
    steps, noise = int(row["steps"]), number(row["noise_multiplier"])
    assert mu(number(row["rate"]), steps, noise) == close(row)


@pytest.mark.parametrize("row", table("beta"))
def test_trade_off(row):
    curve = ACCOUNTANTS[row["accountant"]](event_of(row["event"]))
    assert curve.beta(number(row["alpha"])) == close(row)


@pytest.mark.parametrize("row", table("distributed"))
def test_distributed_noise(row):
    first, second = map(number, row["arguments"].split())
    if row["quantity"] == "gap":
        assert discrete_gaussian_gap(int(first), second) == close(row)
    else:
        assert rounded_norm(first, int(second)) == close(row)


FIGURES = {
    "advantage": lambda curve, _: risk.advantage(curve),
    "tpr": risk.true_positive_rate,
    "reconstruction": risk.reconstruction,
    "bayes error": risk.bayes_error,
}


@pytest.mark.parametrize("row", table("risk"))
def test_risk(row):
    event = event_of(row["event"])
    given = number(row["given"]) if row["given"] else 0.0
    if row["figure"] == "renyi":
        found = risk.reconstruction_by_renyi(event, given)
    else:
        curve = ACCOUNTANTS[row["accountant"]](event)
        found = FIGURES[row["figure"]](curve, given)
    assert found.value == close(row)
    assert found.bound == ("lower" if row["figure"] == "bayes error" else "upper")


def test_the_paper_reproduces_its_own_epsilons_by_the_clt():
    """What Table 3 calls epsilon is this estimate, inverted."""
    for row in (param.values[0] for param in table("noise")):
        if row["id"] == "N01":
            run = event_of(row["event"], z=number(row["value"]))
            curve = gdp_curve(run)
            assert curve.bound == "estimate"
            claimed = curve.epsilon(number(row["delta"]))
            assert claimed == pytest.approx(number(row["epsilon"]), rel=1e-4)


NAMES = [
    *("epsilon", "delta", "noise", "renyi", "mu", "beta"),
    *("risk", "distributed"),
]


@pytest.mark.parametrize("name", NAMES)
def test_every_row_names_its_source(name):
    for param in table(name):
        assert param.values[0]["source"]
        assert number(param.values[0]["tolerance"]) > 0


def test_a_cell_is_read_as_written():
    assert event_of("3 fixed 5 100 1") == event_of("3 fixed 5.0 100 1.0")
    assert event_of("1 fixed 5 100 1").events[0].event == FixedSizeSampled(
        5, 100, event_of("1 gaussian 1").events[0].event
    )
