"""One problem: its tree of steps by node number, and what was run before."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256

from rstar_eval.solver.executor.cage.analysis import Analysis, analyse
from rstar_eval.solver.executor.levels import Limits
from rstar_eval.solver.executor.pool import Pool
from rstar_eval.solver.executor.runner import Outcome, Runner, Scope
from rstar_eval.solver.executor.worker_client import Ending
from rstar_eval.solver.types import RunStatus, StepRun

_analyse = lru_cache(maxsize=8192)(analyse)
_CACHED_LENGTH = 4000  # longer steps are analysed anew each time, so that the cache stays small

_Key = tuple[int | None, str]


class Session:
    """The running state of one problem (`ManySession`)."""

    def __init__(self, key: str, pool: Pool, limits: Limits, *, always_strict: bool = False) -> None:
        self.key = key
        self._pool, self._always_strict = pool, always_strict
        self._runner = Runner(pool, limits)
        self._scopes: list[Scope | None] = []  # by node number; None: the fresh state
        self._done: dict[_Key, asyncio.Future[StepRun]] = {}
        self._next_scope = 0
        self._closed = False

    async def run(self, parent: int | None, code: str) -> StepRun:
        """Run `code` on the state after node `parent` (None: a fresh state) and return the new node.

        An equal step (same syntax tree) on the same parent is not run twice. Never raises for what the code does.
        BackendError when the executor cannot go on; ValueError for an unknown parent or a closed session.
        """
        return (await self.run_many(parent, [code]))[0]

    async def run_many(self, parent: int | None, codes: Sequence[str]) -> list[StepRun]:
        """Run each of `codes` on the state after node `parent`, as `run` for one after another would, in fewer trips to
        the worker. Returns one run a code, in order."""
        if self._closed:
            raise ValueError(f"session {self.key!r} is closed")
        if parent is not None and not 0 <= parent < len(self._scopes):
            raise ValueError(f"session {self.key!r} has no node {parent}")
        keys: list[_Key] = []
        own: dict[_Key, tuple[str, Analysis]] = {}
        for code in codes:
            analysis = _analyse(code) if len(code) < _CACHED_LENGTH else analyse(code)
            key = (parent, analysis.key)
            keys.append(key)
            if key not in self._done:
                self._done[key] = asyncio.get_running_loop().create_future()
                own[key] = code, analysis
        futures = [self._done[key] for key in keys]
        try:
            await self._run_own(None if parent is None else self._scopes[parent], own)
        except BaseException:
            for key in own:
                if not self._done[key].done():
                    self._done.pop(key).cancel()
            raise
        runs = []
        for key, code, future in zip(keys, codes, futures, strict=True):
            if key in own:
                del own[key]
                runs.append(future.result())
            else:
                runs.append(await self._earlier(future, parent, code))
        return runs

    async def _earlier(self, future: asyncio.Future[StepRun], parent: int | None, code: str) -> StepRun:
        """Return the result of an equal step, which somebody else may still be running."""
        try:
            return replace(await asyncio.shield(future), reused=True)
        except asyncio.CancelledError:
            if not future.cancelled():
                raise
        return await self.run(parent, code)  # who ran it was cancelled or failed

    async def close(self) -> None:
        """Forget the problem and free its workers. May be called twice."""
        self._closed = True
        for domain in self._runner.domains:
            self._pool.discard(domain)
        self._runner.domains.clear()

    async def _run_own(self, before: Scope | None, steps: dict[_Key, tuple[str, Analysis]]) -> None:
        """Run new steps on the state `before` and settle their futures, in order."""
        scopes: dict[_Key, Scope] = {}
        if before is None or not before.lost:
            for key, (code, analysis) in steps.items():
                if analysis.error is None:
                    scopes[key] = self._scope(before, code, analysis)
        tame = [scope for scope in scopes.values() if scope.tame]
        outcomes = await self._runner.together(tame) if len(tame) > 1 else {}
        for key, (_, analysis) in steps.items():
            if (scope := scopes.get(key)) is None:
                run = self._not_run(before, analysis)
            else:
                outcome = outcomes.get(scope.id)
                run = self._result(scope, await self._runner.alone(scope) if outcome is None else outcome)
            self._done[key].set_result(run)

    def _scope(self, before: Scope | None, code: str, analysis: Analysis) -> Scope:
        digest = sha256((b"" if before is None else before.digest) + analysis.key.encode()).digest()
        home = self._runner.main if before is None else before.domain
        self._next_scope += 1
        return Scope(self._next_scope, before, code, digest, not (analysis.strict or self._always_strict), home)

    def _not_run(self, before: Scope | None, analysis: Analysis) -> StepRun:
        """Return the result of a step that cannot be run: the state is the parent's."""
        node = self._node(before)
        if before is not None and before.lost:
            message = f"the state before this step was lost: {before.lost}"
            return StepRun(node, "killed", error_type="StateLost", error=message)
        kind, message = analysis.error or ("SyntaxError", "")
        return StepRun(node, "error", error_type=kind, error=message)

    def _node(self, scope: Scope | None) -> int:
        self._scopes.append(scope)
        return len(self._scopes) - 1

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
        reason = f"while rebuilding the state: {ending.reason}" if outcome.rebuilding else ending.reason
        kind = {"timeout": "TimeLimit", "violation": "Violation"}.get(ending.status, "Killed")
        return StepRun(self._node(scope), ending.status, "", kind, reason, round(outcome.cpu, 6))
