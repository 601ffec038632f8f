"""LoRA under DP-SGD: per-example gradients are true, and a dead adapter is noticed."""

import pytest
import torch
from opacus.grad_sample import GradSampleModule
from opacus.optimizers import DPOptimizer

from drdp.errors import InvalidArgumentError, UntrainedWeightsError
from drdp.privacy.adapters.huggingface import per_example_losses
from drdp.privacy.adapters.lora import guard_moves
from drdp.privacy.adapters.poisson import fresh_generator
from tests.adapters.models import HOST_WARNINGS, language_model, regression, sentences

pytestmark = [pytest.mark.filterwarnings(text) for text in HOST_WARNINGS]


def trained(model):
    return [p for p in model.parameters() if p.requires_grad]


def wrapped(model, lr=0.1, noise=1.0, clip=0.05):
    optimizer = torch.optim.SGD(trained(model), lr=lr)
    module = GradSampleModule(model, loss_reduction="sum")
    return module, DPOptimizer(
        optimizer,
        noise_multiplier=noise,
        max_grad_norm=clip,
        expected_batch_size=4,
        generator=fresh_generator(),
    )


def step(module, optimizer, batch):
    optimizer.zero_grad()
    each = per_example_losses(module(input_ids=batch), batch)
    each.sum().backward()
    optimizer.step()


BATCH = torch.stack([one["input_ids"] for one in sentences(4)])


def test_what_opacus_sums_is_the_clipped_gradients_of_single_examples():
    model = language_model()
    for p in trained(model):  # away from B = 0, where A has no gradient
        p.data.add_(
            0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(3))
        )
    expected = [torch.zeros_like(p) for p in trained(model)]
    norms = []
    for row in BATCH:
        model.zero_grad()
        per_example_losses(model(input_ids=row[None]), row[None]).sum().backward()
        own = [p.grad.clone() for p in trained(model)]
        norm = torch.cat([g.flatten() for g in own]).norm()
        norms.append(norm)
        for total, g in zip(expected, own, strict=True):
            total.add_(g * min(1.0, 0.05 / norm))
    assert max(norms) > 0.05  # clipping does something
    model.zero_grad()
    module, optimizer = wrapped(model)
    seen = []
    optimizer.attach_step_hook(
        lambda o: seen.extend(p.summed_grad.clone() for p in o.params)
    )
    step(module, optimizer, BATCH)
    for found, total in zip(seen, expected, strict=True):
        assert torch.allclose(found, total, atol=1e-6)


def test_one_example_does_not_change_what_others_contribute():
    """The model's own loss, a mean over all tokens of the batch, would."""
    model = language_model()
    labels = BATCH.clone()
    labels[0, 2:] = -100  # one example has less to learn than the others

    def gradient(loss, rows):
        model.zero_grad()
        loss(rows).backward()
        return torch.cat([p.grad.flatten() for p in trained(model)]).clone()

    def ours(rows):
        each = per_example_losses(model(input_ids=BATCH[rows]), labels[rows])
        return each.sum()

    def theirs(rows):  # as Opacus scales it: times the number of examples
        return model(input_ids=BATCH[rows], labels=labels[rows]).loss * len(rows)

    apart = gradient(ours, [0]) + gradient(ours, [1, 2, 3])
    assert torch.allclose(gradient(ours, [0, 1, 2, 3]), apart, atol=1e-6)
    apart = gradient(theirs, [0]) + gradient(theirs, [1, 2, 3])
    assert not torch.allclose(gradient(theirs, [0, 1, 2, 3]), apart, atol=1e-3)


def test_a_healthy_adapter_passes():
    module, optimizer = wrapped(language_model())
    with guard_moves(module, optimizer, steps=3):
        for _ in range(5):
            step(module, optimizer, BATCH)


def test_an_optimizer_made_before_the_adapter_is_refused():
    model = language_model()
    weights = [p for n, p in model.named_parameters() if "lora" not in n]
    optimizer = torch.optim.SGD(weights, lr=0.1)
    with (
        pytest.raises(
            UntrainedWeightsError, match="4 of 4 LoRA weights are not trained"
        ),
        guard_moves(model, optimizer),
    ):
        pass


def test_noise_alone_does_not_pass_for_learning():
    """Gradients that never reach the adapter: the noise moves B all the same."""
    model = language_model()
    module, optimizer = wrapped(model)
    start = [p.detach().clone() for p in trained(model)]

    def train():
        for _ in range(4):
            optimizer.zero_grad()
            (0.0 * per_example_losses(module(input_ids=BATCH), BATCH)).sum().backward()
            optimizer.step()

    with (
        pytest.raises(UntrainedWeightsError, match="had no gradient in 3 steps"),
        guard_moves(module, optimizer, steps=3),
    ):
        train()
    assert not any(map(torch.equal, start, trained(model)))


def test_a_learning_rate_of_zero_is_noticed_at_the_end():
    module, optimizer = wrapped(language_model(), lr=0.0)
    with (
        pytest.raises(UntrainedWeightsError, match="did not move in 1 steps"),
        guard_moves(module, optimizer),
    ):
        step(module, optimizer, BATCH)


def test_a_model_without_an_adapter_is_refused():
    model, optimizer, _ = regression()
    with (
        pytest.raises(InvalidArgumentError, match="get_peft_model"),
        guard_moves(model, optimizer),
    ):
        pass
