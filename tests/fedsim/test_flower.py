"""Private rounds of Flower: its own messages, strategies and client apps."""

import inspect
import math

import numpy as np
import pytest

pytest.importorskip("flwr")

from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp
from flwr.serverapp import (
    NeighboringRelation,
    PrivacyConfig,
    RdpAccountant,
    SamplingMethod,
)
from flwr.serverapp.strategy import (
    DifferentialPrivacyServerSideFixedClipping,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedProx,
)

from drdp.errors import ChargeRefusedError, InvalidArgumentError
from drdp.fedsim.flower import InProcessGrid, PrivateStrategy, private_mod
from drdp.fedsim.flower.draws import connected, fixed_size, poisson
from drdp.fedsim.flower.records import SETTINGS, changed, trained
from drdp.mechanisms.noise import SecureNoise, SeededNoise
from drdp.privacy.adapters.flower import PldAccountant
from drdp.privacy.events import (
    FixedSizeSampled,
    Gaussian,
    PoissonSampled,
    atoms,
)
from drdp.privacy.fixed_budget import FixedBudget
from drdp.privacy.ledger import Ledger
from drdp.privacy.pld import delta_interval
from drdp.privacy.releases import MixtureOfGaussians

POISSON = (SamplingMethod.POISSON, NeighboringRelation.ADD_OR_REMOVE_ONE)
FIXED = (SamplingMethod.WITHOUT_REPLACEMENT, NeighboringRelation.REPLACE_ONE)
PLAIN = (SamplingMethod.NO_AMPLIFICATION, NeighboringRelation.ADD_OR_REMOVE_ONE)
QUIET = 1e-12  # a noise multiplier that leaves the mean readable


def accountant(model=FIXED, population=8, max_epsilon=None, ledger=None, kind=None):
    sampling, relation = model
    config = PrivacyConfig(1e-5, population, relation, sampling, max_epsilon)
    if kind is not None:
        return kind(config)
    return PldAccountant(config, ledger=ledger)


def private(inner=None, model=FIXED, population=8, noise=QUIET, size=8, **options):
    budget = options.pop("max_epsilon", None)
    ledger = options.pop("ledger", None)
    return PrivateStrategy(
        inner or FedAvg(fraction_evaluate=0.0),
        accountant=options.pop("books", None)
        or accountant(model, population, budget, ledger),
        noise_multiplier=noise,
        clip_norm=options.pop("clip_norm", 1.0),
        sample_size=size,
        rng=options.pop("rng", SeededNoise(1)),
        patience=0.0,
        **options,
    )


def record(**arrays):
    return ArrayRecord({name: Array(np.asarray(a)) for name, a in arrays.items()})


def client(step, mods=(), weight=1, **metrics):
    """A client app that adds `step(partition)` to every floating-point array."""
    app = ClientApp()

    @app.train(mods=list(mods))
    def train(msg, context):
        part = context.node_config["partition-id"]
        arrays = {}
        for name, array in msg.content["arrays"].items():
            old = array.numpy()
            add = step(part)
            arrays[name] = Array(np.asarray(old + add, dtype=old.dtype))
        given = weight(part) if callable(weight) else weight
        content = RecordDict(
            {
                "arrays": ArrayRecord(arrays),
                "metrics": MetricRecord({"num-examples": given, **metrics}),
            }
        )
        return Message(content, reply_to=msg)

    return app


def one_round(strategy, grid, model, number=1):
    config = ConfigRecord()
    messages = list(strategy.configure_train(number, model, config, grid))
    replies = grid.send_and_receive(messages)
    return strategy.aggregate_train(number, replies)


def values(arrays, name="w"):
    return arrays[name].numpy()


MODS = [(), (private_mod,)]


# --- what a round computes -------------------------------------------------------


@pytest.mark.parametrize("mods", MODS)
def test_the_mean_of_clipped_updates(mods):
    # Updates (p, 0, 0, 0) of norm 0..7, clipped to 2, over 8 clients.
    step = lambda p: np.array([p, 0.0, 0.0, 0.0], np.float32)  # noqa: E731
    strategy = private(clip_norm=2.0)
    model = record(w=np.ones(4, np.float32))
    arrays, metrics = one_round(strategy, InProcessGrid(client(step, mods), 8), model)
    assert values(arrays) == pytest.approx([1 + (0 + 1 + 2 * 6) / 8, 1, 1, 1], rel=1e-5)
    assert metrics["privacy-epsilon"] == strategy.accountant.get_epsilon(1e-5)
    assert strategy.last_round.contributed == 8
    if not mods:
        # 2 is clipped as well: clipping aims a little below the norm.
        assert strategy.last_round.clipped == 6


