"""The Hugging Face Trainer with the privacy callback, and what it refuses."""

import json

import pytest
import torch
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments

from drdp.errors import (
    BudgetExceededError,
    CodecError,
    InvalidArgumentError,
    UnplannedChargeError,
    UnsoundThreatModelError,
)
from drdp.privacy.adapters.huggingface import (
    PrivacyCallback,
    make_private,
    per_example_losses,
)
from drdp.privacy.adapters.poisson import PoissonBatchSampler, fresh_generator
from drdp.privacy.calibration import within
from drdp.privacy.events import Gaussian, PoissonSampled, atoms
from drdp.privacy.fixed_budget import FixedBudget
from drdp.privacy.ledger import Ledger
from drdp.privacy.pld import epsilon_interval
from tests.adapters.models import HOST_WARNINGS, Receipts, language_model, sentences

pytestmark = [pytest.mark.filterwarnings(text) for text in HOST_WARNINGS]

DATA = sentences()  # 48 examples
RATE = 8 / 48
STEP = PoissonSampled(RATE, Gaussian(1.0))
PARTS = {"clip_norm": 0.1, "noise_multiplier": 1.0, "delta": 1e-3}


def trainer_for(folder, callbacks=(), **options):
    options = {
        "max_steps": 12,
        "per_device_train_batch_size": 8,
        "learning_rate": 0.05,
        "logging_steps": 4,
        "save_steps": 5,
    } | options
    arguments = TrainingArguments(
        output_dir=str(folder),
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **options,
    )
    return Trainer(
        model=language_model(),
        args=arguments,
        train_dataset=DATA,
        callbacks=[*callbacks],
    )


def lora_b(trainer):
    named = trainer.model.named_parameters()
    return torch.cat([p.detach().flatten() for n, p in named if "lora_B" in n])


class Crash(TrainerCallback):
    """A machine that dies after so many steps."""

    def __init__(self, after):
        self.after = after

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.after:
            raise KeyboardInterrupt


# --- what a run does -----------------------------------------------------------


def test_a_run_learns_pays_each_step_and_logs_epsilon(tmp_path):
    ledger = Receipts()
    trainer = trainer_for(tmp_path, max_steps=40)
    private = make_private(
        trainer, ledger=ledger, run="lora", **PARTS | {"noise_multiplier": 0.4}
    )
    trainer.train()
    step = PoissonSampled(STEP.rate, Gaussian(0.4))
    assert ledger.total == {step: 40} == dict(atoms(private.spent))
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logs) == 10
    assert logs[-1]["loss"] < logs[0]["loss"] - 0.03
    for entry in logs:
        low, high, _ = epsilon_interval(step * entry["step"], 1e-3)
        assert low <= entry["epsilon"] <= high * (1 + 1e-6)
        assert "grad_norm" not in entry  # exact, and of the data
    assert trainer.state.log_history[-1]["epsilon"] == private.epsilon()


def test_a_step_is_charged_before_the_update(tmp_path):
    trainer = trainer_for(tmp_path)
    ledger = Receipts(watch=lambda: lora_b(trainer))
    make_private(trainer, ledger=ledger, **PARTS)
    start = lora_b(trainer)
    trainer.train()
    assert torch.equal(ledger.seen[0], start)
    assert not torch.equal(ledger.seen[1], start)
    assert len(ledger.seen) == 12
    assert not torch.equal(ledger.seen[-1], lora_b(trainer))


@pytest.mark.parametrize("parts", [1, 3])
def test_a_step_of_several_parts_is_one_poisson_batch(tmp_path, parts):
    """The clipped sum is that of the whole batch, over its expected size."""
    trainer = trainer_for(
        tmp_path,
        per_device_train_batch_size=24 // parts,
        gradient_accumulation_steps=parts,
        max_steps=3,
    )
    private = make_private(trainer, **PARTS)
    optimizer = trainer.optimizer
    sizes, scales = [], []

    def look(found):
        private._pay(found)
        lists = found.params[0].grad_sample
        lists = lists if isinstance(lists, list) else [lists]
        sizes.append(len(lists))
        # what is left of the gradient once the sum is gone is scaled noise
        scales.append(found.expected_batch_size * found.accumulated_iterations)

    attach = optimizer.attach_step_hook
    optimizer.attach_step_hook = lambda _: attach(look)
    trainer.train()
    assert sizes == [parts] * 3
    assert scales == pytest.approx([24.0] * 3)
    assert set(atoms(private.spent)) == {PoissonSampled(0.5, Gaussian(1.0))}


