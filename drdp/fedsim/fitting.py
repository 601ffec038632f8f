"""What is set up before the first round from public data: codec, clip norm, step.

Nothing here looks at private data, except the codec of FedCG, which says so in
its event.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from drdp.errors import DataError, InvalidArgumentError
from drdp.fedsim.config import Config
from drdp.fedsim.federation import Federation, Tell
from drdp.fedsim.simulate import local_seed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from drdp.compression.protocol import Compressor
    from drdp.fedsim.trainer import Trainer

__all__ = ["Scales", "codec_for", "public_updates", "scales"]


@final
@dataclass(frozen=True, slots=True)
class Scales:
    """What public updates say about sizes.

    Args:
        clip_norm: Their median code norm.
        alignment: Norm of the mean of clipped codes / clip norm.
        step: Norm of the decoded mean of clipped codes.
    """

    clip_norm: float
    alignment: float
    step: float


def public_updates(
    config: Config, federation: Federation
) -> Iterator[NDArray[np.float32]]:
    """The updates of the public clients, at the initial parameters.

    Raises:
        DataError: If there are no public examples.
    """
    if federation.public is None:
        raise DataError(
            "no public examples to set up the run with; set data.public or"
            " data.public_source, or give privacy.clip_norm and a method without a"
            " fitted codec"
        )
    yield from _updates(federation.public, config)


def scales(
    codec: Compressor, updates: list[NDArray[np.float32]], clip_norm: float | None
) -> Scales:
    """Clip norm, alignment and step of public updates under a codec."""
    import numpy as np

    codes = [codec.encode(update).astype(np.float64) for update in updates]
    norms = np.array([np.linalg.norm(code) for code in codes])
    clip = float(np.median(norms)) if clip_norm is None else clip_norm
    if not 0.0 < clip < math.inf:
        raise DataError(
            f"the codes of public updates have a median norm of {clip:g}, which is no"
            " clip norm; give privacy.clip_norm"
        )
    mean = sum(
        code * min(1.0, clip / max(norm, 1e-300))
        for code, norm in zip(codes, norms, strict=True)
    ) / len(codes)
    decoded = codec.decode(np.asarray(mean)).astype(np.float64)
    return Scales(
        clip, float(np.linalg.norm(mean)) / clip, float(np.linalg.norm(decoded))
    )


def codec_for(config: Config, federation: Federation, tell: Tell) -> Compressor:
    """The codec of a method, fitted on what the method fits it on."""
    from drdp.compression.identity import Identity
    from drdp.compression.projection import Projection
    from drdp.compression.sketch import CountSketch

    length, seed = federation.layout.length, config.run.seed
    wanted = config.code.length
    match config.run.method:
        case "projection":
            return Projection(length, wanted or min(4096, length), seed=seed)
        case "sketch":
            return CountSketch(length, wanted or min(4096, length), seed=seed)
        case "pca":
            return _pca(config, federation, tell)
        case "dr-encoder" | "fedcg":
            return _autoencoder(config, federation, tell)
    return Identity(length)


def _pca(config: Config, federation: Federation, tell: Tell) -> Compressor:
    from drdp.compression.pca import fit_pca
    from drdp.compression.source import Origin, Source

    tell("fitting principal directions on public updates")
    wanted = config.code.length or 8
    updates = list(public_updates(config, federation))
    if wanted > len(updates):
        raise InvalidArgumentError(
            f"code.length must be at most the {len(updates)} public updates, got"
            f" {wanted}; raise data.public or code.fit_samples"
        )
    return fit_pca(updates, wanted, source=Source(Origin.PROXY))


def _autoencoder(config: Config, federation: Federation, tell: Tell) -> Compressor:
    raise NotImplementedError


def _updates(trainer: Trainer, config: Config) -> Iterator[NDArray[np.float32]]:
    clients = range(trainer.num_clients)
    start, seed = trainer.initial(), local_seed(config.run.seed, -1)
    for update in trainer.updates(start, clients, seed):
        yield update.delta