@pytest.mark.parametrize("mods", MODS)
def test_clipping_is_joint_over_all_arrays(mods):
    strategy = private(size=1, population=1, clip_norm=1.0)
    model = record(a=np.zeros(9, np.float32), b=np.zeros((4, 4), np.float32))
    arrays, _ = one_round(strategy, InProcessGrid(client(lambda _: 1, mods), 1), model)
    whole = np.concatenate([values(arrays, name).ravel() for name in "ab"])
    assert np.linalg.norm(whole) == pytest.approx(1.0, rel=1e-5)
    assert whole == pytest.approx(np.full(25, 0.2), rel=1e-5)


@pytest.mark.parametrize("mods", MODS)
def test_weights_of_clients_do_not_matter(mods):
    """With Flower's own wrapper one client of 900 examples moves the mean by 0.9 C."""
    step = lambda p: np.array([1.0 if p == 0 else 1e-9], np.float32)  # noqa: E731
    weight = lambda p: 900 if p == 0 else 11  # noqa: E731
    model = record(w=np.zeros(1, np.float32))
    grid = InProcessGrid(client(step, mods, weight), 10)
    ours, _ = one_round(private(population=10, size=10), grid, model)
    assert values(ours) == pytest.approx([0.1], rel=1e-5)
    theirs = DifferentialPrivacyServerSideFixedClipping(
        FedAvg(fraction_evaluate=0.0, min_train_nodes=10), 0.0, 1.0, 10
    )
    plain = InProcessGrid(client(step, (), weight), 10)
    found, _ = one_round(theirs, plain, model)
    assert values(found)[0] > 0.9


@pytest.mark.parametrize("mods", MODS)
def test_a_zero_update_is_a_zero_update(mods):
    model = record(w=np.ones(3, np.float32))
    grid = InProcessGrid(client(lambda _: 0.0, mods), 8)
    arrays, _ = one_round(private(), grid, model)
    assert values(arrays) == pytest.approx([1, 1, 1])
    theirs = DifferentialPrivacyServerSideFixedClipping(
        FedAvg(fraction_evaluate=0.0, min_train_nodes=8), 0.0, 1.0, 8
    )
    plain = InProcessGrid(client(lambda _: 0.0), 8)
    with pytest.raises(ZeroDivisionError):
        one_round(theirs, plain, model)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("mods", MODS)
def test_what_is_not_finite_counts_as_zero(mods, bad):
    step = lambda p: np.array([bad if p == 0 else 0.0, 0.5], np.float32)  # noqa: E731
    model = record(w=np.zeros(2, np.float32))
    strategy = private()
    arrays, _ = one_round(strategy, InProcessGrid(client(step, mods), 8), model)
    assert values(arrays) == pytest.approx([0.0, 0.5], rel=1e-5)
    if not mods:
        assert strategy.last_round.zeroed == 1
    if math.isnan(bad):
        theirs = DifferentialPrivacyServerSideFixedClipping(
            FedAvg(fraction_evaluate=0.0, min_train_nodes=8), 0.0, 1.0, 8
        )
        found, _ = one_round(theirs, InProcessGrid(client(step), 8), model)
        assert np.isnan(values(found)).any()


@pytest.mark.parametrize("mods", MODS)
@pytest.mark.parametrize("inner", [FedAvg, FedAdam, FedAvgM])
def test_integer_arrays_stay_as_they_are_at_the_server(mods, inner):
    model = record(
        w=np.zeros(3, np.float32), n=np.array(7, np.int64), m=np.array([True])
    )
    strategy = private(inner(fraction_evaluate=0.0))
    grid = InProcessGrid(client(lambda _: 1, mods), 8)
    arrays, _ = one_round(strategy, grid, model)
    assert values(arrays, "n") == 7
    assert values(arrays, "n").dtype == np.int64
    assert values(arrays, "m").dtype == np.bool_
    assert list(arrays) == ["w", "n", "m"]
    assert values(arrays).dtype == np.float32
    assert np.all(values(arrays) > 0)