def test_an_empty_batch_contributes_nothing(tmp_path):
    """A rate at which most batches are empty, which is no sign of a dead adapter."""
    trainer = trainer_for(tmp_path, max_steps=60)
    private = make_private(trainer, **PARTS | {"clip_norm": 10.0}, rate=0.005)
    sums = []

    def look(found):
        private._pay(found)
        sums.append(sum(p.summed_grad.abs().sum().item() for p in found.params))

    attach = trainer.optimizer.attach_step_hook
    trainer.optimizer.attach_step_hook = lambda _: attach(look)
    trainer.train()
    assert private.steps == 60
    assert 20 < sums.count(0.0) < 60  # 47 in the mean


def test_noise_is_calibrated_to_the_planned_steps(tmp_path):
    trainer = trainer_for(tmp_path, max_steps=20)
    private = make_private(trainer, clip_norm=0.1, budget=within(2.0, 1e-3))
    trainer.train()
    assert private.steps == 20
    assert 1.99 < private.epsilon() <= 2.0


# --- stopping ------------------------------------------------------------------


def test_it_stops_before_the_step_that_would_cross_the_budget(tmp_path):
    trainer = trainer_for(tmp_path, max_steps=200)
    private = make_private(trainer, budget=within(1.5, 1e-3), **PARTS)
    trainer.train()
    assert trainer.state.global_step == private.steps < 200
    assert private.epsilon() <= 1.5
    assert epsilon_interval(private.spent + STEP, 1e-3).lower > 1.5
    # what there is was saved, and the last step is in the logs
    assert (tmp_path / f"checkpoint-{private.steps}").is_dir()
    steps = [e["step"] for e in trainer.state.log_history if "loss" in e]
    assert steps[-1] == private.steps


def test_without_room_for_a_step_nothing_is_trained(tmp_path):
    trainer = trainer_for(tmp_path)
    make_private(trainer, budget=within(0.01, 1e-6), **PARTS)
    start = lora_b(trainer)
    with pytest.raises(BudgetExceededError, match="nothing was"):
        trainer.train()
    assert torch.equal(lora_b(trainer), start)


def test_a_ledger_that_refuses_stops_the_update(tmp_path):
    trainer = trainer_for(tmp_path)
    ledger = Receipts(most=3, watch=lambda: lora_b(trainer))
    private = make_private(trainer, ledger=ledger, **PARTS)
    with pytest.raises(BudgetExceededError):
        trainer.train()
    assert private.steps == trainer.state.global_step == 3
    assert all(p.grad is None for p in trainer.model.parameters() if p.requires_grad)


# --- resuming ------------------------------------------------------------------


def test_a_resumed_run_loses_no_step_and_counts_none_twice(tmp_path):
    first = trainer_for(tmp_path, max_steps=5)
    make_private(first, **PARTS)
    first.train()
    second = trainer_for(tmp_path, max_steps=12)
    private = make_private(second, **PARTS)
    second.train(resume_from_checkpoint=True)
    assert second.state.global_step == 12
    assert dict(atoms(private.spent)) == {STEP: 12}


def test_a_crash_costs_what_was_released_before_it(tmp_path):
    """Steps 6 and 7 were made, and are made again with fresh noise: two releases."""
    ledger = Receipts()
    first = trainer_for(tmp_path, callbacks=[Crash(7)])
    make_private(first, ledger=ledger, run="r", **PARTS)
    with pytest.raises(KeyboardInterrupt):
        first.train()
    assert ledger.total == {STEP: 7}
    second = trainer_for(tmp_path)
    private = make_private(second, ledger=ledger, run="r", **PARTS)
    second.train(resume_from_checkpoint=True)
    assert ledger.total == {STEP: 7 + 7}
    assert len(set(ledger.keys)) == 14
    assert private.steps == 12  # of the model that came out of it


def test_the_same_callback_may_train_on(tmp_path):
    trainer = trainer_for(tmp_path, max_steps=5)
    private = make_private(trainer, **PARTS)
    trainer.train()
    trainer.args.max_steps = 8
    trainer.train(resume_from_checkpoint=True)
    assert dict(atoms(private.spent)) == {STEP: 8}


def test_a_checkpoint_without_an_account_is_refused(tmp_path):
    first = trainer_for(tmp_path, max_steps=5)
    make_private(first, **PARTS)
    first.train()
    path = tmp_path / "checkpoint-5" / "trainer_state.json"
    state = json.loads(path.read_text())
    del state["stateful_callbacks"]["PrivacyCallback"]
    path.write_text(json.dumps(state))
    second = trainer_for(tmp_path)
    make_private(second, **PARTS)
    with pytest.raises(CodecError, match="no account of its steps"):
        second.train(resume_from_checkpoint=True)


