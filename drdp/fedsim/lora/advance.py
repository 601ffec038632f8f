"""Optimiser steps of many clients at once, on rows of a flat stack."""

from __future__ import annotations

import math
from typing import Final, Protocol, final

import torch
from torch import Tensor

from drdp.fedsim.local import LocalSteps

__all__ = ["Advance", "optimiser_of"]

_BETAS: Final = (0.9, 0.999)  # torch.optim.AdamW's own
_EPS: Final = 1e-8


class Advance(Protocol):
    """Moves the first rows of a stack of parameters along their gradients."""

    def step(self, parameters: Tensor, gradients: Tensor) -> None:
        """Advance in place; every call is the next step of these rows."""
        ...


@final
class _AdamW:
    """`torch.optim.AdamW` for each row on its own (Loshchilov and Hutter 2019)."""

    def __init__(self, settings: LocalSteps, stack: Tensor, rates: Tensor) -> None:
        self._settings = settings
        self._rates = rates
        self._mean = torch.zeros_like(stack)
        self._square = torch.zeros_like(stack)
        self._steps = 0

    def step(self, parameters: Tensor, gradients: Tensor) -> None:
        self._steps += 1
        settings, active = self._settings, len(parameters)
        first, second, eps = _BETAS[0], _BETAS[1], _EPS
        rates = self._rates[:active]
        mean, square = self._mean[:active], self._square[:active]
        parameters.mul_(1.0 - rates * settings.weight_decay)
        mean.lerp_(gradients, 1.0 - first)
        square.mul_(second).addcmul_(gradients, gradients, value=1.0 - second)
        # The gradient is spent: its room takes the denominator.
        torch.sqrt(square, out=gradients)
        gradients.div_(math.sqrt(1.0 - second**self._steps)).add_(eps)
        torch.div(mean, gradients, out=gradients)
        gradients.mul_(rates / (1.0 - first**self._steps))
        parameters.sub_(gradients)


@final
class _Sgd:
    """`torch.optim.SGD` without momentum for each row on its own."""

    def __init__(self, settings: LocalSteps, rates: Tensor) -> None:
        self._decay = settings.weight_decay
        self._rates = rates

    def step(self, parameters: Tensor, gradients: Tensor) -> None:
        if self._decay:
            gradients.add_(parameters, alpha=self._decay)
        parameters.sub_(gradients.mul_(self._rates[: len(parameters)]))


def optimiser_of(steps: LocalSteps, stack: Tensor, rates: Tensor) -> Advance | None:
    """A fresh optimiser for the rows of a stack; none if the update is the gradient.

    A call of `step` may pass fewer rows than the one before, the first ones; a row
    that has been left out is finished.

    Args:
        steps: The clients' optimiser.
        stack: Parameters, shape (clients, n).
        rates: Each row's learning rate, shape (clients, 1).
    """
    match steps.optimiser:
        case "adamw":
            return _AdamW(steps, stack, rates)
        case "sgd":
            return _Sgd(steps, rates)
        case _:
            return None
