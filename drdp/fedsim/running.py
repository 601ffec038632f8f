"""One run from its settings: planned, paid for, fitted, executed, resumed.

The order matters.  The noise is calibrated first, from the settings alone; then
the ledger is opened with the whole plan; then, where fitting the codec releases
something, that is paid for; and only then is the codec fitted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, final

from drdp.errors import DrdpError, RunFolderError
from drdp.fedsim.aggregation import aggregation_of
from drdp.fedsim.assumptions import taken_for_granted
from drdp.fedsim.budgeting import default_delta, protected, stated_size
from drdp.fedsim.codec_file import store_codec, stored_codec
from drdp.fedsim.config import Config
from drdp.fedsim.engines import check_engine, flower_packages, node_collector
from drdp.fedsim.exams import Examination, exams_of
from drdp.fedsim.execution import Outcome, Prepared, Progress, execute
from drdp.fedsim.federation import Federation, Plant, federation, settled
from drdp.fedsim.fitting import codec_event, codec_for, public_updates, scales
from drdp.fedsim.folder import RunFolder
from drdp.fedsim.forecast import forecast
from drdp.fedsim.memory import give_back
from drdp.fedsim.protection import Protection
from drdp.fedsim.randomness import Randomness, SecretRandomness, SeededRandomness
from drdp.fedsim.server import Server
from drdp.fedsim.simulate import Payer, Simulation
from drdp.fedsim.spending import certified
from drdp.fedsim.summary import plan_of
from drdp.privacy.events import NOTHING, Event, NonPrivate, atoms

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from drdp.compression.protocol import Compressor
    from drdp.fedsim.flower.exchange import Exchange
    from drdp.mechanisms.protocol import NoiseSource
    from drdp.privacy.ledger import Ledger

__all__ = ["Run"]

_UNBOUNDED = 1e30  # a clip norm that clips nothing

Tell = Callable[[str], None]
Updates = Callable[[], "list[NDArray[np.float32]]"]


@final
@dataclass(frozen=True, slots=True)
class Run:
    """A run and its folder.

    Args:
        config: The settings.
        folder: Where it is kept; None for a plan alone.
        new: Whether its folder was made for it just now.
        plant: Says which clients an audit adds.
    """

    config: Config
    folder: RunFolder | None
    new: bool = False
    plant: Plant | None = None

    @classmethod
    def begun(cls, folder: RunFolder, config: Config) -> Run:
        """A new run in an empty folder.

        Raises:
            RunFolderError: If there is something in it already.
            MissingPackageError: If its engine is not installed.
        """
        config = settled(config)
        check_engine(config)
        folder.begin(config)
        return cls(config, folder, new=True)

    @classmethod
    def resumed(cls, folder: RunFolder) -> Run:
        """The run that is in a folder.

        Raises:
            RunFolderError: If there is none, or its secret key is lost: with
                another one, clients could be drawn twice where the accounting says
                once.
        """
        run = cls(settled(folder.config()), folder)
        secret = run.config.run.noise == "secure"
        if secret and folder.paid and not folder.finished and not folder.key.exists():
            raise RunFolderError(
                f"{folder.key} is missing: without it the run cannot go on as it"
                " began; start a new one in another folder"
            )
        return run

    def prepared(self, tell: Tell) -> Prepared:
        """Everything up to the first round.

        Args:
            tell: Is told what takes long.

        Guarantees:
            A run that is resumed gets the numbers and the codec that it began
            with.  A new one that turns out to be impossible leaves nothing in
            its folder.

        Raises:
            RunFolderError: If the run is resumed with other data or another model.
        """
        try:
            return self._prepared(tell)
        except DrdpError:
            if self.folder is not None and self.new:
                self.folder.withdraw()
            raise

    def _prepared(self, tell: Tell) -> Prepared:
        config = self.config
        asked = exams_of(config.evaluation, config.run.seed)
        people = federation(config, tell, self.plant)
        planned = self.folder.plan() if self.folder else None
        delta = config.privacy.delta or default_delta(people.population)
        protection, rounds = protected(config, people, delta)
        gathering = aggregation_of(config.server, people.layout)
        gathering.check(protection, _server(config, config.server.learning_rate))
        released = codec_event(config)
        plan = released + protection.run_event(rounds)
        public = cache(lambda: list(public_updates(config, people)))
        if self.folder is None:
            codec = codec_for(config, people, public, tell, None)
        else:
            codec = self._codec(people, public, plan, released, delta, protection, tell)
        give_back()  # what fitting took: local training needs room next
        if planned is None:
            protection, server, seen = _sized(config, public, protection, codec, tell)
        else:
            protection, server, seen = _as_planned(config, protection, planned)
        trainer = people.trainer
        if config.run.method == "public" and people.public is not None:
            trainer = people.public
        simulation = Simulation(
            trainer,
            codec,
            protection,
            server,
            name=config.run.method,
            size=stated_size(config, protection),
            aggregation=gathering,
            codec_paid=True,
        )
        if planned is not None:
            rounds = _same_run(planned, people, simulation)
        ahead = None
        if protection.noisy and rounds:
            ahead = forecast(
                protection,
                num_clients=trainer.num_clients,
                rounds=rounds,
                code_length=codec.code_length,
                alignment=seen,
            )
        document = plan_of(
            config, people, simulation, rounds, delta, seen, ahead, asked
        )
        if planned is None and self.folder is not None:
            self.folder.write_plan(document)
        return Prepared(
            simulation=simulation,
            rounds=rounds,
            delta=delta,
            epsilon=config.privacy.epsilon,
            unit=people.unit,
            population=people.population,
            seed=config.run.seed,
            seeded=config.run.noise == "seeded",
            evaluate_every=config.evaluation.every,
            plan=document,
            assumed=taken_for_granted(config, public=people.public is not None),
            save_adapter=people.save_adapter,
            measure=people.measure,
            examination=(
                Examination(asked, people.grade) if asked and people.grade else None
            ),
            losses=people.losses,
            planted=people.planted,
        )

    def executed(
        self,
        prepared: Prepared,
        watch: Callable[[Progress], None] = lambda progress: None,
    ) -> Outcome:
        """Run what is left of it.

        Raises:
            RunFolderError: If it is done already, or cannot be written.
            BudgetExceededError: From the ledger.
        """
        if self.config.run.engine != "flower":
            return self.collected(prepared, None, watch)
        flower_packages()
        from drdp.fedsim.flower.nodes import client_app, settled_parts
        from drdp.fedsim.flower.simulation import simulated

        return simulated(
            lambda exchange: self.collected(prepared, exchange, watch),
            client_app(settled_parts),
            nodes=prepared.simulation.trainer.num_clients,
            patience=self.config.run.patience,
        )

    def collected(
        self,
        prepared: Prepared,
        exchange: Exchange | None,
        watch: Callable[[Progress], None] = lambda progress: None,
    ) -> Outcome:
        """Run what is left of it, with clients in this process or at Flower's nodes.

        Args:
            prepared: From `prepared`.
            exchange: The nodes; None for this process.
            watch: Told after every round.

        Raises:
            RunFolderError: If it is done already, or cannot be written.
            BudgetExceededError: From the ledger.
        """
        folder = self._kept()
        if folder.finished:
            raise RunFolderError(f"the run in {folder.path} is finished already")
        simulation, collect = prepared.simulation, None
        if exchange is not None:
            collect = node_collector(self.config, prepared, folder, exchange)
        with self._ledger(
            simulation.event(prepared.rounds), prepared.delta, simulation.protection
        ) as ledger:
            return execute(prepared, folder, ledger, watch=watch, collect=collect)

    def _kept(self) -> RunFolder:
        if self.folder is None:
            raise RunFolderError("a plan without a folder cannot be run; give --out")
        return self.folder

    def _randomness(self) -> Randomness:
        if self.config.run.noise == "seeded":
            return SeededRandomness(self.config.run.seed)
        return SecretRandomness.kept_in(self._kept().key)

    def _ledger(self, plan: Event, delta: float, protection: Protection) -> Ledger:
        from drdp.privacy.fixed_budget import FixedBudget
        from drdp.privacy.ledger import Ledger

        epsilon, budget = self.config.privacy.epsilon, None
        open_ended = not atoms(plan) or NonPrivate() in atoms(plan)
        if not open_ended:
            if epsilon is None:
                epsilon = certified(plan, delta).upper
            budget = FixedBudget(epsilon, delta, plan)
        return Ledger.create(
            self._kept().ledger,
            budget=budget,
            unit="example" if self.config.run.method == "ew-tune" else "client",
            adjacency=protection.relation,
            exist_ok=True,
        )

    def _codec(
        self,
        people: Federation,
        public: Updates,
        plan: Event,
        released: Event,
        delta: float,
        protection: Protection,
        tell: Tell,
    ) -> Compressor:
        """Pay for what fitting releases, fit, and keep the codec; or load it.

        Noise that hides a sum is the sum's own, and is paid under its name: a
        sum that came out otherwise is another release.
        """
        file = self._kept().path / "codec.safetensors"
        if file.exists():
            return stored_codec(self.config, file)
        if self._kept().finished:  # only looked at: no key is made, nothing is paid
            if released != NOTHING:
                raise RunFolderError(f"{file} is missing: the run was made with it")
            open_ = SeededRandomness(0)
            return codec_for(
                self.config, people, public, tell, lambda digest: open_.source("plan")
            )
        randomness, name = self._randomness(), self.config.run.method

        def pay(key: str) -> None:
            with self._ledger(plan, delta, protection) as ledger:
                payer: Payer = ledger
                payer.charge(released, label="fitting the codec", run=name, key=key)

        def hidden(digest: bytes) -> NoiseSource:
            pay(f"{name}/codec/{randomness.mark(digest)}")
            return randomness.source("codec", digest)

        if NonPrivate() in atoms(released):
            pay(f"{name}/codec")  # before anything of it is computed
        codec = codec_for(self.config, people, public, tell, hidden)
        store_codec(codec, file)
        return codec


def _sized(
    config: Config,
    public: Updates,
    protection: Protection,
    codec: Compressor,
    tell: Tell,
) -> tuple[Protection, Server, float | None]:
    """Clip norm and server step from public updates, where they are wanted."""
    privacy, server = config.privacy, config.server
    wanted = privacy.clip_norm
    if wanted == "adaptive":
        wanted = privacy.clip_start
    given = None if isinstance(wanted, str) else wanted
    rate, alignment = server.learning_rate, None
    unclipped = protection.clip_norm == math.inf
    if (given is None and not unclipped) or server.step_norm is not None:
        tell("measuring public updates")
        wide = _UNBOUNDED if unclipped else given
        seen = scales(codec, public(), wide, privacy.clip_factor)
        alignment = None if unclipped else seen.alignment
        if not unclipped:
            protection = replace(protection, clip_norm=seen.clip_norm)
        if server.step_norm is not None:
            rate = server.step_norm / max(seen.step, 1e-30)
    elif given is not None and not unclipped:
        protection = replace(protection, clip_norm=given)
    return protection, _server(config, rate), alignment


def _server(config: Config, rate: float) -> Server:
    return Server(config.server.optimizer, rate, config.server.momentum)


def _as_planned(
    config: Config, protection: Protection, plan: dict[str, Any]
) -> tuple[Protection, Server, float | None]:
    try:
        clip = float(plan["clip_norm"])
        noise, rate = float(plan["noise_multiplier"]), plan["server_learning_rate"]
        protection = replace(protection, clip_norm=clip, noise_multiplier=noise)
        return protection, _server(config, float(rate)), plan["alignment"]
    except (KeyError, TypeError, ValueError) as error:
        raise RunFolderError(
            f"plan.json is damaged: {error!r:.80}; the run cannot go on"
        ) from None


def _same_run(
    planned: dict[str, Any], people: Federation, simulation: Simulation
) -> int:
    """The planned number of rounds, after a check that nothing else has changed."""
    found = {
        "clients": simulation.trainer.num_clients,
        "population": people.population,
        "examples": people.examples,
        "update_length": simulation.compressor.update_length,
        "code_length": simulation.compressor.code_length,
    }
    for name, value in found.items():
        if planned.get(name) != value:
            raise RunFolderError(
                f"the run began with {name.replace('_', ' ')}"
                f" {planned.get(name)}, but now there are {value}: data, model or"
                " codec have changed, so it cannot go on"
            )
    return int(planned["rounds"])
