"""A worker: runs the steps of one problem, one request at a time, and keeps the namespace each left.

This process executes hostile code in its own memory. Nothing it says is trusted beyond "this is what the step gave":
the harness checks every frame, the zygote measures and kills. What the worker can do to the machine is the cage's
business, and the cage is complete before the first request.
"""

from __future__ import annotations

import gc
import io
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from . import analysis, namespace
from .canary import RECURSION_LIMIT, Canaries

CHANNEL = 3
MAX_REQUEST = 131072
MAX_OUTPUT = 4096
MAX_MESSAGE = 500
LAST = frozenset(("missing", "notcopyable", "tainted"))
MAX_FRAME = 60_000
"""Bytes of a frame beyond which the next answer goes into another one."""
FLUSH_SECONDS = 0.005
"""Answers wait for the next ones of the same request at most this long before they are sent: what is lost with a worker
is cheap to run again."""

_encode = json.JSONEncoder(separators=(",", ":")).encode
_decode = json.JSONDecoder().decode
_read, _write, _set_blocking = os.read, os.write, os.set_blocking
_now, _cpu_seconds = time.monotonic, time.process_time
_type_name = type.__dict__["__name__"].__get__
_cut = str.__getitem__
_set_handler = signal.signal
_set_timer: Any = getattr(signal, "setitimer", None)
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF) if _set_timer else ()
_TIMER_SIGNALS = (signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF) if _set_timer else ()


class NotTame(BaseException):
    """Code that a library built from text at run time failed the static check of a tame step."""


class Sink(io.TextIOBase):
    """Standard output of a step: keeps the first MAX_OUTPUT characters and drops the rest."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._room = MAX_OUTPUT

    def write(self, text: str) -> int:
        """Take `text` as far as there is room; returns its length, as files do."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self._room > 0:
            self._parts.append(text if len(text) <= self._room else _cut(text, slice(0, self._room)))
            self._room -= len(text)
        return len(text)

    def writable(self) -> bool:
        """Return True."""
        return True

    def text(self) -> str:
        """Return what was kept."""
        return "".join(self._parts)


class State:
    """What a worker keeps: namespaces by node, which of a namespace's names need copying, and the tame flag."""

    def __init__(self, canaries: Canaries) -> None:
        self.nodes: dict[int, namespace.Namespace] = {}
        self.parts: dict[int, list[str]] = {}
        self.canaries = canaries
        self.guard = False
        self.caught = ""


_state: State | None = None


def _check_text(code: str, what: str) -> None:
    """Guard of the two places where sympy turns text into running code: in a tame step the text must be tame too."""
    state = _state
    if state is None or not state.guard:
        return
    found = analysis.analyse(code)
    if found.strict:
        state.caught = f"{what}: {found.strict}"
        raise NotTame(state.caught)


def install_guards() -> None:
    """Put the guards into sympy, in the zygote, before the canaries are taken."""
    import sympy.parsing.sympy_parser as parser
    import sympy.utilities.lambdify as lambdify

    evaluate = parser.eval_expr
    built_in_compile = compile

    def eval_expr(code: str, local_dict: dict[str, Any], global_dict: dict[str, Any]) -> Any:
        _check_text(code, "sympify")
        return evaluate(code, local_dict, global_dict)

    def guarded_compile(source: Any, *args: Any, **options: Any) -> Any:
        if isinstance(source, str):
            _check_text(source, "lambdify")
        return built_in_compile(source, *args, **options)

    parser.eval_expr = eval_expr
    lambdify.compile = guarded_compile


def _describe(error: BaseException) -> tuple[str, str]:
    try:
        name = str(_type_name(type(error)))[:100]
    except BaseException:  # noqa: BLE001 - hostile metaclass
        name = "Exception"
    try:
        return name, _cut(str(error), slice(0, MAX_MESSAGE))
    except BaseException:  # noqa: BLE001 - hostile __str__
        return name, ""


def _seed(seed: int) -> None:
    random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed & 0xFFFFFFFF)
    sympy_random = sys.modules.get("sympy.core.random")
    if sympy_random is not None:
        sympy_random.rng.seed(seed)


