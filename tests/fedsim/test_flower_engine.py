"""Rounds collected from Flower's nodes are those of a run in one process."""

import math
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest

pytest.importorskip("flwr")

from flwr.app import ConfigRecord, RecordDict

from drdp.compression.identity import Identity
from drdp.compression.sketch import CountSketch
from drdp.errors import (
    InvalidArgumentError,
    MissingPackageError,
    TrainingError,
    UnsoundThreatModelError,
)
from drdp.fedsim import engines
from drdp.fedsim.config import changed, read
from drdp.fedsim.flower import InProcessGrid
from drdp.fedsim.flower.collector import NodeCollector
from drdp.fedsim.flower.exchange import Exchange
from drdp.fedsim.flower.nodes import Parts, client_app
from drdp.fedsim.flower.orders import ORDER
from drdp.fedsim.folder import RunFolder
from drdp.fedsim.protection import Protection
from drdp.fedsim.randomness import SecretRandomness, SeededRandomness
from drdp.fedsim.running import Run
from drdp.fedsim.server import Server
from drdp.fedsim.simulate import Simulation, simulate
from drdp.privacy.threat import EveryClient, FixedCohort, PoissonCohort
from tests.fedsim.linear import LinearTrainer, Purse

CLIENTS = 40


def a_simulation(trainer, codec=None, **changes):
    plan = {"clip_norm": 0.5, "noise_multiplier": 1.0} | changes
    cohort = plan.pop("cohort", PoissonCohort(0.25))
    return Simulation(
        trainer,
        codec or Identity(trainer.num_parameters),
        Protection(cohort, **plan),
        Server("momentum"),
    )


def a_collector(simulation, *, seed=3, lost=None, trainer=None, nodes=CLIENTS):
    parts = Parts(trainer or simulation.trainer, simulation.compressor)
    grid = InProcessGrid(client_app(lambda settings, codec: parts), nodes, lost=lost)
    return NodeCollector(
        Exchange(grid, patience=0.2),
        settings="{}",
        protection=simulation.protection,
        seeded=seed,
        clients=simulation.trainer.num_clients,
    )


def run(simulation, collect=None, *, rounds=4, seed=3, randomness=None):
    purse = Purse()
    reports = list(
        simulate(
            simulation,
            rounds=rounds,
            randomness=randomness or SeededRandomness(seed),
            payer=purse,
            seed=seed,
            collect=collect,
        )
    )
    return reports, purse.paid


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"cohort": FixedCohort(6, CLIENTS)},
        {"cohort": EveryClient(CLIENTS), "noise_multiplier": 0.3},
        {"mechanism": "skellam", "code_length": 8},
        {"cohort": FixedCohort(6, CLIENTS), "placement": "local", "view": "messages"},
    ],
)
def test_the_same_run_ends_with_the_same_parameters_and_charges(changes):
    codec = CountSketch(12, 8, seed=1)
    simulation = a_simulation(LinearTrainer(CLIENTS), codec, **changes)
    here, paid_here = run(simulation)
    there, paid_there = run(simulation, a_collector(simulation))
    assert paid_here == paid_there
    assert len(paid_here) == 4
    for one, other in zip(here, there, strict=True):
        assert one.event == other.event
        np.testing.assert_array_equal(one.state.parameters, other.state.parameters)
        assert one.private.clients == other.private.clients


DISCRETE = {
    "cohort": FixedCohort(6, CLIENTS),
    "placement": "distributed",
    "view": "sum",
    "survivors": 4,
    "code_length": 8,
}


@pytest.mark.parametrize("mechanism", ["skellam", "discrete-gaussian"])
def test_a_run_with_secure_sums_is_the_one_in_one_process(mechanism):
    codec = CountSketch(12, 8, seed=1)
    simulation = a_simulation(
        LinearTrainer(CLIENTS), codec, mechanism=mechanism, **DISCRETE
    )
    here, paid_here = run(simulation)
    there, paid_there = run(simulation, a_collector(simulation))
    assert paid_here == paid_there
    assert len(paid_here) == 4
    for one, other in zip(here, there, strict=True):
        np.testing.assert_array_equal(one.state.parameters, other.state.parameters)


def test_secure_sums_go_on_with_the_guaranteed_survivors_and_not_below():
    simulation = a_simulation(
        LinearTrainer(9),
        CountSketch(12, 8, seed=1),
        mechanism="skellam",
        **DISCRETE | {"cohort": EveryClient(9), "survivors": 7},
    )
    reports, paid = run(
        simulation,
        a_collector(simulation, lost=lambda node: node in (4, 5), nodes=9),
        rounds=1,
    )
    assert reports[0].private.clients == 7
    assert len(paid) == 1
    purse = Purse()
    rounds = simulate(
        simulation,
        rounds=1,
        randomness=SeededRandomness(1),
        payer=purse,
        collect=a_collector(simulation, lost=lambda node: node in (4, 5, 6), nodes=9),
    )
    with pytest.raises(TrainingError, match="only 6 of 9 clients"):
        next(rounds)
    assert purse.paid == []


def test_a_sum_is_paid_for_before_it_is_unmasked():
    simulation = a_simulation(
        LinearTrainer(CLIENTS),
        CountSketch(12, 8, seed=1),
        mechanism="skellam",
        **DISCRETE,
    )
    parts = Parts(simulation.trainer, simulation.compressor)
    app, asked = client_app(lambda settings, codec: parts), []

    def overheard(msg, context):
        asked.append((msg.metadata.message_type, len(purse.paid)))
        if msg.metadata.message_type == "train.unmask":
            raise ConnectionError("gone")
        return app(msg, context)

    purse = Purse()
    collector = NodeCollector(
        Exchange(InProcessGrid(overheard, CLIENTS), patience=0.2),
        settings="{}",
        protection=simulation.protection,
        seeded=None,
        clients=CLIENTS,
    )
    rounds = simulate(
        simulation,
        rounds=1,
        randomness=SeededRandomness(1),
        payer=purse,
        collect=collector,
    )
    with pytest.raises(TrainingError, match="nothing was released"):
        next(rounds)
    assert len(purse.paid) == 1  # it could have leaked
    assert {paid for kind, paid in asked if kind != "train.unmask"} == {0}
    assert {paid for kind, paid in asked if kind == "train.unmask"} == {1}


