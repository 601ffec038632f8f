"""LoRA fine-tuning with torch, transformers and peft: imported when it is used."""

from drdp.fedsim.lora.adapter import Slot
from drdp.fedsim.lora.together import StackedTrainer
from drdp.fedsim.lora.trainer import LoraTrainer

__all__ = ["LoraTrainer", "Slot", "StackedTrainer"]
