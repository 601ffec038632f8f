"""The shapes of autoencoders: how an update becomes a code of which length.

>>> paper = ConvDesign()
>>> paper.plane(8_388_608), paper.code_length(8_388_608)
((4096, 2048), 131072)
>>> BlockDesign(64).shape(368_640)
(4, 92160, 16)
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, final

from drdp import _check
from drdp.errors import InvalidArgumentError

__all__ = [
    "BlockDesign",
    "ConvDesign",
    "Design",
    "Normalisation",
    "design_from",
    "design_to",
]

_MOST_PARAMETERS = 1 << 24


class Normalisation(StrEnum):
    """What stands where the paper's network has batch normalisation.

    - ``GROUP``: group normalisation, over one update alone.  It divides the
      length of an update out, so that a code says its direction only.
    - ``NONE``: nothing.
    """

    GROUP = "group"
    NONE = "none"


@final
@dataclass(frozen=True, slots=True)
class ConvDesign:
    """The convolutional residual network of FedCG and DR-Encoder.

    The update is a plane [1, H, W], row by row and with zeros at the end; each
    of `halvings` strided convolutions halves both sides.  The defaults are those
    of arXiv:2405.13746, where a code is 1/64 of the plane.

    Args:
        halvings: How often both sides are halved.
        channels: Channels of the code; a code is ``channels / 4^halvings`` of
            the plane.
        residual_blocks: Between convolutions and code, and again behind it.
        normalisation: In place of batch normalisation, which would make a
            client's code depend on other clients.
    """

    halvings: int = 6
    channels: int = 64
    residual_blocks: int = 3
    normalisation: Normalisation = Normalisation.GROUP

    def __post_init__(self) -> None:
        _check.count(least=1, halvings=self.halvings)
        _check.count(least=1, channels=self.channels)
        _check.count(residual_blocks=self.residual_blocks)
        try:
            kind = Normalisation(self.normalisation)
        except ValueError:
            raise InvalidArgumentError(
                f"normalisation must be one of {', '.join(Normalisation)},"
                f" got {self.normalisation!r}"
            ) from None
        object.__setattr__(self, "normalisation", kind)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels after each halving: 2, 4, 8, ... and `channels` at last."""
        rising = tuple(2**i for i in range(1, self.halvings))
        return (*rising, self.channels)

    def plane(self, update_length: int) -> tuple[int, int]:
        """Height and width, both multiples of ``2^halvings`` and at least 4."""
        length = _check.count(least=1, update_length=update_length)
        side = max(2**self.halvings, 4)
        width = max(side, 1 << (math.isqrt(length).bit_length() - 1))
        height = -(-length // (width * side)) * side
        return height, width

    def code_length(self, update_length: int) -> int:
        """Length of a code."""
        height, width = self.plane(update_length)
        return self.channels * (height >> self.halvings) * (width >> self.halvings)


@final
@dataclass(frozen=True, slots=True)
class BlockDesign:
    """Separate small networks for consecutive stretches of an update.

    Args:
        numbers: Length of a code; any.
        blocks: How many stretches; divides `numbers`.  By default the fewest
            with which a linear one keeps to some 17 million weights: one stretch
            can learn what all of an update has in common, many can not.
        hidden: Units of a hidden layer (GELU) of each half; 0 is a linear
            autoencoder, whose best is the subspace of the largest variance.
    """

    numbers: int
    blocks: int | None = None
    hidden: int = 0

    def __post_init__(self) -> None:
        numbers = _check.count(least=1, numbers=self.numbers)
        _check.count(hidden=self.hidden)
        if self.blocks is not None:
            blocks = _check.count(least=1, blocks=self.blocks)
            if numbers % blocks:
                raise InvalidArgumentError(
                    f"blocks must divide numbers={numbers}, got {blocks}"
                )

    def shape(self, update_length: int) -> tuple[int, int, int]:
        """Blocks, length of a block of the update, and of the code."""
        length = _check.count(least=1, update_length=update_length)
        blocks = self.blocks
        if blocks is None:
            dividers = (b for b in range(1, self.numbers + 1) if self.numbers % b == 0)
            enough = (
                b
                for b in dividers
                if 2 * length * (self.hidden or self.numbers // b) <= _MOST_PARAMETERS
            )
            blocks = next(enough, self.numbers)
        width, code = -(-length // blocks), self.numbers // blocks
        if code > width:
            raise InvalidArgumentError(
                f"numbers must be at most update_length={length}, got {self.numbers}"
            )
        return blocks, width, code

    def code_length(self, update_length: int) -> int:
        """Length of a code."""
        blocks, _, code = self.shape(update_length)
        return blocks * code


Design = ConvDesign | BlockDesign


def design_to(design: Design) -> dict[str, Any]:
    """A design as JSON values."""
    kind = "conv" if isinstance(design, ConvDesign) else "block"
    return {"kind": kind, **asdict(design)}


def design_from(values: dict[str, Any]) -> Design:
    """A design from JSON values."""
    options = {name: value for name, value in values.items() if name != "kind"}
    return ConvDesign(**options) if values["kind"] == "conv" else BlockDesign(**options)
