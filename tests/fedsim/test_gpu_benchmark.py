"""The GPU benchmark runs as it is, on whatever device there is."""

import pytest
import torch

from benchmarks import gpu


# peft asks transformers 5 under a name that goes away in version 6.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.parametrize("place", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_round_is_measured_beside_plain_fine_tuning(place: str) -> None:
    device = torch.device(place)
    found = gpu.measured("tiny", device, rounds=1)
    assert [one.name for one in found] == [
        "training of 4 clients",
        "the whole private round",
        "plain LoRA, batches of 4",
        "plain LoRA, batches of 16",
    ]
    # 4 clients, 4 steps of 4 rows of 16 tokens
    assert all(one.tokens * one.each == pytest.approx(1024) for one in found)
    assert all(0.0 < one.share < 1.5 and one.memory > 0.0 for one in found)
    text = gpu.section("tiny", found, device).text
    assert "4 clients a round" in text
    assert text.count("\n|") == 6


def test_the_seven_billion_shape_is_llama_s() -> None:
    with torch.device("meta"):
        language = gpu.language_of("llama-7b", torch.device("meta"))
    weights = list(language.model.parameters())
    assert sum(weight.numel() for weight in weights) == 6_738_415_616
    assert {weight.dtype for weight in weights} == {torch.bfloat16}
    # Tokens of the body 4 x 6.476 GFLOP, of the head 4 x 0.131.
    assert gpu.flop(language.model, 1, 0) == pytest.approx(4 * 6.476e9, rel=1e-3)
    assert gpu.flop(language.model, 0, 1) == 4 * 32_000 * 4096
