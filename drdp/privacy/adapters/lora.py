"""Whether a LoRA adapter really learns: the failure that nothing else shows.

LoRA's second factor B starts at 0 and the base model is frozen, so a B that
learns nothing leaves the model what it was, while loss and epsilon look
healthy.  It happens where an optimiser was made before the adapter, where
wrapping lost the hooks that make per-example gradients, or where a checkpoint
was loaded under other names.  With differential privacy the noise moves B all
the same, so that `guard_moves` looks at the gradients beneath the noise too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import torch

from drdp import _check
from drdp.errors import InvalidArgumentError, UntrainedWeightsError

__all__ = ["MoveGuard", "bare_optimizer", "guard_moves"]


def bare_optimizer(optimizer: Any) -> torch.optim.Optimizer:
    """The optimiser that changes the parameters, inside Opacus' and Accelerate's."""
    for _ in range(8):
        inner = getattr(optimizer, "original_optimizer", None)
        if inner is None:
            inner = getattr(optimizer, "optimizer", None)
        if inner is None:
            break
        optimizer = inner
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise InvalidArgumentError(
            f"optimizer must be a torch optimizer, got {type(optimizer).__name__}"
        )
    return optimizer


@final
class MoveGuard:
    """Watches the weights named ``lora_B`` through the first steps.

    Args:
        model: The model that holds the adapter.
        optimizer: What trains it, wrapped or not.
        steps: After how many steps every one of them must have moved, on a
            gradient that is not 0 before noise.  A step on an empty batch counts
            for a twentieth.
    """

    def __init__(self, model: torch.nn.Module, optimizer: Any, *, steps: int = 5):
        self.steps = _check.count(least=1, steps=steps)
        self._watched = {
            name: weight
            for name, weight in model.named_parameters()
            if "lora_B" in name
        }
        if not self._watched:
            raise InvalidArgumentError(
                "model must have weights named lora_B; wrap it with peft's"
                " get_peft_model first"
            )
        bare = bare_optimizer(optimizer)
        self._trained = [p for group in bare.param_groups for p in group["params"]]
        trained = set(map(id, self._trained))
        self._refuse(
            "are not trained: frozen, or unknown to the optimizer, which must be"
            " made after the adapter",
            lambda name, weight: not weight.requires_grad or id(weight) not in trained,
        )
        self._before = {n: w.detach().clone() for n, w in self._watched.items()}
        self._signal: set[str] = set()
        self._made = self._full = 0
        self._hooks = [
            bare.register_step_pre_hook(self._look),
            bare.register_step_post_hook(self._count),
        ]

    @property
    def watching(self) -> bool:
        """Whether it has not seen enough yet."""
        return bool(self._hooks)

    def close(self) -> None:
        """Stop watching."""
        while self._hooks:
            self._hooks.pop().remove()

    def check(self) -> None:
        """Raise if a step was made and something did not move.

        Raises:
            UntrainedWeightsError: Naming the weights.
        """
        if self._made == 0:
            return
        self._refuse(
            f"had no gradient in {self._made} steps, whatever the noise did to them:"
            " wrap the model again so that per-example gradients reach the adapter",
            lambda name, _: name not in self._signal,
        )
        self._refuse(
            f"did not move in {self._made} steps: look at the learning rate, and at"
            " whether the optimizer holds these very weights",
            lambda name, weight: bool((weight == self._before[name]).all()),
        )

    def _look(self, *_: Any) -> None:
        self._signal |= {n for n, w in self._watched.items() if _learns(w)}
        if _examples(self._trained[0]) > 1 or any(map(_learns, self._trained)):
            self._full += 1

    def _count(self, *_: Any) -> None:
        self._made += 1
        if self._full + (self._made - self._full) / 20 >= self.steps:
            self.close()
            self.check()

    def _refuse(self, what: str, fails: Any) -> None:
        failed = [name for name, w in self._watched.items() if fails(name, w)]
        if failed:
            raise UntrainedWeightsError(
                f"{len(failed)} of {len(self._watched)} LoRA weights {what}"
                f" (first: {failed[0]})"
            )


def _learns(weight: torch.Tensor) -> bool:
    """Whether it has a gradient beneath the noise."""
    clean = getattr(weight, "summed_grad", None)  # Opacus keeps it there
    found = weight.grad if clean is None else clean
    return found is not None and bool(found.any())


def _examples(weight: torch.Tensor) -> int:
    """How many examples the step is about; 2 where nobody says.

    One may be a stand-in for an empty batch.
    """
    found = getattr(weight, "grad_sample", None)
    if found is None:
        return 2
    return sum(map(len, found)) if isinstance(found, list) else len(found)


@contextmanager
def guard_moves(
    model: torch.nn.Module, optimizer: Any, *, steps: int = 5
) -> Iterator[MoveGuard]:
    """Train inside it: raises as soon as it is clear that LoRA does not learn.

    Args:
        model: The model that holds the adapter.
        optimizer: What trains it; Opacus' and Accelerate's wrappers are seen
            through.
        steps: By which step every LoRA B must have moved.  A few, because the
            first step may have a learning rate of 0 or an empty batch.

    Raises:
        UntrainedWeightsError: At entry if a weight is not trained at all, at step
            `steps`, or at exit after fewer.
    """
    guard = MoveGuard(model, optimizer, steps=steps)
    try:
        yield guard
        if guard.watching:
            guard.check()
    finally:
        guard.close()
