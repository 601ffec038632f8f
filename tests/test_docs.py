"""The console blocks of the documents, run as typed and compared line by line.

``python tests/test_docs.py`` runs them and rewrites the output they show.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
PAGES = [README, README.parent / "docs" / "guarantees.md"]
BLOCK = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)


def transcripts(block: str) -> list[tuple[str, str]]:
    """Each command of a console block, with the output shown below it."""
    parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)
    assert parts[0] == "", f"a console block opens with '$ ': {block!r}"
    return list(zip(parts[1::2], parts[2::2], strict=True))


def output_of(command: str, folder: Path) -> str:
    """What a command of a page prints on a terminal of 80 columns."""
    program, *arguments = shlex.split(command)
    assert program == "drdp", f"only drdp commands are run: {command!r}"
    done = subprocess.run(
        [Path(sys.executable).parent / "drdp", *arguments],
        cwd=folder,
        env=os.environ | {"COLUMNS": "80", "MPLBACKEND": "Agg"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


TRANSCRIPTS = [
    transcript
    for page in PAGES
    for block in BLOCK.findall(page.read_text(encoding="utf-8"))
    for transcript in transcripts(block)
]
LISTED = re.findall(
    r"^\| `(drdp [^`]+)` \|", README.read_text(encoding="utf-8"), re.MULTILINE
)


@pytest.mark.parametrize(
    ("command", "shown"), TRANSCRIPTS, ids=[command for command, _ in TRANSCRIPTS]
)
def test_command_prints_what_the_page_shows(
    command: str, shown: str, tmp_path: Path
) -> None:
    assert output_of(command, tmp_path).rstrip() == shown.rstrip()


@pytest.mark.parametrize("command", LISTED)
def test_command_listed_in_the_readme_works(command: str, tmp_path: Path) -> None:
    assert output_of(command, tmp_path)


def test_readme_shows_the_command_that_its_first_line_runs() -> None:
    commands = [command for command, _ in TRANSCRIPTS]
    assert "drdp calibrate --epsilon 2 --steps 20 --rate 0.05" in commands


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_are_doctests(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        assert block.startswith(">>> ")
        # Without the empty line doctest reads the fence as expected output.
        assert block.endswith("\n\n"), "leave an empty line before the fence"


def rewrite() -> None:
    """Put what the commands print today into the console blocks of the pages."""

    def fresh(block: re.Match[str]) -> str:
        with tempfile.TemporaryDirectory() as folder:
            return "\n".join(
                f"$ {command}\n{output_of(command, Path(folder)).rstrip()}\n"
                for command, _ in transcripts(block[0])
            )

    for page in PAGES:
        page.write_text(BLOCK.sub(fresh, page.read_text("utf-8")), encoding="utf-8")


if __name__ == "__main__":
    rewrite()
