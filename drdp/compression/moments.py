"""Algorithm 1 of the DR-Encoder paper, client side: running moments of updates.

For each matrix x, with ``m_0 = 0`` and ``s2_0 = 0``:

    m_t  = beta1 m_{t-1} + (1 - beta1) x_t
    v_t  = clamp(deviation(x_t - m_t), h1, h2)
    s2_t = beta2 s2_{t-1} + (1 - beta2) v_t

The paper (arXiv:2412.17053) leaves open over what t runs, whether m is one
number or a matrix and what the deviation is; `Algorithm1` names the readings.
What this collects from clients is not private; see `drdp.compression.source`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, final

from drdp import _check
from drdp.compression.flat import flat
from drdp.compression.layout import Layout, Slot
from drdp.errors import InvalidArgumentError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "PAPER",
    "Algorithm1",
    "Detail",
    "Deviation",
    "Mean",
    "Recursion",
    "Statistics",
    "collect",
]


class Recursion(StrEnum):
    """What the running average runs over.

    - ``EPOCH``: a client's epochs, for each of its matrices ("dynamically
      estimate mean epoch-wise").
    - ``LAYER``: the layers of one update, for each kind of matrix (the text's
      "i represents the layer index").
    - ``CLIENT``: the clients, for each matrix and epoch (the algorithm's "for
      each client i").  One client's numbers then hold those before it, which
      only a simulation can do.
    """

    EPOCH = "epoch"
    LAYER = "layer"
    CLIENT = "client"


class Mean(StrEnum):
    """Whether m is one number a matrix (Table 5) or a matrix (Algorithm 1)."""

    SCALAR = "scalar"
    MATRIX = "matrix"


class Deviation(StrEnum):
    """Whether v is the squared norm (as printed) or the mean square."""

    NORM2 = "norm2"
    MEANSQ = "meansq"


class Detail(StrEnum):
    """Which moments are collected.

    - ``MEAN``: the mean alone.
    - ``MEAN_STD``: mean and standard deviation, as in the paper.
    - ``HIGHER``: also skewness and excess kurtosis.
    """

    MEAN = "mean"
    MEAN_STD = "mean-std"
    HIGHER = "higher"


@final
@dataclass(frozen=True, slots=True)
class Algorithm1:
    """A reading of Algorithm 1; the defaults are the paper's numbers.

    Args:
        recursion: Over what the averages run.
        mean: One number or a matrix.
        deviation: Squared norm, as printed, or mean square.
        detail: Which moments are collected.
        bias_correction: Whether averages are divided by the sum of their weights,
            ``1 - beta^t``, when sent; the recursion itself is the same.
        beta1: Of the mean.
        beta2: Of the variance.
        h1: Least deviation.
        h2: Largest deviation.

    >>> weights = Algorithm1().weights(20)
    >>> round(weights[0], 7), round(weights[1], 7)
    (0.1820931, 0.8784233)
    >>> [round(s, 7) for s in Algorithm1().std_range(20)]
    [0.0029638, 0.0296382]
    """

    recursion: Recursion = Recursion.EPOCH
    mean: Mean = Mean.SCALAR
    deviation: Deviation = Deviation.NORM2
    detail: Detail = Detail.MEAN_STD
    bias_correction: bool = False
    beta1: float = 0.99
    beta2: float = 0.9
    h1: float = 1e-5
    h2: float = 1e-3

    def __post_init__(self) -> None:
        for name, kind in (
            ("recursion", Recursion),
            ("mean", Mean),
            ("deviation", Deviation),
            ("detail", Detail),
        ):
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, kind(value))
            except ValueError:
                raise InvalidArgumentError(
                    f"{name} must be one of {', '.join(kind)}, got {value!r}"
                ) from None
        _check.probability(beta1=self.beta1)
        _check.probability(beta2=self.beta2)
        if _check.positive(h1=self.h1) > _check.positive(h2=self.h2):
            raise InvalidArgumentError(
                f"h1 must be at most h2={self.h2!r}, got {self.h1!r}"
            )

    def weights(self, steps: int) -> tuple[float, float]:
        """The weights that mean and variance give to data after `steps` steps."""
        steps = _check.count(least=1, steps=steps)
        mean = -math.expm1(steps * math.log(self.beta1))
        return mean, -math.expm1(steps * math.log(self.beta2))

    def std_range(self, steps: int) -> tuple[float, float]:
        """Least and largest standard deviation that is ever sent."""
        weight = 1.0 if self.bias_correction else self.weights(steps)[1]
        return math.sqrt(weight * self.h1), math.sqrt(weight * self.h2)

    @property
    def public_std(self) -> float:
        """The middle of the range on a log scale: what stands in for no std."""
        return math.sqrt(math.sqrt(self.h1 * self.h2))


PAPER = Algorithm1()
"""The default reading, with the paper's numbers."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """What one client sends about one epoch; a column for each matrix.

    Args:
        mean: Shape (matrices,), or (update_length,) where means are matrices.
        std: Shape (matrices,), or None where only means are collected.
        skewness: Shape (matrices,), or None.
        kurtosis: Excess kurtosis, shape (matrices,), or None.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64] | None = None
    skewness: NDArray[np.float64] | None = None
    kurtosis: NDArray[np.float64] | None = None

    @property
    def numbers(self) -> int:
        """How many numbers it is on its way to the server."""
        parts = (self.mean, self.std, self.skewness, self.kurtosis)
        return sum(len(part) for part in parts if part is not None)