def test_restoring_callbacks_keeps_the_account_and_never_drops_a_ledger(tmp_path):
    options = {"restore_callback_states_from_checkpoint": True}
    first = trainer_for(tmp_path / "a", max_steps=5)
    make_private(first, budget=within(9.0, 1e-3), **PARTS)
    first.train()
    second = trainer_for(tmp_path / "a", **options)
    make_private(second, budget=within(9.0, 1e-3), **PARTS)
    second.train(resume_from_checkpoint=True)
    (found,) = [
        one
        for one in second.callback_handler.callbacks
        if isinstance(one, PrivacyCallback)
    ]
    assert dict(atoms(found.spent)) == {STEP: 12}

    first = trainer_for(tmp_path / "b", max_steps=5)
    make_private(first, ledger=Receipts(), **PARTS)
    first.train()
    second = trainer_for(tmp_path / "b", **options)
    make_private(second, ledger=Receipts(), **PARTS)
    with pytest.raises(InvalidArgumentError, match="cannot restore"):
        second.train(resume_from_checkpoint=True)


def test_a_ledger_that_lacks_the_checkpoints_steps_is_refused(tmp_path):
    first = trainer_for(tmp_path, max_steps=5)
    with Ledger.create(tmp_path / "a.db") as ledger:
        make_private(first, ledger=ledger, **PARTS)
        first.train()
    second = trainer_for(tmp_path)
    with Ledger.create(tmp_path / "b.db") as ledger:
        make_private(second, ledger=ledger, **PARTS)
        with pytest.raises(UnsoundThreatModelError, match="the ledger does not hold"):
            second.train(resume_from_checkpoint=True)
        assert atoms(ledger.spent) == {}


def test_a_ledgers_budget_stops_a_run_and_the_run_that_resumes_it(tmp_path):
    """Nine steps fit; a crash after seven, of which five are in the checkpoint."""
    plan = FixedBudget(2.55, 1e-3, STEP)
    with Ledger.create(tmp_path / "ledger.db", budget=plan) as ledger:
        assert ledger.remaining(STEP) == 9
        first = trainer_for(tmp_path, callbacks=[Crash(7)])
        make_private(first, ledger=ledger, run="r", **PARTS)
        with pytest.raises(KeyboardInterrupt):
            first.train()
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        second = trainer_for(tmp_path)
        private = make_private(second, ledger=ledger, run="r", **PARTS)
        second.train(resume_from_checkpoint=True)
        assert second.state.global_step == private.steps == 7  # 5 + the 2 left
        assert ledger.remaining(STEP) == 0
        ledger.verify()
        assert {entry.run for entry in ledger.entries()[1:]} == {"r"}
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        third = trainer_for(tmp_path / "new")
        make_private(third, ledger=ledger, **PARTS)
        with pytest.raises(BudgetExceededError, match="nothing was"):
            third.train()


def test_a_plan_that_has_no_such_step_says_so(tmp_path):
    plan = FixedBudget(2.0, 1e-3, PoissonSampled(0.1, Gaussian(1.0)))
    with Ledger.create(tmp_path / "ledger.db", budget=plan) as ledger:
        trainer = trainer_for(tmp_path)
        make_private(trainer, ledger=ledger, **PARTS)
        with pytest.raises(UnplannedChargeError, match="not in the plan"):
            trainer.train()


# --- what is refused -----------------------------------------------------------


def by_hand(folder, optimizer=None, **options):
    """A trainer that a user set up, with the callback alone."""
    trainer = trainer_for(folder, callbacks=[PrivacyCallback(delta=1e-3)], **options)
    plain = trainer.create_optimizer()
    trainer.optimizer = optimizer(plain) if optimizer else plain
    return trainer


def dp_optimizer(plain, **options):
    return DPOptimizer(
        plain,
        noise_multiplier=1.0,
        max_grad_norm=0.1,
        expected_batch_size=8,
        **{"generator": fresh_generator()} | options,
    )


def test_a_shuffling_loader_is_refused(tmp_path):
    trainer = by_hand(tmp_path, dp_optimizer)
    with pytest.raises(UnsoundThreatModelError, match="over SeedableRandomSampler"):
        trainer.train()


