"""What the private releases of a Flower run have cost, by certified privacy losses.

`PldAccountant` is an implementation of Flower's `PrivacyAccountant` protocol
(flwr 1.35 or later): it goes wherever Flower's own `RdpAccountant` goes, and
tells epsilons that are certified bounds and never above that one's.

>>> from flwr.serverapp import NeighboringRelation, PrivacyConfig, SamplingMethod
>>> from flwr.serverapp import GaussianPrivacyEvent
>>> config = PrivacyConfig(
...     target_delta=1e-5,
...     population_size=100,
...     neighboring_relation=NeighboringRelation.ADD_OR_REMOVE_ONE,
...     sampling_method=SamplingMethod.POISSON,
...     max_epsilon=2.0,
... )
>>> accountant = PldAccountant(config)
>>> round_ = GaussianPrivacyEvent(1.0, sample_size=5, population_size=100)
>>> accountant.compose(round_, 19)
>>> round(accountant.get_privacy_spent().epsilon, 4)
1.956
>>> accountant.would_exceed(round_), accountant.would_exceed(round_, count=2)
(False, True)
"""

from __future__ import annotations

from typing import Any, final

from flwr.serverapp import (
    GaussianPrivacyEvent,
    NeighboringRelation,
    PrivacyConfig,
    PrivacySpent,
    SamplingMethod,
)

from drdp import _check
from drdp.errors import InvalidArgumentError
from drdp.privacy.calibration import calibrate_count
from drdp.privacy.curves import PrivacyCurve
from drdp.privacy.events import (
    Composed,
    Event,
    FixedSizeSampled,
    Gaussian,
    PoissonSampled,
)
from drdp.privacy.payment import Payer
from drdp.privacy.pld import pld_curve

__all__ = ["PldAccountant", "event_of"]

_VERSION = 1
_BACKEND = "drdp-pld"
_CONFIG = (
    "target_delta",
    "population_size",
    "neighboring_relation",
    "sampling_method",
    "max_epsilon",
)
_RELEASE = ("noise_multiplier", "sample_size", "population_size")


def event_of(config: PrivacyConfig, release: GaussianPrivacyEvent) -> Event:
    """What one release of Flower is in drdp's algebra.

    The noise multiplier is the noise's standard deviation divided by the
    sensitivity under the configured relation: the clip norm C where a client is
    added or removed, 2C where one is replaced.  That is what Flower's own
    accountant takes it for.

    Args:
        config: How clients are drawn, and which data sets are neighbours.
        release: One Gaussian release of Flower.

    Raises:
        InvalidArgumentError: If the release is of another population, or the
            pair of draw and relation has no meaning.
    """
    if release.population_size != config.population_size:
        raise InvalidArgumentError(
            "population_size of the release must be that of the PrivacyConfig,"
            f" {config.population_size}, got {release.population_size}"
        )
    inner = Gaussian(release.noise_multiplier)
    size, population = release.sample_size, release.population_size
    match config.sampling_method, config.neighboring_relation:
        case SamplingMethod.POISSON, NeighboringRelation.ADD_OR_REMOVE_ONE:
            return PoissonSampled(size / population, inner)
        case SamplingMethod.WITHOUT_REPLACEMENT, NeighboringRelation.REPLACE_ONE:
            return FixedSizeSampled(size, population, inner)
        case SamplingMethod.NO_AMPLIFICATION, NeighboringRelation.ADD_OR_REMOVE_ONE:
            return inner
    raise InvalidArgumentError(
        f"sampling_method {config.sampling_method!r} has no meaning with"
        f" neighboring_relation {config.neighboring_relation!r}"
    )


