"""An adaptive clip norm in the loop: its cost, its noise, its memory, its refusals."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from drdp.compression.identity import Identity
from drdp.errors import InvalidArgumentError, RunFolderError, UnsoundThreatModelError
from drdp.fedsim.cohort import AllocatedCohort, Cohorts
from drdp.fedsim.comparison import Task, compared
from drdp.fedsim.evidence import evidence
from drdp.fedsim.execution import Outcome, Progress
from drdp.fedsim.federation import settled
from drdp.fedsim.findings import run_findings
from drdp.fedsim.folder import RunFolder
from drdp.fedsim.protection import Protection, calibrated
from drdp.fedsim.randomness import SecretRandomness
from drdp.fedsim.run_page import run_page
from drdp.fedsim.running import Run
from drdp.fedsim.server import Server
from drdp.fedsim.simulate import Simulation, State, simulate
from drdp.fedsim.steering import Steering
from drdp.fedsim.total import Total
from drdp.fedsim.trainer import Update
from drdp.privacy.adjacency import Adjacency
from drdp.privacy.events import Composed, atoms
from drdp.privacy.ledger import Ledger
from drdp.privacy.pld import epsilon_interval
from drdp.privacy.threat import EveryClient, FixedCohort, Placement, PoissonCohort, View
from tests.fedsim.linear import LinearTrainer, Purse
from tests.fedsim.prepared import ROUNDS, STEERING, begun, executed, prepared
from tests.fedsim.test_running import config, run, silent

KEY = bytes(range(32))
Z, CLIP, SIZE = 2.0, 0.5, 40


class StoppedError(Exception):
    """Stands for whatever ends a process."""


def simulation(
    cohort: Cohorts | None = None, size: float | None = None, **settings: object
) -> Simulation:
    """A linear model whose clip norm moves."""
    trainer = LinearTrainer(num_clients=SIZE)
    values: dict[str, object] = {
        "clip_norm": CLIP,
        "noise_multiplier": Z,
        "steering": STEERING,
    }
    protection = Protection(cohort or EveryClient(SIZE), **(values | settings))
    hidden = protection.relation is Adjacency.ADD_REMOVE
    return Simulation(
        trainer,
        Identity(trainer.num_parameters),
        protection,
        size=float(SIZE) if hidden else size,
    )


@pytest.mark.parametrize(
    ("noise", "size", "codes"),  # N69: Andrew et al. 2021
    [(1.0, 100, 1.0050378), (0.8, 100, 0.8025724), (1.0, 1000, 1.0000500)],
)
def test_the_codes_get_the_rest_of_the_noise(
    noise: float, size: int, codes: float
) -> None:
    assert Steering().codes_noise(noise, size) == pytest.approx(codes, abs=1e-6)


@pytest.mark.parametrize("relation", list(Adjacency))
@pytest.mark.parametrize("large", [False, True])
def test_neighbours_are_no_further_apart_than_the_event_says(
    relation: Adjacency, large: bool
) -> None:
    """Sum and count together, in units of their noise, and the bound is reached."""
    built = simulation(PoissonCohort(0.5), adjacency=relation)
    size = built.divisor(SIZE)
    length = built.compressor.code_length
    one = np.zeros(length, dtype=np.float32)
    one[0] = 7.0 if large else 0.99999 * CLIP

    def totals(*updates: np.ndarray) -> np.ndarray:
        everyone = range(len(updates))
        total = Total(
            built.protection,
            built.compressor,
            0,
            SecretRandomness(KEY),
            everyone,
            built.bounds(CLIP),
        )
        for client, delta in enumerate(updates):
            total.add(Update(client, delta, 0.0, 1))
        mechanism = built.bounds(CLIP).mechanism
        assert mechanism is not None
        count = STEERING.count_noise * size
        return np.append(total.sum / mechanism.noise_std, total.shares / count)

    crowd = [np.full(length, x, dtype=np.float32) for x in (0.1, -0.3, 2.0)]
    others = {
        Adjacency.ADD_REMOVE: [*crowd],
        Adjacency.ZERO_OUT: [*crowd, np.zeros(length, dtype=np.float32)],
        # The opposite, and on the other side of the clip norm.
        Adjacency.REPLACE_ONE: [
            *crowd,
            np.float32(-0.99999 * CLIP / 7.0 if large else -7.0 / 0.5) * one,
        ],
    }[relation]
    apart = float(np.linalg.norm(totals(*crowd, one) - totals(*others)))
    steps = 2.0 if relation is Adjacency.REPLACE_ONE else 1.0
    assert 0.9999 * steps / Z < apart <= steps / Z


@pytest.mark.parametrize(
    "cohort",
    [PoissonCohort(0.3), FixedCohort(10, SIZE), EveryClient(SIZE), AllocatedCohort(4)],
    ids=lambda cohort: type(cohort).__name__,
)
def test_a_run_is_charged_what_one_with_a_fixed_clip_norm_is(cohort: Cohorts) -> None:
    purse, built = Purse(), simulation(cohort)
    rounds = list(
        simulate(built, rounds=6, randomness=SecretRandomness(KEY), payer=purse)
    )
    charged = Composed(tuple(event for event, _ in purse.paid))
    fixed = replace(built, protection=replace(built.protection, steering=None))
    assert atoms(charged) == atoms(built.event(6)) == atoms(fixed.event(6))
    norms = [report.clip_norm for report in rounds]
    assert norms[0] == CLIP
    assert len(set(norms)) == 6
    assert norms[1:] == [report.state.clip_norm for report in rounds[:-1]]


def test_sum_and_count_have_independent_noise_of_the_stated_size() -> None:
    """From empty rounds, which release noise alone."""
    built = simulation(PoissonCohort(1e-9), size=SIZE)
    codes, counts = [], []
    for number in range(1500):
        source = SecretRandomness(number.to_bytes(32, "big"))
        (one,) = simulate(built, rounds=1, randomness=source, payer=Purse())
        codes.append(one.state.parameters * SIZE)
        moved = math.log((one.state.clip_norm or 0.0) / CLIP) / -STEERING.learning_rate
        counts.append((moved - 0.5 + STEERING.quantile) * SIZE)
    count = STEERING.count_noise * SIZE
    spread = CLIP * (Z**-2 - (2.0 * count) ** -2) ** -0.5
    # False-alarm rates 1e-4.
    assert stats.kstest(np.concatenate(codes) / spread, "norm").pvalue > 1e-4
    assert stats.kstest(np.array(counts) / count, "norm").pvalue > 1e-4
    assert stats.pearsonr(np.array(codes)[:, 0], counts).pvalue > 1e-4


def test_the_same_sum_under_two_clip_norms_has_two_noises() -> None:
    """Else two known multiples of one noise would show the sum."""
    built = simulation(PoissonCohort(1e-9), size=SIZE)
    noises, keys = [], []

    class Keys(Purse):
        def charge(self, event: object, *, key: str | None = None, **rest: str) -> None:
            keys.append(key)

    for clip in (CLIP, 2.0 * CLIP):
        start = State(0, built.trainer.initial().astype(np.float64), {}, clip)
        (one,) = simulate(
            built, rounds=1, randomness=SecretRandomness(KEY), payer=Keys(), state=start
        )
        noises.append(one.state.parameters / clip)
    assert len(set(keys)) == 2
    assert abs(stats.pearsonr(*noises).statistic) < 0.999


def test_the_clip_norm_finds_the_quantile() -> None:
    built = simulation(
        steering=Steering(quantile=0.3, learning_rate=0.2, count_noise=0.05),
        noise_multiplier=1.0,
        clip_norm=30.0,
    )
    built = replace(built, server=Server("sgd", 1e-6))  # norms stay as they are
    reports = list(
        simulate(
            built, rounds=80, randomness=SecretRandomness(KEY), payer=Purse(), seed=3
        )
    )
    last = [report.private.clipped for report in reports[-20:]]
    assert np.mean(last) == pytest.approx(0.7, abs=0.06)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, RunFolder]:
    """A run that nothing interrupted."""
    folder = begun(tmp_path_factory.mktemp("run") / "whole")
    return executed(folder, prepared(steering=STEERING)), folder


def same(folder: RunFolder, whole: tuple[Outcome, RunFolder]) -> None:
    """The run in `folder` is the one that nothing interrupted, and paid as much."""
    outcome, first = whole
    state = folder.load()
    assert state is not None
    assert np.array_equal(state.parameters, outcome.state.parameters)
    assert state.clip_norm == outcome.state.clip_norm
    norms = [[one.get("clip_norm") for one in f.records()] for f in (folder, first)]
    assert norms[0] == norms[1]
    with Ledger.open(folder.ledger, read_only=True) as ledger:
        assert atoms(ledger.spent) == atoms(outcome.statement.event)


def test_interrupted_after_every_round_it_ends_the_same(
    whole: tuple[Outcome, RunFolder], tmp_path: Path
) -> None:
    folder = begun(tmp_path / "run")

    def stop(progress: Progress) -> None:
        if progress.report is not None and progress.round < ROUNDS:
            raise StoppedError

    for _ in range(ROUNDS - 1):
        with pytest.raises(StoppedError):
            executed(folder, prepared(steering=STEERING), stop)
    executed(folder, prepared(steering=STEERING), stop)
    same(folder, whole)


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_the_same(
    whole: tuple[Outcome, RunFolder], tmp_path: Path
) -> None:
    """Real processes, SIGKILL; each goes on where the last one was killed."""
    kills = 0
    for seed in range(12):
        folder = RunFolder(tmp_path / f"run{seed}")
        script = ("-m", "tests.fedsim.prepared", str(folder.path), str(seed), "steered")
        found = subprocess.run(
            [sys.executable, *script],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )
        assert found.returncode == 0, found.stderr
        kills += int(found.stdout)
        same(folder, whole)
        if kills >= 5:
            break
    assert kills >= 5


@pytest.mark.parametrize("now", [None, STEERING])
def test_a_checkpoint_of_the_other_kind_is_refused(
    tmp_path: Path, now: Steering | None
) -> None:
    folder = begun(tmp_path / "run")

    def stop(progress: Progress) -> None:
        if progress.round == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        executed(folder, prepared(steering=STEERING if now is None else None), stop)
    with pytest.raises(RunFolderError, match="adaptive clip norm") as raised:
        executed(folder, prepared(steering=now))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("placement", [Placement.DISTRIBUTED, Placement.LOCAL])
def test_noise_at_the_clients_is_refused(placement: Placement) -> None:
    with pytest.raises(UnsoundThreatModelError, match="needs placement central"):
        simulation(placement=placement, view=View.SUM)


def test_a_cohort_too_small_for_the_count_is_refused() -> None:
    paper = Protection(  # K = 5: 2 sigma_b = 0.5
        FixedCohort(5, 100), 1.0, 0.748, steering=Steering()
    )
    with pytest.raises(InvalidArgumentError, match=r"cannot be paid for.*below 0\.5,"):
        paper.codes_noise(5.0)
    with pytest.raises(InvalidArgumentError, match=r"privacy\.clip_count_noise"):
        simulation(steering=Steering(count_noise=0.02), noise_multiplier=2.0)
    with pytest.raises(InvalidArgumentError, match="finite norm"):
        Protection(FixedCohort(5, 9), math.inf, 0.0, steering=Steering())
    # What is calibrated is what both cost together.
    plan = Protection(PoissonCohort(0.05), 1.0, 1.0, steering=Steering())
    fixed = replace(plan, steering=None)
    asked = {"epsilon": 2.0, "delta": 1e-5, "rounds": 20}
    assert calibrated(plan, **asked).noise_multiplier == pytest.approx(
        calibrated(fixed, **asked).noise_multiplier
    )


ADAPTIVE = {
    "privacy__clip_norm": "adaptive",
    "privacy__clip_count_noise": 0.5,
    "privacy__epsilon": 8.0,
}


@pytest.mark.parametrize("method", ["pca", "els", "ew-tune"])
def test_a_run_tells_how_its_clip_norm_moves(tmp_path: Path, method: str) -> None:
    """In plan, metrics, statement, result and report; and keeps to its budget."""
    plan, outcome, folder = run(tmp_path / "run", run__method=method, **ADAPTIVE)
    found = epsilon_interval(outcome.statement.event, plan.delta).upper
    assert 7.0 < found == outcome.statement.epsilon.upper <= 8.0
    told = json.loads((folder.path / "plan.json").read_text())
    start = told["clip_norm"]
    assert told["codes_noise_multiplier"] > told["noise_multiplier"]
    assert "follows the 0.5-quantile" in str(told["told"]["Plan"])
    first, *norms = [one.get("clip_norm") for one in folder.records()]
    assert first is None
    assert norms[0] == start
    assert norms[1] != start
    assert folder.result()["clip_norm"] == norms[-1]
    assert "clip_norm" not in folder.result()["after"]
    said = (folder.path / "statement.txt").read_text()
    assert "all parameters but the clip norm" in said
    assert f"begins at {start:.4g}" in said
    seen = evidence(folder)
    assert [one.clip_norm for one in seen.rounds] == [None, *norms]
    page = run_page(run_findings(seen))
    assert "Clip norm by round" in page
    assert "adaptive, " in page


def test_a_start_can_be_given_and_no_noise_still_moves_it(tmp_path: Path) -> None:
    settings = ADAPTIVE | {"privacy__epsilon": "inf", "privacy__clip_start": 0.125}
    _, outcome, folder = run(tmp_path / "run", run__method="fedlora", **settings)
    assert outcome.statement.epsilon.upper == math.inf
    norms = [one["clip_norm"] for one in folder.records()[1:]]
    assert norms[0] == 0.125
    assert norms[1] != 0.125


@pytest.mark.parametrize("method", ["cent", "base", "public"])
def test_a_method_that_clips_nobody_is_refused_alone(method: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"does not go with method {method}"):
        settled(config(run__method=method, privacy__clip_norm="adaptive"))


def test_a_comparison_gives_it_to_those_that_clip(tmp_path: Path) -> None:
    tasks = [Task("base", math.inf, 0), Task("pca", 8.0, 0)]
    found = list(compared(config(**ADAPTIVE), tasks, tmp_path / "all"))
    kinds = [RunFolder(one.folder).config().privacy.clip_norm for one in found]
    assert kinds == ["public", "adaptive"]


def test_a_count_that_cannot_be_paid_ends_a_run_before_it_begins(
    tmp_path: Path,
) -> None:
    settings = ADAPTIVE | {"privacy__clip_count_noise": 0.05}
    folder = RunFolder(tmp_path / "run")
    with folder.locked():
        begun_ = Run.begun(folder, settled(config(run__method="pca", **settings)))
        with pytest.raises(InvalidArgumentError, match="cannot be paid for") as raised:
            begun_.prepared(silent)
    assert "\n" not in str(raised.value)
    assert not folder.path.exists()
