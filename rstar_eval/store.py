"""A run's folder: append-only logs that survive being killed at any moment. docs/store.md describes it.

    manifest.json         what was run: configuration, data, models, versions, sessions (replaced atomically)
    trajectories.jsonl    one line = one finished search; grades.jsonl, trees.jsonl.zst beside it (store_segment.py)
    segments/NAME/        a worker's own segment: a folder with the very same logs and a lock of its own
    index.sqlite          made from the logs when a large run is read (store_index.py); may be removed at any time
    summary.json, .md     the figures, always computed from the logs

A run that one process writes has its logs in the folder itself. Where several workers write (`--engine ray`), each
has a segment, named by its worker (letters, digits, - and _), which it opens with `Segment(segment_path(run, NAME))`,
on whatever machine it is. Readers take the run's own logs and then the segments' by name; a key that occurs twice (a
lost worker's problem that was retried) counts once: the first search, the last grade.

A line that was being written when a process died is cut off when its segment is opened again; its search is done
again. Every line has a checksum (store_lines.py); `rstar-eval fsck` finds and repairs damage (fsck.py).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rstar_eval.errors import UserError
from rstar_eval.store_lines import GRADES, SEGMENTS, TRAJECTORIES, folders, read_lines, segment_path, segments
from rstar_eval.store_segment import OWN, Segment, writing_error

__all__ = [
    "GRADES",
    "MANIFEST",
    "SCHEMA",
    "SEGMENTS",
    "TRAJECTORIES",
    "RunStore",
    "Segment",
    "folders",
    "read_lines",
    "read_manifest",
    "segment_path",
    "segments",
    "writing_error",
]

SCHEMA = 1
"""The manifest's schema."""
MANIFEST = "manifest.json"


class RunStore(Segment):
    """The folder of one run, open for writing: its own logs, the manifest and the reports. Use as a context manager.

    UserError if the folder can't be written, is no run folder though it is not empty, or another process has it.
    """

    def _check_folder(self) -> None:
        if not (self.path / MANIFEST).exists() and any(one.name not in OWN for one in self.path.iterdir()):
            raise UserError(
                f"output folder {str(self.path)!r} is not empty and holds no run", "give a new folder with --output"
            )

    @property
    def manifest(self) -> dict[str, Any] | None:
        """The stored manifest, or None in a new folder."""
        return read_manifest(self.path) if (self.path / MANIFEST).exists() else None

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Replace the manifest atomically: a reader sees the old one or the new one, also after a power cut."""
        self._replace(MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())

    def write_report(self, name: str, text: str) -> None:
        """Write a derived file (a summary) atomically."""
        self._replace(name, text.encode())


def read_manifest(path: Path) -> dict[str, Any]:
    """Return a run's manifest. UserError if the folder or the manifest is missing or broken."""
    file = path / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{str(path)!r} is no run folder (no {MANIFEST})", "give the folder that a run printed"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"can't read {str(file)!r}: {error}", "restore it, or give another folder") from None
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        found = manifest.get("schema") if isinstance(manifest, dict) else type(manifest).__name__
        raise UserError(f"{str(file)!r} has schema {found!r}", f"this version reads schema {SCHEMA}")
    return manifest
