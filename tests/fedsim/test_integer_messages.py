"""Discrete noise in the loop: what is drawn, what is charged, what is refused."""

import math
from dataclasses import replace

import numpy as np
import pytest

from drdp import Adjacency, NonPrivate
from drdp.compression.identity import Identity
from drdp.errors import InvalidArgumentError, UnsoundThreatModelError
from drdp.fedsim.cohort import AllocatedCohort
from drdp.fedsim.integer_messages import code_of_sum, integer_mechanism, message
from drdp.fedsim.protection import MechanismName, Protection, calibrated
from drdp.fedsim.randomness import SecretRandomness
from drdp.fedsim.simulate import Report, Simulation, simulate
from drdp.mechanisms.modular import secure_sum
from drdp.mechanisms.noise import SeededNoise
from drdp.privacy.events import atoms
from drdp.privacy.rdp import rdp_curve
from drdp.privacy.releases import Skellam, ZeroConcentrated
from drdp.privacy.threat import EveryClient, FixedCohort, Placement, PoissonCohort, View
from tests.fedsim.linear import LinearTrainer, Purse

LAWS = ("discrete-gaussian", "skellam")
LENGTH = 12


def plan(**settings: object) -> Protection:
    values: dict[str, object] = {
        "cohort": FixedCohort(10, 40),
        "clip_norm": 0.5,
        "noise_multiplier": 1.5,
        "placement": Placement.DISTRIBUTED,
        "view": View.SUM,
        "mechanism": "skellam",
        "granularity": 2.0**-10,
        "code_length": LENGTH,
    }
    return Protection(**(values | settings))


def built(trainer: LinearTrainer, **settings: object) -> Simulation:
    return Simulation(trainer, Identity(trainer.num_parameters), plan(**settings))


def run(simulation: Simulation, rounds: int = 1, key: int = 1) -> list[Report]:
    source = SecretRandomness(bytes([key]) * 32)
    return list(simulate(simulation, rounds=rounds, randomness=source, payer=Purse()))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(
    ("settings", "shares"),
    [
        ({}, 10),
        ({"survivors": 7, "colluding": 2}, 5),
        ({"view": View.MESSAGES}, 1),
        ({"placement": Placement.LOCAL}, 1),
        ({"placement": Placement.CENTRAL}, None),
        ({"adjacency": Adjacency.ZERO_OUT}, 10),
    ],
)
def test_what_is_charged_covers_what_is_drawn(
    law: str, settings: dict[str, object], shares: int | None
) -> None:
    """The mechanism's own event, from its own scales, costs no more."""
    found = plan(mechanism=law, **settings)
    made = integer_mechanism(found, clients=10)
    assert found.counted_shares == shares == made.survivors
    charged, drawn = (rdp_curve(event) for event in (found.event(0), made.event))
    for epsilon in (0.5, 2.0, 8.0):
        upper = charged.delta(epsilon)
        assert drawn.delta(epsilon) <= upper * (1.0 + 1e-12)
        assert drawn.delta(epsilon) == pytest.approx(upper, rel=1e-6)
    # Never less than that of a Gaussian with as much noise, unsampled.
    times = 1.0 if settings.get("adjacency") is Adjacency.ZERO_OUT else 2.0
    plain = 1.5 * math.sqrt(shares or 1) / times
    whole = 1.0 / (2.0 * plain * plain)
    if isinstance(made.event, ZeroConcentrated):
        assert made.event.rho >= whole
        assert made.event.rho == pytest.approx(whole, rel=0.02)
    if isinstance(made.event, Skellam):
        rho = made.event.sensitivity**2 / (2.0 * made.event.variance)
        assert rho == pytest.approx(whole, rel=0.02)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("placement", list(Placement))
def test_the_noise_of_the_mean_has_the_promised_size(
    law: str, placement: Placement
) -> None:
    trainer = LinearTrainer(num_clients=5, length=300)
    settings = {
        "cohort": EveryClient(5),
        "mechanism": law,
        "placement": placement,
        "code_length": 300,
        "noise_multiplier": 3.0,
        "granularity": 2.0**-8,
        "view": View.OUTSIDER,
    }
    loud = built(trainer, **settings)
    quiet = replace(
        loud,
        protection=replace(
            loud.protection,
            mechanism=MechanismName.GAUSSIAN,
            noise_multiplier=0.0,
        ),
    )
    (plain,) = run(quiet)
    noises = [
        run(loud, key=key)[0].state.parameters - plain.state.parameters
        for key in range(1, 6)
    ]
    scale = loud.protection.noise_of_mean(5) * loud.protection.clip_norm
    found = np.concatenate(noises) / scale
    # 1,500 numbers of standard deviation 1, and one in 10^5 of theirs is beyond 5.
    assert found.std() == pytest.approx(1.0, abs=4.5 / math.sqrt(2 * found.size))
    assert abs(found.mean()) < 4.5 / math.sqrt(found.size)


