"""The trainer that a run uses: many clients at once where the model allows it.

Updates come from the packed engine where it takes the model, else from peft, one
client after another; evaluation, and the adapter's files, are always peft's.
Both compute the same function of (parameters, client, seed), to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, final

import numpy as np
import torch

from drdp.errors import TrainingError
from drdp.fedsim.evaluation import HeldOutLoss
from drdp.fedsim.examples import Example
from drdp.fedsim.local import LocalSteps, LoraShape
from drdp.fedsim.lora.adapter import Slot, start_factors
from drdp.fedsim.lora.layout import Layout
from drdp.fedsim.lora.llama_weights import why_not_packed
from drdp.fedsim.lora.local import ClientRows, LocalOptimiser, SingleStep
from drdp.fedsim.lora.packed import PackedLlama
from drdp.fedsim.lora.rows import Row
from drdp.fedsim.lora.scoring import Scorer, prefers_bfloat16
from drdp.fedsim.lora.together import StackedTrainer
from drdp.fedsim.lora.trainer import LoraTrainer
from drdp.fedsim.models import LanguageModel
from drdp.fedsim.partition import Partition
from drdp.fedsim.trainer import Update

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Clients", "clients_of"]


@final
class Clients:
    """Clients of a LoRA federation; make them with `clients_of`.

    Args:
        one_by_one: Trains with peft, evaluates and saves.
        together: Trains many at once; None where the model does not allow it.
    """

    def __init__(
        self, one_by_one: LoraTrainer, together: StackedTrainer | None
    ) -> None:
        self._peft, self._together = one_by_one, together

    @property
    def num_clients(self) -> int:
        """How many clients there are."""
        return self._peft.num_clients

    @property
    def num_parameters(self) -> int:
        """Length of the flat vector."""
        return self._peft.num_parameters

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Where each adapter tensor lies in the flat vector, by peft's key."""
        return self._peft.slots

    @property
    def at_once(self) -> bool:
        """Whether clients train together."""
        return self._together is not None

    @property
    def precision(self) -> str:
        """Of the matrix products."""
        return self._peft.precision

    def initial(self) -> NDArray[np.float32]:
        """The parameters that training starts from: A seeded, B zero."""
        return self._peft.initial()

    def updates(
        self, parameters: NDArray[np.float32], clients: Sequence[int], seed: int
    ) -> Iterator[Update]:
        """One update per client, in order; memory does not grow with the cohort.

        Raises:
            TrainingError: An update is not finite; nothing is yielded for it.
        """
        if self._together is None:
            yield from self._peft.updates(parameters, clients, seed)
            return
        for update in self._together.updates(parameters, clients, seed):
            if not np.isfinite(update.delta).all():
                raise TrainingError(
                    f"client {update.client} gave an update that is not finite (mean"
                    f" loss {update.loss}); lower local.learning_rate or the server's"
                    " step"
                )
            yield update

    def measure(self, parameters: NDArray[np.float32]) -> HeldOutLoss:
        """The loss of each held-out response."""
        return self._peft.measure(parameters)

    def evaluate(self, parameters: NDArray[np.float32]) -> Mapping[str, float]:
        """Loss per response token and perplexity on the held-out examples."""
        return self._peft.evaluate(parameters)

    def scorer(self, parameters: NDArray[np.float32]) -> Scorer:
        """The model with these parameters, until others are loaded."""
        return self._peft.scorer(parameters)

    def save_adapter(self, parameters: NDArray[np.float32], folder: str | Path) -> None:
        """Write the adapter in peft's own format."""
        self._peft.save_adapter(parameters, folder)


def clients_of(
    language: LanguageModel,
    examples: Sequence[Example],
    clients: Partition,
    *,
    held_out: Sequence[Example] = (),
    shape: LoraShape,
    steps: LocalSteps,
    at_once: int | Literal["auto"] = "auto",
) -> Clients:
    """The clients of a model and a partition.

    Args:
        language: The model; it gets the adapter and belongs to the clients.
        examples: What the clients hold.
        clients: Per client, the places of its examples.
        held_out: Public examples for evaluation.
        shape: The adapter.
        steps: The local steps.
        at_once: How many clients advance together, ``"auto"`` for as many as fit
            in memory; 1 trains them one by one with peft.
    """
    engine = layout = None
    if at_once != 1 and not why_not_packed(language.model):
        layout = Layout.of(
            language.model,
            rank=shape.rank,
            alpha=shape.alpha,
            targets=shape.targets,
            only_b=shape.freeze_a,
        )
        precise = steps.precision == "float32" or (
            steps.precision == "auto" and not prefers_bfloat16(language.model)
        )
        engine = PackedLlama(
            language.model, layout, frozen=_frozen(layout, shape), bf16=not precise
        )
    peft = LoraTrainer(
        language, examples, clients, held_out=held_out, shape=shape, steps=steps
    )
    if engine is None or layout is None or not _alike(layout, peft.slots):
        return Clients(peft, None)
    rows = [_row(example) for example in examples]
    settings: LocalOptimiser | SingleStep = SingleStep()
    if steps.optimiser != "gradient":
        settings = LocalOptimiser(
            name=steps.optimiser,
            learning_rate=steps.learning_rate,
            weight_decay=steps.weight_decay,
        )
    data = ClientRows(
        [[rows[place] for place in places.tolist()] for places in clients],
        batch_size=steps.batch_size,
        steps=None if steps.epochs is not None else steps.batch_count(1),
        epochs=steps.epochs,
    )
    together = StackedTrainer(
        engine,
        data,
        initial=peft.initial(),
        optimiser=settings,
        clients_at_once="auto" if at_once == "auto" else int(at_once),
    )
    return Clients(peft, together)


def _frozen(layout: Layout, shape: LoraShape) -> torch.Tensor | None:
    """A of every layer as peft's adapter will have it, where it stays."""
    if not layout.only_b:
        return None
    drawn = [
        (f"{slot.module}.lora_A.weight", torch.empty(layout.rank, slot.inputs))
        for slot in layout.slots
    ]
    start_factors(drawn, shape.seed)
    return torch.cat([tensor.reshape(-1) for _, tensor in drawn])


def _alike(layout: Layout, slots: Sequence[Slot]) -> bool:
    """Whether both engines lay the flat vector out in the same way."""
    ours = {
        f"base_model.model.{slot.module}.lora_{factor}.weight": offset
        for slot in layout.slots
        for factor, offset in (("A", slot.a), ("B", slot.b))
        if factor == "B" or not layout.only_b
    }
    return ours == {slot.key: slot.offset for slot in slots}


def _row(example: Example) -> Row:
    tokens, labels = example.tokens, example.labels
    return Row(tokens.astype(np.int64), labels.astype(np.int64))
