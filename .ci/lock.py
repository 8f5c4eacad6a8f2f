"""`python .ci/lock.py FILE`: pin what is installed here of the core's dependencies, each with the hash of its wheel."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

EXTRAS = ("serve", "export", "figures")
HEAD = """\
# What the core and the extras serve, export and figures depend on, as tested on Linux x86_64 with CPython 3.11.
#   pip install --require-hashes --only-binary :all: -r docs/deploy/requirements-linux-x86_64.txt
#   pip install --no-deps .
# Made anew by .ci/audit --lock.
"""


def closure(name: str, extras: tuple[str, ...], found: dict[str, str]) -> None:
    """Add to `found` the versions of a distribution and all that it needs."""
    one = metadata.distribution(name)
    found[name.lower().replace("_", "-")] = one.version
    for text in one.requires or []:
        need = Requirement(text)
        wanted = need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in (*extras, ""))
        if wanted and (need.name.lower().replace("_", "-") not in found or need.extras):
            closure(need.name, tuple(need.extras), found)


def main() -> None:
    """Write the file."""
    found: dict[str, str] = {}
    closure("rstar-eval", EXTRAS, found)
    del found["rstar-eval"]
    with tempfile.TemporaryDirectory() as folder:
        pins, report = Path(folder, "pins.txt"), Path(folder, "report.json")
        pins.write_text("\n".join(f"{name}=={version}" for name, version in sorted(found.items())))
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps"]
        subprocess.run([*command, "--requirement", str(pins), "--report", str(report)], check=True)
        entries = json.loads(report.read_text())["install"]
    lines = [
        f"{one['metadata']['name'].lower().replace('_', '-')}=={one['metadata']['version']} "
        f"--hash=sha256:{one['download_info']['archive_info']['hashes']['sha256']}"
        for one in entries
    ]
    Path(sys.argv[1]).write_text(HEAD + "\n".join(sorted(lines)) + "\n")


if __name__ == "__main__":
    main()
