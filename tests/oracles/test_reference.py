"""The certified interval contains the truth, row by row of reference.csv.

The truth was computed in 40-digit arithmetic by `make_reference`, which shares
no code with the package.  What is certified is claimed without any slack but
the rounding of the numbers in the table to doubles.
"""

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from drdp.privacy.events import PoissonSampled, atoms
from drdp.privacy.kernel import gear
from drdp.privacy.pld import delta_interval, epsilon_interval
from drdp.privacy.rdp import rdp_curve
from tests.golden.notation import event_of

ROUNDED = 4e-16
WIDE = 1e-6


def rows(direction: str) -> list:
    with Path(__file__).with_name("reference.csv").open(newline="") as file:
        return [
            pytest.param(row, id=row["id"])
            for row in csv.DictReader(file)
            if direction in (row["direction"], "any")
        ]


@pytest.mark.parametrize("row", rows("any"))
def test_the_reference_agrees_with_itself(row):
    """Both ways of computing a row agree on all digits that are compared."""
    assert int(row["digits"]) >= 13
    assert 0.0 < float(row["delta"]) < 1.0


@pytest.mark.parametrize("row", rows("remove"))
def test_the_interval_of_delta_contains_the_truth(row):
    event, truth = event_of(row["event"]), float(row["delta"])
    low, high, _ = delta_interval(event, float(row["epsilon"]))
    assert low * (1 - ROUNDED) <= truth <= high * (1 + ROUNDED)


@pytest.mark.parametrize("row", rows("remove"))
def test_the_interval_of_epsilon_contains_the_truth(row):
    event, delta = event_of(row["event"]), float(row["delta"])
    truth = float(row["epsilon"])
    low, _, _ = epsilon_interval(event, delta * (1 + ROUNDED))
    _, high, _ = epsilon_interval(event, delta * (1 - ROUNDED))
    assert low <= truth <= high


@pytest.mark.parametrize("row", rows("remove"))
def test_the_interval_of_epsilon_is_narrow(row):
    """1e-6, relative where epsilon is above 1, and 1e-3 where jumps are rare."""
    event, delta = event_of(row["event"]), float(row["delta"])
    low, high, method = epsilon_interval(event, delta)
    wide = 1e-3 if "grid" in method else WIDE
    assert high - low <= wide * max(1.0, high)


@pytest.mark.parametrize("row", rows("add"))
def test_the_other_direction_is_never_above_the_interval(row):
    event, truth = event_of(row["event"]), float(row["delta"])
    _, high, _ = delta_interval(event, float(row["epsilon"]))
    assert truth <= high * (1 + ROUNDED)


@pytest.mark.parametrize("row", rows("any"))
@pytest.mark.parametrize("aim", [1e-12, 1e-7, 1e-3])
@pytest.mark.parametrize("cut", ["cut", "whole"])
def test_the_contour_knows_its_error_in_either_direction(row, aim, cut):
    """Where it answers at all, and however coarsely it is asked."""
    parts = list(atoms(event_of(row["event"])).items())
    if not all(isinstance(atom, PoissonSampled) for atom, _ in parts):
        pytest.skip("only about sampled Gaussians")
    if any(atom.adjacency == "replace-one" for atom, _ in parts):
        pytest.skip("only about adding and removing")
    terms = (
        [0.0 for _ in parts],
        [atom.rate for atom, _ in parts],
        [atom.event.noise_multiplier for atom, _ in parts],
        [float(times) for _, times in parts],
        [math.inf for _ in parts],
    )
    # what delta is hardly below tells which far modes may be cut off
    hint = math.log(float(row["delta"])) if cut == "cut" else -1e9
    _, log_delta, error, *_, status = gear("contour", math.inf).answer(
        tuple(map(np.array, terms)),
        row["direction"] == "remove",
        False,
        float(row["epsilon"]),
        1.0,
        aim,
        6e7,
        hint,
        -math.inf,
    )
    if status != 0:
        pytest.skip("the contour leaves this one to the grid")
    gap = math.expm1(log_delta - math.log(float(row["delta"])))
    assert abs(gap) <= error + ROUNDED
    if aim == 1e-12:
        assert abs(gap) <= 1e-9


@pytest.mark.parametrize("row", rows("remove"))
def test_the_renyi_bound_is_above_the_truth(row):
    event = event_of(row["event"])
    if any(getattr(atom, "adjacency", None) == "replace-one" for atom in atoms(event)):
        pytest.skip("no Renyi formula")
    curve = rdp_curve(event)
    assert curve.delta(float(row["epsilon"])) >= float(row["delta"])
    assert curve.epsilon(float(row["delta"])) >= float(row["epsilon"])
