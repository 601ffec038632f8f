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
from drdp.privacy.sampling import (
    FixedSizeZeroOut,
    RandomlyAllocated,
    Scheduled,
    Shuffled,
    TruncatedPoissonSampled,
)

__all__ = ["Plan", "read_delta", "read_plan"]

_DEFAULT_DELTA = 1e-5
_IN_EPOCHS = ("allocation", "shuffle", "all")
_RELATIONS = {  # where not all have a meaning; the first is the default
    "fixed": ("replace-one", "zero-out"),
    "allocation": ("add-remove", "zero-out"),
    "shuffle": ("zero-out", "replace-one"),
}
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
    max_batch: int | None = None

    def event(self) -> Event:
        """What the run releases, with its first stage where it has one."""
        if self.stage_one_noise is None:
            return self._rounds()
        return Gaussian(self.stage_one_noise) + self._rounds()

    def _rounds(self) -> Event:
        if self.noise_multiplier is None or self.rate is None or self.steps is None:
            raise TypeError("the plan still has an unknown")
        noise = Gaussian(self.noise_multiplier)
        relation, drawn, among = self.adjacency, *self.rate.as_integer_ratio()
        match self.sampling:
            case "poisson":
                return PoissonSampled(float(self.rate), noise, relation) * self.steps
            case "truncated":
                sizes = self.population or 1, self.max_batch or 1
                rate = float(self.rate)
                return TruncatedPoissonSampled(rate, *sizes, noise, relation) * (
                    self.steps
                )
            case "allocation":  # an epoch that was begun counts as a whole one
                epoch = RandomlyAllocated(among, noise, drawn, relation)
                return epoch * -(-self.steps // among)
            case "shuffle":
                return Shuffled(among, noise, relation) * -(-self.steps // among)
            case "all":
                return Scheduled(self.steps, noise, relation)
        kind = FixedSizeSampled if self.per_replacement else FixedSizeZeroOut
        return kind(drawn, among, noise) * self.steps

    @property
    def per_replacement(self) -> bool:
        """Whether noise is counted in units of twice the clip norm."""
        return self.sampling == "fixed" and self.adjacency is Adjacency.REPLACE_ONE

    def with_noise(self, noise_multiplier: float) -> Plan:
        """The same run with this noise multiplier."""
        return replace(self, noise_multiplier=noise_multiplier)

    def with_steps(self, steps: int) -> Plan:
        """The same run with this many rounds."""
        return replace(self, steps=steps)

    def with_rate(self, rate: float) -> Plan:
        """The same run with this sampling rate, or a hair less."""
        if self.sampling != "fixed":
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
    max_batch: int | None = None,
) -> Plan:
    """The plan that options describe, with contradictions refused.

    Raises:
        click.UsageError: If the options contradict each other.
    """
    fixed = sampling == "fixed"
    allowed = _RELATIONS.get(sampling, tuple(Adjacency))
    if adjacency is not None and adjacency not in allowed:
        raise click.UsageError(
            f"--sampling {sampling} is only defined under --adjacency"
            f" {' or '.join(allowed)}, got --adjacency {adjacency}; drop it, or use"
            " --sampling poisson"
        )
    _refuse_sizes(sampling, population, max_batch)
    if sampling in _IN_EPOCHS:
        _refuse_epochs(sampling, rate, steps)
    if fixed and rate is not None and population is not None:
        _whole_draw(rate, population)
    delta, source = read_delta(delta, population, allow_large_delta)
    return Plan(
        sampling=sampling,
        adjacency=Adjacency(adjacency or allowed[0]),
        unit=unit,
        population=population,
        delta=delta,
        delta_source=source,
        noise_multiplier=noise_multiplier,
        rate=rate,
        steps=steps,
        stage_one_noise=stage_one_noise,
        max_batch=max_batch,
    )


def _refuse_sizes(sampling: str, population: int | None, most: int | None) -> None:
    truncated = sampling == "truncated"
    if truncated and (population is None or most is None):
        raise click.UsageError(
            "--sampling truncated needs --population and --max-batch: how many join"
            " at most depends on both"
        )
    if most is not None and not truncated:
        raise click.UsageError(
            f"--max-batch says nothing with --sampling {sampling}; drop it, or use"
            " --sampling truncated"
        )


def _refuse_epochs(sampling: str, rate: Fraction | None, steps: int | None) -> None:
    if rate is None:
        raise click.UsageError(
            f"--sampling {sampling} fixes the rate by its number of rounds; look for"
            " the rate with --sampling poisson or fixed"
        )
    if sampling == "all" and rate != 1:
        raise click.UsageError(
            f"--sampling all has every client in every round: --rate is 1, got"
            f" {float(rate):g}"
        )
    if sampling == "shuffle" and rate.numerator != 1:
        raise click.UsageError(
            f"--sampling shuffle cuts an epoch into whole batches: --rate is 1/t for"
            f" t batches, got {rate}"
        )
    if steps is not None and steps % rate.denominator:
        raise click.UsageError(
            f"--steps {steps} is no whole number of epochs: with --rate {rate} an"
            f" epoch has {rate.denominator} rounds"
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
