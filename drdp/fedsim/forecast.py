"""Whether a run can learn anything through its noise, said before it starts.

The noise on one coordinate of the mean decides, not the norm of all noise
against the norm of the signal: noise in directions that the loss hardly depends
on is nearly free.  Below about a hundredth of the clip norm no codec is needed;
above, a short code wins.  These are rules of thumb, found with one small
language model (docs/results.md), not laws.

>>> from drdp.privacy.threat import PoissonCohort
>>> small = Protection(PoissonCohort(0.1), clip_norm=1.0, noise_multiplier=0.593)
>>> seen = forecast(small, num_clients=100, rounds=8, code_length=368_640)
>>> seen.verdict, round(seen.noise_per_coordinate, 3)
('hopeless', 0.059)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, final

from drdp import _check
from drdp.errors import DrdpError
from drdp.fedsim.cohort import AllocatedCohort
from drdp.fedsim.protection import Protection, calibrated
from drdp.privacy.threat import FixedCohort, PoissonCohort

__all__ = ["HARMLESS", "Forecast", "forecast", "population_needed"]

Verdict = Literal["no noise", "no codec needed", "code carries", "weak", "hopeless"]

HARMLESS = 0.01
"""Noise per coordinate / clip norm up to which every code length works."""

_FAINT = 0.03  # ... up to which a long code loses part of the gain
_USUAL_ALIGNMENT = 0.25  # norm of the mean of clipped codes / clip norm
_CARRIES, _LOST = 2.0, 10.0  # norm of a run's noise / norm of its signal


@final
@dataclass(frozen=True, slots=True)
class Forecast:
    """What the noise will do to a run.

    Args:
        verdict: In two words.
        noise_per_coordinate: Noise on a coordinate of the mean code / clip norm.
        noise_norm: Expected norm of the noise that all rounds add up to, in
            units of the clip norm.
        signal_norm: Norm of what the rounds add up to without noise, likewise.
        alignment: Norm of the mean of clipped codes / clip norm, measured on
            public data or assumed.
        shorter: A code length at which the signal would carry, if this one does
            not.
    """

    verdict: Verdict
    noise_per_coordinate: float
    noise_norm: float
    signal_norm: float
    alignment: float
    shorter: int | None

    def sentences(self) -> list[str]:
        """The forecast in words."""
        noise, ratio = self.noise_per_coordinate, self._ratio
        if self.verdict == "no noise":
            return ["No noise is added: nothing is protected."]
        first = (
            f"Noise per coordinate of the mean: {noise:.3g} of the clip norm"
            f" ({HARMLESS} or less is harmless at any code length)."
        )
        told = [first]
        if self.verdict == "no codec needed":
            told.append("Harmless here: a short code would only lose signal.")
        elif self.verdict == "code carries":
            told.append(
                f"Too much for a long code, but over the run this one carries"
                f" {1 / ratio:.2g} times as much signal as noise."
            )
        elif self.verdict == "weak":
            told.append(
                f"Over the run there is {ratio:.2g} times as much noise as signal in"
                " this code: expect to lose part of the gain."
            )
        else:
            told.append(
                f"HOPELESS: over the run there is {ratio:.2g} times as much noise as"
                " signal in this code; expect the model to get worse."
            )
        if self.shorter is not None:
            told.append(
                f"A code of about {self.shorter:,} numbers that keeps the signal"
                " would carry; or draw more clients per round from more clients."
            )
        return told

    @property
    def _ratio(self) -> float:
        return self.noise_norm / max(self.signal_norm, 1e-300)


def forecast(
    protection: Protection,
    *,
    num_clients: int,
    rounds: int,
    code_length: int,
    alignment: float | None = None,
) -> Forecast:
    """The forecast of a run.

    Args:
        protection: The noise, calibrated.
        num_clients: How many clients there are.
        rounds: How many rounds the run has.
        code_length: Numbers in a code.
        alignment: Norm of the mean of clipped codes / clip norm, from public
            data; None for a usual value.
    """
    rounds = _check.count(least=1, rounds=rounds)
    code_length = _check.count(least=1, code_length=code_length)
    seen = _USUAL_ALIGNMENT if alignment is None else alignment
    each = protection.noise_of_mean(num_clients)
    noise = each * math.sqrt(code_length * rounds)
    signal = seen * rounds
    if each == 0.0:
        return Forecast("no noise", 0.0, 0.0, signal, seen, None)
    ratio = noise / max(signal, 1e-300)
    verdict: Verdict = "hopeless"
    if each <= HARMLESS:
        verdict = "no codec needed"
    elif ratio <= _CARRIES:
        verdict = "code carries"
    elif ratio <= _LOST or each <= _FAINT:
        verdict = "weak"
    shorter = None
    if verdict in ("weak", "hopeless"):
        fits = math.floor(code_length * (_CARRIES / ratio) ** 2)
        shorter = fits if fits >= 1 else None
    return Forecast(verdict, each, noise, signal, seen, shorter)


def population_needed(
    protection: Protection,
    *,
    num_clients: int,
    rounds: int,
    epsilon: float,
    delta: float,
    most: int = 10**7,
) -> int | None:
    """How many clients would make the noise harmless at any code length.

    The rate stays as it is, so cohorts grow with the population; the noise
    multiplier is the one that the budget asks for at that rate.

    Returns:
        A number of clients, to about a tenth; None where more than `most` are
        needed, or where nothing can be calibrated.
    """
    try:
        noise = calibrated(protection, epsilon=epsilon, delta=delta, rounds=rounds)
    except DrdpError:
        return None
    clients = _check.count(least=1, num_clients=num_clients)
    while clients <= most:
        cohort = protection.cohort
        if isinstance(cohort, FixedCohort):
            size = round(cohort.clients_per_round * clients / cohort.population)
            cohort = FixedCohort(max(size, 1), clients)
        elif not isinstance(cohort, PoissonCohort | AllocatedCohort):
            cohort = type(cohort)(clients)
        larger = replace(noise, cohort=cohort)
        if larger.noise_of_mean(clients) <= HARMLESS:
            return clients
        clients = math.ceil(clients * 1.1)
    return None
