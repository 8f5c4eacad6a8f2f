"""Starting a vLLM engine: its arguments, its surroundings, and one clear line when it does not start.

An engine is vLLM's AsyncLLM: a front end in our process and an engine core in a process of its own, with one worker
process for each tensor-parallel rank.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import re
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from rstar_eval.errors import UserError
from rstar_eval.solver.backends.vllm_child import VARIABLE
from rstar_eval.solver.backends.vllm_settings import EngineSettings, engine_arguments, is_on_cpu

_users_level = os.environ.get("VLLM_LOGGING_LEVEL")
_starting = threading.Lock()
"""Environment variables are the process's: engines start one after the other."""


def check_installed() -> None:
    """Raise UserError, with the mend, unless vLLM can be imported."""
    if not importlib.util.find_spec("vllm"):
        raise UserError(
            "vllm is not installed", "pip install 'rstar-eval[vllm]'; its CPU build: benchmarks/vllm/setup.sh"
        )


def quiet() -> None:
    """Import vLLM with its messages off our standard output and error, and without its reports of use, unless the
    user's own environment says otherwise. What its processes say goes into the engine's log file."""
    for name, value in (
        ("VLLM_LOGGING_LEVEL", "ERROR"),
        ("VLLM_LOGGING_STREAM", "ext://sys.stderr"),
        ("VLLM_NO_USAGE_STATS", "1"),
    ):
        os.environ.setdefault(name, value)
    logging.getLogger("vllm").addHandler(logging.NullHandler())  # for what is said before it has set up its logging
    importlib.import_module("vllm.logger")
    _hush()


def _hush() -> None:
    """Leave it to us to say in one line what vLLM's front end would say in a traceback."""
    if _users_level is None:
        logging.getLogger("vllm").setLevel(logging.CRITICAL)


def start(settings: EngineSettings, stat_loggers: Sequence[Any] = ()) -> tuple[Any, Path]:
    """Start an engine and return it (a vllm AsyncLLM) with its log file, which is the caller's to remove.

    Blocks for seconds to minutes: call it in a thread. UserError if the model or the machine does not allow it; the
    line holds vLLM's own reason.
    """
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    number, name = tempfile.mkstemp(prefix="rstar-vllm-", suffix=".log")
    os.close(number)
    log = Path(name)
    try:
        with _starting, _surroundings(settings, log), _deaf():
            engine = AsyncLLM.from_engine_args(
                AsyncEngineArgs(**engine_arguments(settings)), stat_loggers=list(stat_loggers)
            )
    # vLLM raises whatever goes wrong in it and in the files; all of it means that there is no engine.
    except Exception as error:  # noqa: BLE001
        reason = _reason(log, error)
        log.unlink(missing_ok=True)
        raise UserError(f"vLLM does not start with {str(settings.path)!r} ({reason})", _mend(reason)) from None
    except BaseException:
        log.unlink(missing_ok=True)
        raise
    _hush()  # it has set up its logging again
    return engine, log


@contextlib.contextmanager
def _surroundings(settings: EngineSettings, log: Path) -> Iterator[None]:
    """Set what the engine's processes inherit, for the time of the start."""
    wanted = {VARIABLE: f"{os.getpid()}:{log}", "VLLM_WORKER_MULTIPROC_METHOD": "spawn"}
    if is_on_cpu():
        # Threads that are bound to cores, or that spin, fight with the sandbox's workers and the other engine.
        wanted |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_WAIT_POLICY": "passive"}
        wanted["OMP_NUM_THREADS"] = str(settings.threads or max(1, len(os.sched_getaffinity(0)) - 1))
    fixed = {VARIABLE, "VLLM_WORKER_MULTIPROC_METHOD"} | ({"OMP_NUM_THREADS"} if settings.threads else set())
    before = {name: os.environ.get(name) for name in wanted}
    for name, value in wanted.items():
        if name in fixed or before[name] is None:  # what the user has set is kept
            os.environ[name] = value
    try:
        yield
    finally:
        for name, old in before.items():
            if old is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = old


def _start_helper() -> None:
    """Start Python's own helper process now: its start, which otherwise comes with the engine's, unblocks Ctrl-C. It
    must not warn, at the program's end, of what a killed engine has left to it: it clears that away."""
    before = os.environ.get("PYTHONWARNINGS")
    silence = "ignore::UserWarning:multiprocessing.resource_tracker"
    os.environ["PYTHONWARNINGS"] = f"{before},{silence}" if before else silence
    try:
        resource_tracker.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = before


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Let what this thread starts not hear Ctrl-C, which the terminal sends to every process of the group: the engine
    must outlive it until the running searches have been stopped in order."""
    _start_helper()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _reason(log: Path, error: Exception) -> str:
    """Return one line on why an engine did not start: the last exception of its processes, else of ours."""
    found = re.findall(r"(?m)^(?:\([^)]*\) )?(?:ERROR [^\]]*\] )?(\w*(?:Error|Exception): .+)$", _read(log))
    telling = [line for line in found if not any(words in line for words in _EMPTY_WORDS)]
    text = telling[-1] if telling else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:300]


_EMPTY_WORDS = ("Engine core initialization failed", "WorkerProc initialization failed")


def _read(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")


def _mend(reason: str) -> str:
    low = reason.lower()
    if "memory" in low or "kv cache" in low:
        return "give the engine more memory (memory=SHARE or kv_gib=N), or a smaller ctx="
    return "check the model's files and the options"
