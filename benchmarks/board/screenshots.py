"""Screenshots of a board, light and dark, at desktop and phone width, to be looked at (needs playwright and Chromium).

python benchmarks/board/screenshots.py BOARD OUTPUT
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


def main(board: Path, output: Path) -> None:
    """Take a picture of each kind of page; of trees the largest one's, of runs and problems those it is of."""
    trees = sorted(board.glob("runs/*/trees/*.js"), key=lambda file: file.stat().st_size)
    pages = {"leaderboard": board / "index.html", "tables": board / "tables.html"}
    if trees:
        tree = trees[-1]
        run, index = tree.parent.parent, tree.stem.split("-")[0]
        pages |= {"tree": tree.with_suffix(".html"), "run": run.with_name(f"{run.name}.html")}
        pages["problem"] = run / "problems" / f"{index}.html"
    output.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as engine:
        chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
        browser = engine.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            for size, (width, height) in SIZES.items():
                viewport = {"width": width, "height": height}
                page = browser.new_page(viewport=viewport, color_scheme=scheme)  # type: ignore[arg-type]
                for name, file in pages.items():
                    page.goto(f"file://{file.resolve()}")
                    page.wait_for_timeout(300)
                    page.screenshot(path=output / f"{name}-{scheme}-{size}.png")
                page.goto(f"file://{(board / 'tables.html').resolve()}")
                figure = page.locator("figure.paper").first
                if figure.count():
                    figure.scroll_into_view_if_needed()
                    page.wait_for_timeout(300)
                    page.screenshot(path=output / f"figure3-{scheme}-{size}.png")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
