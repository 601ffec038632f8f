"""Events in a table cell: ``count kind numbers``, parts separated by ``;``.

>>> event_of("20 poisson 0.05 1; 1 gaussian 10")  # doctest: +ELLIPSIS
Composed(events=(Repeated(event=PoissonSampled(...), count=20), Repeated(...)))
"""

from fractions import Fraction

from drdp.privacy.events import (
    NOTHING,
    Adjacency,
    ApproxDP,
    Event,
    FixedSizeSampled,
    Gaussian,
    Laplace,
    PoissonSampled,
)
from drdp.privacy.example_level import example_level
from drdp.privacy.releases import DiscreteGaussian, RandomisedResponse, Skellam
from drdp.privacy.sampling import (
    FixedSizeZeroOut,
    RandomlyAllocated,
    Scheduled,
    Shuffled,
)

KINDS = {
    "gaussian": Gaussian,
    "laplace": Laplace,
    "approx-dp": ApproxDP,
    "poisson": lambda q, z: PoissonSampled(q, Gaussian(z)),
    "zero-out": lambda q, z: PoissonSampled(q, Gaussian(z), Adjacency.ZERO_OUT),
    "replace": lambda q, z: PoissonSampled(q, Gaussian(z), Adjacency.REPLACE_ONE),
    "discrete-gaussian": DiscreteGaussian,
    "skellam": lambda variance, *rest: Skellam(
        variance, *(f(x) for f, x in zip((float, int, float), rest, strict=False))
    ),
    "randomised-response": lambda e, k=2.0: RandomisedResponse(e, int(k)),
    "example-level": lambda g, q, z: example_level(int(g), q, z),
    "fixed": lambda k, n, z: FixedSizeSampled(int(k), int(n), Gaussian(z)),
    "fixed-zero-out": lambda k, n, z: FixedSizeZeroOut(int(k), int(n), Gaussian(z)),
    "allocated": lambda t, z: RandomlyAllocated(int(t), Gaussian(z)),
    "shuffled": lambda t, z: Shuffled(int(t), Gaussian(z)),
    "scheduled": lambda k, z: Scheduled(int(k), Gaussian(z)),
}


def event_of(text: str, **unknown: float) -> Event:
    """The event of a cell; a name such as ``z`` stands for a keyword's value."""
    total = NOTHING
    for part in text.split(";"):
        count, kind, *numbers = part.split()
        values = [unknown[n] if n in unknown else number(n) for n in numbers]
        times = int(unknown[count]) if count in unknown else int(count)
        total += KINDS[kind](*values) * times
    return total


def number(text: str) -> float:
    """A cell such as ``1e-5`` or ``1/149``.

    >>> number("1/4")
    0.25
    """
    return float(Fraction(text))
