"""Parts in, an iterator of rounds out: charge, then release, then step.

Each round draws its cohort, encodes and clips every client's update, adds up,
pays for the release, adds the noise, divides by a public number, decodes and
steps.  The noise is a keyed function of what it hides (`randomness`), so an
interrupted round that is computed again either is the same release, which is
not paid for twice, or gets other noise and is paid for again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, final

from drdp import _check
from drdp.errors import InvalidArgumentError, UnsoundThreatModelError
from drdp.fedsim.aggregation import Aggregation
from drdp.fedsim.bounds import Bounds, bounds_of
from drdp.fedsim.cohort import draw, expected_size
from drdp.fedsim.collecting import Ask, Collect, collected_here
from drdp.fedsim.diagnostics import Diagnostics
from drdp.fedsim.protection import MechanismName, Protection
from drdp.fedsim.randomness import Randomness
from drdp.fedsim.server import Server
from drdp.fedsim.sight import Observer, Sight
from drdp.fedsim.total import Total
from drdp.fedsim.trainer import Trainer
from drdp.privacy.adjacency import Adjacency
from drdp.privacy.events import NOTHING, Event

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from drdp.compression.protocol import Compressor

__all__ = [
    "Diagnostics",
    "Payer",
    "Report",
    "Simulation",
    "State",
    "codec_of",
    "simulate",
]


class Payer(Protocol):
    """What takes charges: a durable ledger, or a list in memory."""

    def charge(
        self, event: Event, *, label: str = "", run: str = "", key: str | None = None
    ) -> object:
        """Record a release durably before it happens, or raise and release nothing."""
        ...


@final
@dataclass(frozen=True, slots=True)
class State:
    """Everything that a run needs to go on: a checkpoint.

    Args:
        round: How many rounds are done.
        parameters: The trainable parameters, flat float64.
        memory: The server optimizer's.
        clip_norm: Of the next round, where the clip norm is steered.
    """

    round: int
    parameters: NDArray[np.float64]
    memory: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    clip_norm: float | None = None


@final
@dataclass(frozen=True, slots=True)
class Report:
    """One round: the state after it, what it released and what it looked like.

    Args:
        round: The round's number, from 1.
        state: Where the run stands now.
        event: What the round was charged with.
        step_norm: Norm of the released mean update.
        private: For the operator alone.
        clip_norm: Of the round, where the clip norm is steered: it follows from
            what earlier rounds released.
    """

    round: int
    state: State
    event: Event
    step_norm: float
    private: Diagnostics
    clip_norm: float | None = None


@final
@dataclass(frozen=True, slots=True)
class Simulation:
    """The parts of a federated run.

    Args:
        trainer: What clients compute.
        compressor: Updates to codes and back.
        protection: How clients are drawn, clipped and hidden.
        server: What the mean update does.
        name: Stands in the ledger as the run of its charges.
        codec_paid: Whether what fitting the codec released was paid for when it
            was fitted, which a run's folder checks; else the first round does.
        size: What sums are divided by, a public number.  By default the cohort's
            expected size, from a number of clients that is then public.
        aggregation: Which mean of the messages the server steps along.

    Raises:
        UnsoundThreatModelError: If `size` is left out under add-remove, which is
            to hide how many clients there are: the noise of the mean would show.
            Or if the aggregation uses messages that have not enough noise.
        InvalidArgumentError: If a steered clip norm cannot be paid for.
    """

    trainer: Trainer
    compressor: Compressor
    protection: Protection
    server: Server = field(default_factory=Server)
    name: str = "run"
    size: float | None = None
    aggregation: Aggregation = field(default_factory=Aggregation)
    codec_paid: bool = False

    def __post_init__(self) -> None:
        if self.size is not None:
            _check.positive(size=self.size)
        elif self.protection.relation is Adjacency.ADD_REMOVE:
            raise UnsoundThreatModelError(
                "add-remove hides how many clients there are, so sums cannot be"
                " divided by a number that follows from it: state size, or use"
                " zero-out"
            )
        length, takes = self.trainer.num_parameters, self.compressor.update_length
        if length != takes:
            raise InvalidArgumentError(
                f"compressor takes updates of length {takes}, but the trainer has"
                f" {length} parameters"
            )
        self.aggregation.check(self.protection, self.server)
        self.protection.codes_noise(self.divisor(self.trainer.num_clients))

        if self.protection.mechanism is not MechanismName.GAUSSIAN:
            length = self.compressor.code_length
            if self.protection.code_length != length:
                raise InvalidArgumentError(
                    f"protection is for codes of {self.protection.code_length} numbers,"
                    f" but the compressor's have {length}"
                )
            self.bounds()

    def event(self, rounds: int) -> Event:
        """Everything that a run of so many rounds releases, the codec included."""
        return self.compressor.event + self.protection.run_event(rounds)

    def divisor(self, num_clients: int) -> float:
        """The public number that a round's sum is divided by."""
        return self.size or expected_size(self.protection.cohort, num_clients)

    def bounds(self, clip_norm: float | None = None) -> Bounds:
        """What bounds and releases codes.

        Args:
            clip_norm: Of the round, where it is steered; None for the run's own.
        """
        clients = self.trainer.num_clients
        return bounds_of(
            self.protection,
            clients=clients,
            size=self.divisor(clients),
            clip_norm=clip_norm,
        )

    def start(self) -> State:
        """The state before the first round."""
        import numpy as np

        parameters = self.trainer.initial().astype(np.float64)
        return State(
            0,
            parameters,
            self.server.start(len(parameters)),
            self.protection.clip_norm if self.protection.steering else None,
        )


