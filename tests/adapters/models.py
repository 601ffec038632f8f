"""Small models and data that the adapters' tests train, and a payer in memory."""

from collections import Counter

import torch
from peft import LoraConfig, get_peft_model
from torch.utils.data import DataLoader, TensorDataset
from transformers import LlamaConfig, LlamaForCausalLM

from drdp.errors import BudgetExceededError
from drdp.privacy.events import Event

# Warnings of the hosts that no test is about, each with its reason.
HOST_WARNINGS = (
    # Opacus: noise from an ordinary generator, which these tests can do with
    "ignore:Secure RNG turned off:UserWarning",
    # torch, for Opacus' hooks on a layer that is fed by frozen embeddings
    "ignore:Full backward hook is firing when gradients:UserWarning",
    # transformers, about a name that peft reads
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning",
)


class Receipts:
    """Charges in memory, at most `most` of them; looks around at each."""

    def __init__(self, most=10**9, watch=lambda: None):
        self.most, self.watch = most, watch
        self.seen, self.keys = [], []
        self._spent: Counter[Event] = Counter()

    def charge(self, event, *, label="", run="", key=None):
        if len(self.keys) >= self.most:
            raise BudgetExceededError("the receipts are full")
        self.seen.append(self.watch())
        self.keys.append(key)
        self._spent[event] += 1

    @property
    def total(self):
        return dict(self._spent)


def regression(examples=100, batch_size=10):
    """A linear model, its optimiser and a shuffling loader."""
    torch.manual_seed(0)
    x = torch.randn(examples, 4)
    y = (x @ torch.tensor([1.0, -1.0, 0.5, 0.0])).unsqueeze(1)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh())
    model.append(torch.nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    loader = DataLoader(TensorDataset(x, y), batch_size=batch_size, shuffle=True)
    return model, optimizer, loader


def train(model, optimizer, loader, epochs=1):
    """Ordinary epochs of an Opacus user."""
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(model(x), y).backward()
            optimizer.step()


def language_model(seed=0):
    """A Llama of 20,000 parameters with LoRA on its queries and values."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        pad_token_id=0,
    )
    lora = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    return get_peft_model(LlamaForCausalLM(config), lora)


def sentences(examples=48, length=8):
    """Sequences in which each token follows from the one before."""
    generator = torch.Generator().manual_seed(1)
    start = torch.randint(1, 32, (examples, 1), generator=generator)
    ids = (start + 3 * torch.arange(length)) % 31 + 1
    return [{"input_ids": row, "labels": row.clone()} for row in ids]
