"""Poisson batches for PyTorch's data loaders, and recognising them.

Privacy accounting with a sampling rate holds for batches that each example
joins independently of all others.  A shuffled pass over the data is another
scheme with another cost, so `poisson_rate` refuses a loader that makes one.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, final

import torch
from torch.utils.data import Sampler

from drdp import _check
from drdp.errors import UnsoundThreatModelError

__all__ = [
    "PoissonBatchSampler",
    "drawn_rate",
    "empty_of",
    "fresh_generator",
    "poisson_rate",
    "poisson_sampler",
    "with_empty_batches",
]

_HOSTS = {
    "opacus.utils.uniform_sampler.UniformWithReplacementSampler",
    "opacus.utils.uniform_sampler.DistributedUniformWithReplacementSampler",
}
_WRAPPERS = ("batch_sampler", "sampler")


@final
class PoissonBatchSampler(Sampler[list[int]]):
    """Batches of indices, each index in each batch with the same probability.

    Args:
        population: How many examples there are.
        rate: Probability with which an example is in a batch.
        steps: How many batches one pass yields.
        parts: Into how many pieces each batch is cut, one after the other, so
            that a large batch fits into memory: gradient accumulation over
            `parts` batches is then one step on one Poisson sample.
        generator: Where the draws come from; by default a generator of its own,
            seeded by the operating system.

    Guarantees:
        An example is in a batch with probability `rate` or, where that is no
        multiple of 2^-53, the next multiple below.

    A batch may be empty; see `with_empty_batches`.

    >>> sampler = PoissonBatchSampler(1000, 0.05, steps=3)
    >>> all(0 < len(batch) < 200 for batch in sampler)
    True
    """

    def __init__(
        self,
        population: int,
        rate: float,
        *,
        steps: int,
        parts: int = 1,
        generator: torch.Generator | None = None,
    ) -> None:
        self.population = _check.count(least=1, population=population)
        self.rate = _check.rate(rate=rate)
        self.steps = _check.count(least=1, steps=steps)
        self.parts = _check.count(least=1, parts=parts)
        self.generator = generator or fresh_generator()

    @property
    def expected_size(self) -> float:
        """The number of examples in a whole batch on average."""
        return self.population * self.rate

    def __len__(self) -> int:
        """The number of pieces that one pass yields."""
        return self.steps * self.parts

    def __iter__(self) -> Iterator[list[int]]:
        limit = math.floor(self.rate * 2.0**53) / 2.0**53
        for _ in range(self.steps):
            draws = torch.rand(
                self.population, generator=self.generator, dtype=torch.float64
            )
            chosen = (draws < limit).nonzero().flatten()
            for piece in torch.tensor_split(chosen, self.parts):
                yield piece.tolist()


def fresh_generator(device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that the operating system seeds.

    Unlike PyTorch's global one it is not set by anybody's ``seed=42``.  It is a
    Mersenne Twister (on the CPU): not predictable without its seed, but not
    cryptographically secure either.
    """
    return torch.Generator(device).manual_seed(secrets.randbits(63))


def drawn_rate(rate: float) -> float:
    """The probability with which Opacus' samplers really draw an example.

    They compare 24-bit random numbers with the rate rounded to single
    precision, so that the rate is rounded up to a multiple of 2^-24.

    >>> drawn_rate(0.5), drawn_rate(1e-6) / 1e-6
    (0.5, 1.01327...)
    """
    rate = _check.rate(rate=rate)
    single = float(torch.tensor(rate, dtype=torch.float32))
    return max(rate, min(1.0, math.ceil(single * 2.0**24) / 2.0**24))


def poisson_sampler(loader: Any) -> Any:
    """The Poisson sampler behind a data loader, however it was wrapped.

    Raises:
        UnsoundThreatModelError: If there is none, as behind a shuffling loader.
    """
    seen, place = [], loader
    for _ in range(16):
        kind = type(place)
        if (
            kind is PoissonBatchSampler
            or f"{kind.__module__}.{kind.__name__}" in _HOSTS
        ):
            return place
        found = next(
            (
                inner
                for name in _WRAPPERS
                if (inner := getattr(place, name, None)) is not None
            ),
            None,
        )
        if found is None:
            break
        seen.append(type(found).__name__)
        place = found
    raise UnsoundThreatModelError(
        f"the data loader must draw Poisson samples, got {' over '.join(seen) or kind};"
        " the sampling rate of a shuffled or ordered pass amplifies nothing: give it"
        " batch_sampler=PoissonBatchSampler(...), or let Opacus make it with"
        " poisson_sampling=True"
    )


def poisson_rate(loader: Any) -> float:
    """The rate at which a loader draws Poisson samples, or slightly above it."""
    sampler = poisson_sampler(loader)
    if isinstance(sampler, PoissonBatchSampler):
        return sampler.rate
    return drawn_rate(sampler.sample_rate)


def with_empty_batches(
    collate: Callable[[list[Any]], Any], example: Any
) -> Callable[[list[Any]], Any]:
    """A collate function that survives an empty batch.

    Args:
        collate: Makes a batch of a list of examples.
        example: Any example, real or made up; only its shapes matter.

    Returns:
        A function that turns an empty list into `empty_of` the batch that the
        example makes.
    """

    def collated(examples: list[Any]) -> Any:
        return collate(examples) if examples else empty_of(collate([example]))

    return collated


def empty_of(batch: Any) -> Any:
    """A batch of the same form in which nothing is left of the data.

    A mapping with labels, which language models take, keeps its shape: numbers
    become 0 and labels -100, the index that losses ignore, so that its gradient
    is 0.  Anything else becomes a batch of no examples.  (A batch of random
    numbers in its place, as some libraries offer, could move the sum by one
    clip norm more.)

    >>> empty_of({"input_ids": torch.ones(1, 2), "labels": torch.ones(1, 2)})
    {'input_ids': tensor([[0., 0.]]), 'labels': tensor([[-100., -100.]])}
    >>> empty_of(torch.ones(3, 2)).shape
    torch.Size([0, 2])
    """
    if isinstance(batch, Mapping):
        labelled = any(str(key).startswith("label") for key in batch)
        return {
            key: _blank(value, str(key)) if labelled else empty_of(value)
            for key, value in batch.items()
        }
    if isinstance(batch, torch.Tensor):
        return batch[:0]
    if isinstance(batch, Sequence) and not isinstance(batch, str):
        return [empty_of(value) for value in batch]
    return batch


def _blank(value: Any, name: str) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return torch.full_like(value, -100 if name.startswith("label") else 0)
