"""Every method from its settings to its statement, on a small real model."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from drdp.compression.autoencoder import Autoencoder
from drdp.errors import (
    CalibrationError,
    ChargeRefusedError,
    DataError,
    DrdpError,
    InvalidArgumentError,
    LedgerError,
    RunFolderError,
    UnsoundThreatModelError,
)
from drdp.fedsim import fitting
from drdp.fedsim.comparison import Task, compared
from drdp.fedsim.config import METHODS, Config, changed, read
from drdp.fedsim.execution import Outcome, Prepared, Progress
from drdp.fedsim.federation import federation, settled
from drdp.fedsim.folder import RunFolder
from drdp.fedsim.running import Run
from drdp.fedsim.trainer import ClientRange
from drdp.privacy.events import Gaussian, NonPrivate, atoms
from drdp.privacy.ledger import Ledger
from drdp.privacy.pld import epsilon_interval
from drdp.privacy.threat import FixedCohort
from tests.fedsim.small import small

BUDGET = 8.0
PRIVATE = (
    *("fedlora", "projection", "sketch", "pca", "ew-tune", "els", "uls"),
    "dr-encoder",
)


def config(**settings: object) -> Config:
    """The small run with other settings, written ``privacy__epsilon=2``."""
    values = {name.replace("__", "."): value for name, value in settings.items()}
    return changed(read(small()), values)


def silent(text: str) -> None:
    """Progress that nobody watches."""


def run(path: Path, **settings: object) -> tuple[Prepared, Outcome, RunFolder]:
    folder, asked = RunFolder(path), settled(config(**settings))
    with folder.locked():
        begun = Run.begun(folder, asked)
        prepared = begun.prepared(silent)
        return prepared, begun.executed(prepared), folder


def charged(prepared: Prepared, outcome: Outcome, folder: RunFolder) -> float:
    """Epsilon, after a check that ledger, simulation and statement say the same."""
    with Ledger.open(folder.ledger, read_only=True) as ledger:
        ledger.verify()
        spent = ledger.spent
    assert atoms(spent) == atoms(prepared.simulation.event(outcome.state.round))
    assert atoms(spent) == atoms(outcome.statement.event)
    assert folder.finished
    assert not folder.key.exists()
    assert (folder.adapter / "adapter_model.safetensors").exists()
    return outcome.statement.epsilon.upper


@pytest.mark.parametrize("method", PRIVATE)
def test_a_private_method_keeps_to_its_budget(tmp_path: Path, method: str) -> None:
    found = run(tmp_path / "run", run__method=method, privacy__epsilon=BUDGET)
    prepared, outcome, folder = found
    epsilon = charged(*found)
    assert 0.9 * BUDGET < epsilon <= BUDGET
    assert epsilon == epsilon_interval(outcome.statement.event, prepared.delta).upper
    assert outcome.state.round == 2
    assert [one["round"] for one in folder.records()] == [0, 1, 2]
    assert outcome.after != outcome.before


@pytest.mark.filterwarnings("ignore::drdp.privacy.stages.NoisyPriorWarning")
@pytest.mark.parametrize("prior", ["proxy", "released"])
def test_every_prior_of_the_encoder_is_paid_from_one_budget(
    tmp_path: Path, prior: str
) -> None:
    settings = {"privacy__epsilon": BUDGET, "code__prior": prior, "code__bits": 8}
    found = run(tmp_path / "run", run__method="dr-encoder", **settings)
    assert 0.9 * BUDGET < charged(*found) <= BUDGET
    released = Gaussian(10.0) in atoms(found[1].statement.event)
    assert released is (prior == "released")
    with Ledger.open(found[2].ledger, read_only=True) as ledger:
        labels = [entry.label for entry in ledger.entries()]
    # What fitting releases is paid for first.
    assert ("fitting the codec" in labels[:3]) is released


@pytest.mark.filterwarnings("ignore::drdp.privacy.stages.NoisyPriorWarning")
@pytest.mark.parametrize(
    ("prior", "moments", "numbers"),
    [
        ("public", "mean", 0),
        ("proxy", "mean", 0),
        ("proxy", "higher", 0),
        ("released", "mean", 2),
        ("released", "mean-std", 4),
    ],
)
def test_the_moments_of_a_prior_are_chosen_and_paid_for(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prior: str,
    moments: str,
    numbers: int,
) -> None:
    """A q_proj has an A and a B: two means, and two variances."""
    from drdp.compression import released

    sent, right = [], released.prior_of_total

    def seen(total: Any, *rest: Any, **more: Any) -> Any:
        sent.append(len(total))
        return right(total, *rest, **more)

    monkeypatch.setattr(released, "prior_of_total", seen)
    folder = RunFolder(tmp_path / "run")
    settings = {"code__prior": prior, "code__moments": moments}
    begun = Run.begun(folder, config(privacy__epsilon=BUDGET, **settings))
    prepared = begun.prepared(silent)
    assert sent == [numbers] * (numbers > 0)
    whole = epsilon_interval(prepared.simulation.event(2), prepared.delta).upper
    assert 0.9 * BUDGET < whole <= BUDGET
    if numbers:
        with Ledger.open(folder.ledger, read_only=True) as ledger:
            assert atoms(ledger.spent) == {Gaussian(10.0): 1}


@pytest.mark.filterwarnings("ignore::drdp.privacy.stages.NoisyPriorWarning")
def test_the_noise_of_a_released_prior_belongs_to_its_sum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same sum is the same release; another one is refused by the plan."""
    folder = RunFolder(tmp_path / "run")
    settings = {"code__prior": "released", "privacy__epsilon": BUDGET}
    Run.begun(folder, config(**settings)).prepared(silent)
    codec = folder.path / "codec.safetensors"
    first, plan = Autoencoder.load(codec).checksum, folder.plan()
    for name in ("codec.safetensors", "plan.json"):
        (folder.path / name).unlink()
    Run.resumed(folder).prepared(silent)
    assert Autoencoder.load(codec).checksum == first
    assert folder.plan() == plan
    with Ledger.open(folder.ledger, read_only=True) as ledger:
        assert len([one for one in ledger.entries() if one.label]) == 1
    # One client's numbers come out otherwise, or the noise is another amount.
    codec.unlink()
    right = fitting._moments
    monkeypatch.setattr(fitting, "_moments", lambda *made: right(*made) * 0.5)
    with pytest.raises(ChargeRefusedError):
        Run.resumed(folder).prepared(silent)
    assert not codec.exists()


