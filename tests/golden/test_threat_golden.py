"""The threat models and stages that were computed before this code existed."""

import csv
from pathlib import Path

import pytest

from drdp.privacy.calibration import within
from drdp.privacy.dr_encoder import Configuration, as_printed
from drdp.privacy.events import Adjacency, Gaussian, PoissonSampled
from drdp.privacy.exposure import share_leak
from drdp.privacy.pld import epsilon_interval
from drdp.privacy.stages import Prior, calibrate_stages, stage_one
from drdp.privacy.threat import Placement, PoissonCohort, ThreatModel, View
from tests.golden.notation import number

HERE = Path(__file__).parent


def table(name: str) -> list:
    with (HERE / f"{name}.csv").open(newline="") as file:
        return [
            pytest.param(row, id=f"{row['id']}-line{line}")
            for line, row in enumerate(csv.DictReader(file), start=2)
        ]


def close(row: dict[str, str]):
    return pytest.approx(number(row["value"]), rel=0, abs=number(row["tolerance"]))


def configuration(row: dict[str, str]) -> Configuration:
    sigma, adjacency = number(row["sigma"]), Adjacency(row["adjacency"])
    view, placement = View(row["view"]), Placement(row["placement"])
    if row["cohort"].startswith("rate"):
        cohort = PoissonCohort(float(row["cohort"].split()[1]))
        return Configuration(
            ThreatModel(view, placement, cohort, adjacency=adjacency), sigma
        )
    size, population = map(int, row["cohort"].split(" of "))
    return as_printed(
        sigma,
        size,
        population,
        view=view,
        placement=placement,
        adjacency=adjacency,
        colluding=int(row["colluding"]),
    )


@pytest.mark.parametrize("row", table("threat"))
def test_the_printed_noise_against_each_adversary(row):
    run = configuration(row)
    if row["quantity"] == "multiplier":
        assert run.multiplier == close(row)
    else:
        found = run.exposure(int(row["steps"]), number(row["delta"]))
        assert getattr(found, row["quantity"]) == close(row)


@pytest.mark.parametrize("row", table("stages"))
def test_both_stages_together(row):
    first = stage_one()
    if row["stage_one_noise"]:
        noise = number(row["stage_one_noise"])
        first = stage_one(Prior.RELEASED, noise_multiplier=noise)
    second = PoissonSampled(
        0.05, Gaussian(number(row["noise_multiplier"])), row["adjacency"]
    )
    found = epsilon_interval(first + second * 20, number(row["delta"]))
    assert found.lower == close(row)
    assert found.upper == close(row)


def test_the_worked_default_of_two_stages():
    """N76: epsilon 2 at delta 1e-5, stage one with multiplier 10."""
    stages = calibrate_stages(
        stage_one(Prior.RELEASED, noise_multiplier=10.0),
        lambda z: PoissonSampled(0.05, Gaussian(z)) * 20,
        within(2.0, 1e-5),
    )
    assert stages.alone == pytest.approx(0.9968, abs=1e-4)
    assert stages.noise_multiplier == pytest.approx(1.0030, abs=1e-4)


def test_stages_of_gaussians_add_their_squares():
    """Qwen at claim 1 with a first stage of multiplier 5."""
    total = stage_one(Prior.RELEASED, noise_multiplier=5.0) + Gaussian(4.469237) * 4
    assert epsilon_interval(total, 1 / 285).upper == pytest.approx(1.1033, abs=1e-3)


def test_the_variance_gives_a_noise_share_away():
    """N84: 131,072 coordinates, five shares or six."""
    assert share_leak(131_072, 5) == pytest.approx(1158.57, abs=0.01)


@pytest.mark.parametrize(("sigma", "least"), [(0.748028, 248.0), (1.450621, 69.0)])
def test_clipping_each_of_256_matrices_alone(sigma, least):
    """One round with the noise of the paper's claims 1 and 0.25."""
    one = PoissonSampled(0.05, Gaussian(sigma / 16))
    assert epsilon_interval(one, 1 / 149).lower == pytest.approx(least, rel=5e-3)
    assert epsilon_interval(one, 1 / 149).lower >= least


@pytest.mark.parametrize("name", ["threat", "stages"])
def test_every_row_names_its_source(name):
    for param in table(name):
        assert param.values[0]["source"]
        assert number(param.values[0]["tolerance"]) > 0
