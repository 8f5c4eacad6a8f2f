"""The main program of a worker without a cage: frames on standard input and output."""

from __future__ import annotations

import os
import struct
import sys
from typing import NoReturn

from . import namespace, warmup, worker
from .canary import RECURSION_LIMIT, Canaries


def _read_exactly(handle: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = os.read(handle, size - len(data))
        if not part:
            return b""
        data += part
    return data


def _read_frame(handle: int) -> bytes:
    head = _read_exactly(handle, 4)
    return _read_exactly(handle, struct.unpack(">I", head)[0]) if head else b""


def _limit(memory: int) -> None:
    if sys.platform == "win32":
        return
    import resource

    # Address space cannot be limited on macOS; the kernel refuses, and the level promises nothing about memory there.
    for which, value in [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_AS, memory + (4 << 30))]:
        try:
            resource.setrlimit(which, (value, value))
        except (ValueError, OSError) as error:
            print(f"limit {which} is not available: {error}", file=sys.stderr)


def main() -> NoReturn:
    """Serve requests until standard input closes. Never returns."""
    code = 70
    try:
        settings = worker._decode(_read_frame(0).decode())
        own = list(sys.path)
        sys.path[:] = own + settings["site"]
        warmup.load(tuple(settings["names"]))
        worker.install_guards()
        namespace.register_libraries()
        sys.path[:] = own
        sys.setrecursionlimit(RECURSION_LIMIT)
        source, target = os.dup(0), os.dup(1)
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        _limit(settings["memory"])
        canaries = Canaries()
        hello = b'["hello"]'
        os.write(target, struct.pack(">I", len(hello)) + hello)

        def write(data: bytes) -> None:
            view = struct.pack(">I", len(data)) + data
            while view:
                view = view[os.write(target, view) :]

        worker.serve(canaries, receive=lambda: _read_frame(source), send=write)
        code = 0
    finally:
        os._exit(code)
