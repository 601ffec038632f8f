"""Train a small classifier with Opacus, with a certified epsilon and a ledger.

Run it with ``python examples/opacus_training.py``; it takes a few seconds.
"""

import tempfile
import warnings
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from drdp.privacy.adapters.opacus import CertifiedEngine
from drdp.privacy.ledger import Ledger

# Opacus recommends secure_mode for production, which needs torchcsprng.
warnings.filterwarnings("ignore", "Secure RNG turned off", UserWarning)
# torch, about Opacus' hooks on the first layer, whose inputs have no gradient.
warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)

EPSILON, DELTA, EPOCHS = 3.0, 1e-4, 4


def data(examples: int = 2000) -> TensorDataset:
    """Points on a plane, in one of three sectors."""
    x = torch.randn(examples, 2)
    angle = torch.atan2(x[:, 1], x[:, 0])
    return TensorDataset(
        x, ((angle + torch.pi) / (2 * torch.pi) * 3).long().clamp(0, 2)
    )


def accuracy(model: torch.nn.Module, examples: TensorDataset) -> float:
    """The share of examples that the model gets right."""
    x, y = examples.tensors
    with torch.no_grad():
        return (model(x).argmax(dim=1) == y).double().mean().item()


def train(ledger: Ledger) -> None:
    """Calibrate the noise, train, and say what it cost."""
    training, held_out = data(), data()
    model = torch.nn.Sequential(
        torch.nn.Linear(2, 32), torch.nn.Tanh(), torch.nn.Linear(32, 3)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    loader = DataLoader(training, batch_size=100)

    engine = CertifiedEngine(ledger=ledger, run="sectors")
    model, optimizer, loader = engine.make_private_with_epsilon(
        module=model,
        optimizer=optimizer,
        data_loader=loader,
        target_epsilon=EPSILON,
        target_delta=DELTA,
        epochs=EPOCHS,
        max_grad_norm=1.0,
    )
    print(f"noise multiplier {optimizer.noise_multiplier:.4f}")
    for epoch in range(EPOCHS):
        for x, y in loader:
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()  # its charge is on the disk before it changes the model
        print(
            f"epoch {epoch + 1}: accuracy {accuracy(model, held_out):.3f},"
            f" epsilon {engine.get_epsilon(DELTA):.4f}"
        )
    low, high, _ = engine.accountant.get_interval(DELTA)
    print(f"certified epsilon {low:.5f} to {high:.5f} at delta {DELTA:g}")
    print(f"the ledger holds {len(ledger.entries()) - 1} charges")


def main() -> None:
    """One run on a new ledger."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    with (
        tempfile.TemporaryDirectory() as folder,
        Ledger.create(Path(folder) / "ledger.db", unit="example") as ledger,
    ):
        train(ledger)
        ledger.verify()


if __name__ == "__main__":
    main()
