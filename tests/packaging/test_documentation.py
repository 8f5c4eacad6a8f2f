"""The documentation: every link leads somewhere, every page is in the site, the notebook runs, the site builds."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import importlib.util
import inspect
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
NOTEBOOK = DOCS / "notebooks" / "first-run.ipynb"
PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted((REPOSITORY / "benchmarks").rglob("*.md")),
    *sorted(DOCS.rglob("*.md")),
]


def _prose(page: Path) -> str:
    """The page without its code, in which brackets are no links."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^ {4}.*$", "", text, flags=re.M))


def _anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ +(.*)$", page.read_text(encoding="utf-8"), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)", _prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} leads nowhere"
        if anchor:
            assert anchor in _anchors(target), f"{link}: no such heading"


def test_every_page_is_in_the_site_once() -> None:
    from_outside = {*_hooks().OUTSIDE.values()}
    listed: list[str] = []

    def walk(entry: Any) -> None:
        for value in entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ():
            listed.append(value) if isinstance(value, str) else walk(value)

    walk(yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    there = {str(path.relative_to(DOCS)) for path in [*DOCS.rglob("*.md"), *DOCS.rglob("*.ipynb")]} | from_outside
    assert sorted(listed) == sorted(there), "every page is listed once under nav in mkdocs.yml"
    assert all((REPOSITORY / source).exists() for source in _hooks().OUTSIDE)


def _hooks() -> Any:
    spec = importlib.util.spec_from_file_location("site_hooks", DOCS / "site_hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("here", "page", "link", "expected"),
    [
        ("README.md", "index.md", "[a](docs/search.md)", "[a](search.md)"),
        ("README.md", "index.md", "[a](docs/search.md#x)", "[a](search.md#x)"),
        ("README.md", "index.md", "[a](CONTRIBUTING.md)", "[a](contributing.md)"),
        ("docs/library.md", "library.md", "[a](reference/library.md)", "[a](reference/library.md)"),
        ("docs/reference/library.md", "reference/library.md", "[a](../library.md)", "[a](../library.md)"),
        ("docs/sandbox.md", "sandbox.md", "[a](../benchmarks/README.md#b)", "[a](benchmarks.md#b)"),
        ("docs/tasks.md", "tasks.md", "[the folder](../tasks)", "the folder"),
        ("docs/tasks.md", "tasks.md", "[a](https://b.c)", "[a](https://b.c)"),
        ("docs/tasks.md", "tasks.md", "[a](#b)", "[a](#b)"),
        ("docs/tasks.md", "tasks.md", "[a](nowhere.py)", "[a](nowhere.md)"),
    ],
)
def test_links_of_the_repository_become_links_of_the_site(here: str, page: str, link: str, expected: str) -> None:
    hooks = _hooks()
    expected = expected.replace("nowhere.md", "nowhere.py")  # left as it is, for mkdocs to refuse
    assert hooks._LINK.sub(lambda match: hooks._link(match, here, page), link) == expected


def test_every_object_of_the_reference_is_there_and_documented() -> None:
    names = [name for page in sorted((DOCS / "reference").glob("*.md")) for name in _references(page)]
    assert len(names) == len(set(names)) > 30
    for name in names:
        if ".inspect_ai" in name and importlib.util.find_spec("inspect_ai") is None:
            continue
        try:
            found: Any = importlib.import_module(name)
        except ModuleNotFoundError:
            module, _, item = name.rpartition(".")
            found = getattr(importlib.import_module(module), item)
        assert inspect.getdoc(found), f"{name} has no docstring"


def _references(page: Path) -> list[str]:
    return re.findall(r"^::: (rstar_eval\.\S+)$", page.read_text(encoding="utf-8"), flags=re.M)


def _cells() -> list[str]:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells in order in one name space with awaits at the top, as a notebook runs them, without Jupyter."""
    pytest.importorskip("torch", reason="the embedded checkpoints need the extra hf")
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()

    async def run() -> None:
        names: dict[str, Any] = {}
        for place, cell in enumerate(_cells()):
            compiled = compile(cell, f"cell {place}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            waiting = eval(compiled, names)  # noqa: S307  our own cells
            if inspect.iscoroutine(waiting):
                await waiting

    with contextlib.redirect_stdout(printed):
        asyncio.run(run())
    text = printed.getvalue()
    assert re.search(r"^answer: .* \| reference: \d+ \| (correct|wrong|no_answer)$", text, flags=re.M)
    assert "search: 0." in text
    assert "k = 8: pass@k" in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_notebook_runs_in_jupyter(tmp_path: Path) -> None:
    pytest.importorskip("nbclient", reason="nbclient is not installed (extra docs)")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed (extra docs)")
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert {output.output_type for output in outputs} == {"stream"}


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed (extra docs)")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "evaluate_async" in (tmp_path / "site" / "reference" / "library.html").read_text(encoding="utf-8")
