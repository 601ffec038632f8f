"""Questions that some other library fails on, each with what it answers.

The table says where an answer is wrong by much, below the truth, infinite, an
exception, out of memory or not reached at all.  Here each has a certified
answer; `truth`, where it is known, is in it up to `tolerance` (relative).
"""

import csv
import math
from pathlib import Path

import pytest

from drdp.privacy.calibration import calibrate, within
from drdp.privacy.pld import delta_interval, epsilon_interval, pld_curve
from tests.golden.notation import event_of, number


def rows(question: str) -> list:
    path = Path(__file__).with_name("peer_failures.csv")
    with path.open(newline="") as file:
        return [
            pytest.param(row, id=row["id"])
            for row in csv.DictReader(file)
            if row["question"] == question
        ]


@pytest.mark.parametrize("row", rows("epsilon"))
def test_epsilon(row):
    event, delta = event_of(row["event"]), number(row["delta"])
    truth, slack = number(row["truth"]), number(row["tolerance"])
    low, high, _ = epsilon_interval(event, delta)
    assert 0.0 <= low <= high < math.inf
    assert low <= truth * (1 + slack)
    assert truth * (1 - slack) <= high
    # No wider than 1e-3: an answer, not only a bound.
    assert high - low <= 1e-3 * max(1.0, high)


@pytest.mark.parametrize("row", rows("noise"))
def test_noise(row):
    epsilon, delta = number(row["epsilon"]), number(row["delta"])

    def run(z):
        return event_of(row["event"], z=z)

    noise = calibrate(run, pld_curve, within(epsilon, delta), rtol=1e-4)
    if row["truth"]:
        near = max(2e-4, number(row["tolerance"]))
        assert noise == pytest.approx(number(row["truth"]), rel=near)
    assert delta_interval(run(noise), epsilon).upper <= delta
    assert epsilon_interval(run(noise), delta).upper <= epsilon * (1 + 1e-9)
    # Nor much more noise than needed: 1 % less is certainly too little.
    assert delta_interval(run(0.99 * noise), epsilon).lower > delta
