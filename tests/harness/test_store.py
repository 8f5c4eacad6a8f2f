"""The run folder: nothing lost, nothing doubled, and clear words when it can't be used."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rstar_eval.errors import UserError
from rstar_eval.store import (
    GRADES,
    TRAJECTORIES,
    RunStore,
    Segment,
    read_lines,
    read_manifest,
    segment_path,
    writing_error,
)
from rstar_eval.store_lines import decode, encode
from rstar_eval.store_segment import digest_of, read_digests


def _records(path: Path, name: str = TRAJECTORIES) -> list[dict[str, object]]:
    return list(read_lines(path, name))


def test_appended_records_come_back_in_order(tmp_path: Path) -> None:
    with RunStore(tmp_path / "run") as store:
        store.append_search({"n": 1, "text": "a\nb\ud800 \u2028"})
        store.append_search({"n": 2})
        store.append_grade({"n": 3})
    assert [record["n"] for record in _records(tmp_path / "run")] == [1, 2]
    assert _records(tmp_path / "run")[0]["text"] == "a\nb\ud800 \u2028"
    assert [record["n"] for record in _records(tmp_path / "run", GRADES)] == [3]


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(0, 400))
def test_a_log_cut_anywhere_keeps_its_whole_lines(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("cut") / "run"
    with RunStore(path) as store:
        for n in range(8):
            store.append_search({"n": n, "pad": "x" * n * 5})
    log = path / TRAJECTORIES
    data = log.read_bytes()
    log.write_bytes(data[: min(cut, len(data))])
    whole = data[: min(cut, len(data))].count(b"\n")
    assert len(_records(path)) == whole  # a reader does not trip over the torn line
    with RunStore(path) as store:
        store.append_search({"n": 99})
    assert [record["n"] for record in _records(path)] == [*range(whole), 99]


def test_cutting_a_torn_line_is_told(tmp_path: Path) -> None:
    with RunStore(tmp_path) as store:
        store.append_search({"n": 1})
    with open(tmp_path / TRAJECTORIES, "ab") as log:
        log.write(b'{"n": 2')
    with RunStore(tmp_path) as store:
        assert any("torn last line of 7 bytes" in note for note in store.notes)


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    (tmp_path / TRAJECTORIES).write_text('{"n": 1}\nnot json\n{"n": 3}\n')
    with pytest.raises(UserError, match="line 2"):
        _records(tmp_path)


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with RunStore(tmp_path / "run"), pytest.raises(UserError, match="in use by another process"):
        RunStore(tmp_path / "run")
    RunStore(tmp_path / "run").close()


def test_a_folder_with_other_things_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="holds no run"):
        RunStore(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_instead_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="--output"):
        RunStore(tmp_path / "file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="writable folder"):
        RunStore(tmp_path / "run")


def test_disk_full_leaves_whole_lines_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RunStore(tmp_path)
    store.append_search({"n": 1})
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:5]) if len(data) > 20 else _full())
    with pytest.raises(UserError, match=r"No space left on device.*free some space"):
        store.append_search({"n": 2, "pad": "x" * 30})
    monkeypatch.undo()
    store.close()
    assert [record["n"] for record in _records(tmp_path)] == [1]
    assert (tmp_path / TRAJECTORIES).read_bytes().endswith(b"\n")


def _full() -> int:
    raise OSError(28, "No space left on device")


def test_every_write_error_names_the_folder_and_a_mend(tmp_path: Path) -> None:
    for number in (1, 13, 17, 20, 28, 30, 5):
        text = str(writing_error(tmp_path, OSError(number, os.strerror(number))))
        assert str(tmp_path) in text
        assert os.strerror(number) in text


def test_manifest_round_trip_and_errors(tmp_path: Path) -> None:
    with RunStore(tmp_path) as store:
        assert store.manifest is None
        store.write_manifest({"schema": 1, "a": [1]})
        assert store.manifest == {"schema": 1, "a": [1]}
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(UserError, match="can't read"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"schema": 99}))
    with pytest.raises(UserError, match="schema 99"):
        read_manifest(tmp_path)
    with pytest.raises(UserError, match="no run folder"):
        read_manifest(tmp_path / "other")


@pytest.mark.parametrize(
    "left", ["lock", "manifest.json.tmp", "digests.json.tmp", "trajectories.jsonl", "quarantine.jsonl", "segments"]
)
def test_what_a_killed_first_session_left_is_no_other_folder(tmp_path: Path, left: str) -> None:
    """A process killed before or as it wrote its first manifest: the same command goes on."""
    (tmp_path / left).mkdir() if left == "segments" else (tmp_path / left).write_bytes(b"")
    with RunStore(tmp_path) as store:
        store.write_manifest({"schema": 1})
    assert read_manifest(tmp_path) == {"schema": 1}


def test_digests_follow_a_log_that_grows_and_tell_of_one_that_shrank(tmp_path: Path) -> None:
    for n in range(3):
        with RunStore(tmp_path) as store:
            assert store.notes == []
            store.append_search({"n": n})
            store.append_search({"n": -n})
    kept = read_digests(tmp_path)[TRAJECTORIES]
    assert kept == digest_of(tmp_path / TRAJECTORIES)
    assert (kept.bytes, kept.records) == ((tmp_path / TRAJECTORIES).stat().st_size, 6)
    lines = (tmp_path / TRAJECTORIES).read_bytes().splitlines(keepends=True)
    (tmp_path / TRAJECTORIES).write_bytes(b"".join(lines[:4]))
    with RunStore(tmp_path) as store:
        assert any(f"{len(b''.join(lines[4:]))} bytes are missing" in note for note in store.notes)
        store.append_search({"n": 9})
    assert read_digests(tmp_path)[TRAJECTORIES] == digest_of(tmp_path / TRAJECTORIES)


def test_a_segment_s_name_stays_in_its_run(tmp_path: Path) -> None:
    assert segment_path(tmp_path, "w-0_1") == tmp_path / "segments" / "w-0_1"
    for name in ("", "..", "a/b", "w 1", "\u00e9"):
        with pytest.raises(ValueError, match="letters, digits"):
            segment_path(tmp_path, name)


def test_records_of_all_segments_are_read_and_each_has_its_own_lock(tmp_path: Path) -> None:
    first, second = segment_path(tmp_path, "b"), segment_path(tmp_path, "a")
    with RunStore(tmp_path) as store, Segment(first) as b, Segment(second) as a:
        for n, one in enumerate((b, store, a)):
            one.append_search({"n": n})
        with pytest.raises(UserError, match="in use by another process"):
            Segment(segment_path(tmp_path, "a"))
    assert [record["n"] for record in _records(tmp_path)] == [1, 2, 0]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(st.characters(), max_size=6), values, max_size=5))
def test_every_record_comes_back_exactly(record: dict[str, object]) -> None:
    """Also with lone surrogates, numbers of any size and floats to the last bit."""
    kept = {key: value for key, value in record.items() if key not in ("schema", "crc")}
    found, checked, problem = decode(encode(kept))
    assert (checked, problem) == (True, "")
    assert found == {"schema": 2, **kept}
    assert str(found) == str({"schema": 2, **kept})
