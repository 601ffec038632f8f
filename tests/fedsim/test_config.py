"""Settings: what the documentation says, what a file holds, what is refused."""

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from drdp.errors import InvalidArgumentError
from drdp.fedsim.config import METHODS, Config, changed, parsed, read, written
from drdp.fedsim.documents import toml

GUIDE = (Path(__file__).parents[2] / "docs/training.md").read_text(encoding="utf-8")


def test_the_guide_lists_every_setting_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+\.\w+)` \| (.+?) \| ", GUIDE, re.MULTILINE)
    told = {
        name: None if default == "none" else tomllib.loads(f"x={default[1:-1]}")["x"]
        for name, default in rows
    }
    known = {
        f"{section.name}.{item.name}": getattr(
            getattr(Config(), section.name), item.name
        )
        for section in fields(Config)
        for item in fields(getattr(Config(), section.name))
    }
    assert list(told) == list(known)
    for name, value in known.items():
        assert told[name] == (list(value) if isinstance(value, tuple) else value), name


def test_the_guide_lists_every_method() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| (.+?) \| ", GUIDE, re.MULTILINE)
    assert dict(rows) == METHODS


def test_the_guides_run_file_can_be_read() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)
    config = read(tomllib.loads(text))
    assert config.run.method == "pca"
    assert config.privacy.epsilon == 2.0


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"privacy.epsilon": "inf", "lora.targets": "q_proj,v_proj"},
        {
            "privacy.epsilon": 0.1,
            "run.rounds": "until-budget",
            "data.source": 'a "b"\\',
        },
    ],
)
def test_what_is_written_is_read_back(settings: dict[str, object]) -> None:
    config = changed(Config(), settings)
    assert read(tomllib.loads(toml(written(config)))) == config


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("privacy.epsilon", 0.0),
        ("privacy.epsilon", float("nan")),
        ("privacy.delta", 1.0),
        ("cohort.rate", 0.0),
        ("cohort.rate", 1.5),
        ("local.steps", True),
        ("local.steps", 2.5),
        ("run.rounds", "for ever"),
        ("lora.freeze_a", 2),
        ("lora.targets", []),
        ("model.name", ""),
        ("run.method", ["pca"]),
    ],
)
def test_a_value_outside_its_domain_is_named(name: str, value: object) -> None:
    with pytest.raises(InvalidArgumentError, match=re.escape(name)) as raised:
        changed(Config(), {name: value})
    assert "\n" not in str(raised.value)


def test_a_setting_as_typed() -> None:
    assert parsed("run.rounds=3") == ("run.rounds", 3)
    assert parsed("model.name = some/model") == ("model.name", "some/model")
    assert parsed('lora.targets=["q_proj"]') == ("lora.targets", ["q_proj"])
