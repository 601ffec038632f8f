"""Which plainer releases bound a sampled one, from above and from below.

Accountants that know the plain ones thereby know the others.  For one release
about a sample:

- *Fixed size, zero-out.*  Couple the two data sets' samples; where the unit is
  not drawn, another one is in its place, at most 2C away.  By joint convexity
  (Balle, Barthe and Gaboardi, arXiv:1807.01647) the replace-one bound at the
  same noise holds, whose multiplier counts per 2C.
- *Random allocation of k in t.*  A random k-subset arises by cutting a random
  arrangement of the rounds into k blocks of floor(t/k), leaving out the rest,
  and drawing one round in each.  Given the arrangement the blocks are
  independent allocations of one in floor(t/k), and a mixture of P's against one
  Q costs at most the worst of them (Feldman and Shenfeld, arXiv:2502.08202).
  From below, the sum over all t rounds is a Gaussian release of multiplier
  z sqrt(t) / k.
- *Truncated Poisson.*  Given who else joined, there are two cases.  If that is
  fewer than B, nobody is dropped whether the unit joins or not, and the release
  is the Poisson one.  If not, let the release reveal everything.  That the
  others number B or more depends on them alone and has the probability psi =
  P[Binomial(n - 1, q) >= B] with the unit and without it, so that by joint
  convexity the round costs at most a Poisson round and an independent chance
  of psi to fail: over T rounds, delta grows by at most T psi.  Chua et al.
  (arXiv:2411.04205) have (1 + e^epsilon) T P[Binomial(n, q) > B]: here both
  data sets are truncated by the same draw, so that no e^epsilon is due.
  Where psi is too large for that, `exchanged` has another bound: with m >= B
  others a unit that joins stays with probability B / (m + 1) and then displaces
  another one, so that the release is one of fixed size, at a rate of at most q.
  From below: if all others send nothing, only the unit's joining shows, which
  happens with a probability of at least q (1 - psi).
- *Shuffled batches.*  A mixture, over the place of the unit, of releases that
  cost one plain release each.

>>> from drdp.privacy.events import Gaussian
>>> above(((RandomlyAllocated(20, Gaussian(1.0), participations=3), 1),))
((RandomlyAllocated(rounds=6, event=Gaussian(noise_multiplier=1.0)), 3),)
"""

from __future__ import annotations

import math
from collections.abc import Callable

from drdp.errors import UnsupportedEventError
from drdp.privacy.events import (
    ApproxDP,
    Event,
    FixedSizeSampled,
    Gaussian,
    Laplace,
    PoissonSampled,
    Sampled,
    atoms,
)
from drdp.privacy.sampling import (
    FixedSizeZeroOut,
    RandomlyAllocated,
    Shuffled,
    TruncatedPoissonSampled,
)

__all__ = ["above", "below", "exchanged", "overflow"]

Atoms = tuple[tuple[Event, int], ...]

_LEAST_NOISE, _MOST_NOISE = 0.05, 1e3  # of laws that are computed on a grid
_MOST_ROUNDS = 1 << 20
_LARGEST_POPULATION = 10**15
_LARGEST_COUNT, _LARGEST_NOISE = 10**200, 1e150  # what a double holds in sum
_ROUNDING = 1e-9  # relative, of a binomial tail


def above(parts: Atoms) -> Atoms:
    """Plainer releases that cost no less; the very same where all are plain."""
    return _mapped(parts, _above)


def below(parts: Atoms) -> Atoms:
    """Plainer releases that cost no more; the very same where all are plain."""
    return _mapped(parts, _below)


def exchanged(parts: Atoms) -> Atoms:
    """As `above`, but without a chance of failure for truncated samples.

    The replace-one bound of fixed-size sampling dominates every case of a
    truncated round, under each of the relations: what it compares are mixtures
    that share all but a part of at most q, whose contents are 2C apart.
    """
    return _mapped(parts, _exchanged)


def overflow(rate: float, population: int, max_batch: int) -> float:
    """P[Binomial(population - 1, rate) >= max_batch], rounded up.

    >>> 2.94e-13 < overflow(0.01, 10_000, 180) < 2.95e-13
    True
    """
    if max_batch >= population:
        return 0.0
    if population > _LARGEST_POPULATION:
        return 1.0
    from scipy.special import betainc

    tail = float(betainc(max_batch, population - max_batch, rate))
    return min(1.0, max(tail, 1e-300) * (1.0 + _ROUNDING))