def test_a_dry_run_looks_at_no_private_client(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    right = ClientRange.updates

    def seen(self: Any, parameters: Any, clients: Any, seed: int) -> Any:
        asked.extend(self._first + client for client in clients)
        return right(self, parameters, clients, seed)

    monkeypatch.setattr(ClientRange, "updates", seen)
    for settings in ({"code__prior": "released"}, {"run__method": "fedcg"}):
        ask = settled(config(privacy__epsilon=BUDGET, **settings))
        prepared = Run(ask, None).prepared(silent)
        lost = NonPrivate() in atoms(prepared.simulation.event(2))
        assert lost is ("run__method" in settings)
    assert asked
    assert min(asked) >= 12, "only public clients, who come after the private ones"


@pytest.mark.parametrize("method", ["cent", "fedcg"])
def test_a_method_that_is_not_private_says_so(tmp_path: Path, method: str) -> None:
    found = run(tmp_path / "run", run__method=method, privacy__epsilon=BUDGET)
    assert charged(*found) == float("inf")
    assert NonPrivate() in atoms(found[1].statement.event)
    said = (found[2].path / "statement.txt").read_text()
    assert "not differentially private" in said
    assert "NOT PRIVATE" in str(found[0].plan["told"]["Plan"])


@pytest.mark.parametrize(("method", "rounds"), [("base", 0), ("public", 2)])
def test_a_method_without_private_data_spends_nothing(
    tmp_path: Path, method: str, rounds: int
) -> None:
    found = run(tmp_path / "run", run__method=method)
    assert charged(*found) == 0.0
    assert found[1].state.round == rounds
    said = (found[2].path / "statement.txt").read_text()
    assert "No example of any client was used." in said
    assert "(0, 1e-5)-differentially private" in said


def test_training_on_public_data_asks_no_private_client() -> None:
    """Even where there are as many public clients as private ones."""
    ask = settled(config(run__method="public", data__clients=10, code__fit_samples=10))
    people = federation(ask, silent)
    prepared = Run(ask, None).prepared(silent)
    assert people.public is not None
    first = people.public.initial()
    shared = [u.delta.tolist() for u in people.public.updates(first, range(10), 1)]
    trained = prepared.simulation.trainer
    assert [u.delta.tolist() for u in trained.updates(first, range(10), 1)] == shared
    private = federation(
        settled(config(run__method="fedlora", data__clients=10)), silent
    ).trainer
    assert [u.delta.tolist() for u in private.updates(first, range(10), 1)] != shared


def test_every_method_is_tested_here() -> None:
    assert {*PRIVATE, "cent", "fedcg", "base", "public"} == set(METHODS)


def test_ew_tune_draws_from_all_examples() -> None:
    prepared = Run(
        settled(config(run__method="ew-tune", privacy__epsilon=BUDGET)), None
    ).prepared(silent)
    assert prepared.unit == "example"
    assert prepared.population == prepared.plan["examples"] > 80


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"placement": "distributed", "view": "sum"}, "sum"),
        ({"placement": "distributed", "view": "colluding", "colluding": 2}, "coll"),
        ({"placement": "local", "view": "messages"}, "messages"),
    ],
)
def test_noise_at_the_clients_is_accounted_as_it_is_seen(
    tmp_path: Path, settings: Mapping[str, object], told: str
) -> None:
    given = {f"privacy__{name}": value for name, value in settings.items()}
    found = run(
        tmp_path / "run",
        run__method="pca",
        privacy__epsilon=BUDGET,
        cohort__kind="fixed",
        **given,
    )
    assert 0.9 * BUDGET < charged(*found) <= BUDGET
    protection = found[0].simulation.protection
    assert isinstance(protection.cohort, FixedCohort)
    size = protection.cohort.clients_per_round
    mean = protection.noise_of_mean(found[0].simulation.trainer.num_clients)
    assert mean == pytest.approx(protection.noise_multiplier * size**0.5 / size)
    stored = json.loads((found[2].path / "statement.json").read_text())
    assert told in stored["setting"]["adversary"]
    # The sum of all noise is what central noise for this view would be, or more.
    central = run(
        tmp_path / "central",
        run__method="pca",
        privacy__epsilon=BUDGET,
        cohort__kind="fixed",
    )[0].simulation.protection.noise_multiplier
    assert protection.noise_multiplier * size**0.5 >= central * (1.0 - 1e-6)


