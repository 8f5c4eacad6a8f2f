"""`grade_pairs`: JSON lines in, JSON lines out, a table by kind, malformed lines by number."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from rstar_eval.errors import UserError
from rstar_eval.grading.commands import grade_pairs


def run(path: Path, grader: str = "default") -> tuple[int, list[dict[str, object]], str]:
    out, err = io.StringIO(), io.StringIO()
    status = grade_pairs(str(path), grader, out, err)
    return status, [json.loads(line) for line in out.getvalue().splitlines()], err.getvalue()


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def test_each_pair_gives_one_line_and_labels_give_a_table(tmp_path: Path) -> None:
    status, lines, err = run(
        write(
            tmp_path / "pairs.jsonl",
            {"id": "a", "gold": "1/2", "pred": "0.5", "label": True, "kind": "fraction"},
            {"id": "b", "gold": "1/2", "pred": "0.6", "label": False, "kind": "fraction"},
            {"id": "c", "gold": "5", "pred": "", "label": False, "kind": "integer"},
            {"id": "d", "gold": "5", "pred": "6", "label": True, "kind": "integer"},
        )
    )
    assert status == 0
    assert [line["verdict"] for line in lines] == ["correct", "wrong", "no_answer", "wrong"]
    assert all(set(line) == {"id", "verdict", "rule", "ms"} for line in lines)
    rows = {row.split()[0]: row.split() for row in err.splitlines()[:4]}
    assert rows["fraction"][1:] == ["2", "100.0", "%", "0/1", "0/1", "0", "0"]
    assert rows["integer"][1:] == ["2", "50.0", "%", "0/1", "1/1", "0", "1"]
    assert rows["all"][1:] == ["4", "75.0", "%", "0/2", "1/2", "0", "1"]


def test_pairs_without_a_kind_are_in_the_row_of_all_only(tmp_path: Path) -> None:
    pairs = [{"gold": "5", "pred": pred, "label": True} for pred in ("5", "5.0", "6")]
    _, _, err = run(
        write(tmp_path / "pairs.jsonl", *pairs, {"gold": "1", "pred": "1", "label": True, "kind": "integer"})
    )
    assert [row.split()[:2] for row in err.splitlines()[1:-1]] == [["integer", "1"], ["all", "4"]]


def test_without_labels_there_is_no_table_and_ids_are_line_numbers(tmp_path: Path) -> None:
    status, lines, err = run(write(tmp_path / "pairs.jsonl", {"gold": "5", "pred": "5"}))
    assert (status, err) == (0, "")
    assert lines[0]["id"] == "1"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{bad", "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"gold": "5"}', "no 'pred'"),
        ('{"gold": 5, "pred": "5"}', "'gold' is int"),
        ('{"gold": "5", "pred": "5", "label": "yes"}', "'label'"),
        ('{"gold": "5", "pred": "5", "task": 3}', "'task'"),
    ],
)
def test_a_malformed_line_is_named_by_number_and_skipped(tmp_path: Path, line: str, reason: str) -> None:
    status, lines, err = run(
        write(tmp_path / "pairs.jsonl", {"gold": "1", "pred": "1"}, line, {"gold": "2", "pred": "2"})
    )
    assert status == 1
    assert len(lines) == 2
    assert "line 2: " in err
    assert reason in err


def test_a_null_prediction_is_no_answer(tmp_path: Path) -> None:
    _, lines, _ = run(write(tmp_path / "pairs.jsonl", {"gold": "5", "pred": None}))
    assert lines[0]["verdict"] == "no_answer"


def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"gold": "5", "pred": "5.0"}\n')))
    out = io.StringIO()
    assert grade_pairs("-", "default", out, io.StringIO()) == 0
    assert json.loads(out.getvalue())["verdict"] == "correct"


def test_a_missing_file_and_an_unknown_grader_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="can't read pairs"):
        run(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="unknown grader"):
        run(write(tmp_path / "pairs.jsonl", {"gold": "5", "pred": "5"}), "defalt")
    with pytest.raises(UserError, match="directory"):
        run(tmp_path)


def test_a_task_whose_references_never_set_thousands_apart_reads_a_list(tmp_path: Path) -> None:
    pairs = [{"gold": "110,880", "pred": "110880", **extra} for extra in ({}, {"task": "collegemath"})]
    _, lines, _ = run(write(tmp_path / "pairs.jsonl", *pairs))
    assert [line["verdict"] for line in lines] == ["correct", "wrong"]


def test_ids_come_back_as_given_and_labels_may_be_digits(tmp_path: Path) -> None:
    status, lines, err = run(
        write(tmp_path / "pairs.jsonl", {"gold": "5", "pred": "5", "id": 7, "label": 1, "kind": None})
    )
    assert status == 0
    assert lines[0]["id"] == 7
    assert err.splitlines()[1].split()[:3] == ["all", "1", "100.0"]


def test_the_tolerance_for_decimal_references_can_be_set(tmp_path: Path) -> None:
    pairs = write(tmp_path / "pairs.jsonl", {"gold": "3.14", "pred": "3.141"}, {"gold": "22/7", "pred": "3.141"})
    out = io.StringIO()
    grade_pairs(str(pairs), "default", out, io.StringIO(), 1e-3)
    assert [json.loads(line)["verdict"] for line in out.getvalue().splitlines()] == ["correct", "wrong"]
    with pytest.raises(UserError, match="tolerance"):
        grade_pairs(str(pairs), "default", out, io.StringIO(), 2.0)
