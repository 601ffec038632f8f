"""Bad input of every kind: exit code 2 and one line that names the culprit."""

import pytest

GOOD = {
    "calibrate": {"--epsilon": "2", "--steps": "20", "--rate": "0.05"},
    "epsilon": {"--sigma": "1", "--steps": "20", "--rate": "0.05"},
    "delta": {"--epsilon": "2", "--sigma": "1", "--steps": "20", "--rate": "0.05"},
    "steps": {"--epsilon": "2", "--sigma": "1", "--rate": "0.05"},
    "rate": {"--epsilon": "2", "--sigma": "1", "--steps": "20"},
    "table": {"--epsilons": "2", "--steps": "20", "--rate": "0.05"},
    "curve": {"--sigma": "1,2", "--steps": "20", "--rate": "0.05"},
    "threat": {
        "--noise-std": "1",
        "--clients-per-round": "5",
        "--population": "100",
        "--steps": "20",
    },
    "risk": {"--sigma": "1", "--steps": "20", "--rate": "0.05"},
    "compare": {"--sigma": "1", "--steps": "20", "--rate": "0.05"},
    "statement": {"--sigma": "1", "--steps": "20", "--rate": "0.05"},
}
WITH_DELTA = (
    *("calibrate", "epsilon", "steps", "rate", "table", "curve", "threat"),
    *("risk", "compare", "statement"),
)
NOT_A_NUMBER = ("nan", "NaN", "abc", "", "1,5", "0x10", "--", "1/0", "1/", "2%")
BAD = {
    "--epsilon": ("0", "-1", "-0.0", "inf", "-inf", "1e999", *NOT_A_NUMBER),
    "--sigma": ("0", "-1", "inf", "-inf", "1e-999", "nan", "abc", "", "1,,2"),
    "--rate": ("0", "-0.1", "1.5", "2/1", "-1/20", "inf", "1e-400", *NOT_A_NUMBER),
    "--steps": (
        *("0", "-1", "1.5", "1e300", "inf", "1000000001", "9" * 500, "3/2"),
        *NOT_A_NUMBER,
    ),
    "--delta": ("0", "1", "-1e-5", "1.5", "inf", "1e-999", *NOT_A_NUMBER),
    "--population": ("0", "-5", "1.5", "1e12", "inf", *NOT_A_NUMBER),
    "--sampling": ("uniform", "", "Poisson"),
    "--adjacency": ("remove", "ADD_REMOVE", ""),
    "--unit": ("record", ""),
    "--accountant": ("pdl", "", "pld,rdp"),
    "--compare": ("pdl", "", "gdp,", "gdp,all", "none,rdp"),
    "--epsilons": ("0", "1,0", "1,,2", "", "a", "nan", "1;2", ",".join("1" * 101)),
    "--fprs": ("0", "1", "0.1,2", "0.1,,0.2", "nan", ""),
    "--priors": ("0", "1", "-1", "1/0", "x", ""),
    "--clip-norm": ("0", "-1", "inf", "nan", "x"),
    "--points": ("1", "0", "2.5", "1002", "x"),
    "--against": ("delta", ""),
    "--plot": ("figure", "figure.gif", ".png", ""),
    "--format": ("html", ""),
    "--preset": ("dr-decoder", ""),
    "--threat": ("printed", ""),
    "--stage-one-noise": ("0", "-1", "inf", "1,2", *NOT_A_NUMBER),
    "--noise-std": ("0", "-1", "inf", *NOT_A_NUMBER),
    "--view": ("server", "", "SUM"),
    "--placement": ("client", ""),
    "--clients-per-round": ("0", "-1", "2.5", "inf", *NOT_A_NUMBER),
    "--blocks": ("0", "1.5", *NOT_A_NUMBER),
    "--honest": ("0", "1.5", *NOT_A_NUMBER),
    "--colluding": ("0", "1.5", *NOT_A_NUMBER),
    "--max-participations": ("0", "1.5", *NOT_A_NUMBER),
}
EXTRA = {
    "--delta": WITH_DELTA,
    "--population": tuple(GOOD),
    "--sampling": tuple(name for name in GOOD if name != "threat"),
    "--adjacency": ("calibrate", "threat"),
    "--unit": ("calibrate",),
    "--accountant": ("calibrate", "steps", "rate", "curve"),
    "--compare": ("calibrate", "epsilon", "delta", "steps", "rate"),
    "--fprs": ("risk",),
    "--priors": ("risk",),
    "--points": ("curve",),
    "--against": ("curve",),
    "--plot": ("curve", "risk"),
    "--format": ("table",),
    "--preset": ("table",),
    "--threat": ("table",),
    "--stage-one-noise": ("calibrate", "epsilon", "delta"),
    "--epsilon": ("threat",),
    "--sigma": ("threat",),
    "--rate": ("threat",),
    "--clip-norm": ("statement", "threat"),
    **dict.fromkeys(("--view", "--placement", "--blocks", "--honest"), ("threat",)),
    "--colluding": ("threat",),
    "--max-participations": ("threat",),
}
CASES = [
    (command, option, value)
    for command, options in GOOD.items()
    for option, values in BAD.items()
    if option in options or command in EXTRA.get(option, ())
    for value in values
]


