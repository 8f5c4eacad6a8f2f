"""The zygote: a warm, caged process that forks workers, measures their CPU time, kills and reaps them.

It runs no untrusted code and is started by exec with an environment of its own, so that its memory holds nothing of
the harness. Start: read the settings, enter namespaces, import and warm up, build the cage, verify it by effect, say
"ready". Any failure before "ready" is said once ("fatal") and ends the process: there is no path on which a half-built
cage serves. Protocol: JSON packets on a SOCK_SEQPACKET socket, descriptor 3; a worker's socket comes with its request.
"""

from __future__ import annotations

import array
import gc
import json
import os
import resource
import select
import signal
import socket
import sys
import time
import traceback
from collections import Counter
from typing import Any, NoReturn

from . import confine, linux, namespace, observe, seccomp, verify, warmup, worker
from .canary import RECURSION_LIMIT, Canaries
from .confine import LayerError
from .watch import Progress, Watch

CONTROL = 3
POLL_IDLE, POLL_WATCHING = 1.0, 0.01
_FDS = array.array("i", [0]).itemsize


def cpu_clock(pid: int) -> int:
    """Return the id of the clock that counts process `pid`'s CPU time (MAKE_PROCESS_CPUCLOCK in the kernel)."""
    return (~pid) << 3 | 2


