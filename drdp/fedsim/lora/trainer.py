"""Local training of LoRA adapters, one client after another, by peft."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np
import torch

from drdp.errors import DataError, InvalidArgumentError
from drdp.fedsim.evaluation import HeldOutLoss
from drdp.fedsim.examples import Example
from drdp.fedsim.local import LocalSteps, LoraShape, batches
from drdp.fedsim.lora.adapter import Adapter, Slot
from drdp.fedsim.lora.scoring import Scorer, prefers_bfloat16, store_bfloat16
from drdp.fedsim.models import LanguageModel
from drdp.fedsim.partition import Partition
from drdp.fedsim.trainer import Update

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LoraTrainer"]


@final
class LoraTrainer:
    """Clients that fine-tune one LoRA adapter from the same flat parameters.

    Nothing is carried from one client or one call to the next: an update is a
    function of the parameters, the client's examples, its number and the seed.

    Args:
        language: The model; it gets the adapter and belongs to this trainer, which
            keeps its frozen layers in bfloat16 if products are.
        examples: What the clients hold.
        clients: Per client, the places of its examples.
        held_out: Public examples for `evaluate`; may be empty.
        shape: The adapter.
        steps: The local steps.

    Guarantees:
        `updates` gives the same numbers whichever clients train before or beside
        one, on the same machine with the same number of threads.

    Raises:
        DataError: No client, a client without examples, or a place out of range.
        ModelError: The model lacks a target layer.
    """

    def __init__(
        self,
        language: LanguageModel,
        examples: Sequence[Example],
        clients: Partition,
        *,
        held_out: Sequence[Example] = (),
        shape: LoraShape | None = None,
        steps: LocalSteps | None = None,
    ) -> None:
        _check_clients(clients, len(examples))
        self._examples = tuple(examples)
        self._clients = clients
        self._held_out = tuple(held_out)
        self._steps = steps or LocalSteps()
        self._adapter = Adapter(language, shape or LoraShape())
        self._bfloat16 = self._steps.precision == "bfloat16" or (
            self._steps.precision == "auto" and prefers_bfloat16(language.model)
        )
        if self._bfloat16:
            store_bfloat16(language.model)
        padding = language.tokenizer.pad_token_id
        if padding is None:
            padding = language.tokenizer.eos_token_id
        self._scorer = Scorer(self._adapter.model, padding, bfloat16=self._bfloat16)

    @property
    def num_clients(self) -> int:
        """How many clients there are."""
        return len(self._clients)

    @property
    def num_parameters(self) -> int:
        """Length of the flat vector: A and B, or B alone where A is frozen."""
        return len(self._adapter.flat)

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Where each adapter tensor lies in the flat vector, by peft's key."""
        return self._adapter.slots

    @property
    def steps(self) -> LocalSteps:
        """What each client does."""
        return self._steps

    @property
    def precision(self) -> str:
        """Of the matrix products: what ``"auto"`` became."""
        return "bfloat16" if self._bfloat16 else "float32"

    def initial(self) -> NDArray[np.float32]:
        """The parameters that training starts from: A seeded, B zero."""
        return self._adapter.initial

    def updates(
        self, parameters: NDArray[np.float32], clients: Sequence[int], seed: int
    ) -> Iterator[Update]:
        """One update per client, in order; one client is in memory at a time.

        An update that is not finite is given as it is: who takes part in a round
        must not learn from an error whose training diverged.

        Raises:
            InvalidArgumentError: No such client, or parameters of another length.
        """
        for client in clients:
            if not 0 <= client < len(self._clients):
                raise InvalidArgumentError(
                    f"client must lie in [0, {len(self._clients)}), got {client}"
                )
            yield self._update(parameters, int(client), seed)

    def measure(
        self,
        parameters: NDArray[np.float32],
        examples: Sequence[Example] | None = None,
    ) -> HeldOutLoss:
        """The loss of each response, of the held-out examples unless told others."""
        chosen = self._held_out if examples is None else examples
        if not chosen:
            raise DataError("there are no held-out examples to measure on")
        return HeldOutLoss(*self.scorer(parameters).measure(chosen))

    def evaluate(self, parameters: NDArray[np.float32]) -> Mapping[str, float]:
        """Loss per response token and perplexity on the held-out examples.

        Empty where there are none.
        """
        if not self._held_out:
            return {}
        loss = self.measure(parameters)
        return {"loss": loss.mean, "perplexity": loss.perplexity}

    def scorer(self, parameters: NDArray[np.float32]) -> Scorer:
        """The model with these parameters, until others are loaded."""
        self._adapter.load(parameters)
        return self._scorer

    def save_adapter(self, parameters: NDArray[np.float32], folder: str | Path) -> None:
        """Write the adapter in peft's own format."""
        self._adapter.save(parameters, folder)

    def _update(
        self, parameters: NDArray[np.float32], client: int, seed: int
    ) -> Update:
        own = self._clients[client]
        plan = batches(len(own), self._steps, client=client, seed=seed)
        adapter = self._adapter
        adapter.load(parameters)
        optimiser = _optimiser(adapter.flat, self._steps)
        losses = []
        for batch in plan:
            adapter.gradient.zero_()
            sums, tokens = self._scorer.losses([self._examples[own[i]] for i in batch])
            loss = sums.sum() / tokens.sum()
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(float(loss.detach()))
            if optimiser is not None:
                optimiser.step()
        if optimiser is None:
            delta = -adapter.gradient.cpu().numpy()
        else:
            delta = adapter.read() - parameters
        mean = sum(losses) / len(losses)
        used = len(set(np.concatenate(plan).tolist()))
        return Update(client, delta, mean, used)


def _optimiser(
    flat: torch.nn.Parameter, steps: LocalSteps
) -> torch.optim.Optimizer | None:
    """A fresh optimiser over the flat vector; none where the gradient is the update."""
    rate, decay = steps.learning_rate, steps.weight_decay
    match steps.optimiser:
        case "adamw":
            return torch.optim.AdamW([flat], lr=rate, weight_decay=decay)
        case "sgd":
            return torch.optim.SGD([flat], lr=rate, weight_decay=decay)
        case _:
            return None


def _check_clients(clients: Partition, examples: int) -> None:
    if not clients:
        raise DataError("there are no clients")
    for number, places in enumerate(clients):
        if len(places) == 0:
            raise DataError(f"client {number} has no examples; partition again")
        if places.min() < 0 or places.max() >= examples:
            raise DataError(
                f"client {number} holds example {places.max()}, but there are only"
                f" {examples}"
            )
