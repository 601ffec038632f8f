"""Where each LoRA factor lies in the flat vector of trainable parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from drdp.errors import InvalidArgumentError
from drdp.fedsim.local import LoraShape

__all__ = ["Layout", "Place"]

_PREFIX = "base_model.model."


@final
@dataclass(frozen=True, slots=True)
class Place:
    """The factors of one linear layer.

    Args:
        module: The layer's name in the model.
        inputs: Its input width.
        outputs: Its output width.
        a: Where A, shape (rank, inputs), begins: in the flat vector, or among
            the frozen factors where only B is trained.
        b: Where B, shape (outputs, rank), begins in the flat vector.
    """

    module: str
    inputs: int
    outputs: int
    a: int
    b: int


@final
@dataclass(frozen=True, slots=True)
class Layout:
    """Every factor's place, in the order of the model's modules, A before B.

    Args:
        places: The adapted layers.
        rank: The rank r of every factor.
        scale: What B A x is multiplied with: alpha / rank.
        freeze_a: Whether A stays as it was drawn (FFA-LoRA; Sun et al. 2024,
            arXiv:2403.12313) and B alone is trained.
    """

    places: tuple[Place, ...]
    rank: int
    scale: float
    freeze_a: bool = False

    @staticmethod
    def of(model: nn.Module, shape: LoraShape) -> Layout:
        """The layout of the model's targeted layers, as `Adapter` has it.

        Raises:
            InvalidArgumentError: A target is missing, or is no `nn.Linear`.
        """
        rank, freeze_a = shape.rank, shape.freeze_a
        places: list[Place] = []
        a = b = 0
        for name, module in model.named_modules():
            if name.rpartition(".")[2] not in shape.targets:
                continue
            if not isinstance(module, nn.Linear):
                raise InvalidArgumentError(
                    f"targets must be linear layers, but {name} is a "
                    f"{type(module).__name__}"
                )
            width, height = module.in_features, module.out_features
            if freeze_a:
                places.append(Place(name, width, height, a, b))
                a, b = a + rank * width, b + rank * height
            else:
                places.append(Place(name, width, height, b, b + rank * width))
                b += rank * (width + height)
        found = {place.module.rpartition(".")[2] for place in places}
        if missing := [target for target in shape.targets if target not in found]:
            raise InvalidArgumentError(
                f"the model has no layer named {', '.join(missing)}; name its "
                "linear layers with targets="
            )
        return Layout(tuple(places), rank, shape.alpha / rank, freeze_a)

    @property
    def length(self) -> int:
        """Length of the flat vector."""
        last = self.places[-1]
        return last.b + last.outputs * self.rank

    @property
    def frozen_length(self) -> int:
        """Length of the factors that are drawn once and stay: A, or nothing."""
        last = self.places[-1]
        return last.a + last.inputs * self.rank if self.freeze_a else 0

    def a(self, flat: Tensor, place: Place) -> Tensor:
        """A of every client as a view, (clients, rank, inputs) of (clients, n)."""
        size = self.rank * place.inputs
        return flat[:, place.a : place.a + size].view(-1, self.rank, place.inputs)

    def b(self, flat: Tensor, place: Place) -> Tensor:
        """B of every client as a view, (clients, outputs, rank) of (clients, n)."""
        size = self.rank * place.outputs
        return flat[:, place.b : place.b + size].view(-1, place.outputs, self.rank)

    def drawn(self, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The flat vector that training starts from, and the frozen factors.

        The same numbers as `Adapter` draws: A uniform on +-1/sqrt(inputs), B zero.

        Returns:
            Shapes (length,) and (frozen_length,), float32.
        """
        generator = torch.Generator().manual_seed(seed)
        flat, frozen = torch.zeros(1, self.length), torch.zeros(1, self.frozen_length)
        home = frozen if self.freeze_a else flat
        for place in self.places:
            own = self.a(home, place)[0]
            start = torch.rand(own.shape, generator=generator)
            own.copy_((2.0 * start - 1.0) / math.sqrt(place.inputs))
        return flat[0].numpy(), frozen[0].numpy()

    def state(
        self, flat: NDArray[np.float32], frozen: NDArray[np.float32] | None = None
    ) -> dict[str, Tensor]:
        """A flat vector under the names of peft's adapter files."""
        home = frozen if self.freeze_a else flat
        if home is None:
            raise InvalidArgumentError("frozen must be given where only B is trained")
        own, drawn = torch.from_numpy(flat)[None], torch.from_numpy(home)[None]
        named: dict[str, Tensor] = {}
        for place in self.places:
            start = f"{_PREFIX}{place.module}.lora_"
            named[f"{start}A.weight"] = self.a(drawn, place)[0].clone()
            named[f"{start}B.weight"] = self.b(own, place)[0].clone()
        return named

    def flat(
        self, state: Mapping[str, Tensor]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The inverse of `state`: the flat vector and the frozen factors."""
        flat = np.zeros(self.length, dtype=np.float32)
        frozen = np.zeros(self.frozen_length, dtype=np.float32)
        home = torch.from_numpy(frozen if self.freeze_a else flat)[None]
        own = torch.from_numpy(flat)[None]
        for place in self.places:
            start = f"{_PREFIX}{place.module}.lora_"
            self.a(home, place)[0].copy_(state[f"{start}A.weight"].detach())
            self.b(own, place)[0].copy_(state[f"{start}B.weight"].detach())
        return flat, frozen
