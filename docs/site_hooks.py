"""What mkdocs does not do by itself: pages of files outside of docs/, links between both, and the package as installed.

A link of a page to a file of the repository becomes a link to its page, or plain text where the site has none (source
files); one to nothing ends a strict build, as mkdocs's own checks do.
"""

from __future__ import annotations

import posixpath
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security-policy.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
    "benchmarks/executor/README.md": "benchmarks-executor.md",
}
"""Files of the repository that are pages too, and their pages."""
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")


def on_startup(**_: object) -> None:
    """Lay out the sources as they install (the top-level folders are sub-packages), for mkdocstrings to read: at the
    start, since it looks for its search paths only once."""
    package = ROOT / "build" / "documented" / "rstar_eval"
    shutil.rmtree(package, ignore_errors=True)
    for folder in ("rstar_eval", "solver", "training", "tasks", "leaderboards"):
        target = package if folder == "rstar_eval" else package / folder
        for source in (ROOT / folder).rglob("*.py"):
            copy = target / source.relative_to(ROOT / folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of files outside of docs/."""
    from mkdocs.structure.files import File

    for source, page in OUTSIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn the page's links into those of the site."""
    here = next((source for source, name in OUTSIDE.items() if name == page.file.src_uri), f"docs/{page.file.src_uri}")
    return _LINK.sub(lambda match: _link(match, here, page.file.src_uri), markdown)


def _link(match: re.Match[str], here: str, uri: str) -> str:
    text, link = match[1], match[2]
    if re.match(r"[a-z]+:|#|/", link):
        return match[0]
    path, hash_, anchor = link.partition("#")
    target = posixpath.normpath(posixpath.join(posixpath.dirname(here), path))
    if target in OUTSIDE:
        page = OUTSIDE[target]
    elif target.startswith("docs/"):
        page = target.removeprefix("docs/")
    elif (ROOT / target).exists():
        return text
    else:
        return match[0]  # mkdocs says that it leads nowhere
    return f"[{text}]({posixpath.relpath(page, posixpath.dirname(uri) or '.')}{hash_}{anchor})"