@pytest.mark.parametrize("mods", MODS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_floating_type_comes_back_as_it_went(mods, dtype):
    model = record(w=np.ones(50, dtype))
    strategy = private(clip_norm=100.0, noise=1e-9)
    grid = InProcessGrid(client(lambda _: 0.25, mods), 8)
    arrays, _ = one_round(strategy, grid, model)
    assert values(arrays).dtype == dtype
    assert values(arrays) == pytest.approx(np.full(50, 1.25), rel=1e-3)


def test_half_precision_does_not_round_the_noise_away():
    model = record(w=np.zeros(2000, np.float16))
    strategy = private(noise=2.0)
    arrays, _ = one_round(strategy, InProcessGrid(client(lambda _: 0.0), 8), model)
    std = 2.0 * 2.0 / 8  # z 2C / size
    assert values(arrays).std() == pytest.approx(std, rel=0.06)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (record(n=np.arange(3)), "integers are not trained"),
        (record(w=np.zeros(2, np.complex64)), "'w' must hold real numbers"),
        (ArrayRecord({}), "integers are not trained"),
    ],
)
def test_a_model_without_a_rule_is_refused(model, message):
    with pytest.raises(InvalidArgumentError, match=message):
        one_round(private(), InProcessGrid(client(lambda _: 0.0), 8), model)


# --- noise, denominators, samples ------------------------------------------------


@pytest.mark.parametrize("model", [POISSON, FIXED, PLAIN])
def test_noise_has_the_scale_that_is_accounted_for(model):
    """2000 numbers: a standard deviation is off by 5 % once in 700 seeds."""
    relation = 2.0 if model is FIXED else 1.0
    strategy = private(model=model, noise=3.0, size=4, clip_norm=0.5)
    arrays, metrics = one_round(
        strategy,
        InProcessGrid(client(lambda _: 0.0), 8),
        record(w=np.zeros(2000, np.float32)),
    )
    std = 3.0 * relation * 0.5 / 4
    assert metrics["noise-std-of-mean"] == pytest.approx(std)
    assert values(arrays).std() == pytest.approx(std, rel=0.06)
    assert abs(values(arrays).mean()) < 5 * std / math.sqrt(2000)


def test_the_denominator_is_public():
    """Under Poisson sampling the sum is divided by the expected number."""
    strategy = private(model=POISSON, population=40, size=4)
    grid = InProcessGrid(client(lambda _: 1.0), 40)
    model = record(w=np.zeros(1, np.float64))
    sizes = set()
    for number in range(1, 20):
        arrays, _ = one_round(strategy, grid, model, number)
        size = strategy.last_round.drawn
        sizes.add(size)
        assert values(arrays) == pytest.approx([size / 4], rel=1e-5)
    assert len(sizes) > 3
    assert strategy.accountant.num_releases == 19


def test_an_empty_cohort_still_releases_noise():
    strategy = private(model=POISSON, population=10_000, size=1, noise=1.0)
    grid = InProcessGrid(client(lambda _: 1.0), 3)
    model = record(w=np.zeros(500, np.float32))
    arrays, _ = one_round(strategy, grid, model)
    assert strategy.last_round.drawn == 0
    assert values(arrays).std() == pytest.approx(1.0, rel=0.12)
    assert strategy.accountant.num_releases == 1


def test_charged_events_are_the_draws_that_were_made():
    for model, wanted in [
        (POISSON, PoissonSampled(0.5, Gaussian(1.5))),
        (FIXED, FixedSizeSampled(4, 8, Gaussian(1.5))),
        (PLAIN, Gaussian(1.5)),
    ]:
        strategy = private(model=model, size=4, noise=1.5)
        grid = InProcessGrid(client(lambda _: 0.0), 8)
        arrays = record(w=np.zeros(2, np.float32))
        for number in (1, 2, 3):
            arrays, _ = one_round(strategy, grid, arrays, number)
        assert atoms(strategy.accountant.event) == atoms(wanted * 3)
        drawn = strategy.last_round.drawn
        assert {FIXED: drawn == 4, PLAIN: drawn == 8}.get(model, True)


def test_a_fixed_draw_is_not_what_no_amplification_accounts_for():
    """Nine drawn of ten nodes at -C; one more, at +C, moves the sum by 2C."""
    share = 9 / 11  # that the eleventh is among the nine
    reached = MixtureOfGaussians((0.0, 2.0), (1.0 - share, share), 1.0)
    assert (
        delta_interval(reached, 3.0).lower > 5 * delta_interval(Gaussian(1.0), 3.0)[1]
    )


def test_flowers_own_accountant_works_too():
    books = accountant(POISSON, 8, 50.0, kind=RdpAccountant)
    strategy = private(model=POISSON, size=4, noise=2.0, books=books)
    arrays, _ = one_round(
        strategy,
        InProcessGrid(client(lambda _: 0.0), 8),
        record(w=np.zeros(2, np.float32)),
    )
    assert arrays is not None
    assert books.num_releases == 1


def test_a_fixed_sample_waits_for_the_whole_population():
    strategy = private(model=FIXED, population=9, size=4)
    with pytest.raises(TimeoutError, match="9 nodes are needed and 8 are connected"):
        one_round(
            strategy,
            InProcessGrid(client(lambda _: 0.0), 8),
            record(w=np.zeros(1, np.float32)),
        )
    assert strategy.accountant.num_releases == 0


