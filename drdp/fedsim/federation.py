"""Settings to clients: a model, split data, and the trainer of all of them.

Private clients come first, public ones after: the same trainer computes what
the protected clients send and what may be looked at to set up the run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, final

from drdp.errors import DataError, InvalidArgumentError
from drdp.fedsim.config import Config
from drdp.fedsim.trainer import ClientRange, Trainer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from drdp.compression.layout import Layout
    from drdp.fedsim.evaluation import HeldOutLoss
    from drdp.fedsim.examples import Example
    from drdp.fedsim.partition import Partition

__all__ = ["EXAMPLE_LEVEL", "Federation", "federation", "settled"]

EXAMPLE_LEVEL = ("ew-tune", "els")
"""Methods that draw and clip single examples."""

_MEMORY = 2.5e9  # bytes for clients that train together, beside the model

_GRADIENTS = ("ew-tune", "els", "uls")

Tell = Callable[[str], None]


@final
@dataclass(frozen=True, slots=True)
class Federation:
    """Everybody who can be asked for an update.

    Args:
        trainer: What the run draws from: the clients, or their single examples; for
            a run on public data alone, the public clients.
        public: Clients made of public examples; None where there are none.
        layout: Which part of a flat update belongs to which matrix.
        unit: Whom a guarantee protects.
        population: How many of them there are.
        examples: How many private examples there are.
        save_adapter: Writes parameters in the adapter's own format.
        measure: The loss of each held-out example.
    """

    trainer: Trainer
    public: Trainer | None
    layout: Layout
    unit: str
    population: int
    examples: int
    save_adapter: Callable[[NDArray[np.float32], Path], None]
    measure: Callable[[NDArray[np.float32]], HeldOutLoss] | None = None


def settled(config: Config) -> Config:
    """The settings with what a method decides for itself."""
    method = config.run.method
    _check_moments(config)
    if method in _GRADIENTS:
        config = replace(config, local=replace(config.local, mode="gradient"))
    if method == "ew-tune":
        everything = replace(config.data, partition="example", clients=0)
        config = replace(config, data=everything)
    if method == "els" and config.data.partition == "example":
        raise InvalidArgumentError(
            "data.partition must not be example with method els, which protects users"
            " who have several; use iid, dirichlet or natural, or method ew-tune"
        )
    return config


def _check_moments(config: Config) -> None:
    """Refuse moments that a prior cannot have.

    Raises:
        InvalidArgumentError: If they would cost privacy that is not accounted for,
            or have no public range to be drawn from.
    """
    code = config.code
    if config.run.method != "dr-encoder" or code.moments != "higher":
        return
    if code.prior == "released":
        raise InvalidArgumentError(
            "code.moments higher cannot be released: skewness and kurtosis have no"
            " public bound, so no noise is known to hide them; use mean-std, or"
            " code.prior proxy"
        )
    if code.prior == "public":
        raise InvalidArgumentError(
            "code.moments higher needs code.prior proxy: without data there are no"
            " higher moments but those of a normal law"
        )


def federation(config: Config, tell: Tell) -> Federation:
    """Load model and data, and deal the examples out.

    Args:
        config: The settings, after `settled`.
        tell: Is told what takes long.

    Raises:
        DataError: If there are too few examples for the clients.
        ModelError: If there is no such model, or it lacks the target layers.
    """
    from drdp.compression.layout import Layout
    from drdp.fedsim.data import read_rows, split_rows
    from drdp.fedsim.examples import encode_rows
    from drdp.fedsim.local import LocalSteps, LoraShape
    from drdp.fedsim.models import load_model

    data = config.data
    key = data.key if data.partition == "natural" else None
    rows = read_rows(data.source, key=key).rows
    tell(f"model {config.model.name}, data {data.source}: {len(rows):,} rows")
    shown = 0 if data.public_source else data.public
    split = split_rows(rows, public=shown, held_out=data.held_out, seed=config.run.seed)
    public_rows: Sequence[object] = split.public
    if data.public_source:
        others = read_rows(data.public_source).rows
        public_rows = others[: data.public] if data.public else others
    language = load_model(config.model.name, seed=config.run.seed)
    from drdp.fedsim.lora import LoraTrainer, StackedTrainer

    def tokens(part: Sequence[object]) -> tuple[Example, ...]:
        if not part:
            return ()
        found = encode_rows(
            part,  # type: ignore[arg-type]
            language.tokenizer,
            max_length=data.max_length,
            overlong=data.overlong,  # type: ignore[arg-type]
        )
        return found.examples

    private, public, held_out = map(
        tokens, (split.private, public_rows, split.held_out)
    )
    parts, population = _drawn(config, private)
    shared = _public_parts(config, len(public), len(private) // max(len(parts), 1))
    places = (*parts, *(part + len(private) for part in shared))
    local = config.local
    steps = LocalSteps(
        optimiser="gradient" if local.mode == "gradient" else local.optimizer,  # type: ignore[arg-type]
        learning_rate=local.learning_rate,
        steps=local.steps if local.mode == "steps" else None,
        epochs=local.epochs if local.mode == "epochs" else None,
        batch_size=local.batch,
        precision=config.model.precision,  # type: ignore[arg-type]
    )
    shape = LoraShape(
        rank=config.lora.rank,
        alpha=config.lora.alpha,
        targets=config.lora.targets,
        freeze_a=config.lora.freeze_a,
        seed=config.run.seed,
    )
    everybody = (*private, *public)
    trainer: LoraTrainer | StackedTrainer
    if local.at_once == 1:
        trainer = LoraTrainer(
            language, everybody, places, held_out=held_out, shape=shape, steps=steps
        )
    else:
        trainer = StackedTrainer(
            language,
            everybody,
            places,
            held_out=held_out,
            shape=shape,
            steps=steps,
            clients_at_once=local.at_once,  # type: ignore[arg-type]  # checked before
            memory=_MEMORY,
        )
    public_clients = ClientRange(trainer, len(parts), len(shared)) if shared else None
    clients = ClientRange(trainer, 0, len(parts))
    if config.run.method == "public":
        if public_clients is None:
            raise DataError("method public needs public examples; set data.public")
        clients = public_clients  # nobody else is asked for anything
    return Federation(
        trainer=clients,
        public=public_clients,
        layout=Layout.of((s.key, s.offset, s.shape) for s in trainer.slots),
        unit="example" if config.run.method == "ew-tune" else "client",
        population=population,
        examples=sum(map(len, parts)),
        save_adapter=trainer.save_adapter,
        measure=trainer.measure,
    )


def _drawn(config: Config, examples: Sequence[Example]) -> tuple[Partition, int]:
    """What is drawn from, and how many are protected."""
    import numpy as np

    from drdp.fedsim.partition import one_each

    if config.run.method == "cent":
        return (np.arange(len(examples)),), 1
    parts = _partition(config, examples)
    if config.run.method != "els":
        return parts, len(parts)
    most = config.privacy.most_examples
    kept = np.concatenate([part[:most] for part in parts])
    return tuple(kept[one] for one in one_each(len(kept))), len(parts)


def _partition(config: Config, examples: Sequence[Example]) -> Partition:
    from drdp.fedsim.partition import by_key, dirichlet, iid, one_each

    data, seed = config.data, config.run.seed
    wanted = data.clients or None
    if data.partition == "natural":
        keys = [one.key for one in examples]
        return by_key(keys, wanted, minimum=data.fewest, seed=seed)
    if data.partition == "example":
        return one_each(len(examples), wanted, seed=seed)
    if wanted is None:
        raise InvalidArgumentError(
            f"data.clients must be at least 1 with data.partition {data.partition},"
            " got 0"
        )
    if data.partition == "dirichlet":
        labels = [one.category for one in examples]
        parts = dirichlet(
            labels, wanted, alpha=data.alpha, minimum=data.fewest, seed=seed
        )
    else:
        parts = iid(len(examples), wanted, minimum=data.fewest, seed=seed)
    return tuple(part[: data.most] for part in parts)


def _public_parts(config: Config, examples: int, each: int) -> Partition:
    """Public clients that look like private ones; in gradient mode, single examples."""
    import numpy as np

    from drdp.fedsim.partition import one_each

    if examples == 0:
        if config.run.method in ("public", "pca"):
            raise DataError(
                f"method {config.run.method} needs public examples; set data.public"
                " or data.public_source"
            )
        return ()
    if config.local.mode == "gradient" and config.data.partition == "example":
        return one_each(examples)
    size = max(1, min(each, examples))
    rng = np.random.default_rng(config.run.seed)
    return tuple(
        np.sort(rng.permutation(examples)[:size])
        for _ in range(config.code.fit_samples)
    )
