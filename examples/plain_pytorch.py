"""DP-SGD in a plain PyTorch loop, stopped before its budget is crossed.

Run it with ``python examples/plain_pytorch.py``; it takes a few seconds.
"""

import torch
from torch.nn.functional import cross_entropy

from drdp import within
from drdp.privacy.adapters.poisson import PoissonBatchSampler
from drdp.privacy.adapters.pytorch import private_steps

BUDGET = within(epsilon=2.0, delta=1e-4)


def data(examples: int = 2000) -> tuple[torch.Tensor, torch.Tensor]:
    """Points on a plane, inside or outside a circle."""
    x = torch.randn(examples, 2)
    return x, (x.norm(dim=1) > 1.2).long()


def loss(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The loss of one example."""
    return cross_entropy(model(x[None]), y[None])


def main() -> None:
    """Train until the budget is used up."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    x, y = data()
    model = torch.nn.Sequential(
        torch.nn.Linear(2, 32), torch.nn.Tanh(), torch.nn.Linear(32, 2)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=2.0)
    sampler = PoissonBatchSampler(len(x), rate=0.05, steps=10_000)
    with private_steps(
        optimizer,
        sampler=sampler,
        clip_norm=0.5,
        noise_multiplier=1.2,
        budget=BUDGET,
    ) as run:
        for batch in sampler:
            if not run.room:
                break
            run.backward(model, loss, x[batch], y[batch])
            optimizer.step()
    held_out, truth = data()
    right = (model(held_out).argmax(dim=1) == truth).double().mean().item()
    print(f"stopped after {run.steps} steps, accuracy {right:.3f}")
    print(
        f"certified epsilon {run.epsilon(BUDGET.delta):.4f} at delta {BUDGET.delta:g}"
    )


if __name__ == "__main__":
    main()
