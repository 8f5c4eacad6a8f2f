"""The authors' released files: byte for byte there and back, and sane when broken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rstar_eval.errors import UserError
from rstar_eval.training.convert import convert
from rstar_eval.training.datasets import read_rows
from rstar_eval.training.released import Layout, from_rows, read_released, to_rows, write_released
from rstar_eval.training.rows import PairRow, SftRow

SFT = [
    {"query": 'How "many"?\nπ', "response": "<code>\nprint(1)\n<end_of_code>"},
    {"query": "b", "response": "\t\\boxed{1}"},
]
OPENING = "\n<|assistant|>: Let's think step by step and solve the problem with code."
PAIRS = [
    {"prompt": "<|user|>:\nq", "neg": OPENING + "a", "pos": OPENING + "b", "neg_count": 2, "pos_count": 2},
    {"prompt": "<|user|>:\nq" + OPENING + "s", "neg": "x", "pos": "y", "neg_count": 4, "pos_count": 1},
]


@pytest.mark.parametrize("records", [SFT, PAIRS])
@pytest.mark.parametrize(
    "layout", [Layout(), Layout(None, False), Layout(-1, True, True), Layout(2, False, True), Layout(-1, False)]
)
def test_a_file_comes_back_byte_for_byte(tmp_path: Path, records: list[dict[str, object]], layout: Layout) -> None:
    source, target = tmp_path / "a.json", tmp_path / "b.json"
    source.write_text(layout.text(records), encoding="utf-8")
    write_released(target, read_released(source))
    assert target.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("records", [SFT, PAIRS])
def test_the_authors_layout_comes_back_through_our_rows(tmp_path: Path, records: list[dict[str, object]]) -> None:
    source = tmp_path / "a.json"
    source.write_text(json.dumps(records, indent=4))
    convert(source, tmp_path / "b.jsonl")
    convert(tmp_path / "b.jsonl", tmp_path / "c.json")
    assert (tmp_path / "c.json").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("name", ["sft_data_examples.json", "rm_data_examples.json"])
def test_the_authors_examples_come_back(shared_data: Path, tmp_path: Path, name: str) -> None:
    source = shared_data / "training" / name
    write_released(tmp_path / name, read_released(source))
    assert (tmp_path / name).read_bytes() == source.read_bytes()
    convert(source, tmp_path / "b.jsonl")
    convert(tmp_path / "b.jsonl", tmp_path / "c.json")
    assert (tmp_path / "c.json").read_bytes() == source.read_bytes()


def test_kinds_of_pairs_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(PAIRS))
    assert [row.kind for row in read_rows(tmp_path / "a.json", "pairs")] == ["final", "step"]


def test_our_final_pairs_are_written_as_the_authors_do() -> None:
    ours = PairRow("<|user|>:\nq" + OPENING, "b", "a", 2, 2, "final", 0.5)
    released = from_rows([ours])
    assert released.records == [PAIRS[0]]
    assert to_rows(released)[0].prompt + to_rows(released)[0].pos == ours.prompt + ours.pos


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[]", "no records"),
        ("{", "no JSON list"),
        ('["a"]', "record 0 is a str"),
        ('[{"query": "a"}]', "fields query"),
        ('[{"query": "a", "response": "b"}, {"query": "a"}]', "record 1: response"),
        ('[{"prompt": "a", "neg": "b", "pos": "c", "neg_count": "2", "pos_count": 1}]', "neg_count is '2'"),
        ('[{"prompt": "a", "neg": "b", "pos": "c", "neg_count": -1, "pos_count": 1}]', "neg_count is -1"),
        ("\ufeff[", "no JSON list"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=word):
        read_released(path)


def test_what_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{**SFT[0], "type": "algebra"}]))
    with pytest.raises(UserError, match="type"):
        convert(tmp_path / "a.json", tmp_path / "b.jsonl")
    convert(tmp_path / "a.json", tmp_path / "c.json")
    assert (tmp_path / "c.json").read_bytes() == (tmp_path / "a.json").read_bytes()
    assert read_rows(tmp_path / "a.json", "sft") == [SftRow(SFT[0]["query"], SFT[0]["response"])]
    (tmp_path / "odd.json").write_text('[ {"query": "a",   "response": "b"}]')
    with pytest.raises(UserError, match="layout"):
        convert(tmp_path / "odd.json", tmp_path / "d.json")
    with pytest.raises(UserError, match="format"):
        convert(tmp_path / "a.json", tmp_path / "b.txt")
    with pytest.raises(UserError, match="can't read"):
        convert(tmp_path / "missing.json", tmp_path / "b.jsonl")
