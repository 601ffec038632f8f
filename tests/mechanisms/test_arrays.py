"""Contributions of every kind: what is shown, what comes back, what is refused."""

from __future__ import annotations

import subprocess
import sys
from collections import OrderedDict, namedtuple

import numpy as np
import pytest
import torch

from drdp.errors import InvalidArgumentError
from drdp.mechanisms.arrays import opened

torch.set_num_threads(1)
Pair = namedtuple("Pair", "a b")


def test_torch_is_not_imported() -> None:
    code = (
        "import sys, numpy as np\n"
        "from drdp.mechanisms.gaussian import GaussianMechanism\n"
        "from drdp.mechanisms.noise import SecureNoise\n"
        "m = GaussianMechanism(noise_multiplier=1.0, clip_norm=1.0)\n"
        "m.release(m.bound(np.ones(3)), SecureNoise())\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_nested_structures_come_back_as_they_were() -> None:
    value = {
        "z": [np.ones(2, np.float32), (torch.ones(3), np.zeros((2, 2)))],
        "a": Pair(np.float32(2.0), torch.tensor(3.0)),
    }
    shown = opened(value)
    assert shown.names == (
        "['a'][0]",
        "['a'][1]",
        "['z'][0]",
        "['z'][1][0]",
        "['z'][1][1]",
    )
    assert shown.blocks == (0, 0, 1, 1, 1)
    assert shown.block_count == 2
    back = shown.closed([2 * array for array in shown.arrays])
    assert list(back) == ["z", "a"]
    assert isinstance(back["a"], Pair)
    assert isinstance(back["z"][1], tuple)
    assert torch.equal(back["z"][1][0], torch.full((3,), 2.0))
    assert back["a"].b.shape == ()
    assert isinstance(back["a"].a, np.ndarray)
    assert back["a"].a == 4.0


def test_the_order_of_a_dict_does_not_matter() -> None:
    one = opened(OrderedDict(b=np.ones(1), a=np.zeros(2)))
    other = opened({"a": np.zeros(2), "b": np.ones(1)})
    assert one.layout == other.layout == (("['a']", (2,)), ("['b']", (1,)))


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (np.ones(3, np.float16), np.float32),
        (np.ones(3, np.float32), np.float32),
        (np.ones(3, np.float64), np.float64),
        (np.ones(3, np.longdouble), np.float64),
        (np.ones(3, ">f4"), np.float32),
        (np.float64(1.0), np.float64),
        (np.ones(()), np.float64),
        (np.ones((0, 3), np.float32), np.float32),
        (np.ones((6, 4), np.float32)[::2, ::-1], np.float32),
        (torch.ones(3, dtype=torch.float16), np.float32),
        (torch.ones(3, dtype=torch.bfloat16), np.float32),
        (torch.ones(3, dtype=torch.float64), np.float64),
        (torch.ones(3, requires_grad=True), np.float32),
        (torch.nn.Parameter(torch.ones(2, 3).t()), np.float32),
        (torch.ones(()), np.float32),
        (torch.ones(0), np.float32),
    ],
    ids=str,
)
def test_numbers_are_shown_in_single_or_double(value: object, dtype: type) -> None:
    shown = opened(value)
    (array,) = shown.arrays
    assert array.dtype == dtype
    assert array.dtype.isnative
    assert np.all(array == 1.0)
    back = shown.closed([array * 2])
    assert tuple(back.shape) == tuple(value.shape)
    assert isinstance(back, torch.Tensor) == isinstance(value, torch.Tensor)
    if isinstance(back, torch.Tensor):
        assert not back.requires_grad
        assert back.device == value.device


@pytest.mark.gpu
def test_a_tensor_comes_back_to_its_device() -> None:
    shown = opened(torch.ones(3, device="cuda"))
    assert shown.closed(shown.arrays).device.type == "cuda"


REFUSED = {
    "int64": np.ones(3, np.int64),
    "uint8": torch.ones(3, dtype=torch.uint8),
    "int32": torch.ones(3, dtype=torch.int32),
    "bool": np.ones(3, bool),
    "complex64": torch.ones(3, dtype=torch.complex64),
    "complex128": np.ones(3, complex),
    "object": np.array([None]),
    "float8_e4m3fn": torch.ones(3).to(torch.float8_e4m3fn),
    "masked": np.ma.masked_array([1.0]),
    "sparse": torch.ones(3).to_sparse(),
    "meta": torch.ones(3, device="meta"),
    "got float": 3.0,
    "got str": "text",
    "got NoneType": None,
}


@pytest.mark.parametrize("why", list(REFUSED))
def test_other_things_are_refused_by_name(why: str) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"total\['w'\]\[1\] must .*{why}"):
        opened({"w": [np.ones(1), REFUSED[why]]}, "total")


def test_keys_without_an_order_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="all strings or all whole numbers"):
        opened({"a": np.ones(1), 3: np.ones(1)})


def test_integers_are_for_integer_mechanisms() -> None:
    (array,) = opened(np.ones(3, np.int16), integers=True).arrays
    assert array.dtype == np.int16
    (array,) = opened(torch.ones(3, dtype=torch.int64), integers=True).arrays
    assert array.dtype == np.int64
    with pytest.raises(InvalidArgumentError, match="must hold integers, got float32"):
        opened(torch.ones(3), integers=True)
    with pytest.raises(InvalidArgumentError, match="must hold integers, got bool"):
        opened(np.ones(3, bool), integers=True)
    with pytest.raises(InvalidArgumentError, match="use a discrete mechanism"):
        opened(np.ones(3, np.int16))
