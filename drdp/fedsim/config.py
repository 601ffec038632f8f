"""The settings of a training run: their names, domains and defaults.

A run file is TOML with one table per section; every entry may be left out.

>>> config = read({"cohort": {"rate": 0.1}, "privacy": {"epsilon": 2}})
>>> config.cohort.rate, config.local.steps
(0.1, 4)
>>> read({"local": {"batch": 0}})
Traceback (most recent call last):
drdp.errors.InvalidArgumentError: local.batch must be a whole number of at least 1, ...
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, final

from drdp import _check
from drdp.errors import InvalidArgumentError

__all__ = [
    "METHODS",
    "Code",
    "Cohort",
    "Config",
    "Data",
    "Evaluation",
    "Local",
    "Lora",
    "Model",
    "Privacy",
    "Run",
    "ServerStep",
    "changed",
    "parsed",
    "read",
    "written",
]

METHODS = {
    "base": "the pretrained model, untouched",
    "cent": "all data in one place, without privacy",
    "fedlora": "clients' LoRA updates as they are",
    "fedcg": "autoencoder fitted on clients' real updates (not private)",
    "dr-encoder": "autoencoder fitted on a random prior",
    "projection": "orthonormal random projection",
    "sketch": "count sketch",
    "pca": "principal directions of public updates",
    "public": "training on the public examples alone",
    "ew-tune": "example-level DP-SGD, all data in one place",
    "els": "example-level sampling with a user-level guarantee",
    "uls": "user-level sampling of clipped user gradients",
}

Check = Callable[[str, Any], Any]


def _one_of(*known: str) -> Check:
    def check(name: str, value: Any) -> str:
        if value not in known:
            raise InvalidArgumentError(
                f"{name} must be one of {', '.join(known)}, got {value!r}"
            )
        return str(value)

    return check


def _whole(least: int) -> Check:
    return lambda name, value: _check.count(least=least, **{name: value})


def _or(word: str, check: Check) -> Check:
    return lambda name, value: word if value == word else check(name, value)


def _or_nothing(check: Check) -> Check:
    return lambda name, value: None if value is None else check(name, value)


def _positive(name: str, value: Any) -> float:
    return _check.positive(**{name: value})


def _at_least_zero(name: str, value: Any) -> float:
    return _check.at_least_zero(**{name: value})


def _rate(name: str, value: Any) -> float:
    found = _check.rate(**{name: value})
    return _check.positive(**{name: found})


def _probability(name: str, value: Any) -> float:
    return _check.probability(**{name: value})


def _epsilon(name: str, value: Any) -> float:
    if value in ("inf", math.inf):
        return math.inf
    return _check.positive(**{name: value})


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidArgumentError(f"{name} must be a text, got {value!r}")
    return value.strip()


def _texts(name: str, value: Any) -> tuple[str, ...]:
    values = value.split(",") if isinstance(value, str) else value
    if not isinstance(values, Sequence) or not values:
        raise InvalidArgumentError(f"{name} must be a list of texts, got {value!r}")
    return tuple(_text(name, one) for one in values)


def _flag(name: str, value: Any) -> bool:
    if value in (True, False):
        return bool(value)
    if value in ("true", "false"):
        return bool(value == "true")
    raise InvalidArgumentError(f"{name} must be true or false, got {value!r}")


def _setting(default: Any, check: Check) -> Any:
    return field(default=default, metadata={"check": check})


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What is run, and where its randomness comes from."""

    method: str = _setting("dr-encoder", _one_of(*METHODS))
    rounds: int | str = _setting(20, _or("until-budget", _whole(1)))
    seed: int = _setting(0, _whole(0))
    noise: str = _setting("secure", _one_of("secure", "seeded"))
    engine: str = _setting("in-process", _one_of("in-process", "flower"))
    patience: float = _setting(3600.0, _positive)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The frozen language model."""

    name: str = _setting("smollm2-135m", _text)
    precision: str = _setting("auto", _one_of("auto", "float32", "bfloat16"))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """The adapter that is trained."""

    rank: int = _setting(8, _whole(1))
    alpha: float = _setting(16.0, _positive)
    targets: tuple[str, ...] = _setting(
        ("q_proj", "k_proj", "v_proj", "o_proj"), _texts
    )
    freeze_a: bool = _setting(False, _flag)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Whose examples are trained on, and which are public."""

    source: str = _setting("dolly-sample", _text)
    clients: int = _setting(100, _whole(0))
    partition: str = _setting("iid", _one_of("iid", "dirichlet", "natural", "example"))
    alpha: float = _setting(0.5, _positive)
    key: str = _setting("category", _text)
    fewest: int = _setting(1, _whole(1))
    most: int | None = _setting(None, _or_nothing(_whole(1)))
    max_length: int = _setting(128, _whole(16))
    overlong: str = _setting("truncate", _one_of("truncate", "drop"))
    public_source: str | None = _setting(None, _or_nothing(_text))
    public: int = _setting(192, _whole(0))
    held_out: int = _setting(200, _whole(1))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """What a client does with its examples."""

    mode: str = _setting("steps", _one_of("steps", "epochs", "gradient"))
    steps: int = _setting(4, _whole(1))
    epochs: int = _setting(1, _whole(1))
    batch: int = _setting(4, _whole(1))
    learning_rate: float = _setting(1.5e-4, _positive)
    optimizer: str = _setting("adamw", _one_of("adamw", "sgd"))
    at_once: int | str = _setting("auto", _or("auto", _whole(1)))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """Who takes part in a round."""

    kind: str = _setting("poisson", _one_of("poisson", "fixed", "every", "allocation"))
    rate: float = _setting(0.05, _rate)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Privacy:
    """The promise, and whom it holds against."""

    epsilon: float | None = _setting(None, _or_nothing(_epsilon))
    delta: float | None = _setting(None, _or_nothing(_probability))
    noise_multiplier: float | None = _setting(None, _or_nothing(_at_least_zero))
    clip_norm: float | str = _setting(
        "public", _or("public", _or("adaptive", _positive))
    )
    clip_factor: float = _setting(1.0, _positive)
    clip_start: float | str = _setting("public", _or("public", _positive))
    clip_quantile: float = _setting(0.5, _probability)
    clip_learning_rate: float = _setting(0.2, _positive)
    clip_count_noise: float = _setting(0.05, _positive)
    placement: str = _setting("central", _one_of("central", "distributed", "local"))
    view: str = _setting(
        "outsider", _one_of("messages", "sum", "colluding", "outsider")
    )
    adjacency: str | None = _setting(
        None, _or_nothing(_one_of("add-remove", "zero-out", "replace-one"))
    )
    mechanism: str = _setting(
        "gaussian", _one_of("gaussian", "discrete-gaussian", "skellam")
    )
    granularity: float = _setting(2.0**-12, _positive)
    survivors: int | None = _setting(None, _or_nothing(_whole(1)))
    colluding: int = _setting(0, _whole(0))
    most_examples: int = _setting(4, _whole(1))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """The codec: how long a code is, and what it is fitted on."""

    length: int | None = _setting(None, _or_nothing(_whole(1)))
    network: str = _setting("blocks", _one_of("blocks", "convolution"))
    prior: str = _setting("public", _one_of("public", "proxy", "released"))
    prior_noise: float = _setting(10.0, _positive)
    moments: str = _setting("mean-std", _one_of("mean", "mean-std", "higher"))
    fit_steps: int = _setting(200, _whole(1))
    fit_samples: int = _setting(32, _whole(2))
    bits: int | None = _setting(None, _or_nothing(_whole(1)))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStep:
    """What the server does with a mean update."""

    optimizer: str = _setting("sgd", _one_of("sgd", "momentum", "adam"))
    learning_rate: float = _setting(1.0, _positive)
    step_norm: float | None = _setting(None, _or_nothing(_positive))
    momentum: float = _setting(0.9, _rate)
    aggregation: str = _setting("factors", _one_of("factors", "products"))
    decode: str = _setting("after", _one_of("after", "before"))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What is measured on public held-out data."""

    every: int = _setting(5, _whole(1))
    mmlu: str | None = _setting(None, _or_nothing(_text))
    ceval: str | None = _setting(None, _or_nothing(_text))
    sst2: str | None = _setting(None, _or_nothing(_text))
    questions: int = _setting(400, _whole(0))
    shots: int = _setting(0, _whole(0))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings of a run, checked."""

    run: Run = Run()
    model: Model = Model()
    lora: Lora = Lora()
    data: Data = Data()
    local: Local = Local()
    cohort: Cohort = Cohort()
    privacy: Privacy = Privacy()
    code: Code = Code()
    server: ServerStep = ServerStep()
    evaluation: Evaluation = Evaluation()