def simulate(
    simulation: Simulation,
    *,
    rounds: int,
    randomness: Randomness,
    payer: Payer,
    seed: int = 0,
    state: State | None = None,
    observe: Observer | None = None,
    collect: Collect | None = None,
) -> Iterator[Report]:
    """Run rounds, one at a time, each paid for before it is released.

    Args:
        simulation: The parts.
        rounds: How many rounds the whole run has.
        randomness: Cohorts and noise; see `drdp.fedsim.randomness`.
        payer: Takes the charges.  If it refuses one, the round is not released
            and the refusal is raised.
        seed: Of the clients' local training: order of examples and the like.
        state: Where to go on; None for the start.
        observe: Is shown what the run's adversary sees of each round, after the
            round was paid for; its messages are then held for a round.
        collect: Who computes the rounds; by default the trainer, in this process.

    Yields:
        A report for each round; its state is what a checkpoint has to hold.

    Guarantees:
        Nothing that depends on a round's cohort leaves before its charge is
        recorded, except a report's `private` part.  Of each client a number of
        eight bytes stays for the round, and besides only the messages that an
        observer is to see: memory does not grow with the cohort.
        No client's numbers end a run: an update that is not finite, or that the
        codec cannot take, counts as zero.
    """
    now = simulation.start() if state is None else state
    unpaid = now.round == 0 and not simulation.codec_paid
    if unpaid and simulation.compressor.event != NOTHING:
        payer.charge(
            simulation.compressor.event,
            label="fitting the codec",
            run=simulation.name,
            key=f"{simulation.name}/codec",
        )
    collect = collected_here(simulation.trainer) if collect is None else collect
    while now.round < rounds:
        report = _round(simulation, now, randomness, payer, seed, collect, observe)
        now = report.state
        yield report


def _round(
    simulation: Simulation,
    state: State,
    randomness: Randomness,
    payer: Payer,
    seed: int,
    collect: Collect,
    observe: Observer | None = None,
) -> Report:
    import numpy as np

    protection, trainer = simulation.protection, simulation.trainer
    cohort = draw(protection.cohort, trainer.num_clients, state.round, randomness)
    protection.check_round(len(cohort))
    codec = codec_of(simulation.compressor, state.round)
    total = Total(
        protection,
        codec,
        state.round,
        randomness,
        cohort,
        simulation.bounds(state.clip_norm),
        keeps=observe is not None,
    )
    total.gathered = simulation.aggregation.gathered(codec, state.parameters)
    event = protection.event(state.round)

    def pay(digest: bytes) -> None:
        if event != NOTHING:
            number = state.round + 1
            payer.charge(
                event,
                label=f"round {number}",
                run=simulation.name,
                key=f"{simulation.name}/{number}/{randomness.mark(digest)}",
            )

    start = state.parameters.astype(np.float32)
    ask = Ask(state.round, tuple(cohort), start, local_seed(seed, state.round))
    released = collect(ask, total, pay)
    size = simulation.divisor(trainer.num_clients)
    mean: NDArray[np.floating]
    if total.gathered is None:
        mean = codec.decode(released / size)
    else:
        mean = total.gathered.change(size)
    parameters, memory = simulation.server.step(state.parameters, mean, state.memory)
    if observe is not None:
        observe(
            Sight(
                round=state.round + 1,
                cohort=len(cohort),
                total=released.copy(),
                before=state.parameters,
                after=parameters,
                messages=total.seen(),
            )
        )
    steered = total.steered()
    return Report(
        round=state.round + 1,
        state=State(state.round + 1, parameters, memory, steered),
        event=event,
        step_norm=float(np.linalg.norm(mean.astype(np.float64))),
        private=total.diagnostics(),
        clip_norm=state.clip_norm,
    )


def codec_of(codec: Compressor, round_: int) -> Compressor:
    """The codec of a round: a random one is drawn anew, from its public seed.

    A fixed random subspace would be all that a run can ever move in.
    """
    redrawn = getattr(codec, "redrawn", None)
    return codec if redrawn is None else redrawn(round_)


def local_seed(seed: int, round_: int) -> int:
    """The seed of all local training in a round."""
    text = f"drdp local {seed} {round_}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:7], "big")