def test_poisson_draws_are_independent_coins():
    """Chi-square of 4 counts over 4000 rounds: each beyond 5 sigma once in 10^6."""
    rng = SeededNoise(3)
    counts = np.zeros(4)
    together = 0
    for number in range(4000):
        found = poisson([1, 2, 3, 4], 0.3, rng.spawn("r", number))
        counts[[n - 1 for n in found]] += 1
        together += 1 in found and 2 in found
    sigma = math.sqrt(4000 * 0.3 * 0.7)
    assert np.abs(counts - 1200).max() < 5 * sigma
    assert abs(together - 360) < 5 * math.sqrt(4000 * 0.09 * 0.91)
    assert poisson([1, 2], 1.0, rng) == [1, 2]
    assert poisson([], 0.5, rng) == []
    assert poisson([1, 2, 3], 0.0, rng) == []


def test_fixed_samples_are_uniform_subsets():
    rng = SeededNoise(4)
    seen: dict[tuple[int, ...], int] = {}
    for number in range(3000):
        found = tuple(fixed_size(range(5), 2, rng.spawn("r", number)))
        seen[found] = seen.get(found, 0) + 1
    assert len(seen) == 10
    statistic = sum((count - 300) ** 2 / 300 for count in seen.values())
    assert statistic < 27.9  # chi-square with 9 degrees, once in a thousand
    assert fixed_size(range(5), 5, rng) == [0, 1, 2, 3, 4]
    assert fixed_size(range(5), 0, rng) == []


def test_nodes_are_counted_once():
    class Doubled:
        def get_node_ids(self):
            return [3, 1, 3]

    assert connected(Doubled(), 2, 0.0) == [1, 3]


# --- budgets and charges ---------------------------------------------------------


class Purse:
    def __init__(self, most):
        self.most, self.charges = most, []

    def charge(self, event, *, label="", run="", key=None):
        if len(self.charges) >= self.most:
            raise ChargeRefusedError("the budget of the ledger is spent")
        self.charges.append(event)


def run(strategy, grid, model, rounds):
    return strategy.start(grid, model, num_rounds=rounds)


def test_training_ends_in_order_before_the_budget_is_crossed():
    strategy = private(model=POISSON, size=4, noise=2.0, max_epsilon=4.0)
    fits = strategy.accountant.releases_left(strategy.event)
    assert 1 < fits < 30
    calls = []

    def step(part):
        calls.append(part)
        return 0.0

    result = run(
        strategy,
        InProcessGrid(client(step), 8),
        record(w=np.zeros(2, np.float32)),
        fits + 5,
    )
    assert strategy.exhausted
    assert strategy.accountant.num_releases == fits
    assert strategy.accountant.get_epsilon(1e-5) <= 4.0
    assert list(result.train_metrics_clientapp) == list(range(1, fits + 1))
    assert result.train_metrics_clientapp[fits]["privacy-epsilon"] <= 4.0
    assert len(calls) < 8 * fits


def test_the_ledger_pays_before_the_model_leaves():
    ledger = Purse(most=2)
    strategy = private(model=PLAIN, noise=1.0, ledger=ledger)
    grid = InProcessGrid(client(lambda _: 0.0), 8)
    model = record(w=np.zeros(2, np.float32))
    assert one_round(strategy, grid, model, 1)[0] is not None
    assert one_round(strategy, grid, model, 2)[0] is not None
    assert one_round(strategy, grid, model, 3) == (None, None)
    assert strategy.exhausted
    assert strategy.last_round.released is False
    assert list(strategy.configure_train(4, model, ConfigRecord(), grid)) == []
    assert strategy.aggregate_train(4, []) == (None, None)
    assert ledger.charges == [Gaussian(1.0), Gaussian(1.0)]


def test_a_real_ledger_ends_training_in_order(tmp_path):
    plan = PoissonSampled(0.5, Gaussian(2.0))
    budget = FixedBudget(4.0, 1e-5, plan)
    with Ledger.create(tmp_path / "ledger.db", budget=budget) as ledger:
        fits = ledger.remaining(plan)
        strategy = private(model=POISSON, size=4, noise=2.0, ledger=ledger)
        grid = InProcessGrid(client(lambda _: 0.0), 8)
        result = run(strategy, grid, record(w=np.zeros(2, np.float32)), fits + 3)
        assert strategy.exhausted
        assert len(result.train_metrics_clientapp) == fits > 1
        assert atoms(ledger.spent) == atoms(plan * fits)