def _execute(code: str, scope: namespace.Namespace) -> tuple[str, str, str, str]:
    """Run `code` in `scope`; return (status, output, error type, error message)."""
    sink, errors = Sink(), Sink()
    sys.stdout, sys.stderr, sys.stdin = sink, errors, io.StringIO("")
    status, kind, message = "ok", "", ""
    try:
        program = compile(code, "<step>", "exec", 0, True)
        exec(program, scope)  # noqa: S102 - the purpose of this process
    except BaseException as error:  # noqa: BLE001 - whatever a step raises is its result
        status = "error"
        kind, message = _describe(error)
    finally:
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    return status, sink.text(), kind, message


def _clear_timers() -> None:
    """Stop the timers a strict step set, so that no signal of its arrives in a later step."""
    for timer in _TIMERS:
        _set_timer(timer, 0)
    for number in _TIMER_SIGNALS:
        _set_handler(number, signal.SIG_DFL)


def _run(state: State, parent: int | None, tame: bool, step: list[Any]) -> list[Any]:
    """Run one step of a request: [answer, output, error type, error message, note]."""
    node, move, seed, code = step
    if parent is None:
        scope: namespace.Namespace = {"__name__": "__main__", "__builtins__": sys.modules["builtins"]}
    elif parent not in state.nodes:
        return ["missing", "", "", "", ""]
    elif move:
        scope = state.nodes.pop(parent)
        state.parts.pop(parent, None)
    else:
        parts = state.parts.get(parent)
        if parts is None:
            parts = state.parts[parent] = namespace.parts_to_copy(state.nodes[parent])
        try:
            scope = namespace.copy_namespace(state.nodes[parent], parts)
        except (namespace.NotCopyable, MemoryError) as error:
            return ["notcopyable", "", "", "", str(error)]
    sys.setrecursionlimit(RECURSION_LIMIT)  # a strict step of this worker may have changed it
    _seed(seed)
    state.guard, state.caught = tame, ""
    answer = _execute(code, scope)
    state.guard = False
    if not tame:
        _clear_timers()
    else:
        if state.caught:
            return ["nottame", "", "", "", state.caught]
        if state.canaries.tripped():
            return ["tainted", "", "", "", "canary"]
    state.nodes[node] = scope
    return [*answer, ""]


def receive() -> bytes:
    """Return the next packet from the harness, b"" when it has closed."""
    _set_blocking(CHANNEL, True)  # a step may have changed that
    return _read(CHANNEL, MAX_REQUEST)


def send(data: bytes) -> None:
    """Send one packet to the harness."""
    _write(CHANNEL, data)


def no_mark(index: int, cpu: float, now: float) -> None:
    """Tell nobody which step runs."""


def serve(
    canaries: Canaries,
    mark: Callable[[int, float, float], None] = no_mark,
    receive: Callable[[], bytes] = receive,
    send: Callable[[bytes], None] = send,
) -> None:
    """Answer requests until the channel closes.

    A request holds steps on one parent, which are run in order. Their answers come in one frame or several, nonce
    first. Before each step `mark` is told its number, this process's CPU seconds and the time. The first answer after
    which the others could not be right (the parent cannot be copied, shared state was changed) is the last one.
    """
    global _state
    state = _state = State(canaries)
    gc.enable()
    while data := receive():
        request = _decode(data.decode())
        for node in request["drop"]:
            state.nodes.pop(node, None)
            state.parts.pop(node, None)
        nonce, parent, tame = request["nonce"], request["parent"], request["tame"]
        answers: list[str] = []
        size, sent, begun = 0, _now(), _cpu_seconds()
        for index, step in enumerate(request["steps"]):
            now = _now()
            if answers and now - sent > FLUSH_SECONDS:
                send(f'["{nonce}",{",".join(answers)}]'.encode())
                answers, size, sent = [], 0, now
            mark(index, begun, now)
            answer = _run(state, parent, tame, step)
            ended = _cpu_seconds()
            text = _encode([*answer, ended - begun])
            begun = ended
            if answers and size + len(text) > MAX_FRAME:
                send(f'["{nonce}",{",".join(answers)}]'.encode())
                answers, size, sent = [], 0, now
            answers.append(text)
            size += len(text) + 1
            if answer[0] in LAST:
                break
        send(f'["{nonce}",{",".join(answers)}]'.encode())
