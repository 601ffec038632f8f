"""What is set up before the first round from public data: codec, clip norm, step.

Nothing here looks at private data, except the codec of FedCG and the prior of
released moments, which say so in their events.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, final

from drdp.compression.moments import Detail
from drdp.errors import DataError, InvalidArgumentError, TrainingError
from drdp.fedsim.config import Config
from drdp.fedsim.federation import Federation, Tell
from drdp.fedsim.simulate import local_seed
from drdp.fedsim.trainer import ClientRange, Trainer
from drdp.privacy.events import NOTHING, Event

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from drdp.compression.designs import Design
    from drdp.compression.layout import Layout
    from drdp.compression.moments import Algorithm1
    from drdp.compression.protocol import Codec, Compressor
    from drdp.compression.random_prior import RandomPrior
    from drdp.compression.source import Source
    from drdp.mechanisms.protocol import NoiseSource

__all__ = [
    "Hidden",
    "Scales",
    "code_length",
    "codec_event",
    "codec_for",
    "public_updates",
    "scales",
]

Hidden = Callable[[bytes], "NoiseSource"]
"""Pays for the release of what has this digest, and gives the noise that hides it."""

_LENGTHS = {"projection": 4096, "sketch": 4096, "pca": 8, "dr-encoder": 64, "fedcg": 64}
"""Numbers in a code unless told otherwise."""


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
        TrainingError: If an update is not finite; they are public, so it may be told.
    """
    import numpy as np

    if federation.public is None:
        raise DataError(
            "no public examples to set up the run with; set data.public or"
            " data.public_source, or give privacy.clip_norm and a method without a"
            " fitted codec"
        )
    for number, update in enumerate(_updates(federation.public, config)):
        if not np.isfinite(update).all():
            raise TrainingError(
                f"training of public client {number} diverged: its update is not"
                f" finite; lower local.learning_rate ({config.local.learning_rate:g})"
            )
        yield update


def scales(
    codec: Compressor,
    updates: list[NDArray[np.float32]],
    clip_norm: float | None,
    factor: float = 1.0,
) -> Scales:
    """Clip norm, alignment and step of public updates under a codec.

    Args:
        codec: The codec.
        updates: Public ones.
        clip_norm: None for the median code norm times `factor`.
        factor: Well below 1, nearly every code is brought to the same norm, so
            that the clip norm need not fit clients whose codes are shorter than
            the public ones ("automatic clipping": Bu et al., arXiv:2206.07136).
    """
    import numpy as np

    codes = [codec.encode(update).astype(np.float64) for update in updates]
    norms = np.array([np.linalg.norm(code) for code in codes])
    clip = factor * float(np.median(norms)) if clip_norm is None else clip_norm
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


def codec_event(config: Config) -> Event:
    """What fitting the codec will release, known before it is fitted."""
    return _source(config).event


def codec_for(
    config: Config,
    federation: Federation,
    public: Callable[[], list[NDArray[np.float32]]],
    tell: Tell,
    hidden: Hidden | None,
) -> Compressor:
    """The codec of a method, fitted on what the method fits it on.

    Args:
        config: The settings.
        federation: The clients.
        public: Gives the updates of the public clients.
        tell: Is told what takes long.
        hidden: Pays for a prior of released statistics and gives its noise.  None
            for a plan: then no private data is looked at, and the public prior
            stands in for what would be.
    """
    from drdp.compression.identity import Identity
    from drdp.compression.projection import RandomProjection, Scale
    from drdp.compression.quantised import Quantised
    from drdp.compression.sketch import CountSketch

    length, seed = federation.layout.length, config.run.seed
    wanted = _wanted(config, length)
    codec: Codec
    match config.run.method:
        case "projection":
            codec = RandomProjection(length, wanted, seed=seed, scale=Scale.NORM)
        case "sketch":
            codec = CountSketch(length, wanted, seed=seed)
        case "pca":
            codec = _pca(config, public, wanted, tell)
        case "dr-encoder" | "fedcg":
            codec = _autoencoder(config, federation, public, wanted, tell, hidden)
        case _:
            codec = Identity(length)
    return codec if config.code.bits is None else Quantised(codec, config.code.bits)


def _source(config: Config) -> Source:
    from drdp.compression.source import Origin, Source

    match config.run.method:
        case "pca":
            return Source(Origin.PROXY)
        case "fedcg":
            return Source(Origin.CLIENT_UPDATES)
        case "dr-encoder":
            prior = Origin(config.code.prior)
            noise = config.code.prior_noise if prior is Origin.RELEASED else None
            return Source(prior, noise_multiplier=noise)
    return Source(Origin.PUBLIC)


def code_length(config: Config, federation: Federation) -> int:
    """How many numbers a code will have, known before the codec is fitted."""
    length = federation.layout.length
    wanted = _wanted(config, length)
    if config.run.method in ("dr-encoder", "fedcg"):
        return _design(config, wanted).code_length(length)
    return wanted


