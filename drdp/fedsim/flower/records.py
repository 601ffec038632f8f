"""Which arrays of a model are trained in private, and what a client changed in them.

The rule reads nothing but the types of the server's own arrays, which everybody
knows: arrays of floating-point numbers are trained; integers and booleans, such
as BatchNorm's counters, stay what they are at the server, whatever clients
return for them; anything else is refused.

>>> model = ArrayRecord({"w": Array(np.ones(2, np.float16)), "n": Array(np.array(7))})
>>> list(trained(model)), list(trained(model).values())[0].dtype
(['w'], dtype('float16'))
>>> reply = ArrayRecord({"w": Array(np.array([1.5, 1.0])), "n": Array(np.array(9))})
>>> changed(trained(model), reply)
{'w': array([0.5, 0. ])}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from drdp import _check
from drdp.errors import InvalidArgumentError

__all__ = [
    "SETTINGS",
    "Arrays",
    "Settings",
    "changed",
    "record",
    "trained",
    "update_in",
]

SETTINGS = "drdp"
"""The record of a message that the server tells its settings in."""

Arrays = dict[str, NDArray[Any]]


@final
@dataclass(frozen=True, slots=True)
class Settings:
    """What the server tells its clients about a round, all of it public.

    Args:
        clip_norm: The largest L2 norm of one client's update over all arrays.
        noise_std: The standard deviation of each client's share of the noise; 0
            where the server adds the noise.
        weight_key: The name of the weight, which is 1 for everyone.
    """

    clip_norm: float
    noise_std: float
    weight_key: str

    def record(self) -> ConfigRecord:
        """The settings as a record of a message."""
        return ConfigRecord(
            {
                "clip-norm": self.clip_norm,
                "noise-std": self.noise_std,
                "weight-key": self.weight_key,
            }
        )

    @classmethod
    def told(cls, content: RecordDict) -> Settings | None:
        """The settings in a message's content; None where there are none."""
        found = content.config_records.get(SETTINGS)
        if found is None:
            return None
        return cls(
            clip_norm=_check.positive(clip_norm=found.get("clip-norm")),
            noise_std=_check.at_least_zero(noise_std=found.get("noise-std")),
            weight_key=str(found.get("weight-key")),
        )


def trained(model: ArrayRecord) -> Arrays:
    """The arrays of a model that are trained, by name.

    Raises:
        InvalidArgumentError: If an array holds something else than real numbers,
            or none is trained.
    """
    found: Arrays = {}
    for name, array in model.items():
        values = array.numpy()
        if values.dtype.kind == "f":
            found[name] = values
        elif values.dtype.kind not in "iub":
            raise InvalidArgumentError(
                f"array {name!r} must hold real numbers, got {values.dtype};"
                " convert it to float32"
            )
    if not found:
        raise InvalidArgumentError(
            "arrays must have one of floating-point numbers: integers are not"
            f" trained; got {list(model)!r:.120}"
        )
    return found


def changed(sent: Arrays, reply: Mapping[str, Array]) -> Arrays | None:
    """New minus old values of the trained arrays, in at least float32.

    None where the reply lacks one of them or has it in another shape or kind.
    """
    found: Arrays = {}
    for name, old in sent.items():
        new = reply[name].numpy() if name in reply else None
        if new is None or new.shape != old.shape or new.dtype.kind not in "fiu":
            return None
        precise = np.result_type(np.float32, old.dtype, new.dtype)
        with np.errstate(over="ignore", invalid="ignore"):  # clipping counts these
            found[name] = np.subtract(new, old, dtype=precise)
    return found


def update_in(content: RecordDict, before: Arrays, wanted: Settings) -> Arrays | None:
    """The update that a client's reply holds, not yet bounded here.

    A reply of `private_mod` is an update and names its settings; that of a plain
    client is a model, which holds no share of any noise.

    Returns:
        None where the reply cannot be used: it lacks an array, was made under
        other settings, or should hold noise and does not.
    """
    records = list(content.array_records.values())
    if len(records) != 1:
        return None
    noised = wanted.noise_std > 0.0
    if SETTINGS not in content.config_records:
        return None if noised else changed(before, records[0])
    try:
        told = Settings.told(content)
    except InvalidArgumentError:
        return None
    if told != wanted:
        return None
    nothing = {name: np.zeros_like(array) for name, array in before.items()}
    update = changed(nothing, records[0])
    if update is None or not noised:
        return update
    finite = all(np.isfinite(array).all() for array in update.values())
    return update if finite else None


def record(arrays: Arrays) -> ArrayRecord:
    """Arrays as a record of a message."""
    return ArrayRecord({name: Array(np.asarray(a)) for name, a in arrays.items()})
