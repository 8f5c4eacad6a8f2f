"""One problem: its tree of steps, where each state lives, and how a state is rebuilt when it is not there.

A *scope* is the namespace after a step. Tame steps run in the worker of their parent's scope, on a copy of it. A
strict step gets a worker (a domain) of its own, in which the steps before it are run again first; its descendants stay
there. The same rebuilding serves states that cannot be copied, were dropped, or were lost with their worker.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import sha256

from rstar_eval.errors import BackendError
from rstar_eval.solver.executor.cage.analysis import Analysis, analyse
from rstar_eval.solver.executor.frames import Reply, Violation, read_reply
from rstar_eval.solver.executor.levels import Limits
from rstar_eval.solver.executor.pool import Domain, Pool, Worker
from rstar_eval.solver.executor.worker_client import Ending
from rstar_eval.solver.types import RunStatus, StepRun

_analyse = lru_cache(maxsize=8192)(analyse)
_RETRIES = 3
_CACHED_LENGTH = 4000  # longer steps are analysed anew each time, so that the cache stays small


@dataclass(eq=False, slots=True)
class Scope:
    """The state after one step. `digest` identifies the steps so far; `domain` is where it lives; `lost` says why it
    can never be had again ("" if it can)."""

    id: int
    parent: Scope | None
    code: str
    digest: bytes
    tame: bool
    domain: Domain
    copyable: bool = True
    status: RunStatus = "ok"
    lost: str = ""


@dataclass(eq=False, slots=True)
class Outcome:
    """What one request gave: a reply or an ending, and its CPU seconds."""

    reply: Reply | None
    ending: Ending | None
    cpu: float = 0.0
    replays: int = 0
    note: str = field(default="")


class ReplayFailed(Exception):
    """An earlier step did not get through when it was run again."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__("replay failed")
        self.outcome = outcome