class Zygote:
    """The state of a serving zygote."""

    def __init__(self, control: socket.socket, wake: int, settings: dict[str, Any], base: int) -> None:
        self.control, self.wake, self.settings = control, wake, settings
        self.poller = select.poll()
        self.address_space = base + settings["memory"]
        self.opens = not settings["deny_open"]
        self.canaries = Canaries()
        self.pids: dict[int, int] = {}  # worker number: pid
        self.progress: dict[int, Progress] = {}  # by worker number
        self.watched: dict[int, Watch] = {}  # by worker number
        self.verdicts: dict[int, dict[str, Any]] = {}  # worker number: why it was killed
        self.outbox: list[bytes] = []
        self.listeners: dict[int, int] = {}  # of observed workers, listener: worker number
        self.denied: dict[int, Counter[str]] = {}
        self.checks: dict[int, int] = {}  # denied calls of a worker's own check that are still to come

    def say(self, message: dict[str, Any]) -> None:
        """Send a packet to the harness; kept and sent later if the harness is not reading."""
        self.outbox.append(json.dumps(message).encode())
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it."""
        while self.outbox:
            try:
                self.control.send(self.outbox[0], socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            self.outbox.pop(0)

    def serve(self) -> None:
        """Answer the harness until it closes its end. Every worker is killed on the way out."""
        self.poller.register(self.control, select.POLLIN)
        self.poller.register(self.wake, select.POLLIN)
        try:
            while True:
                waiting = POLL_WATCHING if self.watched or self.outbox else POLL_IDLE
                for number, event in self.poller.poll(waiting * 1000):
                    if number == self.wake:
                        os.read(self.wake, 4096)
                    elif number in self.listeners:
                        self.observe(number, event)
                    elif not self.receive():
                        return
                self.reap()
                self.judge()
                self.flush()
        finally:
            for pid in self.pids.values():
                os.kill(pid, signal.SIGKILL)

    def receive(self) -> bool:
        """Handle one request; False when the harness has closed."""
        data, extra, _, _ = self.control.recvmsg(65536, socket.CMSG_SPACE(4 * _FDS))
        if not data:
            return False
        handles = array.array("i")
        for _, _, content in extra:
            handles.frombytes(content[: len(content) // _FDS * _FDS])
        request = json.loads(data)
        number = request["worker"]
        if request["op"] == "fork":
            self.fork(number, handles)
        elif request["op"] == "watch":
            if number in self.pids:
                base, now = request["base"], time.monotonic()
                self.watched[number] = Watch(
                    base, request["cpu"], request["wall"], request["steps"], begun=now, clock=base, moved=now
                )
        elif request["op"] == "unwatch":
            self.watched.pop(number, None)
        elif request["op"] == "kill":
            self.kill(number, request["why"])
        return True

    def fork(self, number: int, handles: array.array[int]) -> None:
        """Fork worker `number` onto the socket `handles[0]`."""
        ours, theirs = socket.socketpair() if self.settings["observe"] else (None, None)
        progress = Progress()
        try:
            pid = os.fork()
        except OSError as error:
            progress.close()
            for handle in handles:
                os.close(handle)
            self.say({"dead": number, "why": "fork", "detail": str(error), "cpu": 0.0})
            return
        if pid == 0:
            self.become_worker(handles[0], theirs, progress)
        progress.own()
        os.close(handles[0])
        self.pids[number], self.progress[number] = pid, progress
        if ours is not None and theirs is not None:
            theirs.close()
            listener = observe.take_listener(ours)
            ours.close()
            if listener is not None:
                self.listeners[listener] = number
                self.denied[number] = Counter()
                self.checks[number] = observe.SELF_CHECKS
                self.poller.register(listener, select.POLLIN)

    def observe(self, listener: int, event: int) -> None:
        """Count and deny a call that an observed worker made."""
        if event & select.POLLIN:
            number = self.listeners[listener]
            left = self.checks.get(number, 0)
            self.checks[number] = left - 1
            counts = self.denied.get(number) if left <= 0 else None
            observe.deny_next(listener, Counter() if counts is None else counts)
        else:  # its worker is gone
            self.poller.unregister(listener)
            os.close(listener)
            number = self.listeners.pop(listener)
            self.checks.pop(number, None)

    def become_worker(self, handle: int, channel: socket.socket | None, progress: Progress) -> NoReturn:
        """The forked child's whole life: lock down, check, report, serve, leave. It never returns."""
        code = 70
        try:
            confine_worker(handle, self.address_space, self.opens, channel)
            verify.worker_is_filtered()
            os.write(worker.CHANNEL, b'["hello"]')
            worker.serve(self.canaries, progress.mark)
            code = 0
        except LayerError:
            code = 72
        finally:
            os._exit(code)

    def kill(self, number: int, why: str) -> None:
        """Kill a worker; its death is reported when it is reaped."""
        pid = self.pids.get(number)
        self.watched.pop(number, None)
        if pid is not None:
            self.verdicts.setdefault(number, {"why": why})
            os.kill(pid, signal.SIGKILL)

    def judge(self) -> None:
        """Kill the watched workers whose step has used up its CPU time, or sleeps past the wall limit."""
        now = time.monotonic()
        for number, watch in list(self.watched.items()):
            progress = self.progress[number].read()
            if progress is None:
                continue
            try:
                clock = time.clock_gettime(cpu_clock(self.pids[number]))
            except OSError:  # it has just died: reap tells
                continue
            _, began, since = progress
            why = watch.judge(clock, now, began, since)
            if why:
                self.kill(number, why)

    def reap(self) -> None:
        """Report every worker that has ended."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            number = next((number for number, own in self.pids.items() if own == pid), None)
            if number is None:
                continue
            del self.pids[number]
            self.watched.pop(number, None)
            verdict = self.verdicts.pop(number, {"why": "died"})
            progress = self.progress.pop(number)
            step = progress.read()
            progress.close()
            used = usage.ru_utime + usage.ru_stime
            if self.settings["observe"]:
                verdict["denied"] = self.denied.pop(number, {})
            verdict["step"] = -1 if step is None else step[0]
            self.say({"dead": number, "exit": os.waitstatus_to_exitcode(status), "cpu": used, **verdict})


def confine_worker(handle: int, address_space: int, opens: bool, channel: socket.socket | None = None) -> None:
    """Turn this forked process into a caged worker on the socket `handle`. LayerError or OSError if a layer fails."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    if handle != worker.CHANNEL:
        os.dup2(handle, worker.CHANNEL, inheritable=False)
    confine.close_all_but((0, 1, 2, worker.CHANNEL, *((channel.fileno(),) if channel else ())))
    confine.limit_worker(address_space)
    if channel is None:
        confine.filter_calls(seccomp.program("worker", opens=opens))
    else:
        observe.confine(channel)


