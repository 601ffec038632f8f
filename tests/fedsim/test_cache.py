"""What is built once: whole or not there, whoever builds and is interrupted."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from drdp.errors import ModelError
from drdp.fedsim.cache import build_once, cache_folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DRDP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def writes(text: str, calls: list[str]) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        calls.append(text)
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text(text)

    return build


def test_a_folder_is_built_once(cache: Path) -> None:
    calls: list[str] = []
    folder = build_once("thing", writes("first", calls))
    assert build_once("thing", writes("second", calls)) == folder == cache / "thing"
    assert calls == ["first"]
    assert (folder / "sub" / "file").read_text() == "first"
    assert [path.name for path in cache.iterdir()] == ["thing"]


def test_a_builder_that_fails_leaves_nothing(cache: Path) -> None:
    def fails(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        build_once("thing", fails)
    assert list(cache.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_builder_that_is_killed_leaves_nothing_that_is_taken_for_whole(
    cache: Path,
) -> None:
    code = (
        "import time\n"
        "from drdp.fedsim.cache import build_once\n"
        "def build(folder):\n"
        "    (folder / 'half').write_text('half')\n"
        "    print('half', flush=True)\n"
        "    time.sleep(60)\n"
        "build_once('thing', build)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "half\n"
        child.send_signal(signal.SIGKILL)
    assert not (cache / "thing").exists()
    (left,) = cache.iterdir()
    folder = build_once("thing", writes("whole", []))
    assert (folder / "sub" / "file").read_text() == "whole"
    assert not (folder / "half").exists()
    old = time.time() - 3 * 24 * 3600
    os.utime(left, (old, old))
    build_once("other", writes("other", []))
    assert sorted(path.name for path in cache.iterdir()) == ["other", "thing"]


def test_a_damaged_folder_is_built_again(cache: Path) -> None:
    folder = build_once("thing", writes("first", []))
    (folder / "sub" / "file").write_text("cut")
    build_once("thing", writes("again", []))
    assert (folder / "sub" / "file").read_text() == "again"
    assert [path.name for path in cache.iterdir()] == ["thing"]


def test_of_two_builders_the_first_wins(cache: Path) -> None:
    def slow(folder: Path) -> None:
        (folder / "file").write_text("slow")
        build_once("thing", writes("fast", []))  # another one finishes meanwhile

    folder = build_once("thing", slow)
    assert (folder / "sub" / "file").read_text() == "fast"
    assert not (folder / "file").exists()
    assert [path.name for path in cache.iterdir()] == ["thing"]


def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DRDP_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ModelError, match="set DRDP_CACHE to a folder"):
        build_once("thing", writes("text", []))


@pytest.mark.parametrize(
    ("platform", "variable", "below"),
    [
        ("linux", "XDG_CACHE_HOME", "drdp"),
        ("win32", "LOCALAPPDATA", "drdp/Cache"),
    ],
)
def test_the_cache_lies_where_the_platform_has_it(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    platform: str,
    variable: str,
    below: str,
) -> None:
    monkeypatch.delenv("DRDP_CACHE")
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv(variable, str(tmp_path))
    assert cache_folder() == tmp_path / below
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(variable)
    assert cache_folder().is_relative_to(tmp_path)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == tmp_path / "Library" / "Caches" / "drdp"
