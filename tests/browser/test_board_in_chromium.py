"""The board in real Chromium, from file://: console, keyboard, contrast, widths, hostile texts, a large tree."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from rstar_eval.config import build_config
from rstar_eval.evaluation import run_config
from rstar_eval.leaderboards.board.build import build_board
from rstar_eval.leaderboards.board.tree_page import tree_data, tree_script
from rstar_eval.store_lines import decode, encode
from rstar_eval.training.evolve_worker import LogProgress

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra browser)")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(not CHROMIUM, reason="no Chromium (set CHROMIUM)")]

HOSTILE = (
    "</script><script>window.hacked=1</script><img src=x onerror='window.hacked=1'> "
    "$\\href{javascript:window.hacked=1}{x}$"
)
PAGES = ("index.html", "tables.html", "runs/run.html", "runs/run/problems/1.html", "runs/run/trees/1-0.html")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A board of a scripted run whose texts are hostile, with a tree of 5,000 nodes in one of its pages."""
    folder = tmp_path_factory.mktemp("site")
    settings = {
        "tasks": "mini_math",
        "limit": 3,
        "policy": "scripted",
        "reward": "scripted",
        "rollouts": 8,
        "candidates": 4,
    }
    run_config(build_config({**settings, "keep_trees": True}), folder / "run", LogProgress())
    log = folder / "run" / "trajectories.jsonl"
    records = [decode(line)[0] or {} for line in log.read_bytes().splitlines(keepends=True)]
    for step in (step for one in records for path in one["trajectories"] for step in path["steps"]):
        step |= {key: HOSTILE + step[key] for key in ("code", "output", "text") if key in step}
    log.write_bytes(b"".join(encode(one) for one in records))
    build_board([folder / "run"], folder / "board")
    (folder / "board" / "runs" / "run" / "trees" / "2-0.js").write_text(tree_script(large_tree(5000)))
    return folder / "board"


def large_tree(size: int) -> dict[str, Any]:
    """Return a tree of so many nodes, with hostile texts, walks, and places where they went back."""
    rng, nodes, children = Random(1), [{"tag": "0", "visits": 50, "q": 0.1}], {"0": 0}
    open_tags = ["0"]
    while len(nodes) < size:
        parent = rng.choice(open_tags[-40:])
        children[parent] += 1
        tag = f"{parent}.{children[parent]}"
        children[tag] = 0
        if tag.count(".") < 14:
            open_tags.append(tag)
        nodes.append({"tag": tag, "visits": 1, "q": rng.uniform(-1, 1), "prior": 0.2, "kind": "code", "samples": 1,
                      "text": HOSTILE, "code": HOSTILE, "output": HOSTILE, "status": "ok", "tokens": 9})  # fmt: skip
    nodes.sort(key=lambda node: [int(part) for part in str(node["tag"]).split(".")])
    leaves = [node for node in nodes if not children[str(node["tag"])]][::40]
    for walk, leaf in enumerate(leaves):
        leaf |= {"walk": walk, "end": "answer", "answer": str(walk), "kind": "answer"}
    outcomes = {walk: "correct" if walk % 3 else "wrong" for walk in range(len(leaves))}
    return tree_data(nodes, outcomes=outcomes, chosen=len(leaves) // 2, in_turn=True)


@pytest.fixture(scope="module")
def browser(site: Path) -> Iterator[Any]:  # after the site: playwright's loop would be in the way of the run's
    with playwright.sync_playwright() as engine:
        chromium = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Any, site: Path) -> Iterator[Any]:
    """Returns a function that opens a page of the board; afterwards nothing may have been said on the console."""
    said: list[str] = []
    contexts = []

    def open_page(name: str, *, scheme: str = "light", width: int = 1280) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 850}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(f"{name}: {message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"{name}: {error}"))
        page.on("dialog", lambda dialog: said.append(f"{name}: dialog"))
        page.on("requestfailed", lambda request: said.append(f"{name}: failed: {request.url}"))
        page.goto(f"file://{site / name}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not said


CONTRAST = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => {
    const f = (c) => { c /= 255; return c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4; };
    return .2126 * f(r) + .7152 * f(g) + .0722 * f(b); };
  const ground = (element) => { for (let at = element; at; at = at.parentElement) {
    const colour = parse(getComputedStyle(at).backgroundColor); if (colour.length < 4 || colour[3] > 0) return colour; }
    return [255, 255, 255]; };
  const poor = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest(".skip, .katex-mathml")) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(ground(element))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) poor.push(`${element.tagName}.${element.className} ${ratio.toFixed(2)}: ${element.textContent}`);
  }
  return poor;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_contrast_is_at_least_4_5_and_nothing_is_wider_than_the_screen(visit: Any, name: str, scheme: str) -> None:
    for width in (1280, 390):
        page = visit(name, scheme=scheme, width=width)
        assert page.evaluate(CONTRAST) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (name, width)


