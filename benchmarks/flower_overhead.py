"""Claim: a private round of Flower costs little more than a plain one.

Run ``python -m benchmarks.flower_overhead`` in the repository root.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.serverapp import (
    GaussianPrivacyEvent,
    NeighboringRelation,
    PrivacyConfig,
    RdpAccountant,
    SamplingMethod,
)
from flwr.serverapp.strategy import (
    DifferentialPrivacyServerSideFixedClipping,
    FedAvg,
)

from benchmarks.measure import Section, is_quick, seconds, show, table, timed
from drdp.fedsim.flower import InProcessGrid, PrivateStrategy, private_mod
from drdp.privacy.adapters.flower import PldAccountant
from drdp.privacy.adjacency import Adjacency
from drdp.privacy.ledger import Ledger

SIZE, NODES, PAST = 1_000_000, 10, 100


class Finding(NamedTuple):
    """What is measured, and its seconds."""

    what: str
    taken: float


def config(sampling: SamplingMethod, relation: NeighboringRelation) -> PrivacyConfig:
    """Ten nodes of a hundred, or ten of ten, with a budget that is never met."""
    population = NODES if sampling is SamplingMethod.WITHOUT_REPLACEMENT else 100
    return PrivacyConfig(1e-5, population, relation, sampling, 1e3)


def model(size: int) -> ArrayRecord:
    """One array of float32."""
    return ArrayRecord({"w": Array(np.zeros(size, np.float32))})


def client(size: int) -> Callable[[Message, Context], Message]:
    """A client whose training costs nothing: the same update every time."""
    update = np.random.default_rng(1).normal(size=size).astype(np.float32)
    content = RecordDict(
        {
            "arrays": ArrayRecord({"w": Array(update)}),
            "metrics": MetricRecord({"num-examples": 1}),
        }
    )
    return lambda msg, _: Message(content, reply_to=msg)


def server_time(strategy: Any, size: int, rounds: int) -> float:
    """Median seconds of a round in the strategy: configure and aggregate."""
    grid, arrays, taken = InProcessGrid(client(size), NODES), model(size), []
    for number in range(1, rounds + 1):
        start = time.perf_counter()
        messages = list(strategy.configure_train(number, arrays, ConfigRecord(), grid))
        middle = time.perf_counter()
        replies = list(grid.send_and_receive(messages))
        after = time.perf_counter()
        strategy.aggregate_train(number, replies)
        taken.append(middle - start + time.perf_counter() - after)
    return median(taken)


def mod_time(size: int, noise: bool) -> float:
    """Median seconds of the mod around one client."""
    strategy = PrivateStrategy(
        FedAvg(fraction_evaluate=0.0),
        accountant=PldAccountant(config(*FIXED)),
        noise_multiplier=1.0,
        clip_norm=1.0,
        sample_size=NODES,
        placement="distributed" if noise else "central",
    )
    app = client(size)
    grid = InProcessGrid(app, NODES)
    (message, *_) = strategy.configure_train(1, model(size), ConfigRecord(), grid)
    context = Context(1, 1, {}, RecordDict(), {})
    return timed(lambda: private_mod(message, context, app), budget=1.0)


def asking_time(books: Any) -> float:
    """Median seconds of a question that was not asked before."""
    event, taken = GaussianPrivacyEvent(1.0, 5, 100), []
    for _ in range(PAST):
        books.compose(event)
    books.would_exceed(event)
    for _ in range(3):
        books.compose(event)
        start = time.perf_counter()
        books.would_exceed(event)
        taken.append(time.perf_counter() - start)
    return median(taken)


FIXED = (SamplingMethod.WITHOUT_REPLACEMENT, NeighboringRelation.REPLACE_ONE)
POISSON = (SamplingMethod.POISSON, NeighboringRelation.ADD_OR_REMOVE_ONE)


def measure(*, quick: bool = False) -> list[Finding]:
    """A round of ten clients with each strategy, and the parts of a private one."""
    logging.getLogger("flwr").setLevel(logging.ERROR)
    size, rounds = (SIZE // 10, 3) if quick else (SIZE, 7)
    found = []

    def inner() -> FedAvg:
        return FedAvg(fraction_evaluate=0.0, min_train_nodes=NODES)

    plain = server_time(inner(), size, rounds)
    found.append(Finding("FedAvg", plain))
    theirs = DifferentialPrivacyServerSideFixedClipping(inner(), 1.0, 1.0, NODES)
    found.append(
        Finding("FedAvg in Flower's wrapper", server_time(theirs, size, rounds))
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        Ledger.create(
            Path(folder) / "ledger.db", adjacency=Adjacency.REPLACE_ONE
        ) as ledger,
    ):
        for name, payer in (("", None), (" and a ledger on disk", ledger)):
            private = PrivateStrategy(
                inner(),
                accountant=PldAccountant(config(*FIXED), ledger=payer),
                noise_multiplier=1.0,
                clip_norm=1.0,
                sample_size=NODES,
            )
            taken = server_time(private, size, rounds)
            found.append(Finding(f"FedAvg in PrivateStrategy{name}", taken))
    found.append(Finding("`private_mod`, one client", mod_time(size, False)))
    found.append(Finding("`private_mod` with a share of noise", mod_time(size, True)))
    for name, kind in (("RdpAccountant", RdpAccountant), ("PldAccountant", None)):
        asked = asking_time((kind or PldAccountant)(config(*POISSON)))
        found.append(
            Finding(f"`{name}.would_exceed` after {PAST} Poisson rounds", asked)
        )
    return found


def section(found: list[Finding], size: int = SIZE) -> Section:
    """The findings as a table."""
    text = (
        f"{NODES} clients, a model of {size:,} numbers (float32). The first four rows"
        " are the strategy's part of a round, without clients and sending; Flower's"
        " noise is not secure, drdp's is.\n\n"
        f"{table(('what', 'time'), ((f.what, seconds(f.taken)) for f in found))}"
    )
    return Section("Flower", "python -m benchmarks.flower_overhead", text)


if __name__ == "__main__":
    short = is_quick(__doc__)
    show(section(measure(quick=short), SIZE // 10 if short else SIZE))
