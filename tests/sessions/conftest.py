"""Sessions: the command line as typed, in this process unless it must be its own."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from click.testing import CliRunner

from drdp.cli import main

Answer = Callable[..., "Session"]


@dataclass(frozen=True)
class Session:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        assert self.code == 0, self.err

        def refuse(constant: str) -> None:
            raise AssertionError(f"not JSON: {constant}")

        answer = json.loads(self.out, parse_constant=refuse)
        assert isinstance(answer, dict)
        return answer


@cache
def _typed(line: tuple[str, ...]) -> Session:
    result = CliRunner().invoke(main, list(line))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Session(result.exit_code, result.stdout, result.stderr)


@pytest.fixture(scope="session")
def drdp() -> Answer:
    """``drdp("epsilon --sigma 1 ...")``, answered once and remembered."""

    def run(line: str = "", *more: str) -> Session:
        return _typed((*line.split(), *more))

    return run


@pytest.fixture(scope="session")
def python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """A fresh interpreter."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run
