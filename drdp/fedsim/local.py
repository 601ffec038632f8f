"""What a client trains and how: the adapter's shape, and its local steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

from drdp import _check
from drdp.errors import InvalidArgumentError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["LocalSteps", "LoraShape", "Optimiser", "Precision", "batches"]

Optimiser = Literal["adamw", "sgd", "gradient"]
Precision = Literal["auto", "float32", "bfloat16"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LoraShape:
    """A low-rank adapter: W + (alpha / rank) B A on every targeted linear layer.

    Args:
        rank: Rows of A and columns of B.
        alpha: Scale of the product before it is divided by the rank.
        targets: Last parts of the names of the layers that get one.
        freeze_a: Train B alone and leave A at its seeded random start (FFA-LoRA);
            the flat vector then holds B alone.
        seed: Decides the start of A, which is public.

    References: Hu et al., arXiv:2106.09685; Sun et al., arXiv:2403.12313 (FFA-LoRA).

    >>> LoraShape().targets
    ('q_proj', 'k_proj', 'v_proj', 'o_proj')
    """

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    freeze_a: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        _check.count(rank=self.rank, least=1)
        _check.positive(alpha=self.alpha)
        _check.count(seed=self.seed)
        targets: object = self.targets
        if not isinstance(targets, tuple) or not targets:
            raise InvalidArgumentError(
                "targets must be a tuple of layer names such as ('q_proj', 'v_proj'),"
                f" got {self.targets!r}"
            )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSteps:
    """What one client does with the parameters it is sent.

    Args:
        optimiser: ``"adamw"``, ``"sgd"``, or ``"gradient"``: no step, the update is
            minus the gradient of the mean loss over the client's first batch.
        learning_rate: Of AdamW and SGD; ``"gradient"`` has step size 1.
        steps: How many batches; give this or `epochs`.
        epochs: How often to go through the client's examples.
        batch_size: Examples per step; a client with fewer uses all it has.
        weight_decay: Of AdamW and SGD.
        precision: Of the matrix products: ``"bfloat16"`` by autocast, the adapter
            always in float32; ``"auto"`` takes bfloat16 where it is faster.

    >>> LocalSteps(epochs=2).batch_count(examples=10)
    6
    """

    optimiser: Optimiser = "adamw"
    learning_rate: float = 1.5e-4
    steps: int | None = None
    epochs: int | None = None
    batch_size: int = 4
    weight_decay: float = 0.0
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        if self.optimiser not in {"adamw", "sgd", "gradient"}:
            raise InvalidArgumentError(
                "optimiser must be 'adamw', 'sgd' or 'gradient',"
                f" got {self.optimiser!r}"
            )
        if self.precision not in {"auto", "float32", "bfloat16"}:
            raise InvalidArgumentError(
                "precision must be 'auto', 'float32' or 'bfloat16',"
                f" got {self.precision!r}"
            )
        _check.positive(learning_rate=self.learning_rate)
        _check.at_least_zero(weight_decay=self.weight_decay)
        _check.count(batch_size=self.batch_size, least=1)
        if self.steps is not None and self.epochs is not None:
            raise InvalidArgumentError("give steps or epochs, not both")
        if self.optimiser == "gradient" and (self.steps or 1, self.epochs) != (1, None):
            raise InvalidArgumentError(
                "optimiser 'gradient' takes one batch: leave steps and epochs out"
            )
        if self.steps is not None:
            _check.count(steps=self.steps, least=1)
        if self.epochs is not None:
            _check.count(epochs=self.epochs, least=1)

    def batch_count(self, examples: int) -> int:
        """How many batches a client with that many examples goes through."""
        if self.optimiser == "gradient":
            return 1
        if self.epochs is not None:
            return self.epochs * -(-examples // self.batch_size)
        return 4 if self.steps is None else self.steps


def batches(
    examples: int, steps: LocalSteps, *, client: int, seed: int
) -> list[NDArray[np.int64]]:
    """Which of its examples a client uses in each local step.

    Each pass over the examples has its own random order; its last batch may be
    short.  The order depends on the seed and the client's number alone, so every
    engine that trains the client takes the same steps.

    >>> steps = LocalSteps(steps=3, batch_size=2)
    >>> [len(batch) for batch in batches(3, steps, client=7, seed=1)]
    [2, 1, 2]
    """
    import numpy as np

    wanted = steps.batch_count(_check.count(examples=examples, least=1))
    rng = np.random.default_rng([_check.count(seed=seed), _check.count(client=client)])
    found: list[NDArray[np.int64]] = []
    while len(found) < wanted:
        order = rng.permutation(examples)
        places = range(0, examples, steps.batch_size)
        found += [order[place : place + steps.batch_size] for place in places]
    return found[:wanted]
