"""Codes from a network that was fitted to reconstruct samples of updates."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from drdp import _check
from drdp.compression import storage
from drdp.compression.designs import (
    BlockDesign,
    ConvDesign,
    Design,
    design_from,
    design_to,
)
from drdp.compression.flat import flat, rows
from drdp.compression.random_prior import RandomPrior
from drdp.compression.source import Source
from drdp.errors import InvalidArgumentError, MissingPackageError
from drdp.privacy.events import Event

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Autoencoder", "Progress", "fit_autoencoder", "fit_on_prior"]

Progress = Callable[[int, int, float], None]
"""Called after each step with the step, their number and the relative loss."""

_TANH_REACH = 4.0  # how many root mean squares the bounded output spans
_CONV_RATE = 2e-4  # arXiv:2405.13746
_BLOCK_RATE = 3e-2


@final
@dataclass(frozen=True, slots=True, eq=False)
class Autoencoder:
    """A fitted network; make one with `fit_autoencoder` or `fit_on_prior`.

    Args:
        design: The shape of the network.
        network: The torch module, in evaluation mode.
        update_length: Length of an update.
        scale: What updates are divided by before, and codes multiplied by after
            encoding; the other way round when decoding.
        source: Where the samples came from.
        relative_loss: Squared error over squared norm at the end of the fit, on
            its own samples; 1 is what predicting zero gives.

    Guarantees:
        The network is evaluated on one update at a time, without gradients and
        without batch statistics: a client's code does not depend on others.
        No bound on the length of a code is claimed, except for linear ones.
    """

    design: Design
    network: Any
    update_length: int
    scale: float
    source: Source
    relative_loss: float

    @property
    def event(self) -> Event:
        """What its samples released: `NonPrivate` for clients' own updates."""
        return self.source.event

    @property
    def code_length(self) -> int:
        """Length of a code."""
        return self.design.code_length(self.update_length)

    @property
    def expansion(self) -> float:
        """The largest singular value of a linear encoder, else infinite."""
        import numpy as np

        if not self.linear_decode:
            return math.inf
        matrices = self.network.matrices().numpy().astype(np.float64)
        squares = np.linalg.eigvalsh(matrices.transpose(0, 2, 1) @ matrices)
        return math.sqrt(float(squares.max()))

    @property
    def linear_decode(self) -> bool:
        """Whether the network is linear."""
        return isinstance(self.design, BlockDesign) and self.design.hidden == 0

    @property
    def noise_gain(self) -> float:
        """The Frobenius norm of a linear decoder, else NaN."""
        return float(self.network.decoder_norm()) if self.linear_decode else math.nan

    @property
    def message_bits(self) -> int:
        """32 for each number."""
        return 32 * self.code_length

    @property
    def parameters(self) -> int:
        """How many weights the network has."""
        return sum(weight.numel() for weight in self.network.parameters())

    def encode(self, update: NDArray[np.float32]) -> NDArray[np.float32]:
        """The code of one update."""
        vector = flat(self.update_length, update=update)
        return self._apply(self.network.encode, vector)

    def decode(self, code: NDArray[np.float64]) -> NDArray[np.float32]:
        """The update of one code."""
        vector = flat(self.code_length, code=code)
        return self._apply(self.network.decode, vector)

    def _apply(self, half: Any, vector: NDArray[np.float64]) -> NDArray[np.float32]:
        import numpy as np
        import torch

        scaled = (vector / self.scale).astype(np.float32)
        with torch.inference_mode():
            answer = half(torch.from_numpy(scaled).unsqueeze(0)).squeeze(0)
        return np.asarray(answer.numpy() * np.float32(self.scale), dtype=np.float32)

    def save(self, path: str | os.PathLike[str]) -> str:
        """Write it to a safetensors file; returns the checksum."""
        return storage.save(path, "autoencoder", self._tensors(), self._facts())

    @property
    def checksum(self) -> str:
        """SHA-256 of the weights and everything else that makes its codes."""
        return storage.digest(self._tensors(), self._facts())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Autoencoder:
        """Read what `save` wrote."""
        torch, networks = _torch()
        tensors, facts = storage.load(path, "autoencoder")
        design = design_from(facts["design"])
        network = networks.network(design, facts["update_length"], seed=0)
        # Copies: what was read may be memory that torch must not write to.
        state = {name: torch.from_numpy(v.copy()) for name, v in tensors.items()}
        network.load_state_dict(state, strict=True)
        return cls(
            design,
            network.eval(),
            facts["update_length"],
            facts["scale"],
            storage.source_from(facts["source"]),
            facts["relative_loss"],
        )

    def _tensors(self) -> dict[str, NDArray[np.float32]]:
        state = self.network.state_dict()
        return {name: tensor.numpy().copy() for name, tensor in state.items()}

    def _facts(self) -> dict[str, Any]:
        return {
            "design": design_to(self.design),
            "update_length": self.update_length,
            "scale": self.scale,
            "source": storage.source_to(self.source),
            "relative_loss": self.relative_loss,
        }