@pytest.mark.parametrize("law", ["discrete-gaussian", "skellam"])
def test_discrete_noise_is_calibrated_charged_and_told(
    tmp_path: Path, law: str
) -> None:
    """By Renyi bounds, without amplification: more noise than Gaussian's."""
    found = run(
        tmp_path / "run",
        run__method="projection",
        code__length=64,
        privacy__epsilon=BUDGET,
        privacy__mechanism=law,
        privacy__placement="distributed",
        privacy__view="sum",
        cohort__kind="fixed",
        cohort__rate=0.5,
    )
    prepared, outcome, folder = found
    assert 0.9 * BUDGET < charged(*found) <= BUDGET
    assert outcome.statement.epsilon.method != "no protection"
    assert folder.records()[-1]["epsilon"] <= BUDGET
    assert law in str(prepared.plan["told"]["Plan"])
    said = (folder.path / "statement.txt").read_text()
    assert f"Noise is {law}, drawn exactly on the integers" in said
    assert "double precision" not in said


def test_rounds_until_the_budget_is_spent(tmp_path: Path) -> None:
    given = {
        "run__rounds": "until-budget",
        "privacy__epsilon": 8.0,
        "privacy__noise_multiplier": 0.9,
    }
    found = run(tmp_path / "run", run__method="pca", **given)
    prepared, outcome, _ = found
    assert charged(*found) <= 8.0
    assert outcome.state.round == prepared.rounds >= 2
    more = prepared.simulation.event(prepared.rounds + 1)
    assert epsilon_interval(more, prepared.delta).upper > 8.0


