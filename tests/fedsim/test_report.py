"""Reports: true to the ledger, safe to share, readable without colours or scripts."""

import json
import math
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from drdp import Gaussian, Laplace
from drdp.errors import DrdpError, RunFolderError
from drdp.fedsim.drawing import STYLES, Line, chart, swatch
from drdp.fedsim.report import gathered, page_of
from drdp.fedsim.style import DARK, LIGHT, sheet
from drdp.privacy.ledger import Ledger
from drdp.privacy.pld import epsilon_interval
from tests.fedsim.made_runs import DELTA, config_of, copied, make_run, rewrite

SECTIONS = [
    "statement",
    "epsilon",
    "utility",
    "signal",
    "reconstruction",
    "communication",
    "timing",
    "configuration",
    "ledger",
]
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))),
    None,
)
VOID = {"meta", "link", "br", "hr", "img", "input"}


class Outline(HTMLParser):
    """The elements of a page, checked to be nested as they should."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"}.intersection(self.open):
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "finished")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "stopped", stop_after=3)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("runs") / "compared"
    for method in ("fedlora", "pca"):
        for epsilon in ("inf", 4.0, 1.0):
            config = config_of(method, epsilon)
            make_run(place / f"{method}-epsilon{epsilon}-seed0", config)
    return place


def page(path: Path, *, private: bool = False) -> str:
    return page_of(gathered(path, private=private))


def charts(text: str) -> list[ET.Element]:
    return [
        ET.fromstring(one) for one in re.findall(r"<svg .*?</svg>", text, re.DOTALL)
    ]


# --- what it says ----------------------------------------------------------------


def test_it_states_the_guarantee_first_and_everything_else_after_it(run: Path) -> None:
    outline = Outline(page(run))
    assert [one["id"] for one in outline.all("section")] == SECTIONS
    assert len(outline.all("h1")) == 1
    for words in (
        "differentially private under adjacency zero-out",
        "Protected unit client, of 40",
        "zero-out: one client's contribution replaced by zero",
        "each joins a round by chance, with probability 0.3",
        "outsider: someone who sees the released models and nothing else",
        "Not covered",
        "Groups: the guarantee for several clients together is weaker.",
        "certified (PLD)",
        "GDP by the CLT (an estimate, no guarantee)",
        "loss against certified epsilon",
        "as full updates",
    ):
        assert words in outline.text, words


def test_no_epsilon_is_below_what_the_ledger_costs(run: Path) -> None:
    with Ledger.open(run / "ledger.sqlite", read_only=True) as ledger:
        truth, head = epsilon_interval(ledger.spent, DELTA), ledger.head
    found = gathered(run)
    outline = Outline(page_of(found))
    assert found["statement"]["epsilon"] >= truth.lower
    (shown,) = re.findall(r"ε ≤ ([\d.]+)", outline.text)
    assert truth.upper <= float(shown) <= truth.upper * 1.001
    certified, renyi, estimate = found["spending"]["accountants"]
    assert certified["epsilon"][-1] >= truth.lower
    assert renyi["epsilon"][-1] >= truth.lower
    assert (renyi["bound"], estimate["bound"]) == ("upper", "estimate")
    assert found["spending"]["rounds"] == [0, 1, 2, 4, 5]
    assert certified["epsilon"][0] == 0.0
    assert certified["epsilon"] == sorted(certified["epsilon"])
    assert head.hash in outline.text
    assert found["warnings"] == []


def test_every_cell_of_a_certified_column_is_rounded_up(run: Path) -> None:
    found = gathered(run)
    rows = re.findall(
        r'<th class="n" scope="row">(\d+)</th><td class="n">([\d.]+)</td>',
        page_of(found).partition('id="utility"')[0],
    )
    exact = dict(
        zip(
            found["spending"]["rounds"],
            found["spending"]["accountants"][0]["epsilon"],
            strict=True,
        )
    )
    assert [int(round_) for round_, _ in rows] == found["spending"]["rounds"]
    for round_, shown in rows:
        assert exact[int(round_)] <= float(shown) <= exact[int(round_)] * (1 + 1e-4)


def test_rounds_that_were_paid_for_twice_count_twice(run: Path, tmp_path: Path) -> None:
    twice = copied(run, tmp_path / "twice")
    once = gathered(run)["statement"]["epsilon"]
    with Ledger.open(run / "ledger.sqlite", read_only=True) as ledger:
        event, relation = ledger.entries()[5].event, ledger.terms.adjacency
    with Ledger.create(tmp_path / "other.sqlite", adjacency=relation) as ledger:
        for number in (1, 2, 3, 4, 5, 5):
            ledger.charge(event, key=f"fedlora/{number}/{len(ledger.entries())}")
    (tmp_path / "other.sqlite").replace(twice / "ledger.sqlite")
    found = gathered(twice)
    assert found["statement"]["epsilon"] > once * 1.01
    assert "paid for again" in found["warnings"][0]
    assert found["spending"]["accountants"][0]["epsilon"][-1] > once * 1.01
    assert "Check this." in Outline(page_of(found)).text


def test_a_ledger_that_holds_less_than_was_noted_is_not_believed(
    run: Path, tmp_path: Path
) -> None:
    odd = copied(run, tmp_path / "odd")
    with Ledger.create(tmp_path / "empty.sqlite"):
        pass
    (tmp_path / "empty.sqlite").replace(odd / "ledger.sqlite")
    found, sound = gathered(odd), gathered(run)
    assert found["statement"]["epsilon"] >= sound["statement"]["epsilon"] * (1 - 1e-9)
    assert any("do not rely on either" in text for text in found["warnings"])


def test_an_unfinished_run_says_so_and_counts_what_was_paid(
    stopped: Path, run: Path
) -> None:
    found = gathered(stopped)
    outline = Outline(page_of(found))
    assert "Unfinished. 3 of 5 rounds are done." in outline.text
    with Ledger.open(stopped / "ledger.sqlite", read_only=True) as ledger:
        truth = epsilon_interval(ledger.spent, DELTA)
    assert truth.lower <= found["statement"]["epsilon"] <= truth.upper * (1 + 1e-9)
    assert found["statement"]["epsilon"] < gathered(run)["statement"]["epsilon"]
    assert "Unfinished" not in page(run)


def test_a_run_that_had_no_time_to_plan_has_a_page(run: Path, tmp_path: Path) -> None:
    early = tmp_path / "early"
    early.mkdir()
    shutil.copy(run / "config.toml", early)
    text = Outline(page(early)).text
    assert "The run has not come to its plan yet" in text
    assert "Unfinished. 0 rounds are done." in text


def test_fitting_that_was_paid_for_before_the_plan_is_told(
    run: Path, tmp_path: Path
) -> None:
    early = tmp_path / "early"
    early.mkdir()
    shutil.copy(run / "config.toml", early)
    with Ledger.create(early / "ledger.sqlite") as ledger:
        ledger.charge(Gaussian(5.0), label="fitting the codec", key="fedlora/codec")
    found = gathered(early)
    (told,) = found["warnings"]
    assert "Fitting the codec has been paid for" in told
    (shown,) = re.findall(r"epsilon ([\d.]+) at delta 1e-5", told)
    assert float(shown) >= epsilon_interval(Gaussian(5.0), DELTA).lower
    assert "Check this." in page_of(found)


def test_what_no_accountant_but_one_knows_has_one_line_less(
    run: Path, tmp_path: Path
) -> None:
    odd = copied(run, tmp_path / "odd")
    with Ledger.create(tmp_path / "laplace.sqlite") as ledger:
        for number in (1, 2, 3, 4, 5):
            ledger.charge(Laplace(2.0), key=f"fedlora/{number}/x")
    (tmp_path / "laplace.sqlite").replace(odd / "ledger.sqlite")
    accountants = gathered(odd)["spending"]["accountants"]
    assert [one["name"] for one in accountants] == ["certified (PLD)", "RDP"]


def test_figures_of_risk_are_shown_for_what_the_ledger_holds_alone(
    run: Path, tmp_path: Path
) -> None:
    risk = gathered(run)["statement"]["risk"]
    stated = json.loads((run / "statement.json").read_text())
    assert risk == stated["risk"]
    assert "advantage of the best membership attack" in page(run)
    other = copied(run, tmp_path / "other")
    stated["mechanism"]["event"]["count"] = 4
    (other / "statement.json").write_text(json.dumps(stated))
    assert gathered(other)["statement"]["risk"] == []


def test_long_ledgers_and_runs_are_shown_in_short(run: Path, tmp_path: Path) -> None:
    long = copied(run, tmp_path / "long")
    lines = [
        json.dumps(
            {"round": k, "epsilon": 0.0, "loss": 1.0 / (k + 1), "step_norm": 1.0}
        )
        for k in range(1201)
    ]
    (long / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    with Ledger.create(tmp_path / "long.sqlite") as ledger:
        for number in range(1, 71):
            ledger.charge(
                Gaussian(40.0), label=f"round {number}", key=f"fedlora/{number}/x"
            )
        head = ledger.head.hash
    (tmp_path / "long.sqlite").replace(long / "ledger.sqlite")
    found = gathered(long)
    opening, charges = found["ledger"]["rows"]
    assert opening["kind"] == "open"
    assert (charges["from"], charges["to"], charges["hash"]) == (1, 70, head)
    assert "round 1 to round 70" in Outline(page_of(found)).text
    shown = found["utility"]["loss"]
    assert len(shown) == 500
    assert (shown[0][0], shown[-1][0]) == (0, 1200)
    assert len(found["spending"]["rounds"]) <= 24
    exact = epsilon_interval(Gaussian(40.0) * 70, DELTA)
    assert found["spending"]["accountants"][0]["epsilon"][-1] >= exact.lower


def test_a_simulation_cannot_be_taken_for_a_private_run(tmp_path: Path) -> None:
    config = config_of(run={"rounds": 2, "noise": "seeded"})
    text = page(make_run(tmp_path / "seeded", config))
    top = text.partition("<main>")[0]
    assert "Simulation, not private." in top
    assert "banner alarm" in top
    assert "if its noise were secret" in text


def test_a_run_without_noise_is_called_not_private(tmp_path: Path) -> None:
    found = gathered(make_run(tmp_path / "bare", config_of(epsilon="inf")))
    text = page_of(found)
    assert found["statement"]["epsilon"] == math.inf
    assert "Not private." in text.partition("<main>")[0]
    assert "ε = ∞" in text
    assert "ε ≤" not in text
    assert charts(text.partition('id="utility"')[0]) == []


# --- what it does not say --------------------------------------------------------


def test_nothing_private_changes_a_page_that_is_shared(
    run: Path, tmp_path: Path
) -> None:
    other = copied(run, tmp_path / "finished")

    def change(record: dict[str, Any]) -> None:
        for name, value in record.get("private", {}).items():
            record["private"][name] = 2.0 * float(value) + 1.0

    rewrite(other, change)
    plan = json.loads((other / "plan.json").read_text())
    plan["examples"] += 17
    plan["told"]["Plan"] = []
    (other / "plan.json").write_text(json.dumps(plan))
    assert page(other) == page(run)
    assert page(other, private=True) != page(run, private=True)


def test_exact_times_stay_out_of_a_shared_page(run: Path) -> None:
    text = page(run)
    with Ledger.open(run / "ledger.sqlite", read_only=True) as ledger:
        times = [entry.time for entry in ledger.entries()]
    for time in times:
        assert time[:16] not in text
        assert time[11:19] not in text
    assert set(gathered(run)["timing"].values()) == {None}
    assert None not in gathered(run, private=True)["timing"].values()


def test_private_values_come_under_a_warning(run: Path) -> None:
    outline = Outline(page(run, private=True))
    assert [one["id"] for one in outline.all("section")] == [*SECTIONS, "private"]
    assert "do not share this page" in outline.text
    record = json.loads((run / "metrics.jsonl").read_text().splitlines()[2])
    found = gathered(run, private=True)["private"]
    assert found[1]["kept"] == record["private"]["kept"]
    assert "do not share" not in page(run)


def test_what_a_user_wrote_is_text_and_never_markup(tmp_path: Path) -> None:
    evil = "<script>alert('x')</script>&\"</svg>"
    config = config_of(run={"rounds": 1}, data={"source": evil})
    text = page(make_run(tmp_path / "a<b>&c", config))
    outline = Outline(text)
    assert outline.all("script") == []
    assert "<script" not in text
    assert evil in outline.text
    assert "a<b>&c" in outline.text


@pytest.mark.parametrize("private", [False, True])
def test_a_page_refers_to_nothing_outside_itself(run: Path, private: bool) -> None:
    text = page(run, private=private)
    outline = Outline(text)
    assert re.findall(r"https?:|//\w|url\(|@import|javascript:", text) == []
    (icon,) = outline.all("link")
    assert icon["href"] == "data:,"
    for tag in ("script", "img", "iframe", "object", "a", "form"):
        assert outline.all(tag) == []
    policies = [one for one in outline.all("meta") if "http-equiv" in one]
    assert policies[0]["content"].startswith("default-src 'none'")


# --- how it can be read ----------------------------------------------------------


def test_pictures_are_well_formed_and_have_words_and_tables(run: Path) -> None:
    text = page(run, private=True)
    drawn = [one for one in charts(text) if one.get("class") == "chart"]
    assert len(drawn) >= 10
    for one in drawn:
        assert one.get("role") == "img"
        assert one.get("aria-label")
        assert one.findtext("title")
        _, _, width, height = map(float, one.get("viewBox", "").split())
        for line in one.iter("polyline"):
            spots = [
                tuple(map(float, p.split(","))) for p in line.get("points", "").split()
            ]
            assert all(0 <= x <= width and 0 <= y <= height for x, y in spots)
    figures = re.findall(r"<figure>.*?</figure>", text, re.DOTALL)
    assert all("<details>" in one and "<table>" in one for one in figures)
    captions = re.findall(r"<figcaption>Figure (\d+)\.", text)
    assert captions == [str(k + 1) for k in range(len(figures))]


def test_tables_name_their_rows_and_columns(run: Path) -> None:
    outline = Outline(page(run, private=True))
    assert len(outline.all("table")) == len(outline.all("caption"))
    assert all(one.get("scope") in ("row", "col") for one in outline.all("th"))
    ids = [str(one["id"]) for _, one in outline.found if "id" in one]
    assert len(ids) == len(set(ids))
    labels = {str(one["aria-labelledby"]) for one in outline.all("section")}
    assert labels <= set(ids)


def _luminance(colour: str) -> float:
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [
        p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_are_told_apart_from_their_ground(colours: dict[str, str]) -> None:
    for text, ground in (
        ("text", "ground"),
        ("text", "panel"),
        ("muted", "ground"),
        ("warn", "warn-ground"),
        ("alarm", "alarm-ground"),
    ):
        assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for style in range(STYLES):
        assert _contrast(colours[f"s{style}"], colours["ground"]) >= 4.5


def test_every_style_has_its_own_dash_and_marker() -> None:
    drawn = [re.sub(r"\bs\d\b|[\d.]+,", "", swatch(k)) for k in range(STYLES)]
    assert len(set(drawn)) == STYLES
    assert all(f".line.s{k}{{" in sheet() for k in range(STYLES))


def test_a_chart_breaks_where_a_value_is_missing() -> None:
    points = [(0, 1.0), (1, 2.0), (2, math.nan), (3, math.inf), (4, 5.0), (5, 6.0)]
    root = ET.fromstring(chart("t", "d", [Line("x", points)], "a", "b"))
    assert len(list(root.iter("polyline"))) == 2
    assert len(list(root.iter("circle"))) == 4
    assert chart("t", "d", [Line("x", [(0, math.nan)])], "a", "b") == ""


def test_a_chart_of_one_value_has_room_around_it() -> None:
    root = ET.fromstring(chart("t", "d", [Line("x", [(3, 7.0)])], "a", "b"))
    (mark,) = root.iter("circle")
    assert 26 < float(mark.get("cy", "")) < 194


# --- comparisons -----------------------------------------------------------------


def test_a_comparison_has_methods_by_budgets_and_a_figure(compared: Path) -> None:
    found = gathered(compared)
    assert found["kind"] == "comparison"
    text = page_of(found)
    outline = Outline(text)
    for words in ("ε 1", "ε 4", "no noise, not private", "NOT PRIVATE"):
        assert words in outline.text
    runs = {(run["method"], run["budget"]): run for run in found["runs"]}
    for budget in (1.0, 4.0):
        assert budget * 0.99 < runs["pca", budget]["epsilon"] <= budget
    value = f"{runs['pca', 1.0]['after']['loss']:.5g}"
    assert value in outline.text
    (drawn,) = (one for one in charts(text) if one.get("class") == "chart")
    assert len(list(drawn.iter("polyline"))) == 2
    assert "The runs share their data" in outline.text
    assert re.findall(r"https?:|<script", text) == []


def test_a_comparison_shows_nothing_private(compared: Path) -> None:
    with pytest.raises(RunFolderError, match="shows nothing private"):
        gathered(compared, private=True)


# --- damage ----------------------------------------------------------------------


def _write(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda run: (run / name).write_bytes(content) and None


def _remove(name: str) -> Callable[[Path], None]:
    return lambda run: (run / name).unlink()


def _cut_middle(run: Path) -> None:
    lines = (run / "metrics.jsonl").read_bytes().splitlines()
    lines[2] = lines[2][:20]
    (run / "metrics.jsonl").write_bytes(b"\n".join(lines) + b"\n")


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "no config": (_remove("config.toml"), "there is no run in"),
    "config": (_write("config.toml", b"[run\n"), "config.toml"),
    "binary config": (_write("config.toml", b"\xff\xfe"), "config.toml"),
    "unknown setting": (_write("config.toml", b"[run]\nx = 1\n"), "run.x"),
    "plan": (_write("plan.json", b"{"), "plan.json"),
    "plan is a list": (_write("plan.json", b"[]"), "plan.json"),
    "plan without rounds": (_write("plan.json", b'{"delta": 0.1}'), "plan.json"),
    "no plan": (_remove("plan.json"), "plan.json"),
    "metrics": (_cut_middle, "metrics.jsonl is damaged in line 3"),
    "metrics of text": (
        _write("metrics.jsonl", b'{"round": 0, "epsilon": "x"}\n'),
        "epsilon is 'x', not a number",
    ),
    "metrics without sense": (
        _write("metrics.jsonl", b'{"round": 0, "epsilon": "nan"}\n'),
        "epsilon is nan",
    ),
    "binary metrics": (_write("metrics.jsonl", b"\xff\n\xff\n"), "metrics.jsonl"),
    "ledger": (_write("ledger.sqlite", b"nothing"), "ledger"),
    "no ledger": (_remove("ledger.sqlite"), "ledger.sqlite is missing"),
    "statement": (_write("statement.json", b"{}"), "statement.json"),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_damage_is_named(run: Path, tmp_path: Path, what: str) -> None:
    damage, words = DAMAGES[what]
    broken = copied(run, tmp_path / "broken")
    damage(broken)
    with pytest.raises(DrdpError) as told:
        gathered(broken)
    assert words in str(told.value)


def test_a_line_that_a_crash_cut_off_is_passed_over(
    stopped: Path, tmp_path: Path
) -> None:
    torn = copied(stopped, tmp_path / "stopped")
    with (torn / "metrics.jsonl").open("ab") as stream:
        stream.write(b'{"round": 4, "eps')
    assert page(torn) == page(stopped)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "missing"):
        with pytest.raises(RunFolderError):
            gathered(place)
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunFolderError, match="cannot be read as a folder"):
        gathered(tmp_path / "file")


# --- in a browser ----------------------------------------------------------------

_MEASURE = """
<script>
window.addEventListener('load', () => {
  const found = [];
  for (const frame of document.querySelectorAll('iframe')) {
    const page = frame.contentDocument, root = page.documentElement;
    for (const one of page.querySelectorAll('details')) one.open = true;
    let least = 99;
    for (const one of page.querySelectorAll('body *')) {
      if (![...one.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
      if (one.localName === 'title') continue;
      let size = parseFloat(getComputedStyle(one).fontSize);
      const svg = one.closest('svg');
      if (svg) size *= svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
      least = Math.min(least, size);
    }
    found.push({wide: root.scrollWidth, room: frame.clientWidth, least,
      charts: [...page.querySelectorAll('svg.chart')].filter(
        s => s.getBoundingClientRect().height > 100).length,
      ground: frame.contentWindow.getComputedStyle(page.body).backgroundColor});
  }
  document.body.dataset.found = JSON.stringify(found);
});
</script>
"""


def browse(
    tmp_path: Path, file: Path, *options: str
) -> subprocess.CompletedProcess[str]:
    assert BROWSER is not None
    return subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--enable-logging=stderr",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--dump-dom",
            *options,
            file.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_on_a_phone_without_complaint(
    run: Path, compared: Path, tmp_path: Path, scheme: str
) -> None:
    noisy = tmp_path / "noisy.html"
    noisy.write_text("<script>console.error('heard')</script>", encoding="utf-8")
    assert "CONSOLE" in browse(tmp_path, noisy).stderr
    setting = f"--blink-settings=preferredColorScheme={int(scheme == 'light')}"
    alone = tmp_path / "page.html"
    alone.write_text(page(run, private=True), encoding="utf-8")
    done = browse(tmp_path, alone, setting)
    assert "CONSOLE" not in done.stderr
    assert '<section id="private"' in done.stdout
    frames = "".join(
        f'<iframe width="{width}" height="700" style="border:0"'
        f' srcdoc="{text}"></iframe>'
        for width in (320, 380, 1000)
        for text in (
            page(run, private=True).replace("&", "&amp;").replace('"', "&quot;"),
            page(compared).replace("&", "&amp;").replace('"', "&quot;"),
        )
    )
    nest = tmp_path / "nest.html"
    nest.write_text(f"<!DOCTYPE html><body>{frames}{_MEASURE}</body>", encoding="utf-8")
    done = browse(tmp_path, nest, setting)
    assert "CONSOLE" not in done.stderr
    (told,) = re.findall(r'data-found="([^"]*)"', done.stdout)
    measured = json.loads(told.replace("&quot;", '"'))
    assert len(measured) == 6
    for one in measured:
        assert one["wide"] <= one["room"]
        assert one["least"] >= 11.0
        assert one["charts"] >= 1
        ground = (LIGHT if scheme == "light" else DARK)["ground"]
        rgb = ", ".join(str(int(ground[k : k + 2], 16)) for k in (1, 3, 5))
        assert one["ground"] == f"rgb({rgb})"
