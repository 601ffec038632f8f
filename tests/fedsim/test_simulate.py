"""Rounds: paid for first, clipped, noised with the right amount, and repeatable."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from drdp import Adjacency, Gaussian, NonPrivate, PoissonSampled
from drdp.compression.identity import Identity
from drdp.compression.projection import RandomProjection
from drdp.compression.quantised import Quantised
from drdp.compression.sketch import CountSketch
from drdp.errors import InvalidArgumentError, UnsoundThreatModelError
from drdp.fedsim.cohort import AllocatedCohort, Cohorts
from drdp.fedsim.protection import Protection
from drdp.fedsim.randomness import SecretRandomness, SeededRandomness
from drdp.fedsim.server import Server
from drdp.fedsim.simulate import Report, Simulation, simulate
from drdp.fedsim.trainer import Update
from drdp.privacy.events import Composed, atoms
from drdp.privacy.threat import EveryClient, FixedCohort, Placement, PoissonCohort
from tests.fedsim.linear import LinearTrainer, Purse

KEY = bytes(range(32))


def simulation(
    trainer: LinearTrainer, cohort: Cohorts, **settings: object
) -> Simulation:
    values: dict[str, object] = {"clip_norm": 0.5, "noise_multiplier": 0.5}
    return Simulation(
        trainer,
        Identity(trainer.num_parameters),
        Protection(cohort, **(values | settings)),
        Server(),
    )


def run(
    built: Simulation,
    purse: Purse,
    rounds: int = 6,
    randomness: object = None,
    **more: object,
) -> list[Report]:
    source = randomness or SecretRandomness(KEY)
    return list(simulate(built, rounds=rounds, randomness=source, payer=purse, **more))


@pytest.mark.parametrize(
    "cohort",
    [PoissonCohort(0.3), FixedCohort(10, 40), EveryClient(40), AllocatedCohort(4)],
    ids=lambda cohort: type(cohort).__name__,
)
def test_what_is_charged_is_what_the_run_says_it_releases(
    trainer: LinearTrainer, purse: Purse, cohort: Cohorts
) -> None:
    built = simulation(trainer, cohort)
    run(built, purse, rounds=6)
    charged = Composed(tuple(event for event, _ in purse.paid))
    assert atoms(charged) == atoms(built.event(6))


def test_a_refused_charge_releases_nothing(trainer: LinearTrainer) -> None:
    built = simulation(trainer, PoissonCohort(0.3))
    rounds = simulate(
        built, rounds=9, randomness=SecretRandomness(KEY), payer=Purse(most=3)
    )
    found = [next(rounds).round for _ in range(3)]
    with pytest.raises(RuntimeError, match="empty"):
        next(rounds)
    assert found == [1, 2, 3]


def test_a_run_goes_on_from_any_state_as_if_it_had_never_stopped(
    trainer: LinearTrainer,
) -> None:
    built = replace(simulation(trainer, PoissonCohort(0.3)), server=Server("adam", 0.1))
    whole = run(built, Purse(), rounds=6)
    for stop in range(6):
        half = run(built, Purse(), rounds=stop)
        state = half[-1].state if half else None
        rest = run(built, Purse(), rounds=6, state=state)
        assert np.array_equal(rest[-1].state.parameters, whole[-1].state.parameters)


def test_repeating_a_round_is_the_same_release_with_the_same_name(
    trainer: LinearTrainer,
) -> None:
    class Keys(Purse):
        def charge(self, event: object, *, key: str | None = None, **rest: str) -> None:
            self.paid.append((event, key or ""))

    built = simulation(trainer, PoissonCohort(0.3))
    first, again = Keys(), Keys()
    one = run(built, first, rounds=3)
    other = run(built, again, rounds=3)
    assert first.paid == again.paid
    assert len({key for _, key in first.paid}) == 3
    assert np.array_equal(one[-1].state.parameters, other[-1].state.parameters)


def test_noise_is_never_shared_between_different_sums(trainer: LinearTrainer) -> None:
    """One bit of difference in a sum makes independent noise, and another charge."""
    built = simulation(trainer, EveryClient(40), noise_multiplier=50.0)
    (one,) = run(built, Purse(), rounds=1)
    trainer.outputs[0, 0] += 1e-3
    (other,) = run(built, Purse(), rounds=1)
    gap = np.linalg.norm(one.state.parameters - other.state.parameters) * 40
    # Two independent noises of norm about 25 sqrt(12): far apart.
    assert gap > 50.0


@pytest.mark.parametrize("placement", list(Placement))
def test_the_noise_of_the_mean_has_the_promised_size(placement: Placement) -> None:
    trainer = LinearTrainer(num_clients=5, length=400)
    built = simulation(
        trainer, EveryClient(5), noise_multiplier=3.0, placement=placement
    )
    quiet = simulation(trainer, EveryClient(5), noise_multiplier=0.0)
    (plain,) = run(quiet, Purse(), rounds=1)
    noises = []
    for number in range(20):
        source = SecretRandomness(bytes([number]) * 32)
        (loud,) = run(built, Purse(), rounds=1, randomness=source)
        noises.append(loud.state.parameters - plain.state.parameters)
    scale = built.protection.noise_of_mean(5) * built.protection.clip_norm
    found = np.concatenate(noises) / scale
    # 8,000 numbers; false-alarm rates 1e-4.
    assert stats.kstest(found, "norm").pvalue > 1e-4
    assert abs(found.std() - 1.0) < stats.norm.isf(5e-5) / math.sqrt(2 * found.size)


def test_one_client_moves_the_sum_by_at_most_the_clip_norm() -> None:
    trainer = LinearTrainer(num_clients=12)
    built = simulation(trainer, EveryClient(12), noise_multiplier=0.0, clip_norm=0.01)
    (before,) = run(built, Purse(), rounds=1)
    trainer.outputs[3] *= -1e6
    (after,) = run(built, Purse(), rounds=1)
    moved = 12 * np.linalg.norm(after.state.parameters - before.state.parameters)
    assert moved <= 2 * 0.01 * (1 + 1e-12)


def test_an_empty_cohort_still_releases_noise(trainer: LinearTrainer) -> None:
    built = simulation(trainer, PoissonCohort(1e-9))
    purse = Purse()
    (report,) = run(built, purse, rounds=1)
    assert report.private.clients == 0
    assert report.step_norm > 0.0
    assert len(purse.paid) == 1


class Broken(LinearTrainer):
    """Client 2 gives something else."""

    def __init__(self, made: Callable[[Update], Sequence[Update]]) -> None:
        super().__init__(num_clients=6)
        self._made = made

    def updates(self, parameters, clients, seed):  # type: ignore[no-untyped-def]
        for update in super().updates(parameters, clients, seed):
            yield from self._made(update) if update.client == 2 else [update]


def _filled(value: float) -> Callable[[Update], Sequence[Update]]:
    return lambda one: [replace(one, delta=np.full_like(one.delta, value))]


def _one_entry(update: Update) -> list[Update]:
    delta = update.delta.copy()
    delta[0] = np.nan
    return [replace(update, delta=delta)]


DIVERGED = {
    "nan": _filled(np.nan),
    "infinity": _filled(-np.inf),
    "huge": _filled(3e38),
    "one entry": _one_entry,
    "loss": lambda one: [replace(one, loss=math.nan)],
    "wide": lambda one: [replace(one, delta=np.full(12, 1e308))],
    "missing": lambda one: [],
}


@pytest.mark.parametrize("placement", list(Placement))
@pytest.mark.parametrize("made", DIVERGED.values(), ids=DIVERGED)
@pytest.mark.parametrize("codec", ["identity", "projection", "sketch", "8 bits"])
def test_a_client_that_diverges_counts_as_zero_and_ends_nothing(
    made: Callable[[Update], Sequence[Update]], placement: Placement, codec: str
) -> None:
    """The others' round is what it is where the client sends zeros."""
    codecs = {
        "identity": Identity(12),
        "projection": RandomProjection(12, 4, seed=1),
        "sketch": CountSketch(12, 4, seed=1),
        "8 bits": Quantised(Identity(12), 8),
    }

    def round_of(made: Callable[[Update], Sequence[Update]]) -> Report:
        built = simulation(Broken(made), EveryClient(6), placement=placement)
        built = replace(built, compressor=codecs[codec])
        purse = Purse()
        (report,) = run(built, purse, rounds=1)
        assert len(purse.paid) == 1
        return report

    report, zero = round_of(made), round_of(_filled(0.0))
    assert report.private.zeroed == 1
    assert zero.private.zeroed == 0
    assert math.isfinite(report.private.loss)
    assert np.array_equal(report.state.parameters, zero.state.parameters)