def refused(session, *culprits):
    assert session.code == 2, session.out
    assert session.out == ""
    assert session.err.count("\n") == 1
    assert session.err.startswith("Error: ")
    assert "Traceback" not in session.err
    for culprit in culprits:
        assert culprit in session.err


@pytest.mark.parametrize(("command", "option", "value"), CASES)
def test_a_value_outside_its_domain(drdp, command, option, value):
    words = {**GOOD[command], option: value}
    line = [part for pair in words.items() for part in pair]
    shown = value[:20] if "," not in value else ""
    refused(drdp(command, *line), f"'{option}'", shown)


@pytest.mark.parametrize(
    ("command", "option"),
    [(command, option) for command, words in GOOD.items() for option in words],
)
def test_a_missing_option(drdp, command, option):
    words = {name: value for name, value in GOOD[command].items() if name != option}
    line = [part for pair in words.items() for part in pair]
    refused(drdp(command, *line), option)


@pytest.mark.parametrize("as_json", ["", "--json"])
@pytest.mark.parametrize(
    ("line", "culprits"),
    [
        (
            (
                "calibrate --epsilon 2 --steps 20 --rate 0.05 --sampling fixed"
                " --adjacency add-remove"
            ),
            ("--sampling fixed", "--adjacency add-remove", "replace-one"),
        ),
        (
            (
                "epsilon --sigma 1 --steps 20 --rate 0.05 --sampling fixed"
                " --population 149"
            ),
            ("--rate 0.05", "--population 149", "7.45", "7/149"),
        ),
        (
            (
                "calibrate --epsilon 2 --steps 20 --rate 0.05 --population 100"
                " --delta 0.01"
            ),
            ("--delta 0.01", "--population 100", "--allow-large-delta"),
        ),
        (
            "calibrate --epsilon 2 --epsilon 3 --steps 20 --rate 0.05",
            ("--epsilon", "once"),
        ),
        (
            "calibrate --epsilon 2 --steps 20 --rate 0.05 --sample-rate 0.1",
            ("--rate", "once"),
        ),
        ("table --preset dr-encoder --epsilons 1", ("--preset", "--epsilons")),
        ("table --steps 20", ("--steps", "--epsilons")),
        ("table --delta 1e-6", ("--delta", "--epsilons")),
        ("table --unit example", ("--unit", "--epsilons")),
        ("table --epsilons 1,2 --rate 0.05", ("--steps",)),
        ("table --epsilons 1,2 --steps 5", ("--rate",)),
        (
            "table --threat repaired --epsilons 1 --steps 5 --rate 0.1",
            ("--threat repaired", "--epsilons"),
        ),
        ("table --threat repaired --steps 5", ("--steps", "--epsilons")),
        ("table --adjacency zero-out", ("--adjacency", "--epsilons")),
        ("table --threat as-printed --adjacency add-remove", ("add-remove",)),
    ],
)
def test_options_that_contradict_each_other(drdp, line, culprits, as_json):
    refused(drdp(f"{line} {as_json}"), *culprits)


def test_json_and_another_format_exclude_each_other(drdp):
    refused(drdp("table --format csv --json"), "--json", "--format csv")


@pytest.mark.parametrize(
    "line",
    [
        # Taking part at all is rarer than delta: no noise is needed.
        "calibrate --epsilon 100 --steps 1 --rate 1e-6 --delta 0.1",
        (
            "calibrate --epsilon 2 --steps 20 --rate 0.05 --adjacency replace-one"
            " --accountant gdp"
        ),
        (
            "calibrate --epsilon 2 --steps 20 --rate 0.05 --sampling fixed"
            " --accountant prv"
        ),
    ],
)
def test_a_question_without_an_answer_says_what_to_do(drdp, line):
    refused(drdp(line))


def test_a_picture_that_cannot_be_written(drdp, tmp_path):
    pytest.importorskip("matplotlib")
    target = tmp_path / "absent" / "figure.png"
    words = "curve --sigma 1 --steps 3 --rate 0.05 --accountant gdp --plot"
    refused(drdp(words, str(target)), "--plot", "figure.png")


def test_matplotlib_is_asked_for_by_name(drdp, monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    words = "curve --sigma 1 --steps 4 --rate 0.05 --accountant gdp --plot"
    session = drdp(words, str(tmp_path / "figure.png"))
    refused(session, "pip install 'drdp[plot]'")
