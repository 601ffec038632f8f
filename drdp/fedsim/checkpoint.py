"""A run's state as the bytes of a safetensors file, and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from drdp.errors import RunFolderError

if TYPE_CHECKING:
    from drdp.fedsim.simulate import State

__all__ = ["packed", "unpacked"]


def packed(state: State) -> bytes:
    """The file's content."""
    import numpy as np
    from safetensors.numpy import save

    arrays = {"parameters": state.parameters}
    arrays |= {f"memory.{name}": array for name, array in state.memory.items()}
    if state.clip_norm is not None:
        arrays["clip_norm"] = np.array([state.clip_norm])
    return save(arrays, {"round": str(state.round)})


def unpacked(file: Path) -> State:
    """The state in a file.

    Raises:
        RunFolderError: If the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    from drdp.fedsim.simulate import State

    try:
        with safe_open(file, "np") as stored:
            arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            done = int(stored.metadata()["round"])
        parameters, clip = arrays["parameters"], arrays.get("clip_norm")
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise RunFolderError(f"{file} is damaged: {error}") from None
    memory = {
        name.removeprefix("memory."): array
        for name, array in arrays.items()
        if name.startswith("memory.")
    }
    return State(done, parameters, memory, None if clip is None else float(clip[0]))
