"""What keeps noise secret, and what labels noise that is not."""

from __future__ import annotations

import copy
import math
import os
import pickle
import subprocess
import sys
import time

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from drdp.errors import InvalidArgumentError
from drdp.mechanisms import noise
from drdp.mechanisms.noise import SecureNoise, SeededNoise, provenance

KEY = bytes(range(32))
PINNED_WORDS = [18114792489670624504, 3814908199470300043]
PINNED_NORMAL = [-0.8772447756703895, -0.6350059957369723]


def test_the_words_are_aes_in_counter_mode() -> None:
    cipher = Cipher(algorithms.AES256(KEY), modes.CTR(bytes(16))).encryptor()
    truth = np.frombuffer(cipher.update(bytes(8 * 20_000)), dtype=np.uint64)
    assert np.array_equal(SecureNoise._with_key(KEY).words(20_000), truth)


def test_a_known_key_is_not_called_secure() -> None:
    assert not SecureNoise._with_key(KEY).secure
    assert SecureNoise().secure


def test_two_sources_differ() -> None:
    assert not np.array_equal(SecureNoise().words(4), SecureNoise().words(4))


def test_a_key_is_used_for_one_gib_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "_REKEY", 1 << 16)
    first, second = SecureNoise._with_key(KEY), SecureNoise._with_key(KEY)
    same = 1 << 13  # words of one key
    a, b = first.words(2 * same), second.words(2 * same)
    assert np.array_equal(a[:same], b[:same])
    assert not np.any(a[same:] == b[same:])


FORKED = """
import os, sys
from drdp.mechanisms.noise import SecureNoise
rng = SecureNoise()
rng.words(3)
ends = []
for generation in range(3):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, rng.words(4).tobytes())
        if generation == 1:  # a grandchild that inherits through a child
            if os.fork() == 0:
                os.write(write, rng.words(4).tobytes())
                os._exit(0)
            os.wait()
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    while part := os.read(read, 32):
        ends.append(part)
ends.append(rng.words(4).tobytes())
words = [end[i:i+8] for end in ends for i in range(0, len(end), 8)]
sys.exit(0 if len(words) == 20 == len(set(words)) else 1)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_never_repeats_its_parent() -> None:
    # in a process of its own, which has no other threads
    done = subprocess.run([sys.executable, "-c", FORKED], check=False, timeout=60)
    assert done.returncode == 0


def test_a_recycled_process_number_is_not_mistaken_for_the_owner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng, twin = SecureNoise._with_key(KEY), SecureNoise._with_key(KEY)
    noise._forked()  # what runs in a child, here with the number unchanged
    assert not np.any(rng.words(4) == twin.words(4))
    same = SecureNoise._with_key(KEY)
    number = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: number + 1)  # a fork without the hook
    assert not np.any(same.words(4) == SecureNoise._with_key(KEY).words(4))


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_secure_source_is_never_copied(duplicate: object) -> None:
    with pytest.raises(TypeError, match="cannot be pickled or copied"):
        duplicate(SecureNoise())  # type: ignore[operator]


def test_a_secure_source_shows_nothing() -> None:
    rng = SecureNoise._with_key(KEY)
    assert repr(rng) == "SecureNoise()"
    assert not any(
        KEY in value if isinstance(value, bytes) else False
        for value in vars(rng._state).values()
    )


def test_a_hundred_million_a_minute_on_one_core() -> None:
    rng, count = SecureNoise(), 1 << 21
    rng.normal(1000)
    best = math.inf
    for _ in range(3):  # processor time: whoever else is computing does not count
        start = time.process_time()
        rng.normal(count)
        best = min(best, time.process_time() - start)
    assert count / best * 60.0 > 1e8


# --- seeds -------------------------------------------------------------------------


def test_a_seed_replays_and_a_purpose_stands_alone() -> None:
    rng = SeededNoise(7)
    rng.words(1000)  # what was drawn before does not matter
    assert np.array_equal(
        rng.spawn("round", 3).normal(9), SeededNoise(7, "round", 3).normal(9)
    )
    assert np.array_equal(
        rng.spawn("round").spawn(3).words(9), SeededNoise(7, "round", 3).words(9)
    )


def test_different_purposes_share_no_word() -> None:
    paths = [(), ("a",), ("a", 1), ("a", "1"), ("a1",), (1,), ("1",), ("a", 1, 1)]
    found = [SeededNoise(seed, *path).words(100) for path in paths for seed in (0, 1)]
    assert np.unique(np.concatenate(found)).size == 1600


def test_the_seeded_stream_is_pinned() -> None:
    rng = SeededNoise(7, "round", 3)
    assert [int(word) for word in rng.words(2)] == PINNED_WORDS
    assert rng.normal(2) == pytest.approx(PINNED_NORMAL, rel=1e-13)


def test_spawning_needs_a_purpose() -> None:
    with pytest.raises(InvalidArgumentError, match="path must name a purpose"):
        SeededNoise(7).spawn()


@pytest.mark.parametrize("seed", [-1, 0.5, True, "7", None])
def test_seeds_are_checked(seed: object) -> None:
    with pytest.raises(InvalidArgumentError, match="seed must be"):
        SeededNoise(seed)  # type: ignore[arg-type]


# --- labels ------------------------------------------------------------------------


def test_one_seeded_source_makes_the_result_not_private() -> None:
    both = provenance(SecureNoise(), SeededNoise(7, "noise"))
    assert not both.secure
    assert "NOT PRIVATE" in str(both)
    assert "SeededNoise(7, 'noise')" in str(both)
    alone = provenance(SecureNoise(), SecureNoise())
    assert alone.secure
    assert alone.sources == ("SecureNoise()",)
    assert "NOT" not in str(alone)
    assert not provenance().secure
    assert "no source" in str(provenance())
