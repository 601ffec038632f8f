"""Where things built once are kept, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from drdp.errors import ModelError

__all__ = ["build_once", "cache_folder"]

_MANIFEST = "manifest.json"
_STALE = 24 * 3600.0  # seconds after which a half-built folder has no builder


def cache_folder() -> Path:
    """The user's cache of this package.

    ``DRDP_CACHE`` names another one; otherwise it lies where the platform keeps
    caches.
    """
    if chosen := os.environ.get("DRDP_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "drdp"
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        parent = Path(local) if local else Path.home() / "AppData" / "Local"
        return parent / "drdp" / "Cache"
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "drdp"


def build_once(name: str, build: Callable[[Path], None]) -> Path:
    """The folder `name` of the cache, built if it is not there.

    The folder is built under another name and renamed when it is complete and on
    disk, so it is never seen half made: a builder that is killed leaves nothing
    behind that is taken for it, and of two at once the first to finish wins.

    Args:
        name: A name that changes whenever the content does.
        build: Fills an empty folder.

    Raises:
        ModelError: The cache cannot be written; names the folder and the remedy.
    """
    home = cache_folder()
    folder = home / name
    if _is_whole(folder):
        return folder
    try:
        home.mkdir(parents=True, exist_ok=True)
        _sweep(home)
        partial = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=home))
        try:
            build(partial)
            _seal(partial)
            _put(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ModelError(
            f"cannot build {name} in {home}: {reason}; set DRDP_CACHE to a folder that"
            " can be written and has room"
        ) from None
    return folder


def _is_whole(folder: Path) -> bool:
    """Whether the folder has a manifest and files of the sizes it lists."""
    try:
        sizes = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        return all((folder / file).stat().st_size == sizes[file] for file in sizes)
    except (OSError, ValueError):
        return False


def _seal(folder: Path) -> None:
    """Bring every file to disk and list their sizes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    manifest = folder / _MANIFEST
    manifest.write_text(json.dumps(sizes, indent=1) + "\n", encoding="utf-8")
    for path in (*files, manifest):
        with path.open("rb+") as stream:
            os.fsync(stream.fileno())


def _put(partial: Path, folder: Path) -> None:
    """Rename; a damaged folder of that name makes way, a whole one stays."""
    partial.chmod(0o755)
    try:
        partial.rename(folder)
    except OSError:
        if _is_whole(folder):
            return  # another process was faster
        if not folder.exists():
            raise
        damaged = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        folder.rename(damaged / "damaged")
        shutil.rmtree(damaged, ignore_errors=True)
        partial.rename(folder)


def _sweep(home: Path) -> None:
    """Remove what builders that were killed long ago left."""
    for path in home.glob(".*-*"):
        if path.is_dir() and time.time() - path.stat().st_mtime > _STALE:
            shutil.rmtree(path, ignore_errors=True)
