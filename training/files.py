"""Files that are either the old ones or the new ones, whatever happens."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from rstar_eval.store import writing_error


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file atomically, with its folder made if it is missing. UserError if that can't be done."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise writing_error(path, error) from None