def test_an_optimizer_without_noise_is_refused(tmp_path):
    trainer = by_hand(tmp_path)
    with pytest.raises(UnsoundThreatModelError, match="clip each example's gradient"):
        trainer.train()


def test_noise_from_the_seed_in_the_arguments_is_refused(tmp_path):
    trainer = by_hand(tmp_path, lambda plain: dp_optimizer(plain, generator=None))
    with pytest.raises(UnsoundThreatModelError, match=r"sets to args\.seed"):
        trainer.train()


def test_ghost_clipping_without_its_loss_is_refused(tmp_path):
    """Its optimizer clips nothing by itself."""
    trainer = by_hand(
        tmp_path,
        lambda plain: DPOptimizerFastGradientClipping(
            plain,
            noise_multiplier=1.0,
            max_grad_norm=0.1,
            expected_batch_size=8,
            generator=fresh_generator(),
        ),
    )
    with pytest.raises(UnsoundThreatModelError, match="FastGradientClipping"):
        trainer.train()


def test_two_accounts_on_one_optimizer_are_refused(tmp_path):
    trainer = trainer_for(tmp_path)
    make_private(trainer, **PARTS)
    trainer.optimizer.attach_step_hook(lambda _: None)
    with pytest.raises(UnsoundThreatModelError, match="let one of them count"):
        trainer.train()


def test_a_second_batch_in_one_step_is_refused(tmp_path):
    class Twice(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
            batch = torch.stack([one["input_ids"] for one in DATA[:4]])
            per_example_losses(model(input_ids=batch), batch).mean().backward()

    trainer = trainer_for(tmp_path, callbacks=[Twice()])
    private = make_private(trainer, **PARTS)
    with pytest.raises(UnsoundThreatModelError, match="got 2 backward passes"):
        trainer.train()
    assert private.steps == 0


def test_parts_that_are_not_the_accumulated_batches_are_refused(tmp_path):
    trainer = by_hand(tmp_path, dp_optimizer, gradient_accumulation_steps=2)
    sampler = PoissonBatchSampler(48, RATE, steps=6)
    loader = DataLoader(DATA, batch_sampler=sampler)
    trainer.get_train_dataloader = lambda: trainer.accelerator.prepare(loader)
    with pytest.raises(
        UnsoundThreatModelError, match="gradient_accumulation_steps is 2"
    ):
        trainer.train()


@pytest.mark.parametrize(
    "options",
    [
        {"bf16": True},
        {"activation_checkpointing": True},
        {"auto_find_batch_size": True},
    ],
)
def test_settings_that_break_clipping_are_refused(tmp_path, options):
    trainer = trainer_for(tmp_path, **options)
    with pytest.raises(UnsoundThreatModelError, match=r"bf16|_checkpointing|auto_find"):
        make_private(trainer, **PARTS)


def test_half_precision_is_for_what_is_frozen(tmp_path):
    trainer = trainer_for(tmp_path, max_steps=3)
    for weight in trainer.model.parameters():
        if not weight.requires_grad:
            weight.data = weight.data.bfloat16()
    make_private(trainer, **PARTS)
    trainer.train()
    trainer = trainer_for(tmp_path)
    trainer.model.bfloat16()
    with pytest.raises(UnsoundThreatModelError, match="must be float32"):
        make_private(trainer, **PARTS)


def test_losses_that_mix_examples_are_refused(tmp_path):
    trainer = trainer_for(tmp_path)
    make_private(
        trainer,
        losses=lambda out, labels: per_example_losses(out, labels).mean(),
        **PARTS,
    )
    with pytest.raises(InvalidArgumentError, match="one number for each"):
        trainer.train()


def test_a_step_that_goes_around_the_payment_is_noticed(tmp_path):
    class Around(TrainerCallback):
        def on_step_begin(self, args, state, control, optimizer, **kwargs):
            if state.global_step == 2:
                optimizer.optimizer.attach_step_hook(None)

    trainer = trainer_for(tmp_path, callbacks=[Around()])
    make_private(trainer, **PARTS)
    with pytest.raises(UnsoundThreatModelError, match="3 steps were made and 2 paid"):
        trainer.train()


def test_class_labels_have_losses_of_their_own():
    logits = torch.randn(5, 3)
    labels = torch.tensor([0, 2, -100, 1, 1])
    found = per_example_losses({"logits": logits}, labels)
    assert found.shape == (5,)
    assert found[2] == 0.0
    assert found[0] == pytest.approx(-torch.log_softmax(logits, 1)[0, 0].item())
