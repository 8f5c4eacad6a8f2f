"""The red team of the development data, through the function behind `rstar-eval sandbox`."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rstar_eval.errors import UserError
from rstar_eval.sandbox_cli import read_snippets, run_snippets, tripwires

if TYPE_CHECKING:
    from .conftest import Unprivileged

AS_NOBODY = """
import sys
from rstar_eval.sandbox_cli import run_snippets
sys.exit(run_snippets(sys.argv[1], sys.argv[2], sys.stdout))
"""


def check(lines: list[str], isolation: str) -> None:
    """Compare each result with what its snippet says a safe sandbox must show."""
    for line in lines:
        result = json.loads(line)
        name, must, status = result["name"], result["must"], result["status"]
        assert result["level"] == isolation
        assert result["control"] == "ok", name
        if must.startswith("status error"):
            assert status == "error", name
        elif must.startswith(("timeout", "timer")) and " or " not in must:
            assert status == "timeout", name
        elif must.startswith("status crashed"):
            assert status in ("killed", "violation"), name
        elif must.startswith("protocol violation"):
            assert status == "violation", name


def test_a_line_for_each_snippet_says_what_happened(level: str, tmp_path: Path) -> None:
    file = tmp_path / "snippets.jsonl"
    rows = [
        {"name": "fine", "code": "print(6 * 7)"},
        {"name": "socket", "code": "import socket\nsocket.socket()", "must": "error"},
        {"name": "exit", "code": "import os\nos._exit(9)"},
        {"name": "patch", "code": "import math\nmath.pi = 3\nprint('x' * 1000)"},
    ]
    file.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    out = io.StringIO()
    assert run_snippets(file, level, out) == 0
    results = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [r["name"] for r in results] == ["fine", "socket", "exit", "patch"]
    assert [r["status"] for r in results] == ["ok", "error", "killed", "ok"]
    assert [r["control"] for r in results] == ["ok"] * 4
    assert results[0]["output"] == "42\n"
    assert any("socket" in seen or "PermissionError" in seen for seen in results[1]["seen"])
    assert results[1]["must"] == "error"
    assert len(results[3]["output"]) == 300
    assert all(set(r) >= {"name", "status", "output", "cpu_ms", "seen", "control"} for r in results)


@pytest.mark.parametrize("text", ["", "not json", '{"name": "a"}', '{"name": 1, "code": "x"}', "[]", "[" * 100_000])
def test_a_bad_file_is_one_clear_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text(text)
    with pytest.raises(UserError, match=r"bad\.jsonl"):
        read_snippets(file)


def test_a_line_ends_at_a_line_feed_and_nowhere_else(tmp_path: Path) -> None:
    file = tmp_path / "snippets.jsonl"
    rows = [{"name": "a\u2028b\x85", "code": "print('\x0c\u2029')", "must": ["x", 1]}, {"name": "b", "code": ""}]
    file.write_text("\ufeff" + "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    first, second = read_snippets(file)
    assert (first.name, first.code, first.must) == ("a\u2028b\x85", "print('\x0c\u2029')", ["x", 1])
    assert (second.name, second.must) == ("b", None)


def test_a_missing_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        read_snippets(tmp_path / "none.jsonl")


def test_hostile_snippets_are_not_run_without_a_cage(tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl"
    file.write_text('{"name": "a", "code": "print(1)"}')
    with pytest.raises(UserError, match="no cage"):
        run_snippets(file, "accidents-only", io.StringIO())


@pytest.mark.slow
@pytest.mark.parametrize("isolation", ["strong", "good"])
def test_the_red_team_is_held(shared_data: Path, level: str, isolation: str) -> None:
    if isolation == "strong" != level:
        pytest.skip(f"the strongest level here is {level}")
    out = io.StringIO()
    with tripwires() as wires:
        assert run_snippets(shared_data / "sandbox" / "redteam.jsonl", isolation, out) == 0
        assert wires.touched(out.getvalue()) == ""
    check(out.getvalue().splitlines(), isolation)
    assert not list(Path("/tmp").glob("sandbox_was_here*"))


@pytest.mark.slow
@pytest.mark.parametrize("isolation", ["strong", "good"])
def test_the_red_team_is_held_for_an_unprivileged_user(
    shared_data: Path, unprivileged: Unprivileged, isolation: str
) -> None:
    done = unprivileged.run(AS_NOBODY, str(shared_data / "sandbox" / "redteam.jsonl"), isolation, timeout=1200)
    assert done.returncode == 0, done.stderr[-2000:]
    check(done.stdout.splitlines(), isolation)