def test_a_broken_ledger_releases_nothing():
    class Broken:
        def charge(self, event, *, label="", run="", key=None):
            raise OSError("no space left on device")

    strategy = private(model=PLAIN, noise=1.0, ledger=Broken())
    grid = InProcessGrid(client(lambda _: 0.0), 8)
    model = record(w=np.zeros(2, np.float32))
    with pytest.raises(OSError, match="no space"):
        one_round(strategy, grid, model)
    assert strategy.accountant.num_releases == 0


def test_a_run_that_is_taken_up_again_keeps_to_its_budget():
    first = private(model=POISSON, size=4, noise=2.0, max_epsilon=4.0)
    fits = first.accountant.releases_left(first.event)
    grid = InProcessGrid(client(lambda _: 0.0), 8)
    model = record(w=np.zeros(2, np.float32))
    run(first, grid, model, 2)
    second = private(model=POISSON, size=4, noise=2.0, max_epsilon=4.0)
    second.accountant.load_state_dict(first.accountant.state_dict())
    result = run(second, grid, model, fits)
    assert len(result.train_metrics_clientapp) == fits - 2
    assert second.accountant.num_releases == fits


def test_a_step_that_fails_after_the_charge_is_not_given_back():
    class Broken(FedAvg):
        def aggregate_train(self, server_round, replies):
            raise RuntimeError("no memory")

    strategy = private(Broken(fraction_evaluate=0.0))
    grid = InProcessGrid(client(lambda _: 0.0), 8)
    with pytest.raises(RuntimeError, match="no memory"):
        one_round(strategy, grid, record(w=np.zeros(2, np.float32)))
    assert strategy.accountant.num_releases == 1


def test_a_strategy_that_tells_nodes_different_things_is_refused():
    class Personal(FedAvg):
        def configure_train(self, server_round, arrays, config, grid):
            for message in super().configure_train(server_round, arrays, config, grid):
                node = message.metadata.dst_node_id
                own = RecordDict(
                    {"arrays": arrays, "config": ConfigRecord({"n": node})}
                )
                yield Message(own, node, "train")

    with pytest.raises(InvalidArgumentError, match="Personal does not"):
        one_round(
            private(Personal(fraction_evaluate=0.0)),
            InProcessGrid(client(lambda _: 0.0), 8),
            record(w=np.zeros(2, np.float32)),
        )


def test_the_first_mod_is_the_last_to_touch_the_reply():
    seen = []

    def spy(msg, context, call_next):
        reply = call_next(msg, context)
        seen.append(set(reply.content))
        return reply

    grid = InProcessGrid(client(lambda _: 1.0, (private_mod, spy)), 8)
    one_round(private(), grid, record(w=np.zeros(2, np.float32)))
    assert seen == [{"arrays", "metrics"}] * 8  # before the mod, inside it


def test_a_round_is_aggregated_once():
    strategy = private()
    grid = InProcessGrid(client(lambda _: 0.0), 8)
    model = record(w=np.zeros(2, np.float32))
    messages = list(strategy.configure_train(1, model, ConfigRecord(), grid))
    replies = list(grid.send_and_receive(messages))
    assert strategy.aggregate_train(1, replies)[0] is not None
    with pytest.raises(InvalidArgumentError, match="server_round"):
        strategy.aggregate_train(1, replies)
    assert strategy.accountant.num_releases == 1


# --- clients that fail, and clients that cheat -----------------------------------


def failing(parts, step=lambda _: 1.0, mods=()):
    def maybe(part):
        if part in parts:
            raise RuntimeError("out of memory")
        return step(part)

    return client(maybe, mods)


@pytest.mark.parametrize("mods", MODS)
def test_a_failed_client_counts_as_zero_and_noise_stays(mods):
    strategy = private(noise=1.0)
    grid = InProcessGrid(failing({0, 3}, mods=mods), 8, lost=lambda node: node == 4)
    model = record(w=np.zeros(1000, np.float32))
    arrays, _ = one_round(strategy, grid, model)
    assert strategy.last_round.contributed == 5
    found = values(arrays)
    # Five updates of norm 1 over 8, whatever the number of replies.
    assert found.mean() == pytest.approx(5 / 8 / math.sqrt(1000), abs=0.03)
    assert found.std() == pytest.approx(2.0 / 8, rel=0.1)
    assert strategy.accountant.num_releases == 1


def test_a_round_can_be_given_up_instead():
    strategy = private(missing="abort")
    model = record(w=np.zeros(4, np.float32))
    grid = InProcessGrid(failing({0}), 8)
    assert one_round(strategy, grid, model) == (None, None)
    assert strategy.accountant.num_releases == 0
    assert not strategy.exhausted
    again = InProcessGrid(client(lambda _: 1.0), 8)
    assert one_round(strategy, again, model, 2)[0] is not None
    assert strategy.accountant.num_releases == 1


