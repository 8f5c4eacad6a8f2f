"""Seeing what the cage denies: denied system calls are reported to the zygote, which counts them and denies them.

For diagnosis only (`rstar-eval sandbox`, `rstar-eval doctor --attack`): a worker under observation is as caged as any
other, but each denial costs two context switches.
"""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
from collections import Counter

from . import linux, seccomp

RECEIVE, ANSWER = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV and _SEND
SELF_CHECKS = 3
"""Denied acts of `verify.worker_is_filtered`, which every worker makes before its first step."""
_NOTICE, _REPLY = 80, struct.Struct("QqiI")


def confine(channel: socket.socket) -> None:
    """Put the calling worker under a reporting filter and hand its listener over on `channel`. OSError on failure."""
    listener = seccomp.install(seccomp.program("observed"), listener=True)
    socket.send_fds(channel, [b"listener"], [listener])
    os.close(listener)
    channel.close()
    seccomp.install(seccomp.seal())


def take_listener(channel: socket.socket) -> int | None:
    """Return the listener that a forked worker hands over, or None if it died first."""
    data, extra, _, _ = channel.recvmsg(16, socket.CMSG_SPACE(4))
    handles = array.array("i")
    for _, _, content in extra:
        handles.frombytes(content[:4])
    return handles[0] if data and handles else None


def deny_next(listener: int, counts: Counter[str]) -> None:
    """Answer one report with EPERM and count the call by name. Does nothing if the worker died meanwhile."""
    notice = bytearray(_NOTICE)
    try:
        fcntl.ioctl(listener, RECEIVE, notice)
        identity, _, _, number = struct.unpack_from("QIIi", notice)
        counts[seccomp.name_of(number, linux.MACHINE)] += 1
        fcntl.ioctl(listener, ANSWER, bytearray(_REPLY.pack(identity, 0, -1, 0)))
    except FileNotFoundError:
        return
