"""Secure sums: exact integers, dropouts, and servers that ask for too much."""

import itertools

import numpy as np
import pytest

pytest.importorskip("flwr")

from flwr.app import ConfigRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.secure_aggregation.crypto.symmetric_encryption import (
    generate_shared_key,
)
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.supercore.primitives.asymmetric import generate_key_pairs

from drdp.errors import InvalidArgumentError, TrainingError
from drdp.fedsim.flower import InProcessGrid
from drdp.fedsim.flower.exchange import Exchange
from drdp.fedsim.flower.masks import Keys, agreed, mask, opened, sealed
from drdp.fedsim.flower.nodes import client_app, client_of, secure_stages
from drdp.fedsim.flower.secure_node import SUM
from drdp.fedsim.flower.secure_sum import SecureSum
from drdp.mechanisms.modular import secure_sum, wrapped

LENGTH, BITS = 33, 40


def vectors(clients, bits=BITS):
    rng = np.random.default_rng(clients)
    return wrapped(rng.integers(0, 1 << 62, size=(clients, LENGTH)), bits)


def grid_of(values, lost=lambda node, kind: False):
    """Nodes of which `lost` says whether a message to them is lost."""
    app = ClientApp()
    inner = client_app(lambda settings, codec: None)
    secure_stages(app, lambda msg, context: values[client_of(context)])

    def called(msg, context):
        kind = msg.metadata.message_type
        if kind == "query":
            return inner(msg, context)
        if lost(client_of(context), kind):
            raise ConnectionError("the node is gone")
        return app(msg, context)

    return InProcessGrid(called, len(values))


def a_sum(grid, clients, threshold, bits=BITS):
    exchange = Exchange(grid, patience=0.2)
    return SecureSum(
        exchange, range(clients), threshold=threshold, bits=bits, length=LENGTH
    )


@pytest.mark.parametrize("bits", [1, 16, 40, 62])
def test_the_sum_is_exact_to_the_last_bit(bits):
    values = vectors(5, bits)
    secure = a_sum(grid_of(values), 5, 4, bits)
    secure.masked(lambda client: RecordDict())
    np.testing.assert_array_equal(secure.unmasked(), secure_sum(values, bits))


@pytest.mark.parametrize(
    ("stage", "in_it"),
    [
        ("train.keys", [0, 1, 3, 4]),
        ("train.shares", [0, 1, 3, 4]),
        ("train.masked", [0, 1, 3, 4]),
        ("train.unmask", [0, 1, 2, 3, 4]),
    ],
)
def test_a_client_that_drops_out_at_any_stage_leaves_an_exact_sum(stage, in_it):
    values = vectors(5)
    grid = grid_of(values, lambda client, kind: client == 2 and kind == stage)
    secure = a_sum(grid, 5, 4)
    secure.masked(lambda client: RecordDict())
    assert secure.present == in_it
    expected = secure_sum([values[client] for client in in_it], BITS)
    np.testing.assert_array_equal(secure.unmasked(), expected)


@pytest.mark.parametrize(
    "stage", ["train.keys", "train.shares", "train.masked", "train.unmask"]
)
def test_too_many_dropouts_release_nothing(stage):
    grid = grid_of(vectors(5), lambda client, kind: client < 2 and kind == stage)
    secure = a_sum(grid, 5, 4)

    def whole():
        secure.masked(lambda client: RecordDict())
        return secure.unmasked()

    with pytest.raises(TrainingError, match=r"only 3 of 5 clients .*nothing was"):
        whole()


def test_a_message_is_uniform_without_the_masks():
    values = np.zeros((3, 20_000), dtype=np.int64)
    exchange = Exchange(grid_of(values), patience=0.2)
    secure = SecureSum(exchange, range(3), threshold=2, bits=4, length=20_000)
    secure.masked(lambda client: RecordDict())
    for message in secure._messages.values():
        counts = np.bincount(message, minlength=16)
        # chi-squared with 15 degrees of freedom: above 60 once in ten million
        assert ((counts - 1250.0) ** 2 / 1250.0).sum() < 60.0
    np.testing.assert_array_equal(secure.unmasked(), 0)


