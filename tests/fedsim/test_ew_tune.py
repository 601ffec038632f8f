"""EW-Tune's own noise beside a run: reproduced, labelled, and never used."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from drdp.fedsim.ew_tune import NO_ANSWER, EwTuneBeside, ew_tune_beside
from drdp.fedsim.protection import Protection
from drdp.privacy.adjacency import Adjacency
from drdp.privacy.curves import Interval
from drdp.privacy.events import PoissonSampled, atoms
from drdp.privacy.pld import epsilon_interval
from drdp.privacy.threat import EveryClient, PoissonCohort
from tests.fedsim.test_running import charged, run

MNLI = Protection(PoissonCohort(2000 / 392702), clip_norm=1.0, noise_multiplier=0.65)
ASKED = {"rounds": 3920, "epsilon": 8.0, "delta": 1e-6}


@pytest.mark.parametrize("relation", [None, Adjacency.ADD_REMOVE])
def test_it_is_the_noise_of_the_papers_logs_with_its_true_cost(
    relation: Adjacency | None,
) -> None:
    """N25 and N26, MNLI: .573 claims 7.987, and costs 9.60."""
    seen = ew_tune_beside(replace(MNLI, adjacency=relation), **ASKED)
    assert seen is not None
    assert seen.noise_multiplier == 0.573
    assert seen.estimate == pytest.approx(7.987, abs=1e-3)
    assert seen.certified.lower <= 9.6006 + 5e-3
    assert 9.6006 - 5e-3 <= seen.certified.upper < 9.62
    said = seen.sentence()
    for part in ("0.573", "no guarantee", "claims too little", "uses 0.65"):
        assert part in said
    printed = float(said.split("really costs epsilon ")[1].split()[0])
    assert printed >= seen.certified.upper


def test_its_cost_is_that_of_the_runs_own_relation() -> None:
    plan = replace(MNLI, adjacency=Adjacency.REPLACE_ONE)
    seen, usual = ew_tune_beside(plan, **ASKED), ew_tune_beside(MNLI, **ASKED)
    assert seen is not None
    assert usual is not None
    assert seen.certified.lower > usual.certified.upper
    exact = epsilon_interval(
        replace(plan, noise_multiplier=0.573).run_event(3920), 1e-6
    )
    assert seen.certified.upper == exact.upper


@pytest.mark.parametrize(
    ("plan", "asked"),
    [
        (MNLI, {"epsilon": None}),
        (MNLI, {"epsilon": math.inf}),
        (MNLI, {"rounds": 0}),
        (MNLI, {"epsilon": 0.01}),  # noise of 2 is too little for it
        (Protection(EveryClient(9), 1.0, 1.0), {}),
    ],
)
def test_where_the_rule_says_nothing_there_is_nothing(
    plan: Protection, asked: dict
) -> None:
    assert ew_tune_beside(plan, **(ASKED | asked)) is None


@pytest.mark.parametrize(
    ("certified", "told"),
    [
        (Interval(8.1, 8.2, ""), "claims too little"),
        (Interval(7.9, 8.2, ""), "nobody can say"),
        (Interval(7.8, 7.9, ""), "within the budget"),
    ],
)
def test_no_more_is_said_than_was_proved(certified: Interval, told: str) -> None:
    seen = EwTuneBeside(0.5, 7.99, certified, 8.0, 1e-5, 0.6)
    assert told in seen.sentence()


def test_a_run_shows_it_in_plan_and_statement_and_does_not_use_it(
    tmp_path: Path,
) -> None:
    found = run(tmp_path / "run", run__method="ew-tune", privacy__epsilon=8.0)
    prepared, outcome, folder = found
    assert charged(*found) <= 8.0
    plan = json.loads((folder.path / "plan.json").read_text())
    beside = plan["ew_tune"]
    assert beside["kind"] == "approximation, no guarantee"
    assert plan["told"]["EW-Tune"] == [beside["told"]]
    assert beside["used_noise_multiplier"] == plan["noise_multiplier"]
    assert beside["noise_multiplier"] < plan["noise_multiplier"]
    assert beside["certified_epsilon"]["upper"] > 8.0
    assert beside["edgeworth_epsilon"] < 8.0
    for atom in atoms(outcome.statement.event):
        assert isinstance(atom, PoissonSampled)
        assert str(plan["noise_multiplier"]) in repr(atom)
    said = (folder.path / "statement.txt").read_text()
    assert "For comparison, not a guarantee:" in said
    assert beside["told"] in said
    stored = json.loads((folder.path / "statement.json").read_text())
    assert stored["ew_tune"] == beside
    result = folder.result()
    assert result["ew_tune"] == beside
    assert "ew_tune" not in result["statement"]
    other = run(tmp_path / "other", run__method="uls", privacy__epsilon=8.0)
    assert "EW-Tune" not in other[0].plan["told"]
    assert prepared.plan["told"]["EW-Tune"] != [NO_ANSWER]
