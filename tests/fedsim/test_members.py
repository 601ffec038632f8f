"""Clients with data on trial, users with several examples, and several views."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from drdp import Gaussian
from drdp.compression.identity import Identity
from drdp.errors import InvalidArgumentError
from drdp.fedsim.auditing import audit_canaries, audit_suspects, secret_of
from drdp.fedsim.canaries import Planting
from drdp.fedsim.examples import Example
from drdp.fedsim.lora.tiny import byte_tokenizer
from drdp.fedsim.members import Member, Membership, Remembering, Seated
from drdp.fedsim.planted_text import Casting, rare_text
from drdp.fedsim.protection import Protection
from drdp.fedsim.sight import Sight
from drdp.fedsim.simulate import Simulation, simulate
from drdp.privacy.black_box import audit
from drdp.privacy.findings import Jointly, shared_out
from drdp.privacy.threat import EveryClient, Placement, PoissonCohort, View
from tests.fedsim.audited import DELTA, audited
from tests.fedsim.linear import LinearTrainer, Purse

CLIENTS = 5


def suspect(
    trainer: LinearTrainer, *, rounds: int = 1, stands_in: bool = True, **plan: object
) -> Membership:
    """Client 0 against client 1's data, or against nobody."""
    made = Remembering(trainer)
    settings: dict[str, object] = {
        "cohort": EveryClient(CLIENTS) if stands_in else PoissonCohort(1.0),
        "clip_norm": 0.3,
        "noise_multiplier": 0.3,
    }
    simulation = Simulation(
        made,
        Identity(trainer.num_parameters),
        Protection(**(settings | plan)),  # type: ignore[arg-type]
    )
    return Membership(
        simulation,
        Member(made, 0),
        Member(made, 1) if stands_in else None,
        tuple(range(1, CLIENTS)),
        rounds,
    )


def last_of(found: Membership, inside: bool) -> list[Sight]:
    seen: list[Sight] = []
    everybody = found.among(found.simulation.trainer, [inside])
    simulation = replace(found.simulation, trainer=everybody)
    list(
        simulate(
            simulation,
            rounds=found.rounds,
            randomness=secret_of(1)(0),
            payer=Purse(),
            seed=found.seed,
            observe=seen.append,
        )
    )
    return seen


@pytest.mark.parametrize("stands_in", [True, False])
def test_the_attacker_computes_what_the_suspect_sends(stands_in: bool) -> None:
    """Without noise the sums of runs with and without it differ by just that."""
    found = suspect(
        LinearTrainer(CLIENTS),
        stands_in=stands_in,
        noise_multiplier=0.0,
    )
    (one,), (other,) = last_of(found, True), last_of(found, False)
    told = [
        found.contribution(0, 0, inside=inside, before=one.before)
        for inside in (True, False)
    ]
    assert np.allclose(one.total - other.total, told[0] - told[1], atol=1e-6)
    assert np.linalg.norm(told[0]) == pytest.approx(0.3)
    assert stands_in == told[1].any()


def test_membership_of_a_real_client_is_seen_and_stays_within_the_claim() -> None:
    found = suspect(LinearTrainer(CLIENTS), rounds=2)
    views = ("sum", "models", "last")
    joint = audit_suspects(
        found, found.simulation.trainer, delta=DELTA, runs=200, seen=views, seed=1
    )
    assert joint.verdict == "consistent"
    assert [name for name, _ in joint.parts] == list(views)
    for _, part in joint.parts:
        assert part.verdict == "consistent"
        assert part.mu > 0.8
        assert part.confidence == pytest.approx(1.0 - 0.05 / 3)
    assert joint.parts[0][1].attack == "likelihood ratio"


@pytest.mark.parametrize("stands_in", [True, False])
@pytest.mark.parametrize("view", ["sum", "last"])
def test_a_false_claim_about_real_clients_is_refuted(
    view: str, stands_in: bool
) -> None:
    found = suspect(LinearTrainer(CLIENTS), rounds=2, stands_in=stands_in)
    joint = audit_suspects(
        found,
        found.simulation.trainer,
        delta=DELTA,
        runs=200,
        seen=(view,),  # type: ignore[arg-type]
        claimed=Gaussian(3.0) * 2,
        seed=2,
    )
    assert joint.verdict == "violated"


def test_several_views_raise_no_false_alarm_together() -> None:
    found = suspect(LinearTrainer(CLIENTS))
    verdicts = Counter(
        audit_suspects(
            found,
            found.simulation.trainer,
            delta=DELTA,
            runs=60,
            seen=("sum", "models", "last"),
            seed=seed,
        ).verdict
        for seed in range(20)
    )
    assert verdicts["violated"] == 0
    assert verdicts["consistent"] >= 15


def test_with_noise_at_the_clients_nobody_sends_zeros_and_noise() -> None:
    found = suspect(
        LinearTrainer(CLIENTS),
        stands_in=False,
        cohort=EveryClient(CLIENTS),
        placement=Placement.DISTRIBUTED,
        view=View.MESSAGES,
    )
    (out,) = last_of(found, False)
    assert set(out.messages) == set(range(CLIENTS))
    joint = audit_suspects(
        found,
        found.simulation.trainer,
        delta=DELTA,
        runs=100,
        seen=("messages", "sum"),
        seed=3,
    )
    (_, alone), (_, summed) = joint.parts
    assert joint.verdict == "consistent"
    assert alone.mu > summed.mu


