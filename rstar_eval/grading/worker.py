"""The worker process of the grading pool: reads one request a line on standard input, answers one line a request.

Started by `pool` as a fresh interpreter. Layers around what runs here: an address-space limit, no core dumps, no new or
larger files, an alarm without a handler that ends the process shortly after the time limit even if its parent is gone,
and, once the libraries are loaded, an audit hook that refuses processes, sockets, and opening files for writing.
None of
them makes it a sandbox for arbitrary code: they back up the rule that no answer is ever evaluated as Python.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

_REFUSED = tuple(
    str.split(
        "os.system os.exec os.posix_spawn os.spawn os.fork os.forkpty subprocess.Popen socket. os.remove os.rename "
        "os.rmdir os.mkdir os.link os.symlink os.truncate os.chmod os.chown shutil. pty.spawn ctypes.dlopen os.kill "
        "urllib.Request ftplib. smtplib. webbrowser.open os.putenv tempfile."
    )
)
_GRACE = 1.0


def _limit(memory: int) -> None:
    """Cap the address space and forbid core dumps and growing files."""
    try:
        import resource
    except ImportError:  # not a POSIX system: the clock and the hook remain
        return
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _alarm(seconds: float) -> None:
    """End this process after `seconds` (0: never): the default action of the signal, no handler."""
    import signal

    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _guard(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open":
        mode, flags = (*arguments[1:3], None, None)[:2]
        writes = isinstance(mode, str) and any(letter in mode for letter in "wax+")
        if writes or (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            raise PermissionError("a grading worker may not write files")
    elif event.startswith(_REFUSED):
        raise PermissionError(f"a grading worker may not do {event}")


def main() -> None:
    """Serve requests until standard input ends."""
    memory = int(sys.argv[1])
    _limit(memory)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints must not look like an answer
    from rstar_eval.grading import symbolic

    symbolic.warm_up()
    sys.addaudithook(_guard)
    print(json.dumps({"ready": True}), file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        start = time.perf_counter()
        _alarm(request["seconds"] + _GRACE)
        try:
            reply = symbolic.answer(request["method"], request["gold"], request["pred"])
        except MemoryError:
            reply = {"outcome": "grader_error", "rule": "memory", "detail": f"more than {memory >> 20} MiB"}
        except RecursionError:
            reply = {"outcome": "grader_error", "rule": "recursion", "detail": "recursion limit"}
        except Exception as error:  # noqa: BLE001  a library's failure on odd input is an outcome of its own
            reply = {"outcome": "grader_error", "rule": "exception", "detail": f"{type(error).__name__}: {error}"[:300]}
        _alarm(0)
        reply["ms"] = (time.perf_counter() - start) * 1000
        print(json.dumps(reply), file=answers)


if __name__ == "__main__":
    main()
