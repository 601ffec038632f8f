"""``drdp curve`` as typed: columns, JSON and pictures."""

import io

import numpy as np
import pytest

LINE = "curve --sigma 0.75,1 --steps 20 --rate 0.05"
QUICK = f"{LINE} --accountant gdp"


def test_epsilon_against_rounds(drdp):
    answer = drdp(f"{LINE} --points 5 --json").json
    assert answer["rounds"] == [1, 5, 10, 15, 20]
    assert answer["bound"] == "upper"
    little, much = (curve["epsilon"] for curve in answer["curves"])
    assert little == sorted(little)
    assert all(a > b for a, b in zip(little, much, strict=True))
    line = "epsilon --sigma 1 --steps 20 --rate 0.05 --json --compare none"
    assert much[-1] == pytest.approx(drdp(line).json["epsilon"], rel=1e-6)


def test_delta_against_epsilon(drdp):
    answer = drdp(f"{LINE} --points 5 --against epsilon --json").json
    assert answer["epsilon"][0] == 0.0
    assert len(answer["epsilon"]) == 5
    little, much = (curve["delta"] for curve in answer["curves"])
    assert little == sorted(little, reverse=True)
    assert little[-1] == pytest.approx(1e-5, rel=1e-3)
    assert all(a >= b for a, b in zip(little, much, strict=True))


def test_every_round_where_there_are_few(drdp):
    answer = drdp(f"{QUICK} --steps 7 --json".replace("--steps 20 ", "")).json
    assert answer["rounds"] == [1, 2, 3, 4, 5, 6, 7]
    assert answer["bound"] == "estimate"


def test_the_columns_are_read_by_numpy(drdp):
    session = drdp(QUICK)
    assert session.err == ""
    table = np.loadtxt(io.StringIO(session.out))
    assert table.shape == (20, 3)
    assert np.array_equal(table[:, 0], np.arange(1, 21))
    comments = [line for line in session.out.splitlines() if line.startswith("#")]
    text = "\n".join(comments)
    for words in ("gdp", "estimate", "rate 0.05", "delta 1e-5", "s=0.75"):
        assert words in text


def test_many_noises_come_in_blocks(drdp):
    sigmas = ",".join(str(k / 4) for k in range(3, 20))
    session = drdp(f"curve --steps 3 --rate 0.05 --accountant gdp --sigma {sigmas}")
    assert max(map(len, session.out.splitlines())) <= 80
    assert session.out.count("# rounds") == 3


@pytest.mark.parametrize("against", ["rounds", "epsilon"])
@pytest.mark.parametrize(
    ("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")]
)
def test_a_picture(drdp, tmp_path, suffix, start, against):
    pytest.importorskip("matplotlib")
    target = tmp_path / f"figure.{suffix}"
    session = drdp(f"{QUICK} --against {against} --plot", str(target))
    assert session.code == 0
    assert str(target) in session.out
    content = target.read_bytes()
    assert content.startswith(start)
    assert len(content) > 5000


def test_a_picture_is_reproducible_and_replaced(drdp, tmp_path):
    pytest.importorskip("matplotlib")
    first, second = tmp_path / "a.svg", tmp_path / "b.svg"
    first.write_text("an older picture")
    for target in (first, second):
        assert drdp(f"{QUICK} --plot", str(target)).code == 0
    assert first.read_bytes() == second.read_bytes()


def test_a_picture_says_what_it_shows(drdp, tmp_path, monkeypatch):
    matplotlib = pytest.importorskip("matplotlib")
    monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "none")
    target = tmp_path / "figure.svg"
    assert drdp(f"{QUICK} --plot", str(target)).code == 0
    text = target.read_text()
    for words in ("delta 1e-5", "rate 0.05", "accountant gdp", "an estimate", "rounds"):
        assert words in text


def test_json_beside_a_picture(drdp, tmp_path):
    pytest.importorskip("matplotlib")
    target = tmp_path / "figure.png"
    assert drdp(f"{QUICK} --json --plot", str(target)).json["accountant"] == "gdp"
    assert target.stat().st_size > 0