def test_all_clients_may_diverge(trainer: LinearTrainer) -> None:
    trainer.outputs[:] = np.nan
    built = simulation(trainer, EveryClient(40))
    reports = run(built, Purse(), rounds=3)
    assert [one.private.zeroed for one in reports] == [40] * 3
    assert math.isnan(reports[-1].private.loss)
    assert np.isfinite(reports[-1].state.parameters).all()


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda one: [one, one], "has given one already"),
        (lambda one: [replace(one, client=77)], "client 77, who was not asked"),
        (lambda one: [replace(one, delta=one.delta[1:])], "12 floating-point"),
        (lambda one: [replace(one, delta=one.delta.astype(int))], "12 floating-point"),
    ],
)
def test_a_trainer_that_breaks_the_protocol_is_refused_before_any_charge(
    made: Callable[[Update], Sequence[Update]], told: str, purse: Purse
) -> None:
    """Twice the same client would be twice its bound."""
    built = simulation(Broken(made), EveryClient(6))
    with pytest.raises(InvalidArgumentError, match=told):
        run(built, purse, rounds=1)
    assert purse.paid == []


def test_too_few_survivors_end_the_round_before_any_charge(
    trainer: LinearTrainer, purse: Purse
) -> None:
    built = simulation(
        trainer,
        PoissonCohort(1e-9),
        placement=Placement.DISTRIBUTED,
        view="sum",
        survivors=3,
    )
    with pytest.raises(UnsoundThreatModelError, match="only 0 of the 3"):
        run(built, purse, rounds=1)
    assert purse.paid == []


