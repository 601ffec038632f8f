"""Compilation: announced when it takes long, and possible without a cache."""

import os
import subprocess
import sys

import pytest

SMALL = """
import drdp.privacy.kernel as kernel
{}
print(kernel.compiled().chernoff(1.0, 2.0, 1.0, True))
"""


def python(code, cache):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )


def test_without_a_place_for_a_cache_the_kernels_still_compile(tmp_path):
    """A file where the cache's directory should be: nothing can be written."""
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    found = python(SMALL.format("kernel._LONG = 0.0"), blocked)
    assert float(found.stdout) == pytest.approx(-1.3862943611198906)
    assert "set XDG_CACHE_HOME" in found.stderr
    assert blocked.read_text() == ""


def test_the_wait_is_announced_once_and_the_code_kept(tmp_path):
    code = SMALL.format("kernel._LONG = 0.0") + "kernel.compiled().flag(1.0)\n"
    first = python(code, tmp_path)
    assert first.stderr.count("compiling its kernels") == 1
    assert "kept for the next time" in first.stderr
    again = python(code, tmp_path)
    assert not again.stderr
    assert again.stdout == first.stdout


def test_a_short_wait_is_not_worth_a_word(tmp_path):
    assert not python(SMALL.format("kernel._LONG = 60.0"), tmp_path).stderr
