"""The board's files: complete, without anything from elsewhere, and with every text of a model escaped."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from rstar_eval.errors import UserError
from rstar_eval.leaderboards.board.build import Board, build_board
from rstar_eval.leaderboards.board.markup import mathematics, script_data, text
from rstar_eval.leaderboards.board.tree_page import tree_data
from rstar_eval.leaderboards.experiments import load_experiment
from rstar_eval.store import TRAJECTORIES
from rstar_eval.store_lines import decode, encode

HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror='window.hacked=1'>\u2028&lt;\ud800"


def with_hostile_steps(record: dict[str, Any]) -> dict[str, Any]:
    for trajectory in record["trajectories"]:
        for step in trajectory["steps"]:
            step |= {key: HOSTILE + step[key] for key in ("code", "text", "output") if key in step}
    return record


@pytest.fixture(scope="module")
def board(scripted_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A board of a run whose steps and answers are hostile."""
    folder = tmp_path_factory.mktemp("board")
    run = folder / "run"
    shutil.copytree(scripted_run, run)
    lines = (run / TRAJECTORIES).read_bytes().splitlines(keepends=True)
    (run / TRAJECTORIES).write_bytes(b"".join(encode(with_hostile_steps(decode(one)[0] or {})) for one in lines))
    made = build_board([run], folder / "site", problems=4)
    assert (made.entries, made.problems, made.trees) == (1, 4, 4)
    return folder / "site"


