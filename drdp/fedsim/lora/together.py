"""Local training of many clients at once: their adapters advance as one stack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, final

import numpy as np
import torch
from torch import Tensor

from drdp import _check
from drdp.errors import InvalidArgumentError
from drdp.fedsim.evaluation import HeldOutLoss
from drdp.fedsim.examples import Example
from drdp.fedsim.local import LocalSteps, LoraShape, batches
from drdp.fedsim.lora.adapter import Slot
from drdp.fedsim.lora.advance import optimiser_of
from drdp.fedsim.lora.scoring import Scorer
from drdp.fedsim.lora.tiers import Tier, gradients_of
from drdp.fedsim.lora.trainer import LoraTrainer
from drdp.fedsim.models import LanguageModel
from drdp.fedsim.partition import Partition
from drdp.fedsim.trainer import Update

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["StackedTrainer"]

_MOST_TOGETHER: Final = 64  # more clients at once gain nothing measurable on a CPU

_Plan = list[list[Example]]


@final
class StackedTrainer:
    """`LoraTrainer` with many clients' local training in each pass of the model.

    The clients' order of examples, start and optimiser are those of
    `LoraTrainer`, which also evaluates and saves here.  Clients with fewer steps
    drop out of the stack when they are done; a client's last batch may be short.
    With the optimiser ``"gradient"`` and clients of one example each, an update is
    minus a per-example gradient.

    Args:
        language: The model; it gets the adapter and belongs to this trainer.
        examples: What the clients hold.
        clients: Per client, the places of its examples.
        held_out: Public examples for `evaluate`; may be empty.
        shape: The adapter.
        steps: The local steps.
        clients_at_once: How many clients advance together; ``"auto"`` for as many
            as `memory` allows.
        memory: Bytes that ``"auto"`` may use beside the model, about.
        learning_rates: One per client of the federation, instead of that of
            `steps`.
        tier: ``"packed"`` for the Llama family, ``"any"`` for any architecture,
            ``"auto"`` for the packed one where it fits.
        checkpointing: Whether to keep only the inputs of the model's blocks and
            compute the rest again on the way back (tier ``"any"``).

    Guarantees:
        Memory does not grow with the cohort: clients go in groups of at most
        `clients_at_once`, and a group's updates are given out before the next
        one trains.  A client's update is that of `LoraTrainer` up to rounding,
        whichever clients train beside it.

    Raises:
        DataError: No client, a client without examples, or a place out of range.
        InvalidArgumentError: An argument is outside its domain.
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
        clients_at_once: int | Literal["auto"] = "auto",
        memory: float = 4e9,
        learning_rates: Sequence[float] | None = None,
        tier: Tier = "auto",
        checkpointing: bool = False,
    ) -> None:
        shape, self._steps = shape or LoraShape(), steps or LocalSteps()
        if clients_at_once != "auto":
            clients_at_once = _check.count(least=1, clients_at_once=clients_at_once)
        if learning_rates is not None:
            if len(learning_rates) != len(clients):
                raise InvalidArgumentError(
                    f"learning_rates must be {len(clients)}, one per client, got"
                    f" {len(learning_rates)}"
                )
            for rate in learning_rates:
                _check.positive(learning_rate=rate)
        self._at_once = clients_at_once
        self._memory = _check.positive(memory=memory)
        self._rates = learning_rates
        bare = language.model  # peft puts the adapter into its modules
        self._model = gradients_of(
            bare,
            shape,
            tier=tier,
            precision=self._steps.precision,
            checkpointing=checkpointing,
        )
        self._single = LoraTrainer(
            language, examples, clients, held_out=held_out, shape=shape, steps=steps
        )
        self._examples, self._clients = tuple(examples), clients

    @property
    def num_clients(self) -> int:
        """How many clients there are."""
        return self._single.num_clients

    @property
    def num_parameters(self) -> int:
        """Length of the flat vector: A and B, or B alone where A is frozen."""
        return self._single.num_parameters

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Where each adapter tensor lies in the flat vector, by peft's key."""
        return self._single.slots

    @property
    def precision(self) -> str:
        """Of the matrix products: what ``"auto"`` became."""
        return self._single.precision

    @property
    def tier(self) -> str:
        """``"packed"`` or ``"any"``: what ``"auto"`` became."""
        return self._model.tier

    def initial(self) -> NDArray[np.float32]:
        """The parameters that training starts from: A seeded, B zero."""
        return self._single.initial()

    def measure(
        self,
        parameters: NDArray[np.float32],
        examples: Sequence[Example] | None = None,
    ) -> HeldOutLoss:
        """The loss of each response, of the held-out examples unless told others."""
        return self._single.measure(parameters, examples)

    def evaluate(self, parameters: NDArray[np.float32]) -> Mapping[str, float]:
        """Loss per response token and perplexity on the held-out examples."""
        return self._single.evaluate(parameters)

    def scorer(self, parameters: NDArray[np.float32]) -> Scorer:
        """The model with these parameters, until others are loaded."""
        return self._single.scorer(parameters)

    def save_adapter(self, parameters: NDArray[np.float32], folder: str | Path) -> None:
        """Write the adapter in peft's own format."""
        self._single.save_adapter(parameters, folder)

    def updates(
        self, parameters: NDArray[np.float32], clients: Sequence[int], seed: int
    ) -> Iterator[Update]:
        """One update per client, in order; memory does not grow with the cohort.

        An update that is not finite is given as it is, and those of clients that
        train beside it are as they would be without it.

        Raises:
            InvalidArgumentError: No such client, or parameters of another length.
        """
        if parameters.shape != (self.num_parameters,):
            raise InvalidArgumentError(
                f"parameters must have shape ({self.num_parameters},), got"
                f" {parameters.shape}"
            )
        start = torch.from_numpy(np.asarray(parameters, dtype=np.float32))
        start = start[None].to(self._model.device)
        group: list[int] = []
        plans: list[_Plan] = []
        needed = 0
        for client in clients:
            if not 0 <= client < self.num_clients:
                raise InvalidArgumentError(
                    f"client must lie in [0, {self.num_clients}), got {client}"
                )
            plan = self._plan(int(client), seed)
            cost = self._cost(plan)
            if group and self._full(len(group), needed + cost):
                yield from self._group(start, group, plans)
                group, plans, needed = [], [], 0
            group.append(int(client))
            plans.append(plan)
            needed += cost
        if group:
            yield from self._group(start, group, plans)

    def _plan(self, client: int, seed: int) -> _Plan:
        """The examples of each local step."""
        own = self._clients[client]
        found = batches(len(own), self._steps, client=client, seed=seed)
        return [[self._examples[own[i]] for i in batch] for batch in found]

    def _cost(self, plan: _Plan) -> int:
        if self._at_once != "auto":
            return 0
        return max(self._model.memory(len(b), max(map(len, b))) for b in plan)

    def _full(self, clients: int, needed: int) -> bool:
        if self._at_once != "auto":
            return clients >= self._at_once
        return clients >= _MOST_TOGETHER or needed > self._memory

    def _group(
        self, start: Tensor, clients: Sequence[int], plans: Sequence[_Plan]
    ) -> Iterator[Update]:
        """Train a group together; the clients with most steps lie first."""
        order = sorted(range(len(clients)), key=lambda i: -len(plans[i]))
        stack = start.repeat(len(clients), 1)
        gradients = torch.empty_like(stack)
        totals = torch.zeros(len(clients), dtype=torch.float64)
        rates = [self._rate(clients[i]) for i in order]
        advance = optimiser_of(self._steps, stack, stack.new_tensor(rates)[:, None])
        for step in range(len(plans[order[0]])):
            active = sum(len(plan) > step for plan in plans)
            batch = [plans[i][step] for i in order[:active]]
            # All begin alike, which makes the first step a little cheaper.
            own = stack[:active] if step else start
            losses = self._model.gradients(own, batch, gradients[:active])
            totals[:active] += losses.double().cpu()
            if advance is not None:
                advance.step(stack[:active], gradients[:active])
        moved = stack.sub_(start) if advance is not None else gradients.neg_()
        deltas = moved.cpu().numpy()
        place = {i: k for k, i in enumerate(order)}
        for i, client in enumerate(clients):
            plan, delta = plans[i], deltas[place[i]].copy()
            mean = float(totals[place[i]]) / len(plan)
            used = len({id(example) for batch in plan for example in batch})
            yield Update(client, delta, mean, used)

    def _rate(self, client: int) -> float:
        return self._rates[client] if self._rates else self._steps.learning_rate