def fit_autoencoder(
    samples: Iterable[Any],
    design: Design,
    *,
    source: Source,
    steps: int,
    batch_size: int = 16,
    learning_rate: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Autoencoder:
    """Fit a network to reconstruct samples: Adam on the mean squared error.

    Args:
        samples: Flat updates of one length.  A sequence or an array is passed
            over in a fresh order as often as the steps ask for; an iterator is
            read once and must give ``steps * batch_size`` samples.
        design: The shape of the network.
        source: Where the samples came from; states the event.
        steps: How many steps of Adam.
        batch_size: Samples in a step.
        learning_rate: Of Adam; 2e-4 for a `ConvDesign` and 3e-2 for a
            `BlockDesign` by default.  It falls to zero over the second half.
        seed: Of the initial weights and of the order.
        progress: Called after each step.

    Returns:
        The codec.  Samples are divided by their root mean square (of a sequence,
        or of the first batch of an iterator), and by four times that before a
        network that ends in tanh; they are not centred.

    Guarantees:
        The same arguments give the same weights on one machine with the same
        number of threads.  Torch's own random state is left alone.
    """
    torch, networks = _torch()
    steps = _check.count(least=1, steps=steps)
    batch_size = _check.count(least=1, batch_size=batch_size)
    seed = _check.count(seed=seed)
    conv = isinstance(design, ConvDesign)
    default = _CONV_RATE if conv else _BLOCK_RATE
    rate = default if learning_rate is None else learning_rate
    batches, scale = _batches(samples, steps, batch_size, seed)
    first = next(batches)
    scale = (scale or _root_mean_square(first)) * (_TANH_REACH if conv else 1.0)
    length = int(first.shape[1])
    network = networks.network(design, length, seed)
    adam = torch.optim.Adam(
        network.parameters(), lr=_check.positive(learning_rate=rate)
    )
    recent: list[float] = []
    for step in range(1, steps + 1):
        # Constant for one half, then to nothing: the first half finds, the rest
        # settles.
        adam.param_groups[0]["lr"] = rate * min(1.0, 2.0 * (1.0 - (step - 1) / steps))
        drawn = first if step == 1 else next(batches)
        drawn /= scale  # each batch is a copy of its own
        batch = torch.from_numpy(drawn).to(torch.float32)
        adam.zero_grad(set_to_none=True)
        loss = (network.decode(network.encode(batch)) - batch).square().mean()
        loss.backward()
        adam.step()
        recent.append(float(loss.detach()) / float(batch.square().mean()))
        if not math.isfinite(recent[-1]):
            raise InvalidArgumentError(
                f"learning_rate must let the fit converge, got {rate!r}: the loss is"
                f" not finite after step {step}"
            )
        if progress is not None:
            progress(step, steps, recent[-1])
    adam.zero_grad(set_to_none=True)
    network.eval().requires_grad_(requires_grad=False)
    last = recent[-max(1, steps // 10) :]
    return Autoencoder(design, network, length, scale, source, sum(last) / len(last))


def fit_on_prior(
    prior: RandomPrior,
    design: Design,
    *,
    steps: int,
    batch_size: int = 16,
    learning_rate: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Autoencoder:
    """Fit on fresh samples of a prior, whose source is then the codec's own.

    This is the server side of Algorithm 1 of arXiv:2412.17053; the options are
    those of `fit_autoencoder`.
    """
    return fit_autoencoder(
        prior.samples(seed=seed),
        design,
        source=prior.source,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        progress=progress,
    )


def _batches(
    samples: Iterable[Any], steps: int, batch_size: int, seed: int
) -> tuple[Iterator[NDArray[np.float32]], float | None]:
    """Batches, and the root mean square where all samples are known."""
    import numpy as np

    if isinstance(samples, Sequence | np.ndarray):
        whole = rows(samples)
        return _passes(whole, batch_size, seed), _root_mean_square(whole)
    return _read_once(iter(samples), steps, batch_size), None


def _passes(
    whole: NDArray[np.float32], batch_size: int, seed: int
) -> Iterator[NDArray[np.float32]]:
    """Batches without end; each pass has a fresh order and drops no sample."""
    import numpy as np

    rng = np.random.Generator(np.random.PCG64(seed))
    size = min(batch_size, len(whole))
    while True:
        order = rng.permutation(len(whole))
        for start in range(0, len(whole), size):
            yield whole[order[start : start + size]]


def _read_once(
    samples: Iterator[Any], steps: int, batch_size: int
) -> Iterator[NDArray[np.float32]]:
    length: int | None = None
    for step in range(steps):
        batch = [sample for _, sample in zip(range(batch_size), samples, strict=False)]
        if len(batch) < batch_size:
            raise InvalidArgumentError(
                f"samples must give steps * batch_size = {steps * batch_size} updates,"
                f" got {step * batch_size + len(batch)}: pass a list to go over them"
                " repeatedly"
            )
        made = rows(batch, length)
        length = made.shape[1]
        yield made


def _root_mean_square(batch: NDArray[np.float32]) -> float:
    import numpy as np

    size = math.sqrt(float(np.square(batch, dtype=np.float64).mean()))
    if size == 0.0:
        raise InvalidArgumentError("samples must not be all zero")
    return size


def _torch() -> tuple[Any, Any]:
    try:
        import torch

        from drdp.compression import networks
    except ImportError as error:
        raise MissingPackageError(
            "an autoencoder needs torch: pip install 'drdp[train]'"
        ) from error
    return torch, networks