def test_nobody_counts_twice_and_nobody_uninvited():
    strategy = private(size=4)
    model = record(w=np.zeros(1, np.float64))
    grid = InProcessGrid(client(lambda _: 1.0), 8)
    messages = list(strategy.configure_train(1, model, ConfigRecord(), grid))
    replies = list(grid.send_and_receive(messages))
    invited = {message.metadata.dst_node_id for message in messages}
    stranger = next(node for node in grid.get_node_ids() if node not in invited)
    extra = Message(RecordDict(dict(messages[0].content)), stranger, "train")
    (uninvited,) = grid.send_and_receive([extra])
    arrays, _ = strategy.aggregate_train(1, [*replies, *replies, uninvited])
    assert values(arrays) == pytest.approx([1.0], rel=1e-5)
    assert strategy.last_round.contributed == 4


@pytest.mark.parametrize(
    "reply",
    [
        RecordDict(),
        RecordDict({"a": record(w=np.zeros(3)), "b": record(w=np.zeros(3))}),
        RecordDict({"a": record(v=np.zeros(3))}),
        RecordDict({"a": record(w=np.zeros(4))}),
        RecordDict({"a": record(w=np.zeros((1, 3)))}),
        RecordDict({"a": record(w=np.array(["x", "y", "z"]))}),
        RecordDict({"a": record(w=np.zeros(3)), SETTINGS: ConfigRecord({})}),
        RecordDict(
            {
                "a": record(w=np.full(3, 9.0)),
                SETTINGS: ConfigRecord(
                    {"clip-norm": 5.0, "noise-std": 0.0, "weight-key": "num-examples"}
                ),
            }
        ),
    ],
)
def test_a_broken_reply_counts_as_zero(reply):
    strategy = private(size=1, population=1)
    model = record(w=np.ones(3, np.float32))
    grid = InProcessGrid(lambda msg, _: Message(reply, reply_to=msg), 1)
    arrays, _ = one_round(strategy, grid, model)
    assert values(arrays) == pytest.approx([1, 1, 1])
    assert strategy.last_round.contributed == 0


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("model", [FIXED, PLAIN])
def test_one_clients_reply_moves_the_model_by_no_more_than_its_sensitivity(model, seed):
    """Whatever a client sends, and whether it sends: at most C, or 2C replaced."""
    rng = np.random.default_rng(seed)
    arrays = record(w=rng.normal(size=30), v=rng.normal(size=(2, 3)).astype("f4"))

    def anything(state):
        """A reply that is wild, broken, unbounded or missing."""
        pick = state.integers(6)
        if pick == 0:
            return None
        if pick == 1:
            return RecordDict({"a": record(w=np.zeros(2))})
        scale = 10.0 ** state.integers(-3, 300)
        w = state.normal(size=30) * scale
        v = (state.normal(size=(2, 3)) * min(scale, 1e30)).astype("f4")
        if pick == 2:
            w[state.integers(30)] = math.nan
            v[0, 0] = -math.inf
        metrics = MetricRecord({"num-examples": int(state.integers(10**6))})
        return RecordDict({"a": record(w=w, v=v), "m": metrics})

    def released(variant):
        def call(msg, context):
            node = int(context.node_config["partition-id"])
            own = [seed, node] if node else [seed, node, variant]
            content = anything(np.random.default_rng(own))
            if content is None:
                raise RuntimeError("no reply")
            return Message(content, reply_to=msg)

        strategy = private(model=model, clip_norm=0.7, rng=SeededNoise(seed))
        found, _ = one_round(strategy, InProcessGrid(call, 8), arrays)
        return np.concatenate([values(found, name).ravel() for name in "wv"])

    bound = 2 * 0.7 / 8
    moved = [np.linalg.norm(released(k) - released(k + 1)) for k in range(4)]
    assert max(moved) <= bound * (1 + 1e-6) + 1e-9
    assert all(np.isfinite(released(k)).all() for k in range(2))


def test_a_client_without_the_mod_is_bounded_all_the_same():
    strategy = private(size=1, population=1, clip_norm=0.5)
    model = record(w=np.zeros(4, np.float32))
    arrays, _ = one_round(strategy, InProcessGrid(client(lambda _: 1e30), 1), model)
    assert np.linalg.norm(values(arrays)) <= 0.5


# --- noise at the clients --------------------------------------------------------


