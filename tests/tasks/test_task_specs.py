"""Every task's YAML, and what a broken one says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstar_eval.errors import UserError
from rstar_eval.tasks import TASKS, load_task, task_spec
from rstar_eval.tasks.records import gold_strings, read_records
from rstar_eval.tasks.spec import read_spec

BENCHMARKS = {
    "aime2024": 30,
    "amc23": 40,
    "collegemath": 2818,
    "gaokao2023en": 385,
    "gsm8k": 1319,
    "math": 5000,
    "math500": 500,
    "olympiadbench": 675,
    "omni_math": 4428,
}
GOOD = "file: own.jsonl\n"


def test_all_benchmarks_and_mini_tasks_are_registered() -> None:
    assert set(BENCHMARKS) | {
        "mini_math",
        "mini_aime",
        "mini_olympiad",
        "mini_college",
        "mini_gaokao",
        "mini_validation",
        "reasoning_gym",
    } == set(TASKS)


@pytest.mark.parametrize("name", sorted(TASKS))
def test_spec_is_named_as_its_file_and_says_what_it_must(name: str) -> None:
    spec = task_spec(name)
    assert spec.name == name
    assert spec.title
    assert spec.licence
    assert spec.citation
    assert spec.origin is None
    assert (spec.url is None) == (spec.generator is not None or spec.gym is not None)


@pytest.mark.parametrize(("name", "size"), sorted(BENCHMARKS.items()))
def test_benchmark_names_its_pinned_source(name: str, size: int) -> None:
    spec = task_spec(name)
    assert spec.size == size
    assert spec.url == (
        "https://raw.githubusercontent.com/microsoft/rStar/b3c1846185f4af877e1e441a67c4c5fcfed9d442/eval_data/"
        + str(spec.file)
    )
    assert spec.mirror
    assert "/" in spec.mirror


@pytest.mark.parametrize(
    ("yaml", "parts"),
    [
        ("file: [", ["is no YAML", "line 1"]),
        ("- a\n- b\n", ["mapping", "list"]),
        ("", ["mapping", "NoneType"]),
        ("file: a.json\nfilee: b\n", ["unknown key 'filee'", "did you mean file?"]),
        ("title: x\n", ["file", "none of file"]),
        (GOOD + "answer_kind: integers\n", ["answer_kind", "'integers'", "integer"]),
        (GOOD + "size: many\n", ["size", "'many'", "integer"]),
        (GOOD + "size: -3\n", ["size", "-3", "positive"]),
        (GOOD + "sha256: abc\n", ["sha256", "'abc'", "64"]),
        (GOOD + "url: ftp://host/x\nsha256: " + "f" * 64 + "\n", ["url", "ftp", "http"]),
        (GOOD + "url: https://host/x\n", ["sha256", "missing"]),
        (GOOD + "name: a b\n", ["name", "'a b'", "letters"]),
        (GOOD + "fields: {quest: q}\n", ["fields", "unknown key 'quest'", "did you mean question?"]),
        (GOOD + "fields: question\n", ["fields", "'question'"]),
        (GOOD + "errata:\n  - {what: x, effect: bad, indices: [1]}\n", ["errata.0", "effect", "'bad'", "ungradable"]),
        (GOOD + "size: 2\nerrata:\n  - {what: x, effect: answer, indices: [2]}\n", ["errata", "index 2", "0 to 1"]),
        (GOOD + "errata: 5\n", ["errata", "5"]),
        (GOOD + "when: 2024-99-99\n", ["is no YAML"]),
        ("file: a\ngenerator: {split: test, family: levels}\n", ["generator", "n"]),
        ("name: math\nfile: a.json\n", ["'math'", "built-in"]),
    ],
)
def test_broken_task_yaml_gives_one_line_with_file_key_value_and_mend(
    tmp_path: Path, yaml: str, parts: list[str]
) -> None:
    path = tmp_path / "own_task.yaml"
    path.write_text(yaml, encoding="utf-8")
    with pytest.raises(UserError) as error:
        task_spec(str(path))
    message = str(error.value)
    assert "\n" not in message
    assert "own_task.yaml" in message
    for part in parts:
        assert part in message


def test_unknown_task_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown task 'aime204'\. did you mean aime2024\?"):
        task_spec("aime204")


def test_missing_task_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no task file '.*nowhere\.yaml'"):
        task_spec(str(tmp_path / "nowhere.yaml"))


def test_task_file_that_is_no_text_is_a_user_error(tmp_path: Path) -> None:
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UserError, match="can't read task file"):
        read_spec(path)


def test_own_task_loads_with_its_field_names_and_labels(tmp_path: Path) -> None:
    data = (
        b'{"q": "How many?", "gold": 4, "difficulty": "Level 2", "area": "Algebra"}\n'
        b"\n"
        b'{"q": "How much?", "gold": 0.50, "difficulty": 3, "area": null}\n'
        b'{"q": "Which?", "gold": ["a", 7]}\n'
    )
    (tmp_path / "own.jsonl").write_bytes(data)
    path = tmp_path / "own.yaml"
    path.write_text("file: own.jsonl\nfields: {question: q, answer: gold, level: difficulty, subject: area}\n")
    task = load_task(str(path))
    assert task.provenance == {
        "kind": "file",
        "source": str(tmp_path / "own.jsonl"),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    rows = [(p.task, p.index, p.answer, p.alternatives, p.level, p.subject) for p in task.problems]
    assert rows == [
        ("own", 0, "4", (), "2", "Algebra"),
        ("own", 1, "0.50", (), "3", None),
        ("own", 2, "a", ("7",), None, None),
    ]


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        (b'[{"question": "q"}]', ["record 0", "'answer'", "question"]),
        (b'[{"question": "q", "answer": null}]', ["record 0", "null"]),
        (b'[{"question": "q", "answer": true}]', ["record 0", "true"]),
        (b'[{"question": "q", "answer": []}]', ["record 0", "[]"]),
        (b'[{"question": "q", "answer": [["1"]]}]', ["record 0", '[["1"]]']),
        (b'[{"question": "q", "answer": {"a": 1}}]', ["record 0", '{"a": 1}']),
        (b'[{"question": " ", "answer": "1"}]', ["record 0", "question", "not empty"]),
        (b'[{"question": 5, "answer": "1"}]', ["record 0", "question", "5"]),
        (b'[{"question": "q", "answer": "1"}, 3]', ["record 1", "int"]),
        (b'{"question": "q", "answer": "1"}\n{"question": ', ["line 2", "JSON"]),
        (b'[{"question": "q"', ["JSON"]),
        (b"[]", ["no records"]),
        (b"", ["no records"]),
        (b"\xff\xfe", ["UTF-8", "byte 0"]),
    ],
)
def test_broken_data_gives_one_line_with_file_record_and_mend(tmp_path: Path, data: bytes, parts: list[str]) -> None:
    (tmp_path / "own.json").write_bytes(data)
    (tmp_path / "own.yaml").write_text("file: own.json\n")
    with pytest.raises(UserError) as error:
        load_task(str(tmp_path / "own.yaml"))
    message = str(error.value)
    assert "\n" not in message
    for part in ["own.json", *parts]:
        assert part in message


@pytest.mark.parametrize(
    ("yaml", "match"),
    [
        ("file: nowhere.json\n", r"no file .*nowhere\.json"),
        ("file: own.json\nsize: 3\n", "has 1 problems, task own says size: 3"),
        ("file: own.json\nsha256: " + "f" * 64 + "\n", "sha256 mismatch: .*expected ffff"),
    ],
)
def test_own_task_that_does_not_fit_its_file(tmp_path: Path, yaml: str, match: str) -> None:
    (tmp_path / "own.json").write_text('[{"question": "q", "answer": "1"}]')
    (tmp_path / "own.yaml").write_text(yaml)
    with pytest.raises(UserError, match=match):
        load_task(str(tmp_path / "own.yaml"))


def test_an_empty_gold_and_a_repeated_question_are_kept(tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text(
        '[{"index": "0", "question": "q", "answer": ""}, {"index": "0", "question": "q", "answer": "2"}]'
    )
    (tmp_path / "own.yaml").write_text("file: own.json\n")
    problems = load_task(str(tmp_path / "own.yaml")).problems
    assert [(p.index, p.answer) for p in problems] == [(0, ""), (1, "2")]
    assert problems[0].id != problems[1].id


RECORDS = st.lists(
    st.dictionaries(st.text(max_size=5), st.text(max_size=20) | st.integers() | st.none(), max_size=3), min_size=1
)


@given(RECORDS, st.booleans(), st.booleans(), st.booleans())
def test_records_survive_both_layouts(
    records: list[dict[str, object]], lines: bool, ascii_only: bool, mark: bool
) -> None:
    if lines:
        text = "\r\n".join(json.dumps(record, ensure_ascii=ascii_only) for record in records)
    else:
        text = json.dumps(records, ensure_ascii=ascii_only, indent=1)
    data = text.encode("utf-8-sig" if mark else "utf-8", "surrogatepass")
    assert read_records(data, "f") == records


@given(st.binary(max_size=60))
def test_any_bytes_give_records_or_one_line(data: bytes) -> None:
    message = ""
    try:
        assert all(isinstance(record, dict) for record in read_records(data, "the file"))
    except UserError as error:
        message = str(error)
    assert message == "" or (message.startswith("the file") and "\n" not in message)


@given(st.lists(st.text() | st.integers(), min_size=1))
def test_every_item_of_a_list_is_a_gold(items: list[str | int]) -> None:
    assert gold_strings(items, "f") == tuple(str(item) for item in items)


@pytest.mark.parametrize("number", ["70000.0", "0.50", "1e3", "-2", "123456789012345678901234567890"])
def test_numbers_stay_as_the_file_spells_them(number: str) -> None:
    (record,) = read_records(f'[{{"answer": {number}}}]'.encode(), "f")
    assert gold_strings(record["answer"], "f") == (number,)


@pytest.mark.parametrize("number", ["NaN", "Infinity"])
def test_a_gold_that_is_no_number_is_refused(number: str) -> None:
    (record,) = read_records(f'{{"answer": {number}}}'.encode(), "f")
    with pytest.raises(UserError, match=f"the answer is {number}"):
        gold_strings(record["answer"], "f")
