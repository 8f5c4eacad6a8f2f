"""The store segments of a distributed engine's workers, open for writing in the process that has the run's folder."""

from __future__ import annotations

import resource
from pathlib import Path

from rstar_eval.store import Segment, folders, segment_path


class WorkerSegments:
    """One segment a worker place, opened when its first search is stored and kept open.

    The workers write nothing: their results come to the driver, which has the run's lock and is the only writer of
    every segment. So no search is stored twice, whatever becomes of a worker.
    """

    def __init__(self, run: Path) -> None:
        """Look at the segments that are there and mend what a killed session left half written in them.

        UserError if one can't be written or another process has it. `notes` says what was mended.
        """
        self._run = run
        self._open: dict[str, Segment] = {}
        self.notes: list[str] = []
        _allow_many_files()
        for folder in folders(run)[1:]:
            with Segment(folder) as segment:
                self.notes += [f"segment {folder.name}: {note}" for note in segment.notes]

    def of(self, worker: str) -> Segment:
        """Return the segment of a worker."""
        if worker not in self._open:
            self._open[worker] = Segment(segment_path(self._run, worker))
        return self._open[worker]

    def close(self) -> None:
        """Close all segments. May be called twice."""
        while self._open:
            self._open.popitem()[1].close()


def _allow_many_files() -> None:
    """Raise the limit of open files to what it may be: a segment needs three, and there may be hundreds."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
