"""The process in which llama.cpp runs: `python -m rstar_eval.solver.backends.llamacpp_child`.

A crash of the native code ends this process only. It reads its settings, one line of JSON, from standard input, starts
a server on a free loopback port, and writes one line of JSON with its address on standard output. It ends when
standard input closes or when its parent is gone, so that a parent killed with SIGKILL leaves nothing behind: another
process forked from the parent may hold the pipe open, hence the second watch.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Mapping

PARENT_POLL_SECONDS = 0.5


def watch_parent(parent: int) -> None:
    """End this process once `parent` is no longer its parent."""
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_SECONDS)
    os._exit(0)


def serve(settings: Mapping[str, object]) -> tuple[str, object]:
    """Load the model and listen. Return the server's address and the server, which lives as long as it is held."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(settings["model"])
    params.n_parallel = settings["parallel"]
    params.n_ctx = settings["total_context"]
    params.cpuparams.n_threads = settings["threads"]
    params.cpuparams_batch.n_threads = settings["threads"]
    params.api_keys = [str(settings["api_key"])]
    params.port = 0
    params.ui = False
    params.endpoint_slots = False
    params.slot_save_path = os.path.join(str(settings["slot_folder"]), "")
    params.verbosity = 1  # errors only: the log of a long run must not fill the disk
    # A prompt cache in main memory copies a slot's state whenever another prompt takes the slot; in a search the next
    # prompt of a problem comes back at once, and the copies cost more than they save.
    params.cache_ram_mib = 0
    server = xllamacpp.Server(params)
    return str(server.listening_address), server


def main() -> None:
    """Serve until standard input closes."""
    parent = os.getppid()
    settings = json.loads(sys.stdin.readline())
    threading.Thread(target=watch_parent, args=(parent,), daemon=True).start()
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # llama.cpp may print; standard output carries our one line only
    address, server = serve(settings)
    replies.write(json.dumps({"url": address}) + "\n")
    replies.flush()
    sys.stdin.read()
    # Freed memory and joined threads are of no use to a process that ends; a running generation would delay it.
    del server
    os._exit(0)


if __name__ == "__main__":
    main()