def read(document: Mapping[str, Any]) -> Config:
    """A configuration from the tables of a run file.

    Raises:
        InvalidArgumentError: If a section or entry is unknown, or a value is
            outside its domain; the message names it.
    """
    sections: dict[str, Any] = {}
    known = {item.name: type(item.default) for item in fields(Config)}
    for name, table in document.items():
        if name not in known:
            raise InvalidArgumentError(
                f"unknown section {name!r}; the sections are {', '.join(known)}"
            )
        if not isinstance(table, Mapping):
            raise InvalidArgumentError(
                f"section {name} must be a table, got {table!r:.60}"
            )
        sections[name] = _section(name, known[name], table)
    return Config(**sections)


def changed(config: Config, settings: Mapping[str, Any]) -> Config:
    """The configuration with some settings replaced.

    Args:
        config: The configuration.
        settings: Values by dotted name, such as ``{"local.steps": 8}``.
    """
    for name, value in settings.items():
        section, _, entry = name.partition(".")
        if not entry or section not in {item.name for item in fields(Config)}:
            known = ", ".join(item.name for item in fields(Config))
            raise InvalidArgumentError(
                f"unknown setting {name!r}; write SECTION.ENTRY with one of {known}"
            )
        old = getattr(config, section)
        new = _section(section, type(old), {entry: value})
        config = replace(
            config, **{section: replace(old, **{entry: getattr(new, entry)})}
        )
    return config


