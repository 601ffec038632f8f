"""The settings of a training run on the command line: options, file, --set."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from drdp.cli import options
from drdp.cli.options import Wrap
from drdp.fedsim.config import METHODS

if TYPE_CHECKING:
    from drdp.fedsim.config import Config

__all__ = ["METHOD_TABLE", "Settings", "run_settings"]

METHOD_TABLE = "Methods:\n" + "\n".join(
    f"  {name:<11} {text}" for name, text in METHODS.items()
)

_TEXT: dict[str, tuple[str, str, str]] = {
    "method": ("run.method", "NAME", "What is trained how; see below."),
    "model": ("model.name", "NAME", "smollm2-135m, tiny, a folder or a hub name."),
    "data": ("data.source", "FILE", "Instruction data: JSONL, or dolly-sample."),
    "clients": ("data.clients", "N", "How many clients share the data."),
    "rate": ("cohort.rate", "Q", "Share of the clients in a round."),
    "rounds": ("run.rounds", "T", "Number of rounds, or until-budget."),
    "epsilon": ("privacy.epsilon", "E", "The budget; inf for no noise."),
    "delta": ("privacy.delta", "D", "Default: min(1e-5, N^-1.1)."),
    "noise-multiplier": (
        "privacy.noise_multiplier",
        "S",
        "Noise as it is added / clip norm, instead of an epsilon.",
    ),
    "clip-norm": (
        "privacy.clip_norm",
        "C",
        "A number; public: from public data; adaptive.",
    ),
    "code-length": ("code.length", "K", "Numbers in a code."),
    "seed": ("run.seed", "SEED", "Of data, model and local training."),
    "noise": ("run.noise", "HOW", "secure, or seeded: replayable, not private."),
    "engine": ("run.engine", "WHERE", "in-process, or flower: clients in Ray."),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """What was asked for: a file, then single options, then --set."""

    file: Path | None
    values: dict[str, Any]

    @property
    def given(self) -> bool:
        """Whether anything was asked for."""
        return self.file is not None or bool(self.values)

    def config(self) -> Config:
        """The configuration; later settings win."""
        from drdp.fedsim.config import Config, changed, read

        config = Config() if self.file is None else read(_tables(self.file))
        return changed(config, self.values)


def run_settings(wrapped: Wrap) -> Wrap:
    """The options of a run, gathered into ``settings``."""

    @functools.wraps(wrapped)
    def gathered(*, config: Path | None, assigned: tuple[str, ...], **rest: Any) -> Any:
        from drdp.fedsim.config import parsed

        values: dict[str, Any] = {}
        for name, (setting, _, _) in _TEXT.items():
            value = rest.pop(name.replace("-", "_"))
            if value is not None:
                values[setting] = parsed(f"{setting}={value}")[1]
        values |= dict(map(parsed, assigned))
        return wrapped(settings=Settings(config, values), **rest)

    found: Callable[..., Any] = gathered
    for add in reversed(_options()):
        found = add(found)
    return found  # type: ignore[return-value]


def _options() -> list[Callable[[Callable[..., Any]], Callable[..., Any]]]:
    listed = [
        options.option(
            f"--{name}", check=str.strip, metavar=metavar, text=text, required=False
        )
        for name, (_, metavar, text) in _TEXT.items()
    ]
    return [
        *listed,
        click.option(
            "--config",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="A run file (TOML).",
        ),
        click.option(
            "--set",
            "assigned",
            multiple=True,
            metavar="NAME=VALUE",
            help="Any setting of a run file, such as local.steps=8; repeatable.",
        ),
    ]


def _tables(file: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise click.UsageError(f"--config: there is no file {file}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"--config: {file} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise click.UsageError(f"--config: {file} is not TOML: {error}") from None