@final
class PldAccountant:
    """Flower's `PrivacyAccountant` protocol over certified privacy losses.

    Args:
        config: Flower's description of the population, the draw, the relation,
            delta and, if there is one, the budget.
        ledger: A durable account that every release is charged to before it is
            counted here; a `Ledger`, or what stands for one.
        run: The run that the ledger's entries name.

    Guarantees:
        Every epsilon and delta is an upper bound of the true one, for rounds
        drawn as the config says; the noise may be chosen as one goes along only
        where the choice does not depend on what was released.
    """

    def __init__(
        self, config: PrivacyConfig, *, ledger: Payer | None = None, run: str = ""
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._run = run
        self._releases: list[tuple[GaussianPrivacyEvent, int]] = []

    @property
    def config(self) -> PrivacyConfig:
        """The privacy configuration."""
        return self._config

    @property
    def num_releases(self) -> int:
        """How many private releases were composed."""
        return sum(count for _, count in self._releases)

    @property
    def event(self) -> Event:
        """Everything that was composed, in drdp's algebra."""
        return Composed(
            tuple(event_of(self._config, one) * count for one, count in self._releases)
        )

    def compose(self, event: GaussianPrivacyEvent, count: int = 1) -> None:
        """Count one or more identical releases: call it before they are made.

        With a ledger the charge is durable when this returns; where the ledger
        refuses, nothing is counted and its error passes through.
        """
        cost = event_of(self._config, event)
        count = _check.count(least=1, count=count)
        if self._ledger is not None:
            # No key that would recognise a round: one that is done again after
            # a crash has fresh noise, and costs again.
            all_ = cost * count if count > 1 else cost
            self._ledger.charge(all_, label="flower", run=self._run)
        if self._releases and self._releases[-1][0] == event:
            count += self._releases.pop()[1]
        self._releases.append((event, count))

    def get_epsilon(self, delta: float) -> float:
        """The certified epsilon of everything so far at `delta`."""
        return self._curve().epsilon(delta)

    def get_delta(self, epsilon: float) -> float:
        """The certified delta of everything so far at `epsilon`."""
        return self._curve().delta(epsilon)

    def get_privacy_spent(self, delta: float | None = None) -> PrivacySpent:
        """Everything so far at `delta`, by default the configured one."""
        delta = self._config.target_delta if delta is None else delta
        return PrivacySpent(
            epsilon=self.get_epsilon(delta),
            delta=delta,
            num_releases=self.num_releases,
            accounting_method=_BACKEND,
        )

    def would_exceed(
        self,
        event: GaussianPrivacyEvent,
        max_epsilon: float | None = None,
        count: int = 1,
    ) -> bool:
        """Whether further releases would leave a budget; counts nothing.

        A budget is kept where either certified answer shows it: delta at the
        limit, or epsilon at the target delta.  So noise that was calibrated to
        just meet a budget meets it.
        """
        count = _check.count(least=1, count=count)
        limit = self._limit(max_epsilon)
        after = self.event + event_of(self._config, event) * count
        return not self._fits(pld_curve(after), limit)

    def releases_left(
        self, event: GaussianPrivacyEvent, max_epsilon: float | None = None
    ) -> int:
        """How many more such releases fit into the budget (at most a billion)."""
        limit = self._limit(max_epsilon)
        spent, each = self.event, event_of(self._config, event)
        return calibrate_count(
            lambda count: spent + each * count,
            pld_curve,
            lambda curve: self._fits(curve, limit),
        )

    def state_dict(self) -> dict[str, object]:
        """Everything that was composed, ready for JSON."""
        config: dict[str, object] = {
            name: getattr(self._config, name) for name in _CONFIG
        }
        config["neighboring_relation"] = self._config.neighboring_relation.value
        config["sampling_method"] = self._config.sampling_method.value
        return {
            "schema_version": _VERSION,
            "backend": _BACKEND,
            "config": config,
            "compositions": [
                {
                    "event": {name: getattr(one, name) for name in _RELEASE},
                    "count": count,
                }
                for one, count in self._releases
            ],
        }

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Take up what `state_dict` gave, in place of what was counted here.

        Nothing is charged to the ledger, which has its own memory.  A state
        that does not fit leaves this accountant as it was.

        Raises:
            InvalidArgumentError: If the state is of another version, backend or
                configuration, or is damaged.
        """
        body = _fields(
            "state", state, ("schema_version", "backend", "config", "compositions")
        )
        for name, wanted in (("schema_version", _VERSION), ("backend", _BACKEND)):
            if body[name] != wanted or isinstance(body[name], bool):
                raise InvalidArgumentError(
                    f"{name} of the state must be {wanted!r}, got {body[name]!r:.80}"
                )
        mine = self.state_dict()["config"]
        if body["config"] != mine:
            raise InvalidArgumentError(
                f"config of the state must be that of this accountant, {mine},"
                f" got {body['config']!r:.300}"
            )
        if not isinstance(body["compositions"], list):
            raise InvalidArgumentError("compositions of the state must be a list")
        releases = []
        for entry in body["compositions"]:
            part = _fields("composition", entry, ("event", "count"))
            count = _check.count(least=1, count=part["count"])
            release = GaussianPrivacyEvent(**_fields("event", part["event"], _RELEASE))
            event_of(self._config, release)
            releases.append((release, count))
        self._releases = releases

    def _curve(self) -> PrivacyCurve:
        return pld_curve(self.event)

    def _fits(self, curve: PrivacyCurve, limit: float) -> bool:
        delta = self._config.target_delta
        return curve.epsilon(delta) <= limit or curve.delta(limit) <= delta

    def _limit(self, max_epsilon: float | None) -> float:
        limit = self._config.max_epsilon if max_epsilon is None else max_epsilon
        if limit is None:
            raise InvalidArgumentError(
                "max_epsilon must be given here or in the PrivacyConfig, got None"
            )
        return _check.positive(max_epsilon=limit)


def _fields(what: str, value: object, names: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != set(names):
        raise InvalidArgumentError(
            f"{what} must be a dictionary of {', '.join(names)}, got {value!r:.120}"
        )
    return value
