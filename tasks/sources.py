"""Where a benchmark file comes from: the user's data folder, the cache, or a download that is verified.

Files that a user put somewhere are only read. A download goes to a temporary name in the cache, is verified, and
then moved into place in one step, so that neither a kill nor a second process can leave a partial file behind.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rstar_eval.errors import UserError

CONNECT_SECONDS, READ_SECONDS = 5, 30
BENCHMARKS = "benchmarks"
"""The folder of benchmark files in the cache; also looked for in a data folder."""


class Unreachable(Exception):
    """A download that could not be made, and why, in a few words."""


def sha256_of(data: bytes) -> str:
    """Return the SHA-256 of `data` as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def cache_folder(cache_dir: str | Path | None = None) -> Path:
    """Return the cache folder: `cache_dir`, else RSTAR_EVAL_CACHE, else the platform's (it need not exist)."""
    if cache_dir is None and not os.environ.get("RSTAR_EVAL_CACHE"):
        import pooch

        return Path(pooch.os_cache("rstar-eval"))
    return Path(cache_dir or os.environ["RSTAR_EVAL_CACHE"]).expanduser().absolute()


def data_folder(data_dir: str | Path | None = None) -> Path | None:
    """Return the user's data folder: `data_dir`, else RSTAR_EVAL_DATA, else None. UserError if it is no folder."""
    given = data_dir or os.environ.get("RSTAR_EVAL_DATA")
    if not given:
        return None
    folder = Path(given).expanduser().absolute()
    if not folder.is_dir():
        name = "--data-dir" if data_dir else "RSTAR_EVAL_DATA"
        raise UserError(f"{name} {str(given)!r} is no folder", "give the folder that holds the benchmark files")
    return folder


def find_file(name: str, data: Path | None, cache: Path) -> tuple[str, Path] | None:
    """Return ("data-dir" | "cache", path) of the file called `name`, without network, or None.

    Look-up order: the data folder, its subfolder `benchmarks`, then `benchmarks` in the cache.
    """
    places = [("data-dir", data / name), ("data-dir", data / BENCHMARKS / name)] if data else []
    places.append(("cache", cache / BENCHMARKS / name))
    return next(((kind, path) for kind, path in places if path.is_file()), None)


def read_verified(path: Path, sha256: str | None, fix: str) -> bytes:
    """Return the content of a file of the user's or the cache. UserError if it can't be read, or if its SHA-256 is
    another than `sha256` (None: any); the file is left as it is, and `fix` says what to do."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"can't read {path}: {error.strerror or error}", "make the file readable") from None
    _verify(data, sha256, str(path), fix)
    return data


def _verify(data: bytes, sha256: str | None, what: str, fix: str) -> None:
    if sha256 is not None and (actual := sha256_of(data)) != sha256:
        raise UserError(f"sha256 mismatch: {what} has {actual}, expected {sha256}", fix)


def download(url: str, target: Path, sha256: str) -> bytes:
    """Fetch `url` once to `target`, with a progress bar on a terminal, and return its content.

    Unreachable if there is no route (within a short connect timeout) or the server refuses. UserError if what came
    has another SHA-256, or if the cache can't be written.
    """
    import requests
    from pooch import HTTPDownloader

    with scratch_folder(target.parent) as scratch, progress(target.name) as bar:
        part = scratch / target.name
        fetch = HTTPDownloader(progressbar=bar, timeout=(CONNECT_SECONDS, READ_SECONDS))
        try:
            fetch(url, str(part), None)
        except requests.RequestException as error:
            raise Unreachable(f"{urlsplit(url).netloc} {_why(error)}") from None
        return install(part, target, sha256, url)


def install(part: Path, target: Path, sha256: str, origin: str) -> bytes:
    """Verify the downloaded file `part`, move it to `target` in one step, and return its content.

    UserError naming both hashes if it is not the pinned file; `target` is then untouched.
    """
    data = part.read_bytes()
    _verify(
        data, sha256, f"the download of {target.name} from {origin}", "nothing was kept; try again, or another network"
    )
    with part.open("rb+") as handle:
        os.fsync(handle.fileno())
    os.replace(part, target)
    return data


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Give a temporary folder beside the final place (so that a move is atomic); it is removed at the end.

    UserError if the cache can't be written or the disk is full.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".part-", dir=parent) as name:
            yield Path(name)
    except OSError as error:
        raise UserError(
            f"can't write to the cache {parent}: {error.strerror or error}",
            "free space there, or set RSTAR_EVAL_CACHE to a folder that can be written",
        ) from None


def _why(error: Exception) -> str:
    import requests

    response = getattr(error, "response", None)
    if response is not None:
        return f"answers with status {response.status_code}"
    if isinstance(error, requests.exceptions.ProxyError):
        return "can't be reached: the proxy refuses"
    if isinstance(error, requests.Timeout):
        return "can't be reached: no answer in time"
    if "resolve" in str(error) or "resolution" in str(error):
        return "can't be reached: its name does not resolve"
    return f"can't be reached: {type(error).__name__}"


class _Bar:
    """A rich progress bar in the form that pooch drives (total, update, reset, close)."""

    def __init__(self, bar: Any, task: Any) -> None:
        self._bar, self._task, self._total = bar, task, 0

    @property
    def total(self) -> int:
        return self._total

    @total.setter
    def total(self, value: int) -> None:
        self._total = value
        self._bar.update(self._task, total=value or None)

    def update(self, amount: int) -> None:
        self._bar.update(self._task, advance=amount)

    def reset(self) -> None:
        self._bar.reset(self._task)

    def close(self) -> None:
        self._bar.stop()


@contextmanager
def progress(name: str) -> Iterator[Any]:
    """Give a progress bar on standard error for pooch, or False where standard error is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield False
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        yield _Bar(bar, bar.add_task(name, total=None))
