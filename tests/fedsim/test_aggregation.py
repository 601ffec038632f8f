"""Which mean the server takes: laws of products, order of decoding, refusals."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from drdp.compression.autoencoder import fit_autoencoder
from drdp.compression.designs import BlockDesign
from drdp.compression.identity import Identity
from drdp.compression.layout import Layout
from drdp.compression.pca import fit_pca
from drdp.compression.projection import RandomProjection
from drdp.compression.protocol import Codec
from drdp.compression.sketch import CountSketch
from drdp.compression.source import Origin, Source
from drdp.errors import InvalidArgumentError, UnsoundThreatModelError
from drdp.fedsim.aggregation import (
    Aggregation,
    DecodedMean,
    ProductMean,
    pairs_of,
    product_error,
)
from drdp.fedsim.protection import Protection
from drdp.fedsim.randomness import SecretRandomness
from drdp.fedsim.server import Server
from drdp.fedsim.simulate import Simulation, simulate
from drdp.privacy.events import atoms
from drdp.privacy.pld import epsilon_interval
from drdp.privacy.threat import EveryClient, Placement, PoissonCohort, View
from tests.fedsim.linear import LinearTrainer, Purse
from tests.fedsim.test_running import charged, run

RANK, INPUTS, OUTPUTS = 2, 5, 4
LAYOUT = Layout.of_shapes(
    [
        ("x.0.lora_A.weight", (RANK, INPUTS)),
        ("x.0.lora_B.weight", (OUTPUTS, RANK)),
        ("x.1.lora_A.weight", (RANK, INPUTS)),
        ("x.1.lora_B.weight", (OUTPUTS, RANK)),
    ]
)
PAIRS = pairs_of(LAYOUT)
PUBLIC = Source(Origin.PUBLIC)


def products(flat: np.ndarray) -> np.ndarray:
    """B A of each layer."""
    return np.array([b @ a for a, b in (pair.factors(flat) for pair in PAIRS)])


def test_a_product_of_noised_factors_has_the_right_mean_and_the_stated_error() -> None:
    """N73: unbiased, because the noises of A and B are independent."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(RANK, INPUTS)), rng.normal(size=(OUTPUTS, RANK))
    noise_a, noise_b, runs = 0.7, 0.4, 200_000
    errors = (b + noise_b * rng.normal(size=(runs, *b.shape))) @ (
        a + noise_a * rng.normal(size=(runs, *a.shape))
    ) - b @ a
    wanted = product_error(a, b, noise_a, noise_b)
    squares = (errors**2).sum(axis=(1, 2))
    assert squares.mean() == pytest.approx(wanted, rel=0.01)
    # The mean of all, in standard errors: 20 numbers.
    scale = errors.std(axis=0) / math.sqrt(runs)
    assert np.abs(errors.mean(axis=0) / scale).max() < 5.0
    # Where both factors have the same noise, the mean is off by much.
    same = rng.normal(size=(runs, RANK, RANK))
    assert abs((same @ same.transpose(0, 2, 1)).mean(axis=0)[0, 0] - RANK) < 0.1


def test_the_mean_of_products_is_exact_where_the_rank_allows_it() -> None:
    """One client, and clients who agree on A; also for a public size."""
    rng = np.random.default_rng(2)
    start, codec = rng.normal(size=LAYOUT.length), Identity(LAYOUT.length)
    alike = np.zeros((3, LAYOUT.length))
    for pair in PAIRS:
        stop = pair.b + OUTPUTS * RANK
        alike[:, pair.b : stop] = rng.normal(size=(3, stop - pair.b))
    for updates, size in (
        (rng.normal(size=(1, LAYOUT.length)), 1.0),
        (alike, 3.0),
        (alike, 7.5),
        (alike[:0], 2.0),
    ):
        mean = ProductMean(codec, PAIRS, start)
        for update in updates:
            mean.add(update)
        base = products(start)
        moved = sum((products(start + one) - base for one in updates), 0.0 * base)
        found = products(start + mean.change(size))
        assert np.allclose(found, base + moved / size, atol=1e-5)


def test_it_is_not_the_product_of_means_and_differs_by_the_covariance() -> None:
    """And the factors kept are the nearest of their rank: Eckart and Young."""
    rng = np.random.default_rng(3)
    start, codec = rng.normal(size=LAYOUT.length), Identity(LAYOUT.length)
    updates = 0.5 * rng.normal(size=(6, LAYOUT.length)).astype(np.float32)
    mean = ProductMean(codec, PAIRS, start)
    for update in updates:
        mean.add(update)
    each = np.array([products(start + one) for one in updates])
    middle = start + updates.mean(axis=0)
    spread = []
    for pair in PAIRS:
        factors = [pair.factors(start + one) for one in updates]
        center = pair.factors(middle)
        parts = [(b - center[1]) @ (a - center[0]) for a, b in factors]
        spread.append(np.mean(parts, axis=0))
    assert np.allclose(each.mean(axis=0) - products(middle), spread, atol=1e-6)
    after = start + mean.change(6.0)
    for wanted, found in zip(each.mean(axis=0), products(after), strict=True):
        u, values, v = np.linalg.svd(wanted)
        best = u[:, :RANK] * values[:RANK] @ v[:RANK]
        assert np.allclose(found, best, atol=1e-5)
    for pair in PAIRS:  # A stays as large as it was
        old, new = pair.factors(start)[0], pair.factors(after)[0]
        assert np.linalg.norm(new) == pytest.approx(np.linalg.norm(old))


