"""The sessions of docs/ledger.md, run in order in one folder.

``python tests/sessions/test_ledger_docs.py`` rewrites the outputs they show.
Times and hashes differ each time and are compared as such.
"""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "ledger.md"
BLOCK = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)


def replayed(block: str, folder: Path) -> str:
    """The commands of a block with what they print today."""
    shown = []
    for command in re.findall(r"^\$ (.*)$", block, re.MULTILINE):
        program, *arguments = shlex.split(command)
        done = subprocess.run(
            [Path(sys.executable).parent / program, *arguments],
            cwd=folder,
            env=os.environ | {"COLUMNS": "80"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        shown.append(f"$ {command}\n{wrapped(done.stdout)}")
    return "\n".join(shown)


def wrapped(text: str) -> str:
    """Long messages of errors broken into lines, to be read."""
    return "\n".join(
        textwrap.fill(line, 80) if len(line) > 80 else line
        for line in [*text.splitlines(), ""]
    )


def masked(text: str) -> str:
    text = re.sub(r"\b[0-9a-f]{64}\b", "HASH", text)
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00", "TIME", text)


def test_the_page_shows_what_the_commands_print(tmp_path):
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert blocks
    for block in blocks:
        assert masked(replayed(block, tmp_path)) == masked(block)


def test_the_python_of_the_page_runs():
    failed, tried = doctest.testfile(str(PAGE), module_relative=False)
    assert tried
    assert not failed


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        page = PAGE.read_text(encoding="utf-8")
        fresh = BLOCK.sub(lambda block: replayed(block[0], Path(name)), page)
        PAGE.write_text(fresh, encoding="utf-8")