class Session:
    """The running state of one problem (`ExecutorSession`)."""

    def __init__(self, key: str, pool: Pool, limits: Limits, *, always_strict: bool = False) -> None:
        self.key = key
        self._pool, self._limits, self._always_strict = pool, limits, always_strict
        self._main = Domain()
        self._domains = [self._main]
        self._scopes: list[Scope | None] = []  # by node number; None: the fresh state
        self._done: dict[tuple[int | None, str], asyncio.Future[StepRun]] = {}
        self._next_scope = 0
        self._closed = False

    async def run(self, parent: int | None, code: str) -> StepRun:
        """Run `code` on the state after node `parent` (None: a fresh state) and return the new node.

        An equal step (same syntax tree) on the same parent is not run twice. Never raises for what the code does.
        BackendError when the executor cannot go on; ValueError for an unknown parent or a closed session.
        """
        if self._closed:
            raise ValueError(f"session {self.key!r} is closed")
        if parent is not None and not 0 <= parent < len(self._scopes):
            raise ValueError(f"session {self.key!r} has no node {parent}")
        analysis = _analyse(code) if len(code) < _CACHED_LENGTH else analyse(code)
        key = (parent, analysis.key)
        while (earlier := self._done.get(key)) is not None:
            try:
                return replace(await asyncio.shield(earlier), reused=True)
            except asyncio.CancelledError:
                if not earlier.cancelled():
                    raise
        future = self._done[key] = asyncio.get_running_loop().create_future()
        try:
            result = await self._run(parent, code, analysis)
        except BaseException:
            del self._done[key]
            future.cancel()
            raise
        future.set_result(result)
        return result

    async def close(self) -> None:
        """Forget the problem and free its workers. May be called twice."""
        self._closed = True
        for domain in self._domains:
            self._pool.discard(domain)
        self._domains.clear()

    def _node(self, scope: Scope | None) -> int:
        self._scopes.append(scope)
        return len(self._scopes) - 1

    async def _run(self, parent: int | None, code: str, analysis: Analysis) -> StepRun:
        before = None if parent is None else self._scopes[parent]
        if before is not None and before.lost:
            message = f"the state before this step was lost: {before.lost}"
            return StepRun(self._node(before), "killed", error_type="StateLost", error=message)
        if analysis.error is not None:  # nothing ran: the state is the parent's
            kind, message = analysis.error
            return StepRun(self._node(before), "error", error_type=kind, error=message)
        digest = sha256((b"" if before is None else before.digest) + analysis.key.encode()).digest()
        home = self._main if before is None else before.domain
        self._next_scope += 1
        tame = not analysis.strict and not self._always_strict
        scope = Scope(self._next_scope, before, code, digest, tame, home)
        outcome = await self._run_scope(scope)
        return self._result(scope, outcome)

    async def _run_scope(self, scope: Scope) -> Outcome:
        """Run a new step where it belongs, again in a worker of its own if it turns out not to be tame."""
        if scope.tame:
            outcome = await self._attempts(scope)
            answer = outcome.reply.answer if outcome.reply else ""
            if answer not in ("nottame", "tainted"):
                return outcome
            if answer == "tainted":
                scope.domain.forget("tainted")
            self._pool.counts[answer] += 1
            scope.tame = False
        self._pool.counts["strict"] += 1
        scope.domain = Domain()
        self._domains.append(scope.domain)
        return await self._attempts(scope)

    async def _attempts(self, scope: Scope) -> Outcome:
        """Run a step, again in a fresh worker where the failure may not be its own."""
        for attempt in range(_RETRIES):
            domain = scope.domain
            async with domain.lock, self._pool.slots:
                worker = await self._pool.acquire(domain)
                crowded = domain.served > 0
                try:
                    outcome = await self._on(domain, worker, scope)
                except ReplayFailed as failure:
                    outcome = failure.outcome
                    outcome.note = "replay"
                except asyncio.CancelledError:
                    domain.forget("cancelled")
                    raise
                finally:
                    self._pool.release(domain)
                reply, ending = outcome.reply, outcome.ending
                last = attempt == _RETRIES - 1
                if ending is not None:
                    domain.forget("ended")
                    self._pool.counts[ending.status] += 1
                    if ending.ours and last:
                        raise BackendError(f"the executor lost its zygote {_RETRIES} times on one step")
                    # A crash may come from what other steps left in this worker: once more, alone.
                    if ending.ours or (ending.status == "killed" and crowded and not last):
                        continue
                elif reply is not None and reply.error_type == "MemoryError" and crowded and not last:
                    domain.forget("memory")
                    continue
                return outcome
        raise BackendError("a step could not be run")

    async def _on(self, domain: Domain, worker: Worker, scope: Scope) -> Outcome:
        """Run `scope`'s step in `worker`, after rebuilding the state before it if that is not there."""
        parent = scope.parent
        if parent is not None:
            await self._ensure(domain, worker, parent)
        outcome = await self._request(domain, worker, scope)
        if outcome.reply is not None and outcome.reply.answer == "notcopyable" and parent is not None:
            self._pool.counts["notcopyable"] += 1
            parent.copyable = False
            outcome = await self._request(domain, worker, scope)
        return outcome

    async def _ensure(self, domain: Domain, worker: Worker, scope: Scope) -> None:
        """Make `scope` present in the domain's worker. ReplayFailed if a step on the way does not get through."""
        missing: list[Scope] = []
        cursor: Scope | None = scope
        while cursor is not None and cursor.id not in domain.present:
            missing.append(cursor)
            cursor = cursor.parent
        while missing:
            step = missing.pop()
            outcome = await self._request(domain, worker, step, replay=True)
            reply = outcome.reply
            if reply is not None and reply.answer == "notcopyable" and step.parent is not None:
                step.parent.copyable = False
                outcome = await self._request(domain, worker, step, replay=True)
                reply = outcome.reply
            self._pool.counts["replayed"] += 1
            if reply is None or reply.answer not in ("ok", "error"):
                raise ReplayFailed(outcome)
            if reply.answer != step.status:
                self._pool.counts["replay_differs"] += 1

    async def _request(self, domain: Domain, worker: Worker, scope: Scope, *, replay: bool = False) -> Outcome:
        """Make one request. A parent that is only passing through this domain, or cannot be copied, is used up."""
        parent = scope.parent
        move = parent is not None and (not parent.copyable or parent.domain is not domain)
        nonce = secrets.token_hex(8)
        request = {
            "nonce": nonce, "node": scope.id, "parent": None if parent is None else parent.id, "move": move,
            "seed": int.from_bytes(scope.digest[:8], "big"), "tame": scope.tame and not replay, "code": scope.code,
            "drop": domain.drop,
        }  # fmt: skip
        limit = self._limits.cpu_seconds
        data = json.dumps(request).encode()
        domain.drop = []
        answer = await worker.exchange(data, limit, limit * self._limits.wall_factor)
        self._pool.counts["requests"] += 1
        if answer.ending is not None:
            return Outcome(None, answer.ending, answer.cpu)
        try:
            reply = read_reply(answer.data, nonce)
        except Violation as violation:
            worker.kill("violation")
            return Outcome(None, Ending("violation", str(violation)), answer.cpu)
        if reply.answer in ("ok", "error"):
            if move and parent is not None:
                domain.present.pop(parent.id, None)
            domain.present[scope.id] = None
            domain.served += 1
            if parent is not None and parent.id in domain.present:
                domain.present.move_to_end(parent.id)
            if len(domain.present) > self._limits.nodes:
                domain.drop.append(domain.present.popitem(last=False)[0])
        elif reply.answer == "missing":
            worker.kill("violation")
            return Outcome(None, Ending("violation", "the worker lost a state"), answer.cpu)
        return Outcome(reply, None, answer.cpu)

    def _result(self, scope: Scope, outcome: Outcome) -> StepRun:
        reply, ending = outcome.reply, outcome.ending
        if reply is not None and reply.answer in ("ok", "error"):
            status: RunStatus = "ok" if reply.answer == "ok" else "error"
            scope.status = status
            node = self._node(scope)
            return StepRun(node, status, reply.output, reply.error_type, reply.error, round(outcome.cpu, 6))
        if ending is None:  # an answer that has no place here: a forged one
            ending = Ending("violation", f"the worker answered {reply.answer if reply else 'nothing'}")
            scope.domain.forget("violation")
        scope.status = ending.status
        scope.lost = f"its last step ended in {ending.status} ({ending.reason})"
        reason = f"while rebuilding the state: {ending.reason}" if outcome.note else ending.reason
        kind = {"timeout": "TimeLimit", "violation": "Violation"}.get(ending.status, "Killed")
        return StepRun(self._node(scope), ending.status, "", kind, reason, round(outcome.cpu, 6))