@pytest.mark.parametrize(
    ("settings", "error", "told"),
    [
        ({}, InvalidArgumentError, "--epsilon"),
        ({"run__rounds": "until-budget"}, InvalidArgumentError, "no budget is given"),
        (
            {"run__rounds": "until-budget", "privacy__epsilon": 2},
            InvalidArgumentError,
            "needs privacy.noise_multiplier",
        ),
        (
            {"run__rounds": "until-budget", "privacy__epsilon": "inf"},
            InvalidArgumentError,
            "run.rounds must be a number",
        ),
        (
            {"privacy__epsilon": 2, "privacy__placement": "distributed"},
            UnsoundThreatModelError,
            "cohort",
        ),
        (
            {
                "privacy__epsilon": 2,
                "cohort__kind": "allocation",
                "privacy__view": "sum",
            },
            UnsoundThreatModelError,
            "random allocation",
        ),
        (
            {
                "privacy__epsilon": 2,
                "run__method": "els",
                "cohort__kind": "fixed",
            },
            UnsoundThreatModelError,
            "Poisson sampling",
        ),
        (
            {
                "privacy__epsilon": 2,
                "run__method": "els",
                "data__partition": "example",
            },
            InvalidArgumentError,
            "data.partition must not be example",
        ),
        (
            {"privacy__epsilon": 2, "run__method": "pca", "code__length": 64},
            InvalidArgumentError,
            "code.length must be at most the 10 public updates",
        ),
        (
            {
                "privacy__epsilon": 2,
                "run__method": "dr-encoder",
                "code__prior": "released",
                "code__moments": "higher",
            },
            InvalidArgumentError,
            "no public bound",
        ),
        ({"run__method": "public", "data__public": 0}, DataError, "public"),
        ({"privacy__epsilon": 2, "data__public": 0}, DataError, "public examples"),
        ({"privacy__epsilon": 2, "data__clients": 5000}, DataError, "5000|5,000"),
        ({"privacy__epsilon": 2, "data__source": "nowhere.jsonl"}, DataError, "no"),
        ({"privacy__epsilon": 2, "lora__targets": "w_q"}, DrdpError, "w_q"),
        (
            {
                "privacy__epsilon": 0.01,
                "run__method": "dr-encoder",
                "code__prior": "released",
            },
            CalibrationError,
            "before the first round",
        ),
        (
            {"privacy__epsilon": 0.01, "privacy__noise_multiplier": 0.5},
            CalibrationError,
            "not even one round",
        ),
        (
            {"privacy__epsilon": 2, "privacy__noise_multiplier": 0},
            DrdpError,
            "noise",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_and_leaves_nothing(
    tmp_path: Path, settings: Mapping[str, object], error: type[DrdpError], told: str
) -> None:
    asked = {"run__method": "fedlora", **settings}
    with pytest.raises(error, match=told) as raised:
        run(tmp_path / "run", **asked)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


class StoppedError(Exception):
    """Stands for whatever ends a process."""


def stop(progress: Progress) -> None:
    if progress.round == 1:
        raise StoppedError


@pytest.mark.parametrize("method", ["pca", "dr-encoder", "projection"])
def test_a_run_that_is_resumed_ends_as_one_that_was_not(
    tmp_path: Path, method: str
) -> None:
    settings = {
        "run__method": method,
        "run__noise": "seeded",
        "privacy__epsilon": BUDGET,
        "code__bits": 8,
    }
    whole = run(tmp_path / "whole", **settings)
    folder = RunFolder(tmp_path / "half")
    begun = Run.begun(folder, config(**settings))
    with pytest.raises(StoppedError):
        begun.executed(begun.prepared(silent), stop)
    again = Run.resumed(folder)
    prepared = again.prepared(silent)
    assert prepared.plan == folder.plan() == whole[2].plan()
    outcome = again.executed(prepared)
    assert (outcome.state.parameters == whole[1].state.parameters).all()
    assert outcome.after == whole[1].after
    assert "NOT PRIVATE" in (folder.path / "statement.txt").read_text()
    charged(prepared, outcome, folder)
    with pytest.raises(RunFolderError, match="finished already"):
        Run.resumed(folder).executed(prepared)


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private run that was interrupted after its first round."""
    folder = RunFolder(tmp_path_factory.mktemp("run") / "half")
    begun = Run.begun(folder, config(run__method="pca", privacy__epsilon=BUDGET))
    with pytest.raises(StoppedError):
        begun.executed(begun.prepared(silent), stop)
    return folder.path


def resume(folder: RunFolder) -> Outcome:
    again = Run.resumed(folder)
    return again.executed(again.prepared(silent))


def _without(file: str) -> Any:
    return lambda path: (path / file).unlink()


def _written(file: str, content: bytes) -> Any:
    return lambda path: (path / file).write_bytes(content)


def _data_changed(path: Path) -> None:
    text = (path / "config.toml").read_text()
    (path / "config.toml").write_text(text.replace("clients = 12", "clients = 11"))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (_without("secret.key"), "secret.key is missing"),
        (_without("config.toml"), "there is no run in"),
        (_written("config.toml", b"[run\n"), "config.toml cannot be read"),
        (_written("config.toml", b"[run]\nrounds = 0\n"), "run.rounds"),
        (_written("plan.json", b"{"), "plan.json cannot be read"),
        (_written("plan.json", b"{}"), "plan.json is damaged"),
        (_written("codec.safetensors", b"x" * 64), "codec.safetensors is damaged"),
        (_written("ledger.sqlite", b"x" * 5000), "ledger"),
        (_data_changed, "it cannot go on"),
    ],
)
def test_a_damaged_folder_is_one_clear_line(
    tmp_path: Path, half: Path, damage: Any, told: str
) -> None:
    path = tmp_path / "run"
    shutil.copytree(half, path)
    damage(path)
    with pytest.raises((RunFolderError, LedgerError), match=told) as raised:
        resume(RunFolder(path))
    assert "\n" not in str(raised.value)


def test_a_comparison_goes_on_and_refuses_runs_with_other_settings(
    tmp_path: Path,
) -> None:
    wanted = [Task("base", float("inf"), 0), Task("pca", BUDGET, 0)]
    found = list(compared(config(), wanted, tmp_path))
    assert [one.epsilon <= BUDGET for one in found] == [True, True]
    again = list(compared(config(), wanted, tmp_path))
    assert again == found
    with pytest.raises(RunFolderError, match="other settings"):
        list(compared(config(run__rounds=3), wanted, tmp_path))
