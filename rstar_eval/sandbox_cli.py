"""What `rstar-eval sandbox` and `rstar-eval doctor --attack` do: run hostile snippets in the cage, say what happened.

Plain functions; the command line calls them. Every snippet runs as one step of a problem of its own. After each one a
control step must give the right answer, in a fresh worker and beside the snippet.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import socket
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from rstar_eval.errors import BackendError, UserError
from rstar_eval.solver.executor import LevelReport, StepExecutor, probe_levels, start_executor
from rstar_eval.solver.types import StepRun

if TYPE_CHECKING:
    from rich.console import Console

log = logging.getLogger(__name__)

OUTPUT_SHOWN = 300
CONTROL = """
import math, random, json
import sympy
from fractions import Fraction
x = sympy.symbols('x')
print(1 + 1, round(math.pi, 6), sympy.solve(x**2 - 4, x), sympy.Integer(1) + 1, Fraction(1, 3) + Fraction(1, 6))
print(sorted([3, 1, 2]), len('abc'), sum(range(10)), json.dumps({'a': [1]}), isinstance(random.random(), float))
"""
CONTROL_OUTPUT = '2 3.141593 [-2, 2] 2 1/2\n[1, 2, 3] 3 45 {"a": [1]} True\n'
TAME_CONTROL = """
import calendar
import sympy
from numpy.polynomial import Polynomial
x, s = sympy.symbols('x s')
print(sympy.factor(x**2 - 1), x + x, len([1, 2]), int('7') + 1, sympy.ask(sympy.Q.positive(s)), sympy.factorint(91))
print(calendar.monthrange(2023, 2), Polynomial.domain, sympy.N(sympy.pi, 20), sympy.Add(x**2, 1, x), 1 / 3)
"""
TAME_CONTROL_OUTPUT = """(x - 1)*(x + 1) 2*x 2 8 None {7: 1, 13: 1}
(2, 28) [-1.  1.] 3.1415926535897932385 x**2 + x + 1 0.3333333333333333
"""
_DENIALS = ("PermissionError", "FileNotFoundError", "OSError", "BlockingIOError", "ImportError", "ModuleNotFoundError")


@dataclass(frozen=True, slots=True)
class Snippet:
    """A hostile step: its code, and what a safe sandbox must show (repeated in the result as it is; None: nothing
    said)."""

    name: str
    code: str
    must: Any = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What running a snippet showed. `seen`: what the cage denied. `control`: "ok" or what went wrong."""

    run: StepRun
    seen: tuple[str, ...]
    control: str


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack of the built-in set: `layer` it is aimed at, and the statuses that are right. It prints ESCAPED if it
    got what it wanted."""

    name: str
    layer: str
    code: str
    statuses: tuple[str, ...]


def probe_level() -> LevelReport:
    """Return the strongest isolation level of this machine and, of every layer, whether it took and the mend if not."""
    return asyncio.run(probe_levels())


def read_snippets(path: Path) -> list[Snippet]:
    """Read JSON Lines with `name`, `code` and optionally `must`; UserError names the line that is wrong."""
    try:
        # By line feeds alone: JSON may hold the other characters at which `splitlines` ends a line.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read snippets from {path}: {error}", "give a JSON Lines file") from None
    snippets = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} line {number} is not JSON: {error}", "write one object a line") from None
        if not isinstance(record, dict) or not all(isinstance(record.get(key), str) for key in ("name", "code")):
            raise UserError(f"{path} line {number} lacks name or code", 'write {"name": "...", "code": "..."}')
        snippets.append(Snippet(record["name"], record["code"], record.get("must")))
    if not snippets:
        raise UserError(f"{path} holds no snippets", "write one JSON object a line")
    return snippets


@asynccontextmanager
async def observed_executor(isolation: str | None) -> AsyncIterator[StepExecutor]:
    """Yield a caged executor that counts denied calls where the kernel can. UserError if there is no cage at all."""
    if isolation is not None and isolation.startswith("accidents"):
        raise UserError(
            f"isolation {isolation} is no cage: hostile snippets are not run in it", "demand a stronger level"
        )
    try:
        executor = await start_executor(isolation, observe=True)
        await _control(executor, CONTROL, CONTROL_OUTPUT)
    except BackendError as error:
        # A kernel or container without listeners for denied calls: the same cage, without the count.
        log.warning("denied system calls cannot be counted here (%s)", error)
        executor = await start_executor(isolation)
    try:
        if executor.level == "accidents-only":
            raise UserError("this machine has no cage: hostile snippets are not run", "see rstar-eval doctor")
        yield executor
    finally:
        await executor.close()


async def _control(executor: StepExecutor, code: str, output: str) -> str:
    session = await executor.open("control")
    run = await session.run(None, code)
    await session.close()
    return _compare(run, output)


def _compare(run: StepRun, output: str) -> str:
    if run.status == "ok" and run.output == output:
        return "ok"
    return f"{run.status} {run.error_type} {run.error} {run.output!r}".strip()


def _denied(executor: StepExecutor) -> Counter[str]:
    counts: Counter[str] = Counter()
    for source in executor.pool.sources:
        found = getattr(source, "denied", None)
        if found:
            counts.update(found)
            found.clear()
    return counts


async def run_one(executor: StepExecutor, name: str, code: str) -> Verdict:
    """Run `code` as a step of a new problem, then the control steps."""
    _denied(executor)
    session = await executor.open(name)
    run = await session.run(None, code)
    beside = _compare(await session.run(None, TAME_CONTROL), TAME_CONTROL_OUTPUT)
    await session.close()
    await asyncio.sleep(0.03)  # the worker's end, with its count of denied calls, is on its way
    control = await _control(executor, CONTROL, CONTROL_OUTPUT)
    if control == "ok" and beside != "ok":
        control = f"beside the snippet: {beside}"
    seen = [f"{call} x{count}" if count > 1 else call for call, count in sorted(_denied(executor).items())]
    if run.status != "ok" and run.error_type in _DENIALS:
        seen.append(f"{run.error_type}: {run.error}")
    elif run.status not in ("ok", "error"):
        seen.append(f"{run.status}: {run.error}")
    return Verdict(run, tuple(seen), control)


def run_snippets(path: Path | str, isolation: str | None, out: TextIO) -> int:
    """Run each snippet of a JSON Lines file in the cage and print one JSON line each; what `rstar-eval sandbox` does.

    Keys: name, status, output (cut), error, cpu_ms, seen (what the cage denied), control ("ok" or what went wrong),
    level, and must if the snippet has it. Returns 0, or 1 if a control step went wrong. UserError for an unreadable
    file or a level that cannot be had.
    """
    snippets = read_snippets(Path(path))

    async def run_all() -> int:
        bad = 0
        async with observed_executor(isolation) as executor:
            for snippet in snippets:
                verdict = await run_one(executor, snippet.name, snippet.code)
                run = verdict.run
                record: dict[str, Any] = {
                    "name": snippet.name,
                    "status": run.status,
                    "output": run.output[:OUTPUT_SHOWN],
                    "error": f"{run.error_type}: {run.error}".rstrip(": "),
                    "cpu_ms": round(run.cpu_seconds * 1000, 3),
                    "seen": list(verdict.seen),
                    "control": verdict.control,
                    "level": executor.level,
                }
                if snippet.must is not None:
                    record["must"] = snippet.must
                print(json.dumps(record), file=out, flush=True)
                bad += verdict.control != "ok"
        return 1 if bad else 0

    return asyncio.run(run_all())


def built_in_attacks() -> list[Attack]:
    """Return the built-in set, with its tripwires' places still written as @CANARY@, @PORT@ and @SECRET@."""
    import yaml

    text = resources.files("rstar_eval.solver.executor").joinpath("attacks.yaml").read_text(encoding="utf-8")
    return [
        Attack(item["name"], item["layer"], item["code"], tuple(item["status"].split()))
        for item in yaml.safe_load(text)
    ]