def test_shares_of_the_noise_add_up():
    strategy = private(noise=1.5, placement="distributed", clip_norm=0.5)
    model = record(w=np.zeros(2000, np.float32))
    grid = InProcessGrid(client(lambda _: 0.0, (private_mod,)), 8)
    arrays, _ = one_round(strategy, grid, model)
    assert values(arrays).std() == pytest.approx(1.5 * 1.0 / 8, rel=0.06)
    assert strategy.settings.noise_std == pytest.approx(1.5 / math.sqrt(8))
    assert strategy.accountant.event == FixedSizeSampled(8, 8, Gaussian(1.5)) * 1 or (
        atoms(strategy.accountant.event) == atoms(Gaussian(1.5))
    )


def test_a_missing_share_ends_the_round_without_a_release():
    strategy = private(noise=1.0, placement="distributed")
    model = record(w=np.zeros(8, np.float32))
    grid = InProcessGrid(failing({5}, mods=(private_mod,)), 8)
    assert one_round(strategy, grid, model) == (None, None)
    assert strategy.accountant.num_releases == 0


def test_more_noise_each_makes_up_for_missing_shares():
    strategy = private(noise=1.0, placement="distributed", min_shares=5)
    assert strategy.settings.noise_std == pytest.approx(2.0 / math.sqrt(5))
    model = record(w=np.zeros(2000, np.float32))
    grid = InProcessGrid(failing({0, 1, 2}, lambda _: 0.0, (private_mod,)), 8)
    arrays, _ = one_round(strategy, grid, model)
    assert values(arrays).std() == pytest.approx(2.0 / 8, rel=0.06)
    worse = InProcessGrid(failing({0, 1, 2, 3}, mods=(private_mod,)), 8)
    assert one_round(strategy, worse, model, 2) == (None, None)


def test_a_client_without_the_mod_has_no_share():
    strategy = private(noise=1.0, placement="distributed")
    model = record(w=np.zeros(8, np.float32))
    assert one_round(strategy, InProcessGrid(client(lambda _: 1.0), 8), model) == (
        None,
        None,
    )
    assert strategy.last_round.contributed == 0


@pytest.mark.parametrize("model", [POISSON, PLAIN])
def test_shares_of_a_random_cohort_are_refused(model):
    with pytest.raises(InvalidArgumentError, match="number of noise shares"):
        private(model=model, placement="distributed")


# --- the mod ---------------------------------------------------------------------

InProcessGrid(ClientApp(), 0)  # gives this process the identity that messages carry
CONTEXT = Context(1, 1, {}, RecordDict(), {})


def asked(strategy, model):
    grid = InProcessGrid(client(lambda _: 0.0), 8)
    return next(iter(strategy.configure_train(1, model, ConfigRecord(), grid)))


def test_the_mod_sends_the_update_and_the_weight_one_only():
    model = record(w=np.ones(2, np.float32), n=np.array(3))
    message = asked(private(clip_norm=10.0), model)
    app = client(lambda _: 1.0, loss=0.3)

    def call(msg, context):
        context.node_config["partition-id"] = 0
        return app(msg, context)

    reply = private_mod(message, CONTEXT, call)
    assert not reply.has_error()
    assert set(reply.content) == {"arrays", "metrics", SETTINGS}
    assert dict(reply.content["metrics"]) == {"num-examples": 1}
    assert list(reply.content["arrays"]) == ["w"]
    assert values(reply.content["arrays"]) == pytest.approx([1.0, 1.0])


def test_the_mod_leaves_other_messages_alone():
    message = Message(RecordDict(), 1, "evaluate")
    sentinel = Message(RecordDict(), reply_to=message)
    assert private_mod(message, CONTEXT, lambda *_: sentinel) is sentinel


def test_an_error_of_the_client_passes_through():
    message = asked(private(), record(w=np.zeros(2, np.float32)))
    error = Message(Error(1, "no data"), reply_to=message)
    assert private_mod(message, CONTEXT, lambda *_: error) is error


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (RecordDict({"arrays": record(w=np.zeros(2))}), "PrivateStrategy"),
        (
            RecordDict(
                {
                    "arrays": record(w=np.zeros(2)),
                    SETTINGS: ConfigRecord({"clip-norm": -1.0, "noise-std": 0.0}),
                }
            ),
            "clip_norm",
        ),
        (
            RecordDict(
                {SETTINGS: ConfigRecord({"clip-norm": 1.0, "noise-std": 0.0})},
            ),
            "exactly one ArrayRecord",
        ),
    ],
)
def test_without_settings_nothing_leaves(content, reason):
    message = Message(content, 1, "train")

    def never(*_):
        raise AssertionError("the client was asked")

    reply = private_mod(message, CONTEXT, never)
    assert reply.has_error()
    assert reason in reply.error.reason


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({"arrays": record(w=np.zeros(3))}),
        RecordDict({"arrays": record(v=np.zeros(2))}),
    ],
)
def test_a_reply_of_another_shape_does_not_leave(content):
    message = asked(private(), record(w=np.zeros(2, np.float32)))
    reply = private_mod(message, CONTEXT, lambda m, _: Message(content, reply_to=m))
    assert reply.has_error()
    assert "private_mod" in reply.error.reason


