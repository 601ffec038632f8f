"""Which part of a flat update belongs to which matrix.

>>> layout = Layout.of_shapes([("a.0.lora_A", (8, 64)), ("a.1.lora_A", (8, 64))])
>>> layout.length, layout.slots[1].offset, layout.families
(1024, 512, ('a.*.lora_A',))
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

from drdp import _check
from drdp.errors import InvalidArgumentError

__all__ = ["Layout", "Slot"]

_LAYER = re.compile(r"(?<=\.)\d+(?=\.)")


@final
@dataclass(frozen=True, slots=True)
class Slot:
    """The place of one matrix in a flat update.

    Args:
        key: Its name, such as peft's ``...layers.3.self_attn.q_proj.lora_A.weight``.
        offset: Where it starts.
        shape: Its shape; row-major.
    """

    key: str
    offset: int
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.key:
            raise InvalidArgumentError("key must be a name, got none")
        shape = tuple(_check.count(least=1, shape=side) for side in self.shape)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "offset", _check.count(offset=self.offset))

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def stop(self) -> int:
        """Where the next one starts."""
        return self.offset + self.size

    @property
    def family(self) -> str:
        """Its key with the layer's number left open: what equal layers share."""
        return _LAYER.sub("*", self.key)

    @property
    def layer(self) -> int:
        """The first number in its key, 0 where there is none."""
        found = _LAYER.search(self.key)
        return int(found[0]) if found else 0


@final
@dataclass(frozen=True, slots=True)
class Layout:
    """The matrices of a flat update, one after the other without gaps."""

    slots: tuple[Slot, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "slots", tuple(self.slots))
        if not self.slots:
            raise InvalidArgumentError("slots must name at least one matrix, got none")
        place = 0
        for slot in self.slots:
            if slot.offset != place:
                raise InvalidArgumentError(
                    f"slots must follow each other without gaps: {slot.key} starts"
                    f" at {slot.offset}, expected {place}"
                )
            place = slot.stop
        if len({slot.key for slot in self.slots}) < len(self.slots):
            raise InvalidArgumentError("slots must have different keys")

    @classmethod
    def of(cls, slots: Iterable[tuple[str, int, Sequence[int]]]) -> Layout:
        """A layout from (key, offset, shape) triples."""
        return cls(tuple(Slot(key, at, tuple(shape)) for key, at, shape in slots))

    @classmethod
    def of_shapes(cls, shapes: Iterable[tuple[str, Sequence[int]]]) -> Layout:
        """A layout from (key, shape) pairs, in their order."""
        slots = []
        place = 0
        for key, shape in shapes:
            slots.append(Slot(key, place, tuple(shape)))
            place = slots[-1].stop
        return cls(tuple(slots))

    @property
    def length(self) -> int:
        """Length of a flat update."""
        return self.slots[-1].stop

    @property
    def families(self) -> tuple[str, ...]:
        """The different families of its slots, in the order they appear."""
        return tuple(dict.fromkeys(slot.family for slot in self.slots))

    def parts(self, update: Any) -> Iterator[tuple[Slot, Any]]:
        """Each slot with its stretch of a flat update, which is not copied."""
        for slot in self.slots:
            yield slot, update[slot.offset : slot.stop]
