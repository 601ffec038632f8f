"""Each example runs as its first lines say, without warnings, and ends well."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

# What a host warns of when it is imported: each is an error elsewhere.
HOSTS_WARN = {
    # typer, which Flower imports, asks click for names that click 8.4 renames
    "flower_app": ("ignore:'click.utils.get_:DeprecationWarning",),
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_runs_as_it_says(path, tmp_path):
    text = path.read_text(encoding="utf-8")
    assert f"``python examples/{path.name}``" in text
    allowed = [f"-W{message}" for message in HOSTS_WARN.get(path.stem, ())]
    done = subprocess.run(
        [sys.executable, "-W", "error", *allowed, path],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # what each of them is about: a guarantee in numbers
    assert re.search(r"epsilon \d+\.\d+", done.stdout), done.stdout
