"""Where each LoRA factor lies in the flat vector of trainable parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from drdp import _check
from drdp.errors import InvalidArgumentError

__all__ = ["DEFAULT_TARGETS", "Layout", "Slot"]

DEFAULT_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")
_PREFIX = "base_model.model."


@final
@dataclass(frozen=True, slots=True)
class Slot:
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
        slots: The adapted layers.
        rank: The rank r of every factor.
        scale: What B A x is multiplied with: alpha / rank.
        only_b: Whether A stays as it was drawn (FFA-LoRA; Sun et al. 2024,
            arXiv:2403.12313) and B alone is trained.
    """

    slots: tuple[Slot, ...]
    rank: int
    scale: float
    only_b: bool = False

    @staticmethod
    def of(
        model: nn.Module,
        *,
        rank: int = 8,
        alpha: float = 16.0,
        targets: Sequence[str] = DEFAULT_TARGETS,
        only_b: bool = False,
    ) -> Layout:
        """The layout of a model's layers whose last name is in `targets`.

        Raises:
            InvalidArgumentError: A target is missing, or is no `nn.Linear`.
        """
        rank = _check.count(least=1, rank=rank)
        alpha = _check.positive(alpha=alpha)
        slots: list[Slot] = []
        a = b = 0
        for name, module in model.named_modules():
            if name.rpartition(".")[2] not in targets:
                continue
            if not isinstance(module, nn.Linear):
                raise InvalidArgumentError(
                    f"targets must be linear layers, but {name} is a "
                    f"{type(module).__name__}"
                )
            width, height = module.in_features, module.out_features
            if only_b:
                slots.append(Slot(name, width, height, a, b))
                a, b = a + rank * width, b + rank * height
            else:
                slots.append(Slot(name, width, height, b, b + rank * width))
                b += rank * (width + height)
        found = {slot.module.rpartition(".")[2] for slot in slots}
        if missing := [target for target in targets if target not in found]:
            raise InvalidArgumentError(
                f"the model has no layer named {', '.join(missing)}; name its "
                "linear layers with targets="
            )
        return Layout(tuple(slots), rank, alpha / rank, only_b)

    @property
    def length(self) -> int:
        """Length of the flat vector."""
        last = self.slots[-1]
        return last.b + last.outputs * self.rank

    @property
    def frozen_length(self) -> int:
        """Length of the factors that are drawn once and stay: A, or nothing."""
        last = self.slots[-1]
        return last.a + last.inputs * self.rank if self.only_b else 0

    def a(self, flat: Tensor, slot: Slot) -> Tensor:
        """A of every client as a view, (clients, rank, inputs) of (clients, n)."""
        size = self.rank * slot.inputs
        return flat[:, slot.a : slot.a + size].view(-1, self.rank, slot.inputs)

    def b(self, flat: Tensor, slot: Slot) -> Tensor:
        """B of every client as a view, (clients, outputs, rank) of (clients, n)."""
        size = self.rank * slot.outputs
        return flat[:, slot.b : slot.b + size].view(-1, slot.outputs, self.rank)

    def drawn(self, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The flat vector that training starts from, and the frozen factors.

        A is uniform on [-1/sqrt(inputs), 1/sqrt(inputs)] as in peft, B is zero.

        Returns:
            Shapes (length,) and (frozen_length,), float32.
        """
        rng = np.random.default_rng(seed)
        flat = np.zeros(self.length, dtype=np.float32)
        frozen = np.zeros(self.frozen_length, dtype=np.float32)
        home = frozen if self.only_b else flat
        for slot in self.slots:
            size = self.rank * slot.inputs
            reach = 1.0 / math.sqrt(slot.inputs)
            home[slot.a : slot.a + size] = rng.uniform(-reach, reach, size)
        return flat, frozen

    def state(
        self, flat: NDArray[np.float32], frozen: NDArray[np.float32] | None = None
    ) -> dict[str, Tensor]:
        """A flat vector under the names of peft's adapter files."""
        home = frozen if self.only_b else flat
        if home is None:
            raise InvalidArgumentError("frozen must be given where only B is trained")
        own, drawn = torch.from_numpy(flat)[None], torch.from_numpy(home)[None]
        named: dict[str, Tensor] = {}
        for slot in self.slots:
            start = f"{_PREFIX}{slot.module}.lora_"
            named[f"{start}A.weight"] = self.a(drawn, slot)[0].clone()
            named[f"{start}B.weight"] = self.b(own, slot)[0].clone()
        return named

    def flat(
        self, state: Mapping[str, Tensor]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The inverse of `state`: the flat vector and the frozen factors."""
        flat = np.zeros(self.length, dtype=np.float32)
        frozen = np.zeros(self.frozen_length, dtype=np.float32)
        home = torch.from_numpy(frozen if self.only_b else flat)[None]
        own = torch.from_numpy(flat)[None]
        for slot in self.slots:
            start = f"{_PREFIX}{slot.module}.lora_"
            self.a(home, slot)[0].copy_(state[f"{start}A.weight"].detach())
            self.b(own, slot)[0].copy_(state[f"{start}B.weight"].detach())
        return flat, frozen
