"""Instruction data: what is read, what is refused, and splits without overlap."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drdp.errors import DataError, MissingPackageError
from drdp.fedsim.data import SAMPLE, Row, attribution, read_rows, split_rows

GOOD = {
    "instruction": "Name a colour.",
    "context": "",
    "response": "Blue.",
    "category": "open_qa",
}


def written(path: Path, *lines: object) -> Path:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def test_the_sample_is_dolly_in_its_proportions() -> None:
    sample = read_rows(SAMPLE)
    shares = Counter(row.category for row in sample.rows)
    assert len(sample) == 2000
    assert sample.empty == 0
    # The published counts of the whole set, of 15,011 rows.
    whole = {"open_qa": 3742, "general_qa": 2191, "classification": 2136}
    for category, count in whole.items():
        assert shares[category] / 2000 == pytest.approx(count / 15_011, rel=0.06)
    assert len(shares) == 8
    assert len({(row.instruction, row.context) for row in sample.rows}) == 2000


def test_the_sample_carries_its_licence() -> None:
    text = attribution()
    for words in ("Databricks, Inc.", "Attribution-ShareAlike 3.0", "What was changed"):
        assert words in text


def test_plain_and_packed_files_hold_the_same_rows(tmp_path: Path) -> None:
    other = GOOD | {"instruction": "Translate: naïve — “quoted”", "category": "qa"}
    plain = written(tmp_path / "rows.jsonl", GOOD, "", other)
    packed = tmp_path / "rows.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    rows = read_rows(plain).rows
    assert rows == read_rows(packed).rows
    assert rows[1] == Row(**other, line=3)


def test_names_of_other_data_sets_and_keys(tmp_path: Path) -> None:
    path = written(
        tmp_path / "rows.jsonl",
        {"instruction": "a", "input": "b", "output": "c", "author": "ann"},
        {"instruction": "d", "response": "e", "author": 7},
    )
    first, second = read_rows(path, key="author").rows
    assert (first.context, first.response, first.key) == ("b", "c", "ann")
    assert (second.context, second.category, second.key) == ("", "", "7")


def test_empty_rows_are_counted(tmp_path: Path) -> None:
    path = written(
        tmp_path / "rows.jsonl", GOOD, GOOD | {"response": " \n"}, GOOD | {"context": 3}
    )
    with pytest.raises(DataError, match="line 3: field 'context' is int"):
        read_rows(path)
    rows = read_rows(written(path, GOOD, GOOD | {"response": " \n"}))
    assert (len(rows), rows.empty) == (1, 1)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{oops", "line 2: not JSON"),
        ("[1]", "line 2: not a JSON object, but list"),
        ('{"instruction": "a"}', "line 2: no field 'response'"),
        ('{"response": "a"}', "line 2: no field 'instruction'"),
        ('{"instruction": "a", "response": null}', "line 2: no field 'response'"),
        ('{"instruction": 1, "response": "a"}', "line 2: field 'instruction' is int"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = written(tmp_path / "rows.jsonl", GOOD, line)
    with pytest.raises(DataError, match=message) as caught:
        read_rows(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_what_they_seem(tmp_path: Path) -> None:
    missing = tmp_path / "missing.jsonl"
    with pytest.raises(DataError, match=r"there is no file .*missing\.jsonl"):
        read_rows(missing)
    with pytest.raises(DataError, match="is a folder"):
        read_rows(tmp_path)
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(gzip.compress(json.dumps(GOOD).encode() * 50)[:-20])
    with pytest.raises(DataError, match="is not a whole gzip file"):
        read_rows(cut)
    bytes_ = tmp_path / "latin.jsonl"
    bytes_.write_bytes(b'{"instruction": "caf\xe9", "response": "a"}\n')
    with pytest.raises(DataError, match="line 1: not UTF-8"):
        read_rows(bytes_)
    empty = written(tmp_path / "empty.jsonl", GOOD | {"instruction": ""})
    with pytest.raises(DataError, match=r"no row that can be used \(1 are empty\)"):
        read_rows(empty)
    unkeyed = written(tmp_path / "rows.jsonl", GOOD)
    with pytest.raises(DataError, match="line 1: no field 'author'"):
        read_rows(unkeyed, key="author")


def test_a_hub_name_asks_for_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drdp.fedsim.data.find_spec", lambda _: None)
    with pytest.raises(MissingPackageError, match="install the package datasets"):
        read_rows("databricks/databricks-dolly-15k")


ROWS = st.lists(
    st.builds(
        Row,
        instruction=st.sampled_from(["a", "A", " a ", "b", "c", "d e", "D  e", "f"]),
        context=st.sampled_from(["", "x", "X"]),
        response=st.text("rs", min_size=1, max_size=2),
    ),
    max_size=40,
)


@given(ROWS, st.integers(0, 4), st.integers(0, 4), st.integers(0, 2**32 - 1))
def test_no_question_is_in_two_parts(
    rows: list[Row], public: int, held_out: int, seed: int
) -> None:
    def questions(part: tuple[Row, ...]) -> list[str]:
        return [
            f"{' '.join(row.instruction.lower().split())}|{row.context.lower()}"
            for row in part
        ]

    if public + held_out >= len(set(questions(tuple(rows)))):
        with pytest.raises(DataError, match="different questions cannot give"):
            split_rows(rows, public=public, held_out=held_out, seed=seed)
        return
    split = split_rows(rows, public=public, held_out=held_out, seed=seed)
    parts = [questions(p) for p in (split.public, split.held_out, split.private)]
    assert [len(parts[0]), len(parts[1])] == [public, held_out]
    assert split.private
    assert len(set(parts[0])) == public
    assert len(set(parts[1])) == held_out
    assert sum(len(set(part)) for part in parts) == len(set().union(*parts))
    assert sum(map(len, parts)) + split.removed == len(rows)
    # Nothing of the private part is lost but what other parts ask.
    elsewhere = {*parts[0], *parts[1]}
    kept = [q for q in questions(tuple(rows)) if q not in elsewhere]
    assert Counter(kept) == Counter(parts[2])


def test_a_split_is_drawn_by_its_seed() -> None:
    rows = read_rows(SAMPLE).rows
    first, again, other = (
        split_rows(rows, public=50, held_out=50, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert first.held_out != other.held_out
