"""The networks of the autoencoders, in torch.

Nothing in them looks beyond one update: no batch statistics, no dropout, no
state that an update would change.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn

from drdp.compression.designs import (
    BlockDesign,
    ConvDesign,
    Design,
    Normalisation,
)

__all__ = ["BlockNetwork", "ConvNetwork", "network"]


@final
class ConvNetwork(nn.Module):
    """Strided convolutions and residual blocks, and their mirror image.

    The architecture is that of CG-FedLLM (arXiv:2405.13746, appendix): reflection
    padding and a 3x3 convolution, `halvings` strided ones, residual blocks; the
    same backwards, a 7x7 convolution and tanh.
    """

    def __init__(self, design: ConvDesign, update_length: int) -> None:
        super().__init__()
        self.update_length = update_length
        self.plane = design.plane(update_length)
        self.channels = design.channels
        self.small = tuple(side >> design.halvings for side in self.plane)
        kind, widths = design.normalisation, (1, *design.widths)
        last = widths[-1]
        down: list[nn.Module] = [
            nn.ReflectionPad2d(1),
            nn.Conv2d(1, 1, 3, bias=False),
            _norm(kind, 1),
            nn.ReLU(),
        ]
        up: list[nn.Module] = []
        for before, after in pairwise(widths):
            down += [
                nn.Conv2d(before, after, 3, stride=2, padding=1),
                _norm(kind, after),
                nn.ReLU(),
            ]
        for before, after in pairwise(widths[::-1]):
            up += [
                nn.ConvTranspose2d(
                    before, after, 3, stride=2, padding=1, output_padding=1
                ),
                _norm(kind, after),
                nn.ReLU(),
            ]
        up += [nn.ReflectionPad2d(3), nn.Conv2d(1, 1, 7), nn.Tanh()]
        count = design.residual_blocks
        self.encoder = nn.Sequential(
            *down, *(_Residual(last, kind) for _ in range(count))
        )
        self.decoder = nn.Sequential(
            *(_Residual(last, kind) for _ in range(count)), *up
        )

    def encode(self, updates: Tensor) -> Tensor:
        """Codes, shape (n, code_length), of updates, shape (n, update_length)."""
        height, width = self.plane
        padded = nn.functional.pad(updates, (0, height * width - self.update_length))
        code: Tensor = self.encoder(padded.view(-1, 1, height, width))
        return code.flatten(1)

    def decode(self, codes: Tensor) -> Tensor:
        """Updates of codes."""
        small = codes.view(-1, self.channels, *self.small)
        plane: Tensor = self.decoder(small)
        return plane.flatten(1)[:, : self.update_length]


@final
class BlockNetwork(nn.Module):
    """One linear map or one hidden layer for each stretch of an update.

    Weights are kept as ``sqrt(inputs)`` times what they act as, so that a step of
    Adam changes them by the same share whatever their number.
    """

    def __init__(self, design: BlockDesign, update_length: int) -> None:
        super().__init__()
        self.update_length = update_length
        self.blocks, self.width, self.code = design.shape(update_length)
        sizes = [self.width, self.code]
        if design.hidden:
            sizes.insert(1, design.hidden)
        self.encoder = nn.ParameterList(self._weights(sizes))
        # The decoder starts as the encoder's transpose.
        self.decoder = nn.ParameterList(
            weight.detach().transpose(1, 2).clone() for weight in self.encoder[::-1]
        )
        self.scales = [1.0 / math.sqrt(size) for size in sizes[:-1]]

    def _weights(self, sizes: list[int]) -> list[Tensor]:
        """Random orthonormal columns, or rows where those are fewer."""
        found = []
        for inputs, outputs in pairwise(sizes):
            drawn = torch.randn(self.blocks, max(inputs, outputs), min(inputs, outputs))
            columns: Tensor = torch.linalg.qr(drawn).Q
            if outputs > inputs:
                columns = columns.transpose(1, 2)
            found.append(columns.contiguous() * math.sqrt(inputs))
        return found

    def matrices(self) -> Tensor:
        """What the encoder multiplies blocks by, where it has one layer."""
        weight: Tensor = self.encoder[0].detach() * self.scales[0]
        return weight

    def decoder_norm(self) -> float:
        """The Frobenius norm of a decoder of one layer, without the padding."""
        weight = self.decoder[0].detach() * self.scales[0]
        rows = weight.transpose(1, 2).flatten(0, 1)[: self.update_length]
        return float(torch.linalg.norm(rows.double()))

    def encode(self, updates: Tensor) -> Tensor:
        """Codes, shape (n, code_length), of updates, shape (n, update_length)."""
        missing = self.blocks * self.width - self.update_length
        padded = nn.functional.pad(updates, (0, missing))
        value = padded.view(-1, self.blocks, self.width).transpose(0, 1)
        value = self._through(value, list(self.encoder), self.scales)
        return value.transpose(0, 1).flatten(1)

    def decode(self, codes: Tensor) -> Tensor:
        """Updates of codes."""
        value = codes.view(-1, self.blocks, self.code).transpose(0, 1)
        value = self._through(value, list(self.decoder), self.scales[::-1])
        return value.transpose(0, 1).flatten(1)[:, : self.update_length]

    @staticmethod
    def _through(value: Tensor, weights: list[Tensor], scales: list[float]) -> Tensor:
        for place, (weight, scale) in enumerate(zip(weights, scales, strict=True)):
            if place:
                value = nn.functional.gelu(value)
            value = torch.bmm(value, weight) * scale
        return value


def network(
    design: Design, update_length: int, seed: int
) -> ConvNetwork | BlockNetwork:
    """A fresh network; torch's own random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(design, ConvDesign):
            return ConvNetwork(design, update_length)
        return BlockNetwork(design, update_length)


@final
class _Residual(nn.Module):
    """x plus two convolutions of it."""

    def __init__(self, channels: int, kind: Normalisation) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            _Padded(channels), _norm(kind, channels), nn.ReLU(),
            _Padded(channels), _norm(kind, channels),
        )  # fmt: skip

    def forward(self, value: Tensor) -> Tensor:
        """The sum."""
        answer: Tensor = value + self.inner(value)
        return answer


@final
class _Padded(nn.Module):
    """A 3x3 convolution that keeps the size, by reflection where that can be."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 3)

    def forward(self, value: Tensor) -> Tensor:
        """The convolution."""
        # A side of one has nothing to reflect.
        mode = "reflect" if min(value.shape[-2:]) > 1 else "replicate"
        padded = nn.functional.pad(value, (1, 1, 1, 1), mode=mode)
        answer: Tensor = self.convolution(padded)
        return answer


def _norm(kind: Normalisation, channels: int) -> nn.Module:
    if kind is Normalisation.NONE:
        return nn.Identity()
    return nn.GroupNorm(channels // 8 if channels % 8 == 0 else 1, channels)
