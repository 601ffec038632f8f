"""A peft LoRA adapter whose trainable numbers are one flat vector."""

from __future__ import annotations

import math
import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, final

import numpy as np
import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from peft.utils import get_peft_model_state_dict

from drdp.errors import InvalidArgumentError, ModelError, RunFolderError
from drdp.fedsim.local import LoraShape
from drdp.fedsim.models import LanguageModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Adapter", "Slot", "slots_of", "start_factors", "state_of"]


class Slot(NamedTuple):
    """Where one adapter tensor lies in the flat vector.

    Args:
        key: Its name in peft's state dict.
        offset: Its first place in the flat vector.
        shape: Its shape; elements are in row-major order.
    """

    key: str
    offset: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@final
class Adapter:
    """LoRA on a model, trained and read as one flat float32 vector.

    The adapter's tensors are views of `flat` and their gradients views of
    `gradient`, so loading, reading and stepping are single operations on vectors.
    The adapter is put into the model given; one model carries one adapter.

    Args:
        language: The model that gets it; its own weights stay frozen.
        shape: Rank, scale, targets, and whether A is trained.

    Attributes:
        model: peft's model.
        slots: Where each trained tensor lies.
        flat: The trained numbers, a parameter for an optimiser.
        gradient: Where their gradient is summed.

    Raises:
        ModelError: The model lacks a target; the message lists what it has.
    """

    def __init__(self, language: LanguageModel, shape: LoraShape) -> None:
        require_targets(language, shape.targets)
        config = LoraConfig(
            r=shape.rank,
            lora_alpha=shape.alpha,  # type: ignore[arg-type]  # any number will do
            target_modules=list(shape.targets),
            lora_dropout=0.0,
            bias="none",
            task_type=TaskType.CAUSAL_LM,
        )
        self.name = language.name
        self.shape = shape
        with warnings.catch_warnings():
            # peft asks transformers 5 under a name that goes away in version 6.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`")
            self.model = get_peft_model(language.model, config)
        self.model.eval()  # no dropout anywhere: an update is a function of its inputs
        named = [
            (name.replace(".default.", "."), tensor)
            for name, tensor in self.model.named_parameters()
            if ".lora_A." in name or ".lora_B." in name
        ]
        start_factors(named, shape.seed)
        for key, tensor in named:
            tensor.requires_grad_(".lora_B." in key or not shape.freeze_a)
        trained = [(key, tensor) for key, tensor in named if tensor.requires_grad]
        self.slots = slots_of({key: tuple(tensor.shape) for key, tensor in trained})
        length = self.slots[-1].offset + self.slots[-1].size
        device = trained[0][1].device
        self.flat = torch.nn.Parameter(torch.empty(length, device=device))
        self.gradient = torch.zeros_like(self.flat, requires_grad=False)
        self.flat.grad = self.gradient
        for slot, (_, tensor) in zip(self.slots, trained, strict=True):
            view = self.flat.data[slot.offset : slot.offset + slot.size]
            view = view.view(slot.shape)
            view.copy_(tensor.data)
            tensor.data = view
            slope = self.gradient[slot.offset : slot.offset + slot.size]
            tensor.grad = slope.view(slot.shape)
        self._initial = self.read()

    @property
    def initial(self) -> NDArray[np.float32]:
        """The numbers training starts from: A seeded, B zero."""
        return self._initial.copy()

    def load(self, parameters: NDArray[np.float32]) -> None:
        """Put a flat vector into the adapter."""
        if parameters.shape != self._initial.shape:
            raise InvalidArgumentError(
                f"parameters must have shape ({self._initial.size},), got"
                f" {parameters.shape}"
            )
        with torch.no_grad():
            self.flat.copy_(torch.from_numpy(parameters))

    def read(self) -> NDArray[np.float32]:
        """The adapter as a flat vector of its own, which later steps do not change."""
        return np.array(self.flat.detach().cpu().numpy(), dtype=np.float32, copy=True)

    def save(self, parameters: NDArray[np.float32], folder: str | Path) -> None:
        """Write the adapter in peft's format, A included where it is frozen.

        ``PeftModel.from_pretrained(model, folder)`` reads it back bit for bit.  The
        files are written beside `folder` first and each is then renamed into it.
        """
        from safetensors import SafetensorError

        self.load(parameters)
        folder = Path(folder)
        config = self.model.peft_config["default"]
        config.base_model_name_or_path = self.name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(
                prefix=".adapter-", dir=folder.parent
            ) as home:
                self.model.save_pretrained(home, save_embedding_layers=False)
                # The weights come before the configuration that makes them readable.
                for path in sorted(Path(home).iterdir(), reverse=True):
                    os.replace(path, folder / path.name)
        except (OSError, SafetensorError) as error:
            raise RunFolderError(
                f"cannot write the adapter to {folder}: {error}"
            ) from None


def require_targets(language: LanguageModel, targets: tuple[str, ...]) -> None:
    """Refuse targets that the model has no linear layer for.

    Raises:
        ModelError: With the names of the linear layers that it has.
    """
    found = {
        name.rpartition(".")[2]
        for name, module in language.model.named_modules()
        if isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"
    }
    missing = [target for target in targets if target not in found]
    if missing:
        raise ModelError(
            f"the model {language.name} has no layer {', '.join(missing)} for LoRA; its"
            f" linear layers are {', '.join(sorted(found)) or 'none'}"
        )


def slots_of(shapes: Mapping[str, tuple[int, ...]]) -> tuple[Slot, ...]:
    """Slots one after another, in the order given.

    >>> slots_of({"a": (2, 3), "b": (4,)})[1]
    Slot(key='b', offset=6, shape=(4,))
    """
    slots, offset = [], 0
    for key, shape in shapes.items():
        slots.append(Slot(key, offset, shape))
        offset += slots[-1].size
    return tuple(slots)


def state_of(model: PeftModel, slots: tuple[Slot, ...]) -> NDArray[np.float32]:
    """The flat vector of any peft model with these slots.

    Raises:
        ModelError: The model's adapter has other tensors or shapes.
    """
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    parts = []
    for slot in slots:
        if slot.key not in state or tuple(state[slot.key].shape) != slot.shape:
            raise ModelError(f"the adapter has no {slot.key} of shape {slot.shape}")
        parts.append(state[slot.key].detach().cpu().float().reshape(-1).numpy())
    return np.concatenate(parts)


def start_factors(named: Sequence[tuple[str, torch.Tensor]], seed: int) -> None:
    """A uniform in +-1/sqrt(inputs), as torch starts a linear layer; B zero."""
    generator = torch.Generator().manual_seed(seed)
    for key, tensor in named:
        if ".lora_B." in key:
            tensor.data.zero_()
            continue
        start = torch.rand(tensor.shape, generator=generator)
        tensor.data.copy_((2.0 * start - 1.0) / math.sqrt(tensor.shape[1]))
