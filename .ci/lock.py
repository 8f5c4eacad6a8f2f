"""`python .ci/lock.py FILE`: pin what is installed here of the core's dependencies, each with the hash of its wheel."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = ("serve", "export", "figures")
LEFT_OUT = frozenset({"rstar-eval", "torch"})
"""Its wheels differ by machine."""
HEAD = """\
# What the core and the extras serve, export and figures depend on, as tested on Linux x86_64 with CPython 3.11.
#   pip install --require-hashes --only-binary :all: -r docs/deploy/requirements-linux-x86_64.txt
#   pip install --no-deps .
# Made anew by .ci/audit --lock.
"""


def closure(texts: Iterable[str], extras: Iterable[str], found: dict[str, str]) -> None:
    """Add to `found` the versions of the requirements in `texts` and of all that they need."""
    for text in texts:
        need = Requirement(text)
        name = canonicalize_name(need.name)
        wanted = need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in (*extras, ""))
        if wanted and (name not in found or need.extras):
            found[name] = metadata.version(name)
            closure(metadata.requires(name) or [], need.extras, found)


def main() -> None:
    """Write the file."""
    found: dict[str, str] = {}
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    closure(project["dependencies"], (), found)
    for extra in EXTRAS:
        closure(project["optional-dependencies"][extra], (), found)
    found = {name: version for name, version in found.items() if name not in LEFT_OUT}
    with tempfile.TemporaryDirectory() as folder:
        pins, report = Path(folder, "pins.txt"), Path(folder, "report.json")
        pins.write_text("\n".join(f"{name}=={version}" for name, version in sorted(found.items())))
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps"]
        subprocess.run([*command, "--requirement", str(pins), "--report", str(report)], check=True)
        entries = json.loads(report.read_text())["install"]
    lines = [
        f"{canonicalize_name(one['metadata']['name'])}=={one['metadata']['version']} "
        f"--hash=sha256:{one['download_info']['archive_info']['hashes']['sha256']}"
        for one in entries
    ]
    Path(sys.argv[1]).write_text(HEAD + "\n".join(sorted(lines)) + "\n")


if __name__ == "__main__":
    main()
