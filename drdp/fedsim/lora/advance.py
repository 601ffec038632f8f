"""Optimiser steps of many clients at once, on rows of a flat stack."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, final

import torch
from torch import Tensor

from drdp.fedsim.lora.local import LocalOptimiser

__all__ = ["Advance", "optimiser_of"]


class Advance(Protocol):
    """Moves the first rows of a stack of parameters along their gradients."""

    def step(self, parameters: Tensor, gradients: Tensor) -> None:
        """Advance in place; every call is the next step of these rows."""
        ...


@final
class _AdamW:
    """`torch.optim.AdamW` for each row on its own (Loshchilov and Hutter 2019)."""

    def __init__(self, settings: LocalOptimiser, stack: Tensor, rates: Tensor) -> None:
        self._settings = settings
        self._rates = rates
        self._mean = torch.zeros_like(stack)
        self._square = torch.zeros_like(stack)
        self._steps = 0

    def step(self, parameters: Tensor, gradients: Tensor) -> None:
        self._steps += 1
        settings, active = self._settings, len(parameters)
        first, second = settings.betas
        rates = self._rates[:active]
        mean, square = self._mean[:active], self._square[:active]
        parameters.mul_(1.0 - rates * settings.weight_decay)
        mean.lerp_(gradients, 1.0 - first)
        square.mul_(second).addcmul_(gradients, gradients, value=1.0 - second)
        # The gradient is spent: its room takes the denominator.
        torch.sqrt(square, out=gradients)
        gradients.div_(math.sqrt(1.0 - second**self._steps)).add_(settings.eps)
        torch.div(mean, gradients, out=gradients)
        gradients.mul_(rates / (1.0 - first**self._steps))
        parameters.sub_(gradients)


@final
class _Sgd:
    """`torch.optim.SGD` without momentum for each row on its own."""

    def __init__(self, settings: LocalOptimiser, rates: Tensor) -> None:
        self._decay = settings.weight_decay
        self._rates = rates

    def step(self, parameters: Tensor, gradients: Tensor) -> None:
        if self._decay:
            gradients.add_(parameters, alpha=self._decay)
        parameters.sub_(gradients.mul_(self._rates[: len(parameters)]))


def optimiser_of(
    settings: LocalOptimiser, stack: Tensor, clients: Sequence[int]
) -> Advance:
    """A fresh optimiser for the rows of `stack`, which belong to `clients`.

    Args:
        settings: The clients' optimiser.
        stack: Parameters, shape (clients, n).
        clients: The number of each row's client, for its step size.

    A call may pass fewer rows than the one before, the first ones; a row that
    has been left out is finished.
    """
    rates = torch.tensor(
        [[settings.rate(client)] for client in clients],
        dtype=stack.dtype,
        device=stack.device,
    )
    if settings.name == "sgd":
        return _Sgd(settings, rates)
    return _AdamW(settings, stack, rates)