@dataclass(frozen=True, slots=True)
class Tripwires:
    """A canary folder, a listening loopback port, and a secret in this process's environment."""

    folder: Path
    port: int
    secret: str
    server: socket.socket

    def fill(self, code: str) -> str:
        """Write the tripwires' places into an attack."""
        return code.replace("@CANARY@", str(self.folder / "canary.txt")).replace("@PORT@", str(self.port))

    def touched(self, output: str) -> str:
        """Return what was touched since the last call, "" if nothing."""
        names = sorted(path.name for path in self.folder.iterdir())
        if names != ["canary.txt"]:
            return f"canary folder holds {names}"
        canary = self.folder / "canary.txt"
        if canary.read_text() != self.secret or canary.stat().st_mode & 0o777 != 0o644:
            return "canary file changed"
        if self.secret in output:
            return "the secret was printed"
        try:
            self.server.accept()[0].close()
        except BlockingIOError:
            return ""
        return "the loopback socket was reached"


@contextmanager
def tripwires() -> Iterator[Tripwires]:
    """Set the tripwires and take them away again."""
    secret = "SECRET" + secrets.token_hex(8)
    os.environ["RSTAR_EVAL_SECRET_TOKEN"] = secret
    with tempfile.TemporaryDirectory() as folder, socket.socket() as server:
        place = Path(folder)
        place.chmod(0o777)
        (place / "canary.txt").write_text(secret)
        (place / "canary.txt").chmod(0o644)
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.setblocking(False)
        try:
            yield Tripwires(place, server.getsockname()[1], secret, server)
        finally:
            del os.environ["RSTAR_EVAL_SECRET_TOKEN"]


async def attack(executor: StepExecutor, item: Attack, wires: Tripwires) -> tuple[Verdict, str]:
    """Run one built-in attack; returns the verdict and what went wrong ("" if the cage held)."""
    verdict = await run_one(executor, item.name, wires.fill(item.code))
    run = verdict.run
    if touched := wires.touched(run.output + run.error):
        return verdict, touched
    if "ESCAPED" in run.output:
        return verdict, f"printed {run.output[:100]!r}"
    if run.status not in item.statuses:
        return verdict, f"status {run.status} ({run.error_type} {run.error}), expected {' or '.join(item.statuses)}"
    return verdict, "" if verdict.control == "ok" else f"control step: {verdict.control}"


def attack_report(isolation: str | None, console: Console) -> int:
    """Run the built-in attacks against the cage and print a verdict a layer; what `rstar-eval doctor --attack` does.

    Returns 0 if every attack was held, else 1. UserError if the level cannot be had.
    """
    from rich.markup import escape
    from rich.table import Table

    async def run_all() -> tuple[str, dict[str, list[tuple[str, str]]]]:
        found: dict[str, list[tuple[str, str]]] = {}
        with tripwires() as wires:  # before the zygote starts: it must not inherit the secret
            async with observed_executor(isolation) as executor:
                for item in built_in_attacks():
                    _, problem = await attack(executor, item, wires)
                    found.setdefault(item.layer, []).append((item.name, problem))
                return executor.level, found

    level, found = asyncio.run(run_all())
    table = Table("layer", "attacks", "verdict", title=f"isolation {level}")
    failed = 0
    for layer, results in found.items():
        problems = [f"{name}: {problem}" for name, problem in results if problem]
        failed += len(problems)
        table.add_row(layer, str(len(results)), escape("; ".join(problems)) or "held")
    console.print(table)
    return 1 if failed else 0