def build_cage(settings: dict[str, Any], layers: list[dict[str, str]]) -> tuple[socket.socket, int, int]:
    """Apply and verify every layer of the demanded level to this process, appending each to `layers` as it holds.

    Returns the control socket, the wake-up descriptor and the process's size in bytes. LayerError if one is missing.
    """
    level, packages = settings["level"], settings["paths"]

    def took(name: str, detail: str) -> None:
        layers.append({"name": name, "detail": detail})

    if level == "strong":
        confine.enter_namespaces(CONTROL)
        verify.namespaces_differ(settings["namespaces"])
        took("namespaces", "mount, net, pid, ipc and uts are new; no network is reachable")
    if settings["names"]:
        prepare(settings)
        gc.collect()
        linux.use_large_pages()
    readable = confine.visible_paths(packages)
    base = confine.address_space_in_use()
    null = os.open("/dev/null", os.O_RDWR)
    wake_in, wake_out = socket.socketpair()
    wake_in.setblocking(False)
    wake_out.setblocking(False)
    trial_in, trial_out = socket.socketpair()
    if level == "strong":
        names = confine.build_root(packages)
        verify.root_is_ours(names)
        took("root", "read-only, holding the Python tree only; no /proc, /dev, /etc")
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.close(null)
    user = confine.drop_rights(readable)
    verify.rights_are_gone()
    took("rights", f"{user}, no capabilities, no new privileges, not dumpable")
    confine.limit_zygote()
    if level in ("strong", "good"):
        probe = verify.probe_path(level == "strong")
        detail = confine.restrict_files(readable)
        verify.files_are_closed(probe)
        took("landlock", f"{detail}: only the Python tree can be read")
    settings["deny_open"] = level == "basic" and os.getuid() == 0
    if not settings["observe"]:  # the zygote's own filter would deny first, and unseen
        confine.filter_calls(seccomp.program("zygote"))
        verify.zygote_is_filtered()
    trial(settings, base, trial_in, trial_out)
    opening = "; opening files is denied (root's rights could not be dropped)" if settings["deny_open"] else ""
    took("seccomp", f"allow-list; no process, program, socket, signal or write{opening}")
    took(
        "limits", f"{settings['memory'] >> 20} MiB above the base of {base >> 20} MiB, 64 descriptors, files of size 0"
    )
    signal.set_wakeup_fd(wake_out.detach(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, CONTROL)
    return control, wake_in.detach(), base


def prepare(settings: dict[str, Any]) -> None:
    """Import the packages from their folders, warm up, and hide every other installed package."""
    own = list(sys.path)
    sys.path[:] = own + settings["site"]
    try:
        warmup.load(tuple(settings["names"]))
        worker.install_guards()
        namespace.register_libraries()
        if settings["warm"]:
            warmup.run()
    except ImportError as error:
        raise LayerError("interpreter", str(error)) from None
    finally:
        sys.path[:] = own
    for path in settings["site"]:
        sys.path_importer_cache.pop(path, None)


def trial(settings: dict[str, Any], base: int, reader: socket.socket, writer: socket.socket) -> None:
    """Fork one worker that attacks its own cage and tells; LayerError if anything was possible."""
    child = os.fork()
    if child == 0:

        def attack() -> None:
            confine_worker(writer.fileno(), base + settings["memory"], not settings["deny_open"])
            verify.worker_is_confined(settings["memory"])

        verify.report_and_exit(attack, worker.CHANNEL)
    writer.close()
    said = reader.recv(4096).decode()
    os.waitpid(child, 0)
    reader.close()
    if said != "ok":
        layer, _, detail = (said or "seccomp\nthe trial worker died").partition("\n")
        raise LayerError(layer, detail)


def main() -> NoReturn:
    """Be a zygote on descriptor 3 until the harness closes it. Never returns."""
    code = 70
    try:
        code = _main()
    except BaseException:  # noqa: BLE001 - the end, after it is written to standard error (nothing once caged)
        os.write(2, traceback.format_exc()[-2000:].encode())
    finally:
        os._exit(code)


def _main() -> int:
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, CONTROL)
    settings = json.loads(control.recv(65536))
    confine.close_all_but((0, 1, 2, CONTROL))
    layers: list[dict[str, str]] = []
    try:
        sys.setrecursionlimit(RECURSION_LIMIT)
        control.detach()
        control, wake, base = build_cage(settings, layers)
        zygote = Zygote(control, wake, settings, base)
        gc.collect()
        gc.freeze()
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        zygote.say({"ready": True, "layers": layers, "resident": resident})
    except LayerError as error:
        _fatal({"layer": error.layer, "detail": error.detail, "layers": layers})
        return 72
    except BaseException:  # noqa: BLE001 - said to the harness, then the end
        _fatal({"layer": "interpreter", "detail": traceback.format_exc()[-1500:], "layers": layers})
        return 70
    zygote.serve()
    return 0


def _fatal(message: dict[str, Any]) -> None:
    """Say why there will be no cage."""
    os.write(CONTROL, json.dumps({"fatal": message}).encode())