class Wiretap:
    """A server that follows the protocol, and then asks for more."""

    def __init__(self, clients=5, threshold=4):
        self.exchange = Exchange(grid_of(vectors(clients)), patience=0.2)
        self.secure = SecureSum(
            self.exchange,
            range(clients),
            threshold=threshold,
            bits=BITS,
            length=LENGTH,
        )
        self.secure.masked(lambda client: RecordDict())

    def unmask(self, client, present, absent):
        record = ConfigRecord(
            {"session": self.secure._session, "present": present, "absent": absent}
        )
        return self.exchange.ask({client: RecordDict({SUM: record})}, "train.unmask")


@pytest.mark.parametrize(
    ("present", "absent", "why"),
    [
        ([0, 1, 2], [3, 4], "less noise than was promised"),
        ([0, 1, 2, 3], [3, 4], "in it or not, once"),
        ([0, 1, 2, 2], [], "in it or not, once"),
        ([1, 2, 3, 4], [0], "less noise than was promised"),
        ([0, 1, 2, 3, 9], [], "in it or not, once"),
    ],
)
def test_clients_do_not_help_with_other_sums(present, absent, why):
    with pytest.raises(TrainingError, match=why):
        Wiretap().unmask(0, present, absent)


def test_clients_help_once_a_session():
    tap = Wiretap()
    assert tap.unmask(0, [0, 1, 2, 3], [4])
    with pytest.raises(TrainingError, match="not in this secure sum"):
        tap.unmask(0, [0, 1, 2, 3, 4], [])


def test_a_threshold_of_half_is_refused_at_both_ends():
    exchange = Exchange(grid_of(vectors(6)), patience=0.2)
    with pytest.raises(InvalidArgumentError, match="more than half of 6"):
        SecureSum(exchange, range(6), threshold=3, bits=8, length=LENGTH)
    secure = SecureSum(exchange, range(6), threshold=4, bits=8, length=LENGTH)
    secure._threshold = 3
    with pytest.raises(TrainingError, match="more than half"):
        secure.masked(lambda client: RecordDict())


def test_keys_of_pairs_and_sessions_differ():
    keys = [Keys.fresh() for _ in range(3)]
    found = {
        agreed(keys[i], keys[j].public, session, i, j)
        for i, j in itertools.combinations(range(3), 2)
        for session in (b"one", b"two")
    }
    assert len(found) == 6
    low = agreed(keys[0], keys[1].public, b"one", 0, 1)
    assert low == agreed(keys[1], keys[0].public, b"one", 1, 0)
    assert mask(low, 9, 16).max() < 1 << 16


def test_envelopes_are_closed():
    key, other = bytes(32), bytes([1]) * 32
    assert opened(key, sealed(key, b"text")) == b"text"
    letter = sealed(key, b"text")
    for wrong, sent in ((other, letter), (key, letter[:-1] + b"x"), (key, b"")):
        with pytest.raises(InvalidArgumentError, match="damaged"):
            opened(wrong, sent)


def test_flowers_own_masks_have_seeds_of_fewer_than_32_bits():
    """Why they are not used: 2^28 tries lay every message bare."""
    private, public = generate_key_pairs()
    key = generate_shared_key(private, public)
    words = [key[i : i + 4] for i in range(0, len(key), 4)]
    swapped = b"".join(words[::-1])
    assert swapped != key
    one = pseudo_rand_gen(key, 1 << 20, [(5,)])[0]
    np.testing.assert_array_equal(one, pseudo_rand_gen(swapped, 1 << 20, [(5,)])[0])
    seed = 0
    for word in words:
        seed ^= int.from_bytes(word, "little")
    again = np.random.RandomState(seed).randint(0, (1 << 20) - 1, (5,), dtype=np.int64)
    np.testing.assert_array_equal(one, again)
    assert seed & 0x80808080 == 0  # the key is text: 28 bits are left
