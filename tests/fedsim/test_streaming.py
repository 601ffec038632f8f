"""A round of any size holds a constant number of updates, codes and messages."""

import tracemalloc
import weakref
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from drdp.compression.identity import Identity
from drdp.compression.projection import RandomProjection
from drdp.compression.protocol import Compressor
from drdp.fedsim.protection import Protection
from drdp.fedsim.randomness import SecretRandomness
from drdp.fedsim.sight import Sight
from drdp.fedsim.simulate import Simulation, simulate
from drdp.fedsim.trainer import Update
from drdp.privacy.threat import EveryClient, Placement, View
from tests.fedsim.linear import Purse

LENGTH = 6_000


class CountingTrainer:
    """Clients whose updates are counted while somebody holds them."""

    def __init__(self, num_clients: int) -> None:
        self.num_clients, self.num_parameters = num_clients, LENGTH
        self.made = self.alive = self.most = 0

    def initial(self) -> NDArray[np.float32]:
        return np.zeros(LENGTH, dtype=np.float32)

    def updates(
        self, parameters: NDArray[np.float32], clients: Sequence[int], seed: int
    ) -> Iterator[Update]:
        for client in clients:
            delta = np.full(LENGTH, 1.0 + client % 7, dtype=np.float32) - parameters
            self.made += 1
            self.alive += 1
            self.most = max(self.most, self.alive)
            weakref.finalize(delta, self._gone)
            yield Update(client, delta, loss=float(client), examples=1)
            del delta

    def _gone(self) -> None:
        self.alive -= 1

    def evaluate(self, parameters: NDArray[np.float32]) -> Mapping[str, float]:
        return {}


CODECS = [Identity(LENGTH), RandomProjection(LENGTH, 16, seed=1)]
PROTECTIONS: list[dict[str, object]] = [
    {},
    {"placement": Placement.DISTRIBUTED, "view": View.SUM},
    {"placement": Placement.LOCAL, "view": View.MESSAGES},
    {"placement": Placement.DISTRIBUTED, "view": View.COLLUDING, "colluding": 3},
]


def one_round(
    clients: int,
    codec: Compressor,
    settings: Mapping[str, object],
    seen: list[Sight] | None = None,
) -> tuple[CountingTrainer, int]:
    """A round of all clients, and the bytes it allocated at its peak."""
    trainer = CountingTrainer(clients)
    protection = Protection(
        EveryClient(clients), clip_norm=1.0, noise_multiplier=1.0, **settings
    )
    rounds = simulate(
        Simulation(trainer, codec, protection),
        rounds=1,
        randomness=SecretRandomness(bytes(32)),
        payer=Purse(),
        observe=None if seen is None else seen.append,
    )
    tracemalloc.start()
    try:
        report = next(rounds)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert report.private.clients == trainer.made == clients
    assert report.private.loss == pytest.approx((clients - 1) / 2)
    return trainer, peak


@pytest.mark.parametrize("settings", PROTECTIONS, ids=str)
@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)
def test_a_round_of_any_size_holds_one_update(
    codec: Compressor, settings: dict[str, object]
) -> None:
    _, few = one_round(10, codec, settings)
    trainer, many = one_round(200, codec, settings)
    # The one that is added, and the next one while it is made.
    assert trainer.most <= 2
    # 190 more clients, but by far not as many more updates: the noise's own
    # buffers vary by a few.
    assert many - few < 10 * 4 * LENGTH


def test_an_observer_costs_the_messages_that_it_is_to_see_and_no_more() -> None:
    colluding = {
        "placement": Placement.DISTRIBUTED,
        "view": View.COLLUDING,
        "colluding": 3,
    }
    hidden = {"placement": Placement.DISTRIBUTED, "view": View.SUM}
    for settings, clients in ((colluding, [97, 98, 99]), (hidden, [])):
        few: list[Sight] = []
        many: list[Sight] = []
        _, less = one_round(10, CODECS[0], settings, few)
        _, more = one_round(100, CODECS[0], settings, many)
        assert sorted(many[0].messages) == clients
        assert more - less < 10 * 4 * LENGTH


def test_every_message_is_kept_for_an_observer_who_sees_them_all() -> None:
    seen: list[Sight] = []
    local = {"placement": Placement.LOCAL, "view": View.MESSAGES}
    one_round(30, CODECS[1], local, seen)
    assert sorted(seen[0].messages) == list(range(30))
    whole = np.sum(list(seen[0].messages.values()), axis=0)
    np.testing.assert_allclose(whole, seen[0].total)