@pytest.mark.parametrize("law", LAWS)
def test_a_calibrated_run_keeps_to_its_budget_and_pays_for_each_round(
    trainer: LinearTrainer, law: str
) -> None:
    found = calibrated(
        plan(mechanism=law, granularity=2.0**-9, view=View.OUTSIDER),
        epsilon=4.0,
        delta=1e-5,
        rounds=5,
    )
    assert 3.9 < rdp_curve(found.run_event(5)).epsilon(1e-5) <= 4.0
    simulation = Simulation(trainer, Identity(LENGTH), found)
    purse = Purse()
    source = SecretRandomness(bytes(32))
    reports = list(simulate(simulation, rounds=5, randomness=source, payer=purse))
    assert len(reports) == 5
    total = purse.paid[0][0]
    for event, _ in purse.paid[1:]:
        total = total + event  # type: ignore[operator]
    assert atoms(total) == atoms(simulation.event(5))  # type: ignore[arg-type]


@pytest.mark.parametrize("placement", list(Placement))
def test_a_round_that_is_repeated_is_the_same_to_the_last_bit(
    trainer: LinearTrainer, placement: Placement
) -> None:
    """Roundings included; another sum gets other noise."""
    simulation = built(trainer, placement=placement, view=View.OUTSIDER)
    one, other = run(simulation, 3)[-1], run(simulation, 3)[-1]
    assert np.array_equal(one.state.parameters, other.state.parameters)
    trainer.outputs[:, 0] += 1e-3
    third = run(simulation, 3)[-1]
    assert not np.array_equal(one.state.parameters, third.state.parameters)


def test_messages_alone_are_noise_modulo_the_range_and_their_sum_is_the_sum() -> None:
    shared = integer_mechanism(plan(noise_multiplier=0.01), clients=10)
    rng = SeededNoise(3)
    code = np.linspace(-0.1, 0.1, LENGTH)
    sent = [message(shared, code, rounding=rng, noise=rng) for _ in range(10)]
    for one in sent:
        assert one.dtype == np.int64
        assert one.min() >= 0
        assert one.max() < 1 << (shared.bits or 0)
    found = code_of_sum(shared, secure_sum(sent, shared.bits or 0))
    assert np.allclose(found, 10 * code, atol=0.2)
    lost = message(shared, np.full(LENGTH, np.nan), rounding=rng, noise=rng)
    more = code_of_sum(shared, secure_sum([*sent[:9], lost], shared.bits or 0))
    assert np.allclose(more, 9 * code, atol=0.2)


def test_a_client_that_diverges_still_sends_its_share(trainer: LinearTrainer) -> None:
    trainer.outputs[:] = np.nan
    (report,) = run(built(trainer))
    assert report.private.zeroed == 10
    assert report.step_norm > 0.0
    assert np.isfinite(report.state.parameters).all()


@pytest.mark.parametrize(
    ("settings", "error", "told"),
    [
        (
            {"cohort": AllocatedCohort(4), "placement": "central", "view": "outsider"},
            UnsoundThreatModelError,
            "neither random allocation",
        ),
        ({"code_length": None}, InvalidArgumentError, "code_length must be given"),
        ({"cohort": PoissonCohort(0.1)}, UnsoundThreatModelError, "state survivors"),
        ({"adjacency": "add-remove"}, UnsoundThreatModelError, "add-remove"),
        ({"granularity": 0.0}, InvalidArgumentError, "granularity must be pos"),
        ({"granularity": 2.0}, InvalidArgumentError, "granularity must be from"),
        ({"mechanism": "laplace"}, InvalidArgumentError, "mechanism must be one of"),
    ],
)
def test_what_has_no_guarantee_is_refused(
    settings: dict[str, object], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        plan(**settings)


def test_noise_that_the_grid_cannot_carry_is_refused_or_not_counted() -> None:
    narrow = plan(mechanism="discrete-gaussian", noise_multiplier=2.0**-11)
    assert narrow.event(0) == NonPrivate()
    with pytest.raises(InvalidArgumentError, match="must be finer"):
        integer_mechanism(narrow, clients=10)
    with pytest.raises(InvalidArgumentError, match="must be coarser"):
        integer_mechanism(plan(noise_multiplier=1e6), clients=10)
    with pytest.raises(InvalidArgumentError, match="got gaussian"):
        integer_mechanism(plan(mechanism="gaussian"), clients=10)
    hidden = plan(placement=Placement.CENTRAL, view=View.MESSAGES)
    assert hidden.event(0) == NonPrivate()


def test_sampling_is_not_counted_as_help() -> None:
    seen, unseen = plan(), plan(view=View.OUTSIDER)
    assert seen.event(0) == unseen.event(0)
    central = plan(cohort=PoissonCohort(0.01), placement="central", view="outsider")
    assert central.event(0) == replace(central, cohort=PoissonCohort(1.0)).event(0)


def test_the_protection_must_be_for_the_codec(trainer: LinearTrainer) -> None:
    with pytest.raises(InvalidArgumentError, match="codes of 5 numbers"):
        built(trainer, code_length=5)
