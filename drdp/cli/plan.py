"""A run as a command line describes it, and the event it stands for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import click

from drdp.privacy.events import (
    Adjacency,
    Event,
    FixedSizeSampled,
    Gaussian,
    PoissonSampled,
)

__all__ = ["Plan", "read_delta", "read_plan"]

_DEFAULT_DELTA = 1e-5
_FINEST = 10**12  # a rate without a population is a share of this many clients


@dataclass(frozen=True, slots=True)
class Plan:
    """One run; the quantity that is asked for is None until it is found.

    `delta_source` says where delta came from, in words.
    """

    sampling: str
    adjacency: Adjacency
    unit: str
    population: int | None
    delta: float | None
    delta_source: str
    noise_multiplier: float | None
    rate: Fraction | None
    steps: int | None
    stage_one_noise: float | None = None

    def event(self) -> Event:
        """What the run releases, with its first stage where it has one."""
        if self.stage_one_noise is None:
            return self._rounds()
        return Gaussian(self.stage_one_noise) + self._rounds()

    def _rounds(self) -> Event:
        if self.noise_multiplier is None or self.rate is None or self.steps is None:
            raise TypeError("the plan still has an unknown")
        noise = Gaussian(self.noise_multiplier)
        if self.sampling == "poisson":
            return PoissonSampled(float(self.rate), noise, self.adjacency) * self.steps
        drawn, population = self.rate.numerator, self.rate.denominator
        return FixedSizeSampled(drawn, population, noise) * self.steps

    def with_noise(self, noise_multiplier: float) -> Plan:
        """The same run with this noise multiplier."""
        return replace(self, noise_multiplier=noise_multiplier)

    def with_steps(self, steps: int) -> Plan:
        """The same run with this many rounds."""
        return replace(self, steps=steps)

    def with_rate(self, rate: float) -> Plan:
        """The same run with this sampling rate, or a hair less."""
        if self.sampling == "poisson":
            return replace(self, rate=Fraction(rate))
        return replace(self, rate=Fraction(max(1, int(rate * _FINEST)), _FINEST))

    def with_drawn(self, drawn: int) -> Plan:
        """The same run with this many clients a round, of a known population."""
        return replace(self, rate=Fraction(drawn, self.population or _FINEST))


def read_plan(
    *,
    sampling: str,
    adjacency: str | None,
    unit: str,
    population: int | None,
    delta: float | None = None,
    allow_large_delta: bool = False,
    noise_multiplier: float | None = None,
    rate: Fraction | None = None,
    steps: int | None = None,
    stage_one_noise: float | None = None,
) -> Plan:
    """The plan that options describe, with contradictions refused.

    Raises:
        click.UsageError: If the options contradict each other.
    """
    fixed = sampling == "fixed"
    if fixed and adjacency not in (None, "replace-one"):
        raise click.UsageError(
            f"--sampling fixed is only defined under --adjacency replace-one, got"
            f" --adjacency {adjacency}; drop it, or use --sampling poisson"
        )
    if fixed and rate is not None and population is not None:
        _whole_draw(rate, population)
    delta, source = read_delta(delta, population, allow_large_delta)
    return Plan(
        sampling=sampling,
        adjacency=Adjacency(adjacency or ("replace-one" if fixed else "add-remove")),
        unit=unit,
        population=population,
        delta=delta,
        delta_source=source,
        noise_multiplier=noise_multiplier,
        rate=rate,
        steps=steps,
        stage_one_noise=stage_one_noise,
    )


def _whole_draw(rate: Fraction, population: int) -> None:
    drawn = rate * population
    if drawn.denominator != 1:
        raise click.UsageError(
            f"--rate {float(rate):g} of --population {population} is"
            f" {float(drawn):g} clients a round, which is no whole number; with"
            " --sampling fixed give a rate such as"
            f" {max(1, round(drawn))}/{population}"
        )


def read_delta(
    delta: float | None, population: int | None, allowed: bool
) -> tuple[float, str]:
    """The delta to use, and where it comes from, in words.

    Raises:
        click.UsageError: If it is not below 1/population and not allowed to be.
    """
    if delta is None:
        if population is None:
            return _DEFAULT_DELTA, "the default; set it with --delta or --population"
        return (
            min(_DEFAULT_DELTA, population**-1.1),
            f"min(1e-5, N^-1.1) from --population {population}",
        )
    if population is not None and delta * population >= 1.0 and not allowed:
        raise click.UsageError(
            f"--delta {delta:g} is not below 1/N for --population {population}:"
            " publishing one member's data in clear would meet it; give a smaller"
            " --delta, or pass --allow-large-delta"
        )
    return delta, "from --delta"
