"""From the settings of a run to the simulation that an audit attacks.

Codec, cohort, clip, noise and server are the run's own.  For canaries, what the
clients compute is left out, since it has no part in what hides a client; where a
client with data is the suspect, everybody trains as in the run.

>>> from drdp.fedsim.config import Config, changed
>>> settings = {"privacy.noise_multiplier": 1.0, "data.clients": 20}
>>> target = without_model(changed(Config(), settings))
>>> target.simulation.trainer.num_clients, target.rounds
(20, 20)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, final

from drdp.errors import InvalidArgumentError, RunFolderError
from drdp.fedsim.budgeting import default_delta, protected, stated_size
from drdp.fedsim.canaries import Crowd
from drdp.fedsim.config import Config
from drdp.fedsim.federation import EXAMPLE_LEVEL, Federation, settled
from drdp.fedsim.folder import RunFolder
from drdp.fedsim.members import Member, Membership, Remembering
from drdp.fedsim.planted_text import Casting
from drdp.fedsim.protection import MechanismName, Protection
from drdp.fedsim.running import Run
from drdp.fedsim.server import Server
from drdp.fedsim.simulate import Simulation
from drdp.privacy.adjacency import Adjacency

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Target", "of_folder", "with_codec", "without_model"]

_CODE_LENGTH = 64
_WORDS = {
    "client": "one of its clients",
    "text": "a client with a made text",
    "example": "a client with one text more",
}


@final
@dataclass(frozen=True, slots=True)
class Target:
    """What is audited.

    Args:
        simulation: Its clients send zeros, unless there is a cast.
        rounds: Of the run.
        delta: Of its guarantee.
        about: What it is, in a few words.
        cast: Who is the suspect, in runs of so many rounds; None for canaries.
    """

    simulation: Simulation
    rounds: int
    delta: float
    about: str
    cast: Callable[[int], Membership] | None = None


def of_folder(
    folder: Path, tell: Callable[[str], None], casting: Casting | None = None
) -> Target:
    """The run in a folder, with the codec and the noise that it was given.

    Args:
        folder: Of the run.
        tell: Is told what takes long.
        casting: Chooses a client with data as the suspect.

    Raises:
        RunFolderError: If there is none, or it had not come to its first round.
    """
    kept = RunFolder(folder)
    config = settled(kept.config())
    if kept.plan() is None:
        raise RunFolderError(
            f"the run in {folder} has no plan yet: resume it first, or audit its"
            " settings with --config"
        )
    return _target(Run(config, kept, plant=casting), tell, casting)


def with_codec(
    config: Config, tell: Callable[[str], None], casting: Casting | None = None
) -> Target:
    """The run that settings describe: model, data and codec are made as for it.

    Arguments as for `of_folder`.
    """
    return _target(Run(settled(config), None, plant=casting), tell, casting)


def without_model(config: Config) -> Target:
    """The settings' cohort, clip, noise and server around the codec Identity.

    Nothing is loaded.  The clip norm is the settings' own, or 1 where that would
    be measured on public updates.

    Raises:
        InvalidArgumentError: If the method draws single examples, whose number
            only the data tells.
    """
    import numpy as np

    from drdp.compression.identity import Identity
    from drdp.compression.layout import Layout

    config = settled(config)
    method, clients = config.run.method, config.data.clients
    if method in (*EXAMPLE_LEVEL, "cent") or clients == 0:
        raise InvalidArgumentError(
            f"method {method} with data.clients {clients} cannot be audited without"
            " its data; leave out --release-only"
        )
    length = config.code.length or _CODE_LENGTH
    crowd = Crowd(clients, np.zeros(length, dtype=np.float32))
    people = Federation(
        trainer=crowd,
        public=None,
        layout=Layout.of_shapes([("code", (length,))]),
        unit="client",
        population=clients,
        examples=clients,
        save_adapter=_nothing_to_save,
    )
    delta = config.privacy.delta or default_delta(clients)
    protection, rounds = protected(config, people, delta)
    if isinstance(config.privacy.clip_norm, float):
        protection = replace(protection, clip_norm=config.privacy.clip_norm)
    server = Server(
        config.server.optimizer, config.server.learning_rate, config.server.momentum
    )
    simulation = Simulation(
        crowd,
        Identity(length),
        protection,
        server,
        name=method,
        size=stated_size(config, protection),
    )
    return _checked(Target(simulation, rounds, delta, f"the release of {method}"))


def _target(
    run: Run, tell: Callable[[str], None], casting: Casting | None = None
) -> Target:
    import numpy as np

    prepared = run.prepared(tell)
    simulation, method = prepared.simulation, run.config.run.method
    about = f"{method}, {_WORDS[casting.who]}" if casting else method
    target = _checked(Target(simulation, prepared.rounds, prepared.delta, about))
    if casting is None:
        zeros = np.zeros(simulation.trainer.num_parameters, dtype=np.float32)
        crowd = Crowd(simulation.trainer.num_clients, zeros)
        return replace(target, simulation=replace(simulation, trainer=crowd))
    real = Remembering(simulation.trainer)
    target = replace(target, simulation=replace(simulation, trainer=real))
    made = Remembering(prepared.planted) if prepared.planted else real
    count, own = real.num_clients, casting.number
    inside, outside = Member(made, 0), Member(real, own)
    if casting.who == "client":
        inside, outside = outside, Member(real, (own + 1) % count)
    elif casting.who == "example":
        outside = Member(made, 1)

    def loss(parameters: NDArray[np.float32]) -> float:
        if prepared.losses is None:
            return 0.0
        return prepared.losses(parameters, casting.texts).mean

    replaced = simulation.protection.relation is Adjacency.REPLACE_ONE
    return replace(
        target,
        cast=lambda rounds: Membership(
            target.simulation,
            inside,
            outside if replaced or casting.who == "example" else None,
            tuple(client for client in range(count) if client != own),
            rounds,
            prepared.seed,
            loss,
        ),
    )


def _checked(target: Target) -> Target:
    plan: Protection = target.simulation.protection
    if target.rounds == 0 or plan.public or plan.clip_norm == float("inf"):
        raise InvalidArgumentError(
            f"{target.about} must clip what private clients send and release it, or"
            " there is nothing to audit; audit a method with noise"
        )
    if plan.mechanism is not MechanismName.GAUSSIAN:
        raise InvalidArgumentError(
            f"{target.about} has {plan.mechanism} noise, of which Renyi bounds are"
            " known and no trade-off curve to test against; audit it with"
            " privacy.mechanism gaussian"
        )
    if plan.steering is not None:
        raise InvalidArgumentError(
            f"{target.about} has an adaptive clip norm, but canaries are made for one"
            " that stays; audit it with a number as privacy.clip_norm"
        )
    if target.simulation.aggregation.pairs:
        raise InvalidArgumentError(
            f"{target.about} takes the mean of products, but canaries are made for"
            " sums; audit it with server.aggregation factors"
        )
    return target


def _nothing_to_save(parameters: NDArray[np.float32], place: Path) -> None:
    """There is no adapter without a model."""