def test_a_client_is_only_asked_for_its_own_update():
    trainer = LinearTrainer(CLIENTS)
    simulation = a_simulation(trainer, cohort=FixedCohort(5, CLIENTS))
    run(simulation, a_collector(simulation), rounds=1)
    assert len(trainer.trained) == 5
    assert all(len(asked) == 1 for asked in trainer.trained)


def test_secret_noise_of_clients_is_their_own_and_fresh():
    simulation = a_simulation(
        LinearTrainer(CLIENTS),
        cohort=FixedCohort(6, CLIENTS),
        placement="local",
        view="messages",
    )
    key = SecretRandomness(bytes(32))
    ends = [
        run(simulation, a_collector(simulation, seed=None), randomness=key)[0][-1]
        for _ in range(2)
    ]
    gap = ends[0].state.parameters - ends[1].state.parameters
    assert np.linalg.norm(gap) > 0.01


def test_missing_clients_count_as_zero_under_central_noise():
    simulation = a_simulation(LinearTrainer(CLIENTS), cohort=FixedCohort(20, CLIENTS))
    reports, paid = run(
        simulation, a_collector(simulation, lost=lambda node: node % 2 == 0), rounds=2
    )
    assert len(paid) == 2
    assert all(report.private.clients == 20 for report in reports)


class Cheater:
    """A trainer whose clients send whatever they like."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def updates(self, parameters, clients, seed):
        for update in self.inner.updates(parameters, clients, seed):
            update.delta[:] = math.inf if update.client % 2 else 1e9
            yield update


def test_what_a_client_sends_is_bounded_whatever_it_is():
    trainer = LinearTrainer(CLIENTS)
    simulation = a_simulation(
        trainer, cohort=EveryClient(CLIENTS), noise_multiplier=1e-9
    )
    collector = a_collector(simulation, trainer=Cheater(trainer))
    (report,), _ = run(simulation, collector, rounds=1)
    assert report.private.zeroed == CLIENTS / 2
    assert report.step_norm <= 0.5 * (1 + 1e-6)


def test_a_share_of_noise_is_never_sent_in_the_open():
    simulation = a_simulation(
        LinearTrainer(CLIENTS),
        cohort=FixedCohort(6, CLIENTS),
        placement="distributed",
        view="sum",
    )
    with pytest.raises(InvalidArgumentError, match="secure sums are of integers"):
        run(simulation, a_collector(simulation))


def test_a_round_that_nobody_answers_is_an_error_and_costs_nothing():
    simulation = a_simulation(LinearTrainer(CLIENTS), cohort=EveryClient(CLIENTS))
    purse = Purse()
    rounds = simulate(
        simulation,
        rounds=1,
        randomness=SeededRandomness(1),
        payer=purse,
        collect=a_collector(simulation, lost=lambda node: True),
    )
    with pytest.raises(TrainingError, match=r"none of the 40 clients .*patience"):
        next(rounds)
    assert purse.paid == []


def test_enough_clients_are_waited_for():
    simulation = a_simulation(LinearTrainer(CLIENTS))
    parts = Parts(simulation.trainer, simulation.compressor)
    grid = InProcessGrid(client_app(lambda settings, codec: parts), 3)
    exchange = Exchange(grid, patience=0.2)
    exchange.ready(3)
    with pytest.raises(TrainingError, match="4 clients are needed and 3 are connected"):
        exchange.ready(4)


def test_a_damaged_order_is_refused_with_a_reason():
    simulation = a_simulation(LinearTrainer(CLIENTS))
    grid = InProcessGrid(
        client_app(
            lambda settings, codec: Parts(simulation.trainer, simulation.compressor)
        ),
        2,
    )
    exchange = Exchange(grid, patience=0.2)
    with pytest.raises(TrainingError, match=r"client 0 cannot take part: .*order"):
        exchange.ask({0: RecordDict()})
    with pytest.raises(TrainingError, match="damaged"):
        exchange.ask({1: RecordDict({ORDER: ConfigRecord({"client": 1})})})


def test_the_threat_model_refuses_unsound_placements():
    with pytest.raises(UnsoundThreatModelError):
        a_simulation(LinearTrainer(CLIENTS), placement="distributed", view="sum")


@pytest.mark.parametrize(
    ("found", "why"),
    [(None, "needs flwr: pip install"), ("1.40.3", "1.41 or later, found 1.40.3")],
)
def test_a_missing_or_old_flower_is_one_clear_line(monkeypatch, tmp_path, found, why):
    def version(name):
        if found is None:
            raise PackageNotFoundError(name)
        return found

    monkeypatch.setattr(engines, "version", version)
    config = changed(read({}), {"run.engine": "flower", "privacy.epsilon": 2})
    with pytest.raises(MissingPackageError, match=why) as caught:
        Run.begun(RunFolder(tmp_path / "run"), config)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_shares_of_gaussian_noise_are_refused_before_a_run_begins(tmp_path):
    config = changed(
        read({}), {"run.engine": "flower", "privacy.placement": "distributed"}
    )
    with pytest.raises(InvalidArgumentError, match="skellam or discrete-gaussian"):
        Run.begun(RunFolder(tmp_path / "run"), config)
    assert not (tmp_path / "run").exists()
