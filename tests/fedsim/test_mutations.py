"""Classic bugs, planted one by one: the audit refutes the claim, and only then.

Each bug is planted in the running simulator.  The audit gets the claim that the
correct program makes, at 95 % confidence; the program without the bug is audited
in the same way with 20 seeds.  Seeds are fixed, so nothing here is flaky; with
fresh ones a true claim would be called false in fewer than 1 of 20 audits by
construction, and in fewer than 1 of 100 in fact.

One kind of bug an audit cannot see: residuals that a client adds before the clip
leave the claim true.  They would break resuming, which
`test_simulate.test_a_run_goes_on_from_any_state_as_if_it_had_never_stopped` checks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from drdp.fedsim import auditing, simulate
from drdp.fedsim.auditing import audit_simulation
from drdp.fedsim.bounds import Bounds
from drdp.fedsim.randomness import Randomness, SecretRandomness
from drdp.fedsim.simulate import Simulation
from drdp.fedsim.total import Total
from drdp.fedsim.trainer import Update
from drdp.mechanisms.clipping import Bounded
from drdp.mechanisms.gaussian import GaussianMechanism
from drdp.mechanisms.protocol import NoiseSource
from drdp.privacy.events import NOTHING, Event, Gaussian
from drdp.privacy.findings import Finding
from drdp.privacy.threat import EveryClient, Placement, PoissonCohort, View
from tests.fedsim.audited import DELTA, LENGTH, audited

Patch = pytest.MonkeyPatch
SIGMA = 0.748028  # the paper's noise for epsilon 1


@dataclass(frozen=True)
class Case:
    """A bug, the program it is planted in, and how that is audited."""

    name: str
    plant: Callable[[Patch], None]
    program: Callable[[], Simulation]
    audit: dict[str, Any] = field(default_factory=dict)
    bugged: Callable[[], Simulation] | None = None
    runs: int = 150

    def found(self, simulation: Simulation, seed: int) -> Finding:
        return audit_simulation(
            simulation, delta=DELTA, seed=seed, runs=self.runs, **self.audit
        )


class _Scaled:
    """Clips as promised, but its noise is not scaled to the clip norm."""

    def __init__(self, promised: GaussianMechanism) -> None:
        self._promised = promised

        self.noise_std, self.clip_norm = promised.noise_std, promised.clip_norm

    def bounded(self, code: NDArray[np.float64]) -> Bounded:
        return self._promised.bounded(code)

    def release(self, total: NDArray[np.float64], rng: NoiseSource) -> Any:
        return total + self._promised.noise_multiplier * rng.normal(len(total))


class _PerBlock(_Scaled):
    """Clips each of four blocks to the whole norm, with noise for one clip."""

    def bounded(self, code: NDArray[np.float64]) -> Bounded:
        blocks = [self._promised.bound(block) for block in np.split(code, 4)]
        return replace(self._promised.bounded(code), value=np.concatenate(blocks))

    def release(self, total: NDArray[np.float64], rng: NoiseSource) -> Any:
        return self._promised.release(total, rng)


def _mechanism(kind: type[_Scaled]) -> Callable[[Patch], None]:
    def plant(patch: Patch) -> None:
        right = simulate.bounds_of

        def wrong(*given: Any, **named: Any) -> Bounds:
            found = right(*given, **named)
            assert found.mechanism is not None
            return replace(found, mechanism=kind(found.mechanism))  # type: ignore[arg-type]

        patch.setattr(simulate, "bounds_of", wrong)

    return plant


class _SameNoise:
    """Noise from the seed of the run alone, whatever the round."""

    def __init__(self, right: Randomness) -> None:
        self._right = right
        self.secure = right.secure
        self.mark = right.mark

    def source(self, purpose: str, *context: int | bytes) -> NoiseSource:
        if purpose == "noise":
            context = ()
        return self._right.source(purpose, *context)


def same_noise(patch: Patch) -> None:
    right = auditing.secret_of
    patch.setattr(
        auditing, "secret_of", lambda seed: lambda run: _SameNoise(right(seed)(run))
    )


class _Weighted(Total):
    """Weighs each clipped code with the client's number of examples."""

    def add(self, update: Update) -> None:
        before = self.sum.copy()
        super().add(update)
        self.sum = before + (self.sum - before) * update.examples


class _Counting(Total):
    """Remembers, for the division, how many clients really sent something."""

    last = 1

    def add(self, update: Update) -> None:
        super().add(update)
        type(self).last = len(self._norms)


class _Residual(Total):
    """What clipping cuts off is kept, and added to the client's next message."""

    kept: dict[int, NDArray[np.float64]] = {}  # noqa: RUF012 - a global is the bug

    def add(self, update: Update) -> None:
        if self._round == 0:
            self.kept.pop(update.client, None)
        before = self.sum.copy()
        super().add(update)
        cut = self._codec.encode(update.delta) - (self.sum - before)
        self.sum += self.kept.pop(update.client, 0.0)
        self.kept[update.client] = cut