def test_training_works_and_noise_costs(trainer: LinearTrainer) -> None:
    built = simulation(trainer, EveryClient(40), noise_multiplier=0.01, clip_norm=2.0)
    reports = run(built, Purse(), rounds=40)
    at = reports[-1].state.parameters.astype(np.float32)
    assert (
        trainer.evaluate(at)["loss"]
        < 0.05 * trainer.evaluate(trainer.initial())["loss"]
    )


def test_a_seed_replays_and_is_not_secure(trainer: LinearTrainer) -> None:
    built = simulation(trainer, PoissonCohort(0.3))
    one = run(built, Purse(), randomness=SeededRandomness(3))
    other = run(built, Purse(), randomness=SeededRandomness(3))
    assert np.array_equal(one[-1].state.parameters, other[-1].state.parameters)
    assert not SeededRandomness(3).secure


def test_no_noise_is_charged_as_no_protection(
    trainer: LinearTrainer, purse: Purse
) -> None:
    run(simulation(trainer, PoissonCohort(0.3), noise_multiplier=0.0), purse, rounds=2)
    assert Counter(event for event, _ in purse.paid) == {NonPrivate(): 2}


def test_the_codec_is_paid_for_before_the_first_round(trainer: LinearTrainer) -> None:
    class Fitted:
        event = Gaussian(5.0)
        update_length = code_length = trainer.num_parameters

        def encode(self, update):  # type: ignore[no-untyped-def]
            return update

        def decode(self, code):  # type: ignore[no-untyped-def]
            return code.astype(np.float32)

    built = replace(simulation(trainer, PoissonCohort(0.3)), compressor=Fitted())
    purse = Purse()
    run(built, purse, rounds=2)
    assert [event for event, _ in purse.paid] == [
        Gaussian(5.0),
        *[PoissonSampled(0.3, Gaussian(0.5), Adjacency.ZERO_OUT)] * 2,
    ]
    assert atoms(built.event(2))[Gaussian(5.0)] == 1


def test_a_codec_for_another_model_is_refused(trainer: LinearTrainer) -> None:
    with pytest.raises(InvalidArgumentError, match="length 7"):
        Simulation(
            trainer,
            Identity(7),
            Protection(EveryClient(40), clip_norm=1.0, noise_multiplier=1.0),
        )