def test_other_data_are_no_neighbour_of_nobody() -> None:
    with pytest.raises(InvalidArgumentError, match="replace-one"):
        suspect(LinearTrainer(CLIENTS), cohort=PoissonCohort(1.0))


def test_nothing_is_computed_twice_and_nothing_changes() -> None:
    trainer = LinearTrainer(CLIENTS)
    made = Remembering(trainer)
    start = trainer.initial()
    first = list(made.updates(start, [2, 0], 7))
    again = list(made.updates(start, [0, 1, 2], 7))
    assert trainer.trained == [(2, 0), (1,)]
    assert [one.client for one in again] == [0, 1, 2]
    assert again[0] is first[1]
    assert again[2] is first[0]
    (fresh,) = LinearTrainer(CLIENTS).updates(start, [1], 7)
    assert np.array_equal(again[1].delta, fresh.delta)
    list(made.updates(start + 1, [0], 7))
    assert trainer.trained[-1] == (0,)


def test_seats_are_counted_and_named_by_their_place() -> None:
    trainer = LinearTrainer(CLIENTS)
    seated = Seated(trainer, (4, 3), None, silent=True)
    assert seated.num_clients == 3
    found = list(seated.updates(trainer.initial(), [0, 1, 2], 0))
    assert [one.client for one in found] == [1, 2]
    (other,) = trainer.updates(trainer.initial(), [3], 0)
    assert np.array_equal(found[1].delta, other.delta)


def test_users_are_audited_with_all_their_examples() -> None:
    """Four examples of one user: the user's claim stands, one example's falls."""
    plan = {"noise_multiplier": 0.8, "examples_per_user": 4}
    simulation = audited(PoissonCohort(0.5), 20, **plan)
    assert Planting(simulation, 2, 1).seats == 4
    true = audit_canaries(simulation, delta=DELTA, runs=300, seed=1)
    assert true.verdict == "consistent"
    single = audited(PoissonCohort(0.5), 20, noise_multiplier=0.8).protection
    false = audit_canaries(
        simulation, delta=DELTA, runs=300, seed=1, claimed=single.run_event(1)
    )
    assert false.verdict == "violated"


def test_several_users_share_a_run() -> None:
    simulation = audited(
        PoissonCohort(0.5), 60, length=300, noise_multiplier=0.5, examples_per_user=3
    )
    found = audit_canaries(
        simulation, delta=DELTA, runs=2, canaries=20, seed=2, seen=("sum", "last")
    )
    assert found.verdict == "consistent"
    assert [part.trials for _, part in found.parts] == [40, 40]


def test_the_last_model_alone_tells_less_than_every_round() -> None:
    simulation = audited(PoissonCohort(0.25), 8, noise_multiplier=0.3)
    found = dict(
        audit_canaries(
            simulation, delta=DELTA, runs=400, rounds=4, seen=("sum", "last"), seed=3
        ).parts
    )
    assert found["sum"].verdict == found["last"].verdict == "consistent"
    assert 0.0 < found["last"].mu < found["sum"].mu


def test_users_with_data_are_left_to_canaries() -> None:
    with pytest.raises(InvalidArgumentError, match="with canaries"):
        suspect(LinearTrainer(CLIENTS), stands_in=False, examples_per_user=2)


def test_one_violation_is_enough() -> None:
    rng = np.random.default_rng(4)
    parts = tuple(
        (
            str(noise),
            audit(
                lambda mean, noise=noise: mean + noise * rng.normal(),
                1.0,
                0.0,
                delta=DELTA,
                event=Gaussian(2.0),
                trials=400,
                confidence=shared_out(0.95, 2),
            ),
        )
        for noise in (0.3, 2.0)
    )
    both = Jointly(0.95, parts)
    assert both.verdict == "violated"
    assert both.to_dict()["seen"]["0.3"]["verdict"] == "violated"
    assert Jointly(0.95, parts[1:]).verdict in ("consistent", "vacuous")


def test_a_made_text_is_in_tokens_that_others_do_not_use() -> None:
    tokenizer = byte_tokenizer()
    texts = [Example(np.array(tokenizer(t)["input_ids"]), 1) for t in ("ab", "Good.")]
    made = rare_text(texts, tokenizer, length=20, seed=3)
    used = {int(token) for text in texts for token in text.tokens}
    assert not used & set(made.tokens.tolist())
    assert not set(tokenizer.all_special_ids) & set(made.tokens.tolist())
    assert len(made) == 20
    assert made.response_length == 10
    assert np.array_equal(
        made.tokens, rare_text(texts, tokenizer, length=20, seed=3).tokens
    )


def test_casting_adds_the_suspect_and_who_stands_in_for_it() -> None:
    tokenizer = byte_tokenizer()
    own = [Example(np.array(tokenizer("abc")["input_ids"]), 1)]
    held = [own, own]
    assert Casting("client", 1)(tokenizer, held) == []
    ((made,),) = Casting("text")(tokenizer, held)
    assert made.category == "canary"
    more, same = Casting("example")(tokenizer, held)
    assert (len(more), len(same)) == (2, 1)
    with pytest.raises(InvalidArgumentError, match="one of the 2 clients"):
        Casting("client", 2)(tokenizer, held)