def _mapped(parts: Atoms, one: Callable[[Sampled], Atoms]) -> Atoms:
    if not any(isinstance(atom, Sampled) for atom, _ in parts):
        return parts
    total: dict[Event, int] = {}
    for atom, times in parts:
        found: Atoms = ((atom, 1),)
        if isinstance(atom, Sampled):
            found = one(atom)
        for part, count in found:
            total[part] = total.get(part, 0) + times * count
    return tuple(total.items())


def _is_sensible(noise: float, rounds: int) -> bool:
    """Whether a law on a grid is worth its while; else a coarse bound serves."""
    return _LEAST_NOISE <= noise <= _MOST_NOISE and rounds <= _MOST_ROUNDS


def _above(atom: Sampled) -> Atoms:
    match atom:
        case FixedSizeZeroOut(sample_size=size, population=population, event=inner):
            return ((FixedSizeSampled(size, population, _half(inner, atom)), 1),)
        case RandomlyAllocated(
            rounds=rounds, event=Gaussian(noise_multiplier=z) as inner, participations=k
        ):
            share = rounds // k
            if share == 1 or not _is_sensible(z, share):
                return ((inner, k),)
            return ((RandomlyAllocated(share, inner, 1, atom.adjacency), k),)
        case TruncatedPoissonSampled(rate=rate, event=inner, adjacency=relation):
            psi = overflow(rate, atom.population, atom.max_batch)
            plain = atoms(PoissonSampled(rate, inner, relation))
            return (*plain.items(), *atoms(ApproxDP(0.0, psi)).items())
        case Shuffled(event=Gaussian() | Laplace() as inner, adjacency=relation):
            return tuple(atoms(PoissonSampled(1.0, inner, relation)).items())
    raise _unknown(atom)


def _exchanged(atom: Sampled) -> Atoms:
    match atom:
        case TruncatedPoissonSampled(rate=rate, event=inner) if rate < 1.0:
            ratio = rate.as_integer_ratio()
            return ((FixedSizeSampled(*ratio, _half(inner, atom)), 1),)
        case TruncatedPoissonSampled(event=inner):
            return ((_half(inner, atom), 1),)
    return _above(atom)


def _below(atom: Sampled) -> Atoms:
    match atom:
        case FixedSizeZeroOut(event=Gaussian(noise_multiplier=z)):
            shares = 1e-300 < atom.rate < 1.0
            return ((atom, 1),) if shares and _is_sensible(z, 1) else ()
        case RandomlyAllocated(
            rounds=rounds, event=Gaussian(noise_multiplier=z), participations=k
        ):
            if k == 1 and _is_sensible(z, rounds):
                return ((atom, 1),)
            if rounds > _LARGEST_COUNT or z > _LARGEST_NOISE:
                return ()
            return ((Gaussian(z * math.sqrt(rounds) / k), 1),)
        case TruncatedPoissonSampled(event=inner, adjacency=relation):
            psi = overflow(atom.rate, atom.population, atom.max_batch)
            rate = atom.rate * max(0.0, 1.0 - psi) * (1.0 - 1e-15)
            return tuple(atoms(PoissonSampled(rate, inner, relation)).items())
        case Shuffled(rounds=rounds, event=Gaussian(noise_multiplier=z)):
            return ((atom, 1),) if _is_sensible(z, rounds) else ()
        case FixedSizeZeroOut(event=Laplace()) | Shuffled(event=Laplace()):
            return ()
    raise _unknown(atom)


def _half(inner: Event, atom: Event) -> Event:
    """The same noise, stated per 2C."""
    match inner:
        case Gaussian(noise_multiplier=z):
            return Gaussian(0.5 * z)
        case Laplace(noise_multiplier=z):
            return Laplace(0.5 * z)
    raise _unknown(atom)


def _unknown(atom: Event) -> UnsupportedEventError:
    return UnsupportedEventError(
        f"no bound is known for {atom!r}; draw the units by PoissonSampled or"
        " FixedSizeSampled, or account for it as Scheduled, which claims no"
        " amplification"
    )