class Links(HTMLParser):
    """Collects what a page points to, its elements with inline scripts or styles, and ids."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.inline: list[str] = []
        self.headings: list[int] = []
        self.unlabelled: list[str] = []
        self._in_label = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        of = dict(attrs)
        self.targets += [value for key, value in attrs if key in ("href", "src") and value]
        if (
            any(key.startswith("on") or key == "style" for key, _ in attrs)
            or tag == "style"
            or (tag == "script" and "src" not in of)
        ):
            self.inline.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        self._in_label = self._in_label or tag == "label"
        if tag in ("input", "select") and not self._in_label:
            self.unlabelled.append(tag)
        if tag == "img" and not of.get("alt"):
            self.unlabelled.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag == "label":
            self._in_label = False


def pages(site: Path) -> list[Path]:
    return sorted(site.rglob("*.html"))


def test_every_page_links_to_files_that_exist_and_to_nothing_elsewhere(board: Path) -> None:
    assert len(pages(board)) == 2 + 1 + 4 + 4
    for page in pages(board):
        links = Links()
        links.feed(page.read_text(encoding="utf-8"))
        assert not links.inline, page
        assert not links.unlabelled, page
        assert links.headings[0] == 1
        assert all(after - before <= 1 for before, after in zip(links.headings, links.headings[1:], strict=False)), page
        for target in links.targets:
            if target.startswith(("#", "data:,")):
                continue
            assert "//" not in target, (page, target)
            assert (page.parent / target.split("#")[0]).exists(), (page, target)


def test_no_file_fetches_anything(board: Path) -> None:
    for file in board.rglob("*"):
        if file.suffix in (".css", ".js") and "katex" not in file.parts:
            content = file.read_text(encoding="utf-8")
            assert not re.search(r"fetch\(|XMLHttpRequest|@import|innerHTML|insertAdjacent|eval\(", content), file
    assert "default-src 'none'" in (board / "index.html").read_text()


def test_hostile_texts_are_escaped_everywhere(board: Path) -> None:
    problem = next(iter(sorted((board / "runs").glob("*/problems/*.html")))).read_text(encoding="utf-8")
    assert "&lt;/script&gt;&lt;script&gt;window.hacked" in problem
    assert "<script>window" not in problem
    assert "\ufffd" in problem  # a lone surrogate is in no file
    for page in pages(board):
        assert "<img src=x" not in page.read_text(encoding="utf-8")


def test_script_data_can_not_end_its_script_and_comes_back_whole() -> None:
    written = script_data("X", {"a": [HOSTILE, None, 1.5]})
    assert "<" not in written[len("window.X = ") :]
    assert written.isascii()
    assert json.loads(written[len("window.X = ") : -2]) == {"a": [HOSTILE, None, 1.5]}
    assert text("<a b=\"c\" d='e'>\x00") == "&lt;a b=&quot;c&quot; d=&#x27;e&#x27;&gt;\ufffd"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("It costs $5 and $7.", "It costs $5 and $7."),
        ("From $5-$7 a day", "From $5-$7 a day"),
        ("If $x + 1 = 2$, find $x$.", r"If \(x + 1 = 2\), find \(x\)."),
        ("Pay $20; let $n$ be odd", r"Pay $20; let \(n\) be odd"),
        (r"a \$5 note and $$y$$", r"a \$5 note and $$y$$"),
    ],
)
def test_mathematics_and_money_are_told_apart(given: str, expected: str) -> None:
    assert mathematics(given) == expected


def test_where_walks_went_back_is_in_the_trees_data() -> None:
    nodes = [
        {"tag": "0", "visits": 3, "q": 0.0}, {"tag": "0.1", "visits": 2, "q": 0.1},
        {"tag": "0.2", "visits": 1, "q": 0.3},
        {"tag": "0.1.1", "visits": 1, "q": -1, "walk": 0, "end": "answer", "answer": "4"},
        {"tag": "0.1.2", "visits": 1, "q": 1, "walk": 1, "end": "answer", "answer": "5"},
        {"tag": "0.2.1", "visits": 1, "q": 1, "walk": 2, "end": "depth"},
    ]  # fmt: skip
    data = tree_data(nodes, outcomes={0: "wrong", 1: "correct", 2: "no_answer"}, chosen=1, in_turn=True)
    assert data["parents"] == [-1, 0, 0, 1, 1, 2]
    assert [(walk["walk"], walk["end"], walk["back"], walk["outcome"]) for walk in data["walks"]] == [
        (0, 3, None, "wrong"), (1, 4, 1, "correct"), (2, 5, 0, "no_answer"),
    ]  # fmt: skip
    beam = tree_data(nodes, outcomes={}, chosen=None, in_turn=False)
    assert all(walk["back"] is None for walk in beam["walks"])


def test_tables_and_figures_of_results_are_on_the_board(made_up_results: Callable[..., Path], tmp_path: Path) -> None:
    folder = made_up_results([load_experiment("figure3", "mini")], seeds=(0,), problems=2).rename(tmp_path / "mini")
    made: Board = build_board([folder], tmp_path / "site")
    assert made.entries == 5 * 4  # searches with two PPMs, samples, greedy of final and base policy, on four tasks
    page = (tmp_path / "site" / "tables.html").read_text()
    assert 'id="table7"' in page
    assert "not run" in page
    drawn = {"figure3.png", "figure3.svg", "figure3-tokens.svg", "figure3.md", "figure5.svg", "figure7.csv"}
    assert drawn <= {one.name for one in (tmp_path / "site" / "figures").iterdir()}
    assert (tmp_path / "site" / "tables" / "table7.tex").exists()


def test_a_board_is_made_anew_and_other_folders_are_left_alone(scripted_run: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    build_board([scripted_run], site, problems=1)
    build_board([scripted_run], site, problems=0)
    assert not list(site.rglob("problems/*.html"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thing").touch()
    with pytest.raises(UserError, match="holds no board"):
        build_board([scripted_run], tmp_path / "other")
    with pytest.raises(UserError, match="holds no run"):
        build_board([tmp_path / "other"], site)


def test_a_board_is_served_on_this_machine_and_a_taken_port_is_one_line(board: Path) -> None:
    import socket
    import threading
    from urllib.error import URLError
    from urllib.request import urlopen

    from rstar_eval.leaderboards.board.build import serve_board

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    threading.Thread(target=serve_board, args=(board, port), daemon=True).start()
    for _ in range(100):
        try:
            with urlopen(f"http://127.0.0.1:{port}/index.html", timeout=5) as answer:
                assert b"Leaderboard" in answer.read()
            break
        except URLError:
            time.sleep(0.05)
    else:
        pytest.fail("nothing was served")
    with pytest.raises(UserError, match=f"can't listen on port {port}"):
        serve_board(board, port)
