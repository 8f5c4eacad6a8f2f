"""How long the tree viewer takes on a large tree: until it is drawn, and for a key (needs playwright).

python benchmarks/board/tree_speed.py [NODES]
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Any

from playwright.sync_api import sync_playwright

from rstar_eval.config import build_config
from rstar_eval.evaluation import run_config
from rstar_eval.leaderboards.board.build import build_board
from rstar_eval.leaderboards.board.tree_page import tree_data, tree_script
from rstar_eval.training.evolve_worker import LogProgress


def large_tree(size: int) -> dict[str, Any]:
    """Return a random tree of so many nodes, every fortieth leaf the end of a walk."""
    rng, nodes, children, inner = Random(1), [{"tag": "0", "visits": 50, "q": 0.1}], {"0": 0}, ["0"]
    while len(nodes) < size:
        parent = rng.choice(inner[-60:])
        children[parent] += 1
        tag = f"{parent}.{children[parent]}"
        children[tag] = 0
        if tag.count(".") < 14:
            inner.append(tag)
        code = f"x = {len(nodes)}\nprint(x)"
        nodes.append({"tag": tag, "visits": 1, "q": rng.uniform(-1, 1), "prior": 0.2, "kind": "code", "samples": 1,
                      "text": code, "code": code, "output": "7", "status": "ok", "tokens": 9})  # fmt: skip
    nodes.sort(key=lambda node: [int(part) for part in str(node["tag"]).split(".")])
    leaves = [node for node in nodes if not children[str(node["tag"])]][::40]
    for walk, leaf in enumerate(leaves):
        leaf |= {"walk": walk, "end": "answer", "answer": str(walk), "kind": "answer"}
    return tree_data(nodes, outcomes={}, chosen=0, in_turn=True)


def main(size: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        run, site = Path(folder) / "run", Path(folder) / "site"
        settings = {"tasks": "mini_math", "limit": 1, "policy": "scripted", "rollouts": 4, "keep_trees": True}
        run_config(build_config(settings), run, LogProgress())
        build_board([run], site)
        measure(site, size)


def measure(site: Path, size: int) -> None:
    """Measure on the board in `site`, whose one tree is replaced."""
    with sync_playwright() as engine:
        (site / "runs" / "run" / "trees" / "0-0.js").write_text(tree_script(large_tree(size)))
        chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
        browser = engine.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        loads = []
        for _ in range(5):
            page = browser.new_page()
            page.goto(f"file://{site}/runs/run/trees/0-0.html")
            loads.append(page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd"))
        page.get_by_role("button", name="Expand all").click()
        page.locator("#tree").focus()
        press = """(count) => { const times = [], tree = document.getElementById('tree');
          for (let i = 0; i < count; i++) { const began = performance.now();
            tree.dispatchEvent(new KeyboardEvent('keydown', {key: i % 9 ? 'ArrowDown' : 'PageDown'}));
            tree.getBoundingClientRect(); times.push(performance.now() - began); }
          return times; }"""
        times = page.evaluate(press, 200)
        print(f"{size} nodes, medians: drawn {statistics.median(loads):.0f} ms after the start of loading (5 loads), "
              f"a key {statistics.median(times):.1f} ms, the slowest of 200 {max(times):.1f} ms")  # fmt: skip
        browser.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5000)