@final
@dataclass(slots=True)
class _Running:
    """The averages of one matrix so far."""

    steps: int = 0
    mean: Any = 0.0
    variance: float = 0.0
    third: float = 0.0
    fourth: float = 0.0
    size: int = field(default=0)


def collect(
    updates: Iterable[Iterable[Any]], layout: Layout, algorithm: Algorithm1
) -> Iterator[Statistics]:
    """Algorithm 1, lines 1 to 5 of the client side.

    Args:
        updates: For each client, its flat update of each epoch, in order.
        layout: Which part of an update is which matrix.
        algorithm: The reading.

    Yields:
        The statistics of each client's epochs, client by client.  Skewness and
        kurtosis are those of the elements about their own mean, averaged with
        beta2 and always divided by the sum of the weights.

    >>> layout = Layout.of_shapes([("w", (1, 2))])
    >>> (sent,) = collect([[[0.01, -0.01]]], layout, Algorithm1())
    >>> float(sent.mean[0]), round(float(sent.std[0]), 6)
    (0.0, 0.004472)
    """
    across: dict[tuple[int, str], _Running] = {}
    for epochs in updates:
        within: dict[tuple[int, str], _Running] = {}
        for epoch, update in enumerate(epochs):
            vector = flat(layout.length, update=update)
            if algorithm.recursion is Recursion.CLIENT:
                yield _step(vector, layout, algorithm, across, epoch)
            elif algorithm.recursion is Recursion.LAYER:
                yield _step(vector, layout, algorithm, {}, 0)
            else:
                yield _step(vector, layout, algorithm, within, 0)


def _step(
    vector: NDArray[np.float64],
    layout: Layout,
    algorithm: Algorithm1,
    states: dict[tuple[int, str], _Running],
    epoch: int,
) -> Statistics:
    import numpy as np

    number = len(layout.slots)
    matrix = algorithm.mean is Mean.MATRIX
    mean = np.empty(layout.length if matrix else number)
    std, third, fourth = (np.empty(number) for _ in range(3))
    order: list[tuple[int, Slot]] = list(enumerate(layout.slots))
    by_layer = algorithm.recursion is Recursion.LAYER
    if by_layer:
        order.sort(key=lambda pair: pair[1].layer)
    for place, slot in order:
        name = slot.family if by_layer else slot.key
        state = states.setdefault((epoch, name), _Running(size=slot.size))
        if state.size != slot.size:
            raise InvalidArgumentError(
                f"recursion over layers needs equal shapes, {slot.key} has"
                f" {slot.size} numbers and a layer before it {state.size}"
            )
        _advance(state, vector[slot.offset : slot.stop], algorithm)
        weights = algorithm.weights(state.steps)
        by_mean, by_variance = weights if algorithm.bias_correction else (1.0, 1.0)
        where: Any = slice(slot.offset, slot.stop) if matrix else place
        mean[where] = state.mean / by_mean
        std[place] = math.sqrt(state.variance / by_variance)
        third[place], fourth[place] = (
            state.third / weights[1],
            state.fourth / weights[1],
        )
    if algorithm.detail is Detail.MEAN:
        return Statistics(mean)
    if algorithm.detail is Detail.MEAN_STD:
        return Statistics(mean, std)
    return Statistics(mean, std, third, fourth)


def _advance(state: _Running, part: NDArray[np.float64], algorithm: Algorithm1) -> None:
    """One step of the recursion for one matrix."""
    import numpy as np

    old1, old2 = algorithm.beta1, algorithm.beta2
    value: Any = part if algorithm.mean is Mean.MATRIX else float(part.mean())
    state.steps += 1
    state.mean = old1 * state.mean + (1.0 - old1) * value
    squares = np.square(part - state.mean)
    whole = algorithm.deviation is Deviation.NORM2
    deviation = float(squares.sum() if whole else squares.mean())
    clamped = min(max(deviation, algorithm.h1), algorithm.h2)
    state.variance = old2 * state.variance + (1.0 - old2) * clamped
    if algorithm.detail is Detail.HIGHER:
        centred = part - part.mean()
        spread = math.sqrt(float(np.square(centred).mean()))
        scaled = centred / spread if spread > 0.0 else centred
        skewness = float((scaled**3).mean())
        kurtosis = float((scaled**4).mean()) - 3.0 if spread > 0.0 else 0.0
        state.third = old2 * state.third + (1.0 - old2) * skewness
        state.fourth = old2 * state.fourth + (1.0 - old2) * kurtosis