def parsed(text: str) -> tuple[str, Any]:
    """A setting from ``name=value`` as typed; the value is TOML, or plain text.

    >>> parsed("local.learning_rate=1e-3"), parsed("model.name=tiny")
    (('local.learning_rate', 0.001), ('model.name', 'tiny'))
    """
    import tomllib

    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise InvalidArgumentError(f"a setting must be NAME=VALUE, got {text!r:.60}")
    try:
        found = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        found = value.strip()
    return name.strip(), found


def written(config: Config) -> dict[str, dict[str, Any]]:
    """The tables of a configuration, defaults included; `read` takes them back."""
    return {
        section.name: {
            item.name: _plain(value)
            for item in fields(part)
            if (value := getattr(part, item.name)) is not None
        }
        for section in fields(Config)
        if is_dataclass(part := getattr(config, section.name))
    }


def _section(name: str, kind: type[Any], table: Mapping[str, Any]) -> Any:
    checks = {item.name: item.metadata["check"] for item in fields(kind)}
    values: dict[str, Any] = {}
    for entry, value in table.items():
        if entry not in checks:
            raise InvalidArgumentError(
                f"unknown setting {name}.{entry}; {name} has {', '.join(checks)}"
            )
        values[entry] = checks[entry](f"{name}.{entry}", value)
    return kind(**values)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, float) and math.isinf(value):
        return "inf"
    return value
