"""A wrapper that makes the training rounds of a Flower strategy private.

It draws the nodes itself, bounds what each of them contributes, charges the
accountant, adds noise, and hands the wrapped strategy one reply: the private
mean.  What that strategy does with it (average, Adam on the server) is
post-processing and costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from logging import INFO, WARNING
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import (
    GaussianPrivacyEvent,
    Grid,
    NeighboringRelation,
    PrivacyAccountant,
    SamplingMethod,
)
from flwr.serverapp.exception import PrivacyBudgetExhausted
from flwr.serverapp.strategy import FedAvg, Strategy
from flwr.supercore import log

from drdp import _check
from drdp.errors import ChargeRefusedError, InvalidArgumentError
from drdp.fedsim.flower.draws import connected, fixed_size, poisson
from drdp.fedsim.flower.records import (
    SETTINGS,
    Arrays,
    Settings,
    record,
    trained,
    update_in,
)
from drdp.fedsim.flower.template import template
from drdp.mechanisms.gaussian import GaussianMechanism
from drdp.mechanisms.noise import SecureNoise, provenance
from drdp.mechanisms.totals import averaged, summed
from drdp.privacy.adjacency import Adjacency

if TYPE_CHECKING:
    from drdp.mechanisms.protocol import NoiseSource

__all__ = ["PrivateStrategy", "RoundFacts"]

_ADJACENCY = {
    NeighboringRelation.ADD_OR_REMOVE_ONE: Adjacency.ADD_REMOVE,
    NeighboringRelation.REPLACE_ONE: Adjacency.REPLACE_ONE,
}


@final
@dataclass(frozen=True, slots=True)
class RoundFacts:
    """What happened in a round.  Private: it is not covered by the guarantee.

    Args:
        server_round: Flower's number of the round.
        drawn: How many nodes were asked.
        contributed: How many of them sent a usable update.
        clipped: How many updates clipping changed.
        zeroed: How many entries were not finite.
        released: Whether a model was released.
    """

    server_round: int
    drawn: int
    contributed: int
    clipped: int
    zeroed: int
    released: bool


@dataclass(slots=True)
class _Pending:
    """A round that was sent out."""

    server_round: int
    model: ArrayRecord
    before: Arrays
    cohort: frozenset[int]
    clipped: int = 0
    zeroed: int = 0
    seen: set[int] = field(default_factory=set)


@final
class PrivateStrategy(Strategy):
    """Central or distributed Gaussian noise, uniform weights, charged rounds.

    Args:
        strategy: FedAvg, or a strategy made of it (FedAdam, FedProx, ...).  Its
            fractions do not matter for training, the accountant's config says
            how nodes are drawn; its weights never do.
        accountant: Flower's protocol; `PldAccountant` is the certified one.
        noise_multiplier: The standard deviation of the noise in the sum, divided
            by its sensitivity: C where a client is added or removed, 2C where
            one is replaced.
        clip_norm: C, the largest L2 norm of one client's update over all arrays.
        sample_size: How many nodes a round has: the expected number under
            Poisson sampling, else the exact one.  The sum is divided by it,
            whoever replied.
        placement: ``"central"``: this server adds the noise.  ``"distributed"``:
            each client adds a share in `private_mod`; only for samples of a
            fixed size, in which no number of shares depends on who is there.
        min_shares: How many shares of the noise can be relied on, by default
            all.  Fewer of them mean more noise each.
        missing: What a missing or broken reply does to a round with central
            noise: ``"zero"`` counts it as a zero update, which changes no
            guarantee; ``"abort"`` releases nothing.  With distributed noise a
            round with fewer than `min_shares` replies always releases nothing.
        unprotected_evaluation: Let the clients evaluate models, whose metrics no
            noise protects and no accountant counts.  Their training metrics never
            leave.
        patience: How many seconds to wait for enough connected nodes.
        rng: The source of noise and draws, `SecureNoise()` by default.

    Guarantees:
        A model leaves only after its round was charged.  The models released in
        all rounds together cost what the accountant says, for an adversary who
        sees them and not who took part; the server sees everything.
        A round that would exceed the budget is not sent out, and the remaining
        rounds change nothing: `start` ends in order with the last model.

    A round that aborts tells that somebody failed.  Where failing may depend on
    a client's data, use ``missing="zero"``.
    """

    def __init__(
        self,
        strategy: FedAvg,
        *,
        accountant: PrivacyAccountant,
        noise_multiplier: float,
        clip_norm: float,
        sample_size: int,
        placement: Literal["central", "distributed"] = "central",
        min_shares: int | None = None,
        missing: Literal["zero", "abort"] = "zero",
        unprotected_evaluation: bool = False,
        patience: float = 600.0,
        rng: NoiseSource | None = None,
    ) -> None:
        if not isinstance(strategy, FedAvg):
            raise InvalidArgumentError(
                f"strategy must be a FedAvg or made of one, got {strategy!r:.80}"
            )
        config = accountant.config
        self.strategy, self.accountant = strategy, accountant
        self.sample_size = _check.count(least=1, sample_size=sample_size)
        self.event = GaussianPrivacyEvent(
            _check.positive(noise_multiplier=noise_multiplier),
            self.sample_size,
            config.population_size,
        )
        self.clip_norm = _check.positive(clip_norm=clip_norm)
        self.mechanism = GaussianMechanism(
            noise_multiplier=self.event.noise_multiplier,
            clip_norm=self.clip_norm,
            adjacency=_ADJACENCY[config.neighboring_relation],
        )
        _one_of("placement", placement, ("central", "distributed"))
        _one_of("missing", missing, ("zero", "abort"))
        self.distributed = placement == "distributed"
        self.abort = missing == "abort" or self.distributed
        fixed = config.sampling_method is SamplingMethod.WITHOUT_REPLACEMENT
        if self.distributed and not fixed:
            raise InvalidArgumentError(
                "placement must be 'central' unless the sample has a fixed size"
                " (WITHOUT_REPLACEMENT, REPLACE_ONE): else the number of noise shares"
                " tells who took part"
            )
        least = self.sample_size if min_shares is None else min_shares
        self.min_shares = _check.count(least=1, min_shares=least)
        if least > self.sample_size or (
            min_shares is not None and not self.distributed
        ):
            raise InvalidArgumentError(
                f"min_shares must be at most sample_size={self.sample_size}, and is for"
                f" distributed noise only; got {min_shares}"
            )
        self.settings = Settings(
            clip_norm=self.clip_norm,
            noise_std=self.mechanism.noise_std / math.sqrt(self.min_shares)
            if self.distributed
            else 0.0,
            weight_key=strategy.weighted_by_key,
        )
        self.unprotected_evaluation = bool(unprotected_evaluation)
        self.patience = _check.at_least_zero(patience=patience)
        self.rng = SecureNoise() if rng is None else rng
        self.exhausted = False
        self.last_round: RoundFacts | None = None
        self._pending: _Pending | None = None

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Draw the nodes of a round; nobody where the budget does not hold it."""
        self._pending = None
        if self.exhausted or self._over_budget():
            return []
        before = trained(arrays)
        message = template(self.strategy, server_round, record(before), config)
        if message is None:
            return []
        cohort = self._drawn(grid)
        content = RecordDict(dict(message.content))
        content[self.strategy.arrayrecord_key] = arrays
        content[SETTINGS] = self.settings.record()
        self._pending = _Pending(server_round, arrays, before, frozenset(cohort))
        return [
            Message(
                content, dst_node_id=node, message_type=message.metadata.message_type
            )
            for node in cohort
        ]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Charge and release the private model of a round, or release nothing."""
        pending, self._pending = self._pending, None
        answers = list(replies)
        if pending is None or pending.server_round != server_round:
            if answers:
                raise InvalidArgumentError(
                    f"server_round must be one that was configured and not aggregated"
                    f" yet, got {server_round}"
                )
            return None, None
        total = summed(self._contributions(pending, answers), like=pending.before)
        found = len(pending.seen)
        wanted = self.min_shares if self.distributed else len(pending.cohort)
        go = not (self.abort and found < wanted) and self._charged()
        self.last_round = RoundFacts(
            server_round,
            len(pending.cohort),
            found,
            pending.clipped,
            pending.zeroed,
            released=go,
        )
        if not go:
            log(WARNING, "aggregate_train: no model is released in this round")
            return None, None
        if not self.distributed:
            rng = self.rng.spawn("noise", self.accountant.num_releases)
            total = self.mechanism.release(total, rng)
        return self._applied(pending, averaged(total, self.sample_size)), self._told()

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Nothing, unless evaluation is wanted without protection."""
        if not self.unprotected_evaluation:
            return []
        return self.strategy.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Nothing, unless evaluation is wanted without protection."""
        if not self.unprotected_evaluation:
            return None
        return self.strategy.aggregate_evaluate(server_round, replies)

    def summary(self) -> None:
        """Log what protects the rounds."""
        config = self.accountant.config
        where = "clients" if self.distributed else "server"
        log(INFO, "\t├──> Privacy:")
        log(INFO, "\t│\t├── Sampling: %s", config.sampling_method.value)
        log(INFO, "\t│\t├── Neighbours: %s", config.neighboring_relation.value)
        log(INFO, "\t│\t├── Clip norm: %g", self.clip_norm)
        log(
            INFO,
            "\t│\t├── Noise in the sum: std %g, added by the %s",
            self.mechanism.noise_std,
            where,
        )
        log(INFO, "\t│\t└── %s", provenance(self.rng))
        if self.unprotected_evaluation:
            log(WARNING, "Evaluation by the clients is not protected")
        self.strategy.summary()

    def _over_budget(self) -> bool:
        limited = self.accountant.config.max_epsilon is not None
        if limited and self.accountant.would_exceed(self.event):
            self._stop("the next round would exceed max_epsilon")
        return self.exhausted

    def _stop(self, why: str) -> None:
        self.exhausted = True
        log(WARNING, "Training ends here: %s", why)

    def _charged(self) -> bool:
        """Whether the round is paid for; whatever else goes wrong is an error."""
        try:
            self.accountant.compose(self.event)
        except (ChargeRefusedError, PrivacyBudgetExhausted) as refusal:
            self._stop(str(refusal))
            return False
        return True

    def _drawn(self, grid: Grid) -> list[int]:
        config = self.accountant.config
        population = config.population_size
        fixed = config.sampling_method is SamplingMethod.WITHOUT_REPLACEMENT
        least = population if fixed else self.strategy.min_available_nodes
        nodes = connected(grid, least, self.patience)
        rng = self.rng.spawn("draw", self.accountant.num_releases)
        if fixed:
            return fixed_size(nodes, self.sample_size, rng)
        if config.sampling_method is SamplingMethod.POISSON:
            return poisson(nodes, self.sample_size / population, rng)
        return nodes  # everyone: a draw of so many would move others in or out

    def _contributions(
        self, pending: _Pending, answers: Iterable[Message]
    ) -> Iterable[Arrays]:
        """What each node of the cohort adds to the sum: one bounded update."""
        for answer in answers:
            node = answer.metadata.src_node_id
            if answer.has_error() or node in pending.seen or node not in pending.cohort:
                continue
            update = update_in(answer.content, pending.before, self.settings)
            if update is None:
                continue
            pending.seen.add(node)
            if self.distributed:  # clipped where the noise was added
                yield update
                continue
            bounded = self.mechanism.bounded(update)
            pending.clipped += bounded.clipped
            pending.zeroed += bounded.zeroed
            yield bounded.value

    def _applied(self, pending: _Pending, mean: Arrays) -> ArrayRecord:
        """The wrapped strategy's step on one reply, the private mean."""
        moved = {
            name: np.add(old, mean[name], dtype=mean[name].dtype)
            for name, old in pending.before.items()
        }
        content = RecordDict(
            {
                self.strategy.arrayrecord_key: record(moved),
                "metrics": MetricRecord({self.strategy.weighted_by_key: 1}),
            }
        )
        reply = Message(content, dst_node_id=1, message_type="train")
        arrays, _ = self.strategy.aggregate_train(pending.server_round, [reply])
        if arrays is None:
            raise InvalidArgumentError(
                f"strategy must aggregate a single reply, and"
                f" {type(self.strategy).__name__} does not"
            )
        step: dict[str, Any] = dict(pending.model)
        for name, old in pending.before.items():
            with np.errstate(over="ignore"):  # of half precision: after the noise
                new = arrays[name].numpy().astype(old.dtype)
            step.update(record({name: new}))
        return ArrayRecord(step)

    def _told(self) -> MetricRecord:
        """What may be published about a round: none of it depends on the data."""
        spent = self.accountant.get_privacy_spent()
        log(
            INFO,
            "Privacy spent: epsilon=%.6f at delta=%g after %d releases",
            spent.epsilon,
            spent.delta,
            spent.num_releases,
        )
        return MetricRecord(
            {
                "privacy-epsilon": spent.epsilon,
                "privacy-delta": spent.delta,
                "noise-std-of-mean": self.mechanism.noise_std / self.sample_size,
                "noise-is-secure": int(self.rng.secure),
            }
        )


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InvalidArgumentError(
            f"{name} must be {' or '.join(map(repr, allowed))}, got {value!r}"
        )
