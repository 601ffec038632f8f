"""Fine-tune a language model's LoRA adapter with the Hugging Face Trainer, privately.

The model is tiny and learns to count; any causal language model will do in its
place.  Run it with ``python examples/huggingface_trainer.py``; it takes a few
seconds.
"""

import tempfile
import warnings

import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
)

from drdp import within
from drdp.privacy.adapters.huggingface import make_private

# torch, about Opacus' hooks on a layer that is fed by frozen embeddings
warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)
# transformers, about a name that peft reads
warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)


def language_model() -> PreTrainedModel:
    """A random Llama with LoRA on its attention."""
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=32,
        pad_token_id=0,
    )
    lora = LoraConfig(
        r=4,
        target_modules=["q_proj", "v_proj", "o_proj", "lm_head"],
        task_type="CAUSAL_LM",
        lora_alpha=32,
    )
    return get_peft_model(LlamaForCausalLM(config), lora)


def sentences(examples: int = 512) -> list[dict[str, torch.Tensor]]:
    """Counting from one to eight, over and over, from anywhere."""
    ids = (torch.randint(8, (examples, 1)) + torch.arange(10)) % 8 + 1
    return [{"input_ids": row, "labels": row.clone()} for row in ids]


def main() -> None:
    """Train until the budget is used up; each step was paid before it was made."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=language_model(),
            args=TrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=16,
                gradient_accumulation_steps=2,  # one Poisson batch of 32, in two parts
                num_train_epochs=100,  # more than the budget allows
                learning_rate=0.02,
                lr_scheduler_type="constant",
                logging_steps=20,
                save_strategy="no",
                report_to=[],
                use_cpu=True,
                disable_tqdm=True,
                dataloader_pin_memory=False,
            ),
            train_dataset=sentences(),
        )
        private = make_private(
            trainer,
            clip_norm=1.0,
            noise_multiplier=1.0,
            budget=within(epsilon=4.0, delta=1e-4),
        )
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    print(f"stopped after {private.steps} steps")
    print(f"loss of a batch's two parts together: {losses[0]:.2f} -> {losses[-1]:.2f}")
    print(f"certified epsilon {private.epsilon():.4f} at delta {private.delta:g}")


if __name__ == "__main__":
    main()