# --- inner strategies, evaluation, arguments -------------------------------------


def test_the_wrapped_strategys_settings_reach_the_clients():
    seen = []

    def call(msg, context):
        seen.append(dict(msg.content["config"]))
        return client(lambda _: 0.0)(msg, context)

    strategy = private(FedProx(fraction_evaluate=0.0, proximal_mu=0.25))
    one_round(strategy, InProcessGrid(call, 8), record(w=np.zeros(1, np.float32)), 3)
    assert seen == [{"proximal-mu": 0.25, "server-round": 3}] * 8


def test_adam_on_the_server_is_a_step_on_the_private_mean():
    strategy = private(FedAdam(fraction_evaluate=0.0, eta=0.1, beta_1=0.0, beta_2=0.0))
    grid = InProcessGrid(client(lambda _: 0.5), 8)
    arrays, _ = one_round(strategy, grid, record(w=np.zeros(3, np.float32)))
    assert values(arrays) == pytest.approx(
        np.full(3, 0.1 * 0.5 / (0.5 + 1e-3)), rel=0.1
    )


def test_evaluation_by_clients_needs_a_word():
    asked_for = []

    def call(msg, context):
        asked_for.append(msg.metadata.message_type)
        content = RecordDict({"m": MetricRecord({"num-examples": 1, "acc": 0.5})})
        return Message(content, reply_to=msg)

    grid, model = InProcessGrid(call, 8), record(w=np.zeros(1, np.float32))
    strategy = private(FedAvg())
    assert list(strategy.configure_evaluate(1, model, ConfigRecord(), grid)) == []
    assert strategy.aggregate_evaluate(1, []) is None
    open_ = private(FedAvg(), unprotected_evaluation=True)
    messages = open_.configure_evaluate(1, model, ConfigRecord(), grid)
    found = open_.aggregate_evaluate(1, grid.send_and_receive(messages))
    assert dict(found) == {"acc": 0.5}
    assert asked_for == ["evaluate"] * 8


def test_training_that_is_switched_off_charges_nothing():
    strategy = private(FedAvg(fraction_train=0.0, fraction_evaluate=0.0))
    grid = InProcessGrid(client(lambda _: 0.0), 8)
    result = run(strategy, grid, record(w=np.zeros(1, np.float32)), 2)
    assert strategy.accountant.num_releases == 0
    assert result.train_metrics_clientapp == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inner": object()}, "strategy must be a FedAvg"),
        ({"noise": 0.0}, "noise_multiplier"),
        ({"noise": math.inf}, "noise_multiplier"),
        ({"clip_norm": 0.0}, "clip_norm"),
        ({"size": 0}, "sample_size"),
        ({"size": 9}, "sample_size"),
        ({"placement": "local"}, "placement must be 'central' or 'distributed'"),
        ({"missing": "ignore"}, "missing must be 'zero' or 'abort'"),
        ({"min_shares": 3}, "min_shares"),
        ({"min_shares": 9, "placement": "distributed"}, "min_shares"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        private(**options)


def test_the_default_noise_is_secure():
    strategy = PrivateStrategy(
        FedAvg(),
        accountant=accountant(),
        noise_multiplier=1.0,
        clip_norm=1.0,
        sample_size=4,
    )
    assert isinstance(strategy.rng, SecureNoise)
    grid = InProcessGrid(client(lambda _: 0.0), 8)
    _, metrics = one_round(strategy, grid, record(w=np.zeros(2, np.float32)))
    assert metrics["noise-is-secure"] == 1
    _, metrics = one_round(private(), grid, record(w=np.zeros(2, np.float32)))
    assert metrics["noise-is-secure"] == 0
    arguments = inspect.signature(PrivateStrategy).parameters
    assert arguments["missing"].default == "zero"


def test_the_rule_for_arrays_is_public():
    model = record(w=np.zeros(2, np.float16), n=np.array(1), b=np.array(True))
    assert list(trained(model)) == ["w"]
    found = changed(trained(model), record(w=np.ones(2, np.float16)))
    assert found["w"].dtype == np.float32
    assert changed(trained(model), record(n=np.array(1))) is None
