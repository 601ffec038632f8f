"""The file that a fitted codec is kept in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from drdp.errors import InvalidArgumentError, RunFolderError
from drdp.fedsim.config import Config

if TYPE_CHECKING:
    from drdp.compression.protocol import Compressor

__all__ = ["store_codec", "stored_codec"]


def store_codec(codec: Compressor, file: Path) -> None:
    """Keep a codec that was fitted; others are made again from the settings.

    Raises:
        RunFolderError: If the file cannot be written.
    """
    save = getattr(_fitted(codec), "save", None)
    if save is None:
        return
    try:
        save(file)
    except OSError as error:
        raise RunFolderError(f"cannot write {file}: {error.strerror}") from None


def _fitted(codec: Compressor) -> Compressor:
    from drdp.compression.quantised import Quantised

    return codec.codec if isinstance(codec, Quantised) else codec


def stored_codec(config: Config, file: Path) -> Compressor:
    """The fitted codec in a run's file.

    Raises:
        RunFolderError: If the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    from drdp.compression.autoencoder import Autoencoder
    from drdp.compression.pca import Pca
    from drdp.compression.quantised import Quantised

    try:
        with safe_open(file, "np") as stored:
            kind = (stored.metadata() or {}).get("kind", "")
        found = Pca.load(file) if kind == "pca" else Autoencoder.load(file)
    except (SafetensorError, OSError, InvalidArgumentError) as error:
        raise RunFolderError(
            f"{file} is damaged: {error}; the run cannot go on with another codec"
        ) from None
    return found if config.code.bits is None else Quantised(found, config.code.bits)
