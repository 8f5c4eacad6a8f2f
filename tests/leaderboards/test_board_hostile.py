"""Every field of a run that a model, a task's file or another machine wrote is hostile: the board shows it as text."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from rstar_eval.leaderboards.board.build import build_board
from rstar_eval.store import GRADES, TRAJECTORIES
from rstar_eval.store_lines import decode, encode
from rstar_eval.trees import TREES, read_trees, record_of

EVIL = (
    "\"'><script>window.hacked=1</script><img src=x onerror=alert(1)></pre></title><!-- \u2028\ud800 javascript:x ]]>"
)
STRUCTURE = {  # values that mean something to the reader; everything else is anybody's text
    "kind", "status", "end", "outcome", "grader", "version", "strategy", "choose", "schema", "config_hash", "sha256",
    "task", "isolation", "choice", "tag",
}  # fmt: skip


def poisoned(value: Any, key: str = "") -> Any:
    """The value with hostile text in every string that is not of STRUCTURE; an id stays itself at its beginning."""
    if isinstance(value, dict):
        return {name: one if name in STRUCTURE else poisoned(one, name) for name, one in value.items()}
    if isinstance(value, list):
        return [poisoned(one, key) for one in value]
    return value + EVIL if isinstance(value, str) else value


@pytest.fixture(scope="module")
def site(scripted_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    run = folder / ("run<script>alert(1)<" + chr(47 + 1) + "script>'\"&")
    shutil.copytree(scripted_run, run)
    trees = [record_of((one.problem + EVIL, one.tree), poisoned(one.data)) for one in read_trees(run)]
    (run / TREES).write_bytes(b"".join(trees))
    for name in (TRAJECTORIES, GRADES):
        records = [decode(line)[0] for line in (run / name).read_bytes().splitlines(keepends=True)]
        (run / name).write_bytes(b"".join(encode(poisoned(one)) for one in records))
    manifest = json.loads((run / "manifest.json").read_text())
    kept = {"schema", "config", "data", "grader"}
    evil = {key: one if key in kept else poisoned(one) for key, one in manifest.items()}
    evil["config"] = {
        key: value + EVIL if isinstance(value, str) and key in ("policy", "reward", "preset") else value
        for key, value in manifest["config"].items()
    }
    evil["data"] = {name: {**entry, "source": poisoned(entry["source"])} for name, entry in manifest["data"].items()}
    (run / "manifest.json").write_text(json.dumps(evil))
    made = build_board([run], folder / "site", problems=3)
    assert (made.entries, made.problems, made.trees) == (1, 3, 3)
    return folder / "site"


class Elements(HTMLParser):
    """What a page is made of: element names, and attributes that could run something."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str | None] = []
        self.dangerous: list[tuple[str, str, str | None]] = []
        self.comments: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self.scripts.append(dict(attrs).get("src"))
        if tag in {"iframe", "object", "embed", "base", "form"} and dict(attrs).get("id") != "filters":
            self.dangerous.append((tag, "", None))
        for name, value in attrs:
            scheme = (value or "").strip().lower().startswith(("javascript:", "data:text", "vbscript:"))
            if name.startswith("on") or name in {"style", "srcdoc"} or (name in {"href", "src"} and scheme):
                self.dangerous.append((tag, name, value))
            if tag == "img" and name == "src":
                self.dangerous.append((tag, name, value))

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_no_page_has_an_element_that_a_text_brought(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) == 2 + 1 + 3 + 3
    shown = 0
    for page in pages:
        content = page.read_text(encoding="utf-8")
        seen = Elements()
        seen.feed(content)
        seen.close()
        assert seen.dangerous == [], page
        assert seen.comments == [], page
        assert all(source is not None and "//" not in source for source in seen.scripts), page
        assert "<script>window" not in content
        assert "Content-Security-Policy" in content
        shown += "window.hacked=1" in "".join(seen.text)
    assert shown >= 1 + 3 + 3, "the hostile texts are shown, as texts"


def test_no_script_of_data_ends_early(site: Path) -> None:
    scripts = [one for one in site.rglob("*.js") if "assets" not in one.parts]
    assert scripts
    for script in scripts:
        content = script.read_text(encoding="utf-8")
        assert "<" not in content
        assert content.isascii()
        json.loads(content[content.index("=") + 1 : content.rindex(";")])


def test_names_of_files_are_plain(site: Path) -> None:
    for file in site.rglob("*"):
        assert not set(file.name) & set("<>\"'&:"), file