def _wanted(config: Config, length: int) -> int:
    if config.run.method not in _LENGTHS:
        return length
    return min(config.code.length or _LENGTHS[config.run.method], length)


def _design(config: Config, wanted: int) -> Design:
    from drdp.compression.designs import BlockDesign, ConvDesign

    convolution = config.code.network == "convolution"
    return ConvDesign() if convolution else BlockDesign(wanted)


def _pca(
    config: Config,
    public: Callable[[], list[NDArray[np.float32]]],
    wanted: int,
    tell: Tell,
) -> Codec:
    from drdp.compression.pca import fit_pca

    tell("fitting principal directions on public updates")
    updates = public()
    if wanted > len(updates):
        raise InvalidArgumentError(
            f"code.length must be at most the {len(updates)} public updates, got"
            f" {wanted}; raise data.public or code.fit_samples"
        )
    return fit_pca(updates, wanted, source=_source(config))


def _autoencoder(
    config: Config,
    federation: Federation,
    public: Callable[[], list[NDArray[np.float32]]],
    wanted: int,
    tell: Tell,
    hidden: Hidden | None,
) -> Codec:
    from drdp.compression.autoencoder import fit_autoencoder, fit_on_prior
    from drdp.compression.random_prior import public_prior

    code, seed = config.code, config.run.seed
    design = _design(config, wanted)
    if hidden is None and _source(config).event != NOTHING:
        tell("a plan looks at no private data: the public prior stands in for it")
        stand_in = public_prior(federation.layout, seed=seed)
        stand_in = replace(stand_in, source=_source(config))
        return fit_on_prior(stand_in, design, steps=code.fit_steps, seed=seed)
    if config.run.method == "fedcg":
        tell("fitting the autoencoder on clients' real updates: NOT PRIVATE")
        trainer = federation.trainer
        some = ClientRange(trainer, 0, min(code.fit_samples, trainer.num_clients))
        return fit_autoencoder(
            list(_updates(some, config)),
            design,
            source=_source(config),
            steps=code.fit_steps,
            seed=seed,
        )
    tell(f"fitting the autoencoder on its {code.prior} prior")
    return fit_on_prior(
        _prior(config, federation, public, hidden),
        design,
        steps=code.fit_steps,
        seed=seed,
    )


def _prior(
    config: Config,
    federation: Federation,
    public: Callable[[], list[NDArray[np.float32]]],
    hidden: Hidden | None,
) -> RandomPrior:
    from drdp.compression.moments import Algorithm1
    from drdp.compression.random_prior import prior_from, public_prior

    layout, detail = federation.layout, Detail(config.code.moments)
    if config.code.prior == "proxy":
        updates = ([one] for one in public())
        reading = Algorithm1(detail=detail)
        return prior_from(updates, layout, source=_source(config), algorithm=reading)
    if config.code.prior == "released" and hidden is not None:
        return _released(config, federation, detail, hidden)
    drawn = public_prior(layout, seed=config.run.seed)
    if detail is Detail.MEAN:  # no standard deviation but the public one
        means = tuple(replace(one, std=None) for one in drawn.components[:1])
        drawn = replace(drawn, components=means)
    return drawn


def _released(
    config: Config, federation: Federation, detail: Detail, hidden: Hidden
) -> RandomPrior:
    """Sum first, then pay under the sum's name, then add noise that is the sum's."""
    from drdp.compression.moments import Algorithm1
    from drdp.compression.released import moments_total, prior_of_total

    trainer, layout = federation.trainer, federation.layout
    reading = Algorithm1(bias_correction=True, detail=detail)
    total = moments_total(
        (_moments(one, layout, reading) for one in _updates(trainer, config)),
        layout,
        clients=trainer.num_clients,
    )
    # One sum under two amounts of the same noise would give both away.
    scale = repr(config.code.prior_noise).encode()
    return prior_of_total(
        total,
        layout,
        clients=trainer.num_clients,
        noise_multiplier=config.code.prior_noise,
        rng=hidden(hashlib.sha256(total.tobytes() + scale).digest()),
        algorithm=reading,
    )


def _moments(
    update: NDArray[np.float32], layout: Layout, reading: Algorithm1
) -> NDArray[np.float64]:
    """What one client sends; zeros where its training diverged."""
    import numpy as np

    from drdp.compression.moments import collect
    from drdp.compression.released import client_vector, dimension

    if not np.isfinite(update).all():
        return np.zeros(dimension(layout, stds=reading.detail is Detail.MEAN_STD))
    with np.errstate(all="ignore"):
        (sent,) = collect([[update]], layout, reading)
        return client_vector(sent, layout, algorithm=reading)


def _updates(trainer: Trainer, config: Config) -> Iterator[NDArray[np.float32]]:
    clients = range(trainer.num_clients)
    start, seed = trainer.initial(), local_seed(config.run.seed, -1)
    for update in trainer.updates(start, clients, seed):
        yield update.delta