@pytest.mark.parametrize("name", PAGES)
def test_every_control_is_reached_by_tab_and_shows_its_focus(visit: Any, name: str) -> None:
    page = visit(name)
    controls = page.evaluate(
        "[...document.querySelectorAll('a[href], button, input, select, summary, [tabindex=\"0\"]')]"
        ".filter((e) => e.checkVisibility()).map((e, i) => { e.dataset.probe = i; return i; })"
    )
    reached = set()
    for _ in range(len(controls) + 5):
        page.keyboard.press("Tab")
        found = page.evaluate(
            "[document.activeElement.dataset.probe, getComputedStyle(document.activeElement).outlineStyle]"
        )
        if found[0] is not None:
            assert found[1] != "none"
            reached.add(int(found[0]))
    assert reached == set(controls)


@pytest.mark.parametrize("name", [*PAGES, "runs/run/trees/2-0.html"])
def test_hostile_texts_do_nothing(visit: Any, name: str) -> None:
    page = visit(name)
    page.wait_for_timeout(200)
    assert page.evaluate("window.hacked") is None
    assert page.evaluate('document.querySelectorAll(\'main img[src="x"], main a[href^="javascript"]\').length') == 0


def test_the_leaderboard_sorts_and_filters(visit: Any) -> None:
    page = visit("index.html")
    page.get_by_role("button", name="Accuracy %").click()
    assert page.locator("th[data-key=accuracy]").get_attribute("aria-sort") == "descending"
    page.get_by_role("button", name="Accuracy %").click()
    assert page.locator("th[data-key=accuracy]").get_attribute("aria-sort") == "ascending"
    page.get_by_label("Tokens a problem, at most").fill("1")
    assert page.locator("#count").inner_text() == "0 of 1 runs"
    page.get_by_label("Tokens a problem, at most").fill("")
    page.get_by_label("Task").select_option("mini_math")
    assert page.locator("#leaderboard tbody tr:visible").count() == 1


def test_the_tree_is_walked_by_keyboard(visit: Any) -> None:
    page = visit("runs/run/trees/1-0.html")
    tree = page.locator("#tree")
    tree.focus()

    def selected() -> str:
        return str(page.locator("#tree [aria-selected=true] .tag").inner_text())

    page.keyboard.press("Home")
    assert selected() == "0"
    page.keyboard.press("ArrowDown")
    first = selected()
    assert first.startswith("0.")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert selected() == "0"
    page.keyboard.press("ArrowLeft")
    assert page.locator("#tree [role=treeitem]").count() == 1
    page.keyboard.press("c")
    assert "chosen" in page.locator("#tree [aria-selected=true]").inner_text()
    assert "yes" in page.locator("#detail").inner_text()
    page.keyboard.press("b")
    assert "came back here" in page.locator("#where").inner_text()
    assert "back" in page.locator("#tree [aria-selected=true]").inner_text()
    active = tree.get_attribute("aria-activedescendant")
    assert page.locator(f"#{active}").get_attribute("aria-selected") == "true"


def test_a_tree_of_5000_nodes_keeps_few_rows_in_the_document(visit: Any) -> None:
    page = visit("runs/run/trees/2-0.html")
    page.get_by_role("button", name="Expand all").click()
    height = page.evaluate("document.querySelector('#tree .sizer').clientHeight")
    assert height == 28 * 5000
    assert page.locator("#tree [role=treeitem]").count() < 120
    page.locator("#tree").focus()
    page.keyboard.press("End")
    assert page.evaluate("document.querySelector('#tree').scrollTop") > 100_000
    assert page.locator("#tree [aria-selected=true]").is_visible()
    page.locator("#walks button").first.click()
    assert page.locator("#walks button").first.get_attribute("aria-pressed") == "true"


def test_mathematics_is_set(visit: Any, site: Path) -> None:
    page_file = site / "runs" / "run" / "problems" / "0.html"
    page_file.write_text(page_file.read_text().replace("Reference answer: ", "Reference answer: \\(\\frac{1}{2}\\) "))
    page = visit("runs/run/problems/0.html")
    assert page.locator(".katex .mfrac").count() > 0