def codecs() -> list[Codec]:
    """One of each kind, and an autoencoder that is not linear."""
    rng = np.random.default_rng(4)
    updates = [one.astype(np.float32) for one in rng.normal(size=(20, 64))]
    return [
        Identity(64),
        RandomProjection(64, 16, seed=1),
        CountSketch(64, 16, seed=1),
        fit_pca(updates, 8, source=PUBLIC),
        fit_autoencoder(updates, BlockDesign(8), source=PUBLIC, steps=3, seed=0),
        fit_autoencoder(
            updates, BlockDesign(8, hidden=16), source=PUBLIC, steps=3, seed=0
        ),
    ]


@pytest.mark.parametrize("codec", codecs(), ids=lambda codec: type(codec).__name__)
def test_the_order_of_decoding_matters_where_the_decoder_is_not_linear(
    codec: Codec,
) -> None:
    messages = np.random.default_rng(5).normal(size=(7, codec.code_length))
    before = DecodedMean(codec)
    for message in messages:
        before.add(message)
    found, after = before.change(7.0), codec.decode(messages.mean(axis=0))
    apart = float(np.abs(found - after).max() / np.abs(found).max())
    assert apart < 1e-6 if codec.linear_decode else apart > 1e-3


def test_both_kinds_of_decoder_were_tried() -> None:
    assert {codec.linear_decode for codec in codecs()} == {True, False}


def test_a_run_of_a_linear_decoder_is_the_same_in_both_orders() -> None:
    trainer = LinearTrainer(num_clients=10, length=32)
    local = Protection(
        EveryClient(10), 0.5, 3.0, placement=Placement.LOCAL, view=View.MESSAGES
    )
    after = Simulation(trainer, RandomProjection(32, 8, seed=1), local)
    before = replace(after, aggregation=Aggregation("before"))
    ends = []
    for built in (after, before):
        purse, source = Purse(), SecretRandomness(bytes(32))
        *_, last = simulate(built, rounds=1, randomness=source, payer=purse)
        ends.append(last.state.parameters)
        assert [event for event, _ in purse.paid] == [built.protection.event(0)]
    assert np.abs(ends[0] - ends[1]).max() < 1e-6 * np.abs(ends[0]).max()


BEFORE = Aggregation("before")


@pytest.mark.parametrize(
    ("placement", "view", "told"),
    [
        ("central", "outsider", "only their sum has noise"),
        ("central", "sum", "only their sum has noise"),
        ("distributed", "sum", "one message has one share"),
        ("distributed", "outsider", "one message has one share"),
    ],
)
def test_messages_without_enough_noise_are_not_looked_at(
    placement: str, view: str, told: str
) -> None:
    plan = Protection(
        EveryClient(9), 1.0, 2.0, placement=Placement(placement), view=View(view)
    )
    trainer = LinearTrainer(num_clients=9)
    built = Simulation(trainer, Identity(trainer.num_parameters), plan)
    with pytest.raises(UnsoundThreatModelError, match=told):
        replace(built, aggregation=BEFORE)
    open_ = replace(plan, noise_multiplier=0.0)  # nothing is protected anyway
    replace(built, protection=open_, aggregation=BEFORE)


@pytest.mark.parametrize("view", list(View))
def test_noise_of_a_messages_own_is_enough_and_paid_for(view: View) -> None:
    """Whatever is made of the messages: the event is that of each one alone."""
    colluding = 2 if view is View.COLLUDING else 0
    plan = Protection(
        PoissonCohort(0.5),
        1.0,
        2.0,
        placement=Placement.LOCAL,
        view=view,
        colluding=colluding,
    )
    BEFORE.check(plan, Server())
    alone = replace(plan, view=View.MESSAGES, colluding=0)
    assert atoms(plan.run_event(5)) == atoms(alone.run_event(5))


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"needs server\.decode before"):
        Aggregation("after", PAIRS)
    with pytest.raises(InvalidArgumentError, match="decode must be"):
        Aggregation("never")
    alone = Layout.of_shapes([("x.0.lora_B.weight", (OUTPUTS, RANK))])
    with pytest.raises(InvalidArgumentError, match=r"with lora\.freeze_a"):
        pairs_of(alone)
    plan = Protection(EveryClient(9), 1.0, 0.0)
    for server in (Server("adam"), Server("sgd", 0.5)):
        with pytest.raises(InvalidArgumentError, match=r"server\.optimizer sgd"):
            Aggregation("before", PAIRS).check(plan, server)


LOCAL = {
    "privacy__placement": "local",
    "privacy__view": "messages",
    "privacy__epsilon": 8.0,
    "cohort__kind": "fixed",
    "server__decode": "before",
}


@pytest.mark.parametrize("aggregation", ["factors", "products"])
def test_a_run_by_messages_keeps_to_its_budget(
    tmp_path: Path, aggregation: str
) -> None:
    found = run(
        tmp_path / "run",
        run__method="fedlora",
        server__aggregation=aggregation,
        **LOCAL,
    )
    prepared, outcome, folder = found
    assert 7.0 < charged(*found) <= 8.0
    spent = epsilon_interval(outcome.statement.event, prepared.delta).upper
    assert outcome.statement.epsilon.upper == spent
    told = json.loads((folder.path / "plan.json").read_text())["told"]["Plan"]
    word = {"factors": "is decoded before", "products": "mean of clients' products"}
    assert word[aggregation] in " ".join(told)
    assert outcome.before != outcome.after


def test_a_run_that_cannot_be_sound_leaves_nothing(tmp_path: Path) -> None:
    where = tmp_path / "run"
    with pytest.raises(UnsoundThreatModelError, match="only their sum") as raised:
        run(where, run__method="pca", privacy__epsilon=8.0, server__decode="before")
    assert "\n" not in str(raised.value)
    assert not where.exists()