def _total(kind: type[Total]) -> Callable[[Patch], None]:
    return lambda patch: patch.setattr(simulate, "Total", kind)


def realised_size(patch: Patch) -> None:
    patch.setattr(simulate, "Total", _Counting)
    patch.setattr(Simulation, "divisor", lambda self, clients: _Counting.last)


def shuffled(patch: Patch) -> None:
    """Each pass goes once through all clients, in an order drawn for the pass."""

    def draw(cohort: Any, clients: int, round_: int, randomness: Randomness) -> Any:
        rounds = round(1.0 / cohort.rate)
        words = randomness.source("order", round_ // rounds).words(clients)
        turn = round_ % rounds
        return sorted(np.argsort(words)[turn::rounds].tolist())

    patch.setattr(simulate, "draw", draw)


class _BatchNorm:
    """Whitens each update by running moments of all updates of the round so far."""

    event: Event = NOTHING
    update_length = code_length = LENGTH

    def __init__(self, *, trains: bool) -> None:
        self._trains, self._square = trains, 1.0

    def redrawn(self, round_: int) -> _BatchNorm:
        return _BatchNorm(trains=self._trains)

    def encode(self, update: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._trains:
            self._square = 0.5 * self._square + 0.5 * float(np.mean(update**2))
        return (update / math.sqrt(self._square + 1e-6)).astype(np.float32)

    def decode(self, code: NDArray[np.float64]) -> NDArray[np.float32]:
        return code.astype(np.float32)


def as_printed(patch: Patch) -> None:
    """Nothing to patch: the paper's noise is a setting."""


def _paper(noise: float) -> Simulation:
    return audited(
        EveryClient(5),
        5,
        noise_multiplier=noise,
        placement=Placement.DISTRIBUTED,
        view=View.SUM,
    )


def _zero_out(noise: float, clients: int = 4, **more: Any) -> Simulation:
    return audited(PoissonCohort(1.0), clients, noise_multiplier=noise, **more)


CASES = [
    Case(
        "noise not scaled to the clip",
        _mechanism(_Scaled),
        lambda: _zero_out(0.7, clip_norm=4.0),
    ),
    Case(
        "clip per block with joint sensitivity claimed",
        _mechanism(_PerBlock),
        lambda: _zero_out(0.7, clip_norm=0.5),
        {"scale": 100.0},
    ),
    Case(
        "noise as printed in the paper",
        as_printed,
        lambda: _paper(2 * SIGMA / math.sqrt(5)),
        {"claimed": Gaussian(SIGMA)},
        bugged=lambda: _paper(2 * SIGMA / 5),
        runs=200,
    ),
    Case(
        "noise reused across rounds",
        same_noise,
        lambda: _zero_out(0.9),
        {"rounds": 2},
    ),
    Case(
        "weights from private sizes",
        _total(_Weighted),
        lambda: _zero_out(0.7),
        {"examples": 5},
    ),
    Case(
        "mean by realised cohort size",
        realised_size,
        lambda: _zero_out(1.0, crowd=9.0),
        {"kind": "crowd", "seen": "models"},
        runs=300,
    ),
    Case(
        "sampling by shuffle accounted as Poisson",
        shuffled,
        lambda: audited(PoissonCohort(0.25), 4, noise_multiplier=0.15),
        {"rounds": 4},
    ),
    Case(
        "residuals kept across rounds",
        _total(_Residual),
        lambda: _zero_out(1.0),
        {"rounds": 2, "scale": 5.0, "kind": "crowd"},
    ),
    Case(
        "encoder in batch-norm train mode",
        lambda patch: None,
        lambda: _zero_out(1.0, crowd=1.0, codec=_BatchNorm(trains=False)),
        {"kind": "crowd", "scale": 1000.0},
        bugged=lambda: _zero_out(1.0, crowd=1.0, codec=_BatchNorm(trains=True)),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_audit_refutes_the_claim_of_a_program_with_a_bug(
    case: Case, monkeypatch: Patch
) -> None:
    case.plant(monkeypatch)
    found = case.found((case.bugged or case.program)(), seed=1)
    assert found.verdict == "violated", found
    assert found.beyond is not None
    assert found.beyond.tpr > found.beyond.allowed


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_audit_lets_the_program_without_the_bug_stand(case: Case) -> None:
    verdicts = [case.found(case.program(), seed).verdict for seed in range(20)]
    assert "violated" not in verdicts
    assert verdicts.count("consistent") >= 18  # the attacks do see the canary


def test_randomness_of_an_audit_is_new_in_each_run() -> None:
    keys = auditing.secret_of(3)
    draws = [keys(run).source("noise", 0).normal(1)[0] for run in range(50)]
    assert len(set(draws)) == 50
    assert isinstance(keys(0), SecretRandomness)
