"""What runs inside vLLM's own processes (engine core, workers): they end with the process that started them.

vLLM loads the entry point `vllm.general_plugins` in each of its processes. An engine core whose parent was killed would
otherwise wait for requests for ever, and hold its memory. The plugin does nothing unless VARIABLE says that this
project started the engine. Kept free of heavy imports.
"""

from __future__ import annotations

import os
import threading
import time

VARIABLE = "RSTAR_EVAL_VLLM"
"""Set while an engine starts, and inherited by its processes: the process id of the program that started it, a colon,
and the file that takes their standard output and error."""
PERIOD = 1.0
"""Seconds between two looks at the parent."""


def attend() -> None:
    """Send this process's output into the engine's log file, and end it when its parent is gone.

    Does nothing in the program itself and in vLLM processes that others started.
    """
    starter, _, log = os.environ.get(VARIABLE, "").partition(":")
    if not starter.isdigit() or int(starter) == os.getpid():
        return
    number = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(number, 1)
    os.dup2(number, 2)
    os.close(number)
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True, name="parent-watch").start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PERIOD)
    os._exit(1)
