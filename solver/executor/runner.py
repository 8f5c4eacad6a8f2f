"""Running the steps of one problem: where each state lives, and how a state is rebuilt when it is not there.

A *scope* is the namespace after a step. Tame steps run in the worker of their parent's scope, on a copy of it; several
on one parent go to it in one request. A strict step gets a worker (a domain) of its own, in which the steps before it
are run again first; its descendants stay there. The same rebuilding serves states that cannot be copied, were dropped,
or were lost with their worker.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from rstar_eval.errors import BackendError
from rstar_eval.solver.executor.frames import Reply, read_replies
from rstar_eval.solver.executor.levels import Limits
from rstar_eval.solver.executor.pool import Domain, Pool, Worker
from rstar_eval.solver.executor.worker_client import Answer, Ending
from rstar_eval.solver.types import RunStatus

RETRIES = 3
MAX_TOGETHER, MAX_STEPS = 10_000, 32
"""Characters of code, and steps, in one request of several steps; a step that is longer gets a request of its own."""
LAST = frozenset(("missing", "notcopyable", "tainted"))
"""Answers after which a worker leaves the other steps of a request unanswered."""


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
    """What one step's run gave: a reply or an ending, and its CPU seconds. `rebuilding`: it never came to the step."""

    reply: Reply | None
    ending: Ending | None
    cpu: float = 0.0
    rebuilding: bool = False

    @property
    def answer(self) -> str:
        """The reply's answer, "" without one."""
        return self.reply.answer if self.reply is not None else ""


class ReplayFailed(Exception):
    """An earlier step did not get through when it was run again."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__("replay failed")
        self.outcome = outcome


class Runner:
    """Runs the steps of one problem in workers of `pool`. `domains`: all that were used, for the session to give up."""

    def __init__(self, pool: Pool, limits: Limits) -> None:
        self.main = Domain()
        self.domains = [self.main]
        self._pool, self._limits = pool, limits

    async def together(self, scopes: Sequence[Scope]) -> dict[int, Outcome]:
        """Run new tame steps on one parent in as few requests as they take; returns outcomes by scope id.

        A step that is missing there is to be run by `alone`: its parent cannot be copied, it is not tame after all, or
        it was under way in a worker that died, which any of them may have caused.
        """
        found: dict[int, Outcome] = {}
        left = list(scopes)
        while len(part := _fitting(left)) > 1:
            domain, parent = part[0].domain, part[0].parent
            async with domain.lock, self._pool.slots:
                worker = await self._pool.acquire(domain)
                try:
                    if parent is not None:
                        await self._ensure(domain, worker, parent)
                    if not worker.many or (parent is not None and _moves(parent, domain)):
                        return found
                    outcomes, answer = await self._request(domain, worker, part)
                except ReplayFailed:
                    domain.forget("ended")
                    return found
                except asyncio.CancelledError:
                    domain.forget("cancelled")
                    raise
                finally:
                    self._pool.release(domain)
                self._settle(domain, part, outcomes, found)
                ending = answer.ending
                if ending is not None:
                    domain.forget("ended")
                    culprit = answer.step
                    if ending.status != "timeout" or culprit is None or not len(outcomes) <= culprit < len(part):
                        return found
                    self._pool.counts["timeout"] += 1
                    spent = max(0.0, answer.cpu - sum(outcome.cpu for outcome in outcomes))
                    found[part[culprit].id] = Outcome(None, ending, spent)
                    left = [*part[len(outcomes) : culprit], *part[culprit + 1 :], *left[len(part) :]]
                elif len(outcomes) < len(part):
                    return found
                else:
                    left = left[len(part) :]
        return found

    def _settle(self, domain: Domain, part: list[Scope], outcomes: list[Outcome], found: dict[int, Outcome]) -> None:
        """Enter into `found` what is certain of the answers to `part`."""
        limit = self._limits.cpu_seconds
        for scope, outcome in zip(part, outcomes, strict=False):
            if outcome.answer in ("nottame", "tainted"):
                self._not_tame(scope, outcome)
            elif outcome.cpu > limit:
                found[scope.id] = Outcome(None, over(limit), outcome.cpu)
                self._pool.counts["timeout"] += 1
                domain.forget("cpu")
            elif outcome.reply is not None and outcome.reply.error_type == "MemoryError":
                domain.forget("memory")  # what the others left may be to blame
            elif outcome.answer in ("ok", "error"):
                found[scope.id] = outcome

    def _not_tame(self, scope: Scope, outcome: Outcome) -> None:
        """A step that was run as a tame one turned out not to be: from now on it is a strict one."""
        if outcome.answer == "tainted":
            scope.domain.forget("tainted")
        self._pool.counts[outcome.answer] += 1
        scope.tame = False

    async def alone(self, scope: Scope) -> Outcome:
        """Run a new step where it belongs, again in a worker of its own if it turns out not to be tame."""
        if scope.tame:
            outcome = await self._attempts(scope)
            if outcome.answer not in ("nottame", "tainted"):
                return outcome
            self._not_tame(scope, outcome)
        self._pool.counts["strict"] += 1
        scope.domain = Domain()
        self.domains.append(scope.domain)
        return await self._attempts(scope)

    async def _attempts(self, scope: Scope) -> Outcome:
        """Run a step, again in a fresh worker where the failure may not be its own."""
        for attempt in range(RETRIES):
            domain = scope.domain
            async with domain.lock, self._pool.slots:
                worker = await self._pool.acquire(domain)
                crowded = domain.served > 0
                try:
                    outcome = await self._on(domain, worker, scope)
                except ReplayFailed as failure:
                    outcome = failure.outcome
                    outcome.rebuilding = True
                except asyncio.CancelledError:
                    domain.forget("cancelled")
                    raise
                finally:
                    self._pool.release(domain)
                reply, ending = outcome.reply, outcome.ending
                last = attempt == RETRIES - 1
                if ending is not None:
                    domain.forget("ended")
                    self._pool.counts[ending.status] += 1
                    if ending.ours and last:
                        raise BackendError(f"the executor lost its zygote {RETRIES} times on one step")
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
        outcome = await self._single(domain, worker, scope)
        if outcome.answer == "notcopyable" and parent is not None:
            self._pool.counts["notcopyable"] += 1
            parent.copyable = False
            outcome = await self._single(domain, worker, scope)
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
            outcome = await self._single(domain, worker, step, replay=True)
            if outcome.answer == "notcopyable" and step.parent is not None:
                step.parent.copyable = False
                outcome = await self._single(domain, worker, step, replay=True)
            self._pool.counts["replayed"] += 1
            if outcome.answer not in ("ok", "error"):
                raise ReplayFailed(outcome)
            if outcome.answer != step.status:
                self._pool.counts["replay_differs"] += 1

    async def _single(self, domain: Domain, worker: Worker, scope: Scope, *, replay: bool = False) -> Outcome:
        """Make a request of one step."""
        outcomes, answer = await self._request(domain, worker, [scope], replay=replay)
        limit = self._limits.cpu_seconds
        if answer.ending is None and answer.cpu > limit:
            worker.kill("cpu")
            return Outcome(None, over(limit), answer.cpu)
        return outcomes[0] if outcomes else Outcome(None, answer.ending, answer.cpu)

    async def _request(
        self, domain: Domain, worker: Worker, scopes: Sequence[Scope], *, replay: bool = False
    ) -> tuple[list[Outcome], Answer]:
        """Make one request for steps on one parent; returns what was answered, in order, and how the request went.

        A parent that is only passing through this domain, or cannot be copied, is used up; then there can be one step.
        """
        parent = scopes[0].parent
        move = parent is not None and _moves(parent, domain)
        nonce = secrets.token_hex(8)
        steps = [[scope.id, move, int.from_bytes(scope.digest[:8], "big"), scope.code] for scope in scopes]
        tame = scopes[0].tame and not replay
        request = {
            "nonce": nonce, "parent": None if parent is None else parent.id, "tame": tame, "drop": domain.drop,
            "steps": steps,
        }  # fmt: skip
        domain.drop = []
        replies: list[Reply] = []

        def take(data: bytes) -> bool:
            replies.extend(read_replies(data, nonce, len(scopes) - len(replies)))
            return len(replies) == len(scopes) or replies[-1].answer in LAST

        limit = self._limits.cpu_seconds
        data = json.dumps(request).encode()
        answer = await worker.exchange(data, limit, limit * self._limits.wall_factor, len(scopes), take)
        self._pool.counts["requests"] += 1
        self._pool.counts["steps"] += len(scopes)
        if any(reply.answer == "missing" for reply in replies):
            worker.kill("violation")
            return [], Answer(Ending("violation", "the worker lost a state"), answer.cpu)
        self._enter(domain, scopes, replies, move=move)
        # The kernel's count, shared out by the worker's word. A dead worker's also holds the step it died in.
        claimed = sum(reply.cpu for reply in replies)
        scale = answer.cpu / claimed if claimed else 0.0
        if answer.ending is not None:
            scale = min(1.0, scale)
        even = answer.cpu / len(scopes) if not claimed else 0.0
        return [Outcome(reply, None, reply.cpu * scale + even) for reply in replies], answer

    def _enter(self, domain: Domain, scopes: Sequence[Scope], replies: list[Reply], *, move: bool) -> None:
        """Keep the books on which states the domain's worker holds, and choose those that it has to drop."""
        parent = scopes[0].parent
        for scope, reply in zip(scopes, replies, strict=False):
            if reply.answer in ("ok", "error"):
                if move and parent is not None:
                    domain.present.pop(parent.id, None)
                domain.present[scope.id] = None
                domain.served += 1
        if parent is not None and parent.id in domain.present:
            domain.present.move_to_end(parent.id)
        while len(domain.present) > self._limits.nodes:
            domain.drop.append(domain.present.popitem(last=False)[0])


def _fitting(scopes: list[Scope]) -> list[Scope]:
    """Return the first of `scopes` that go into one request."""
    size = 0
    for index, scope in enumerate(scopes):
        size += len(scope.code)
        if size > MAX_TOGETHER or index == MAX_STEPS:
            return scopes[:index]
    return scopes


def _moves(parent: Scope, domain: Domain) -> bool:
    return not parent.copyable or parent.domain is not domain


def over(limit: float) -> Ending:
    """Return the ending of a step that took more than `limit` seconds of CPU time."""
    return Ending("timeout", f"more than {limit:g} s of CPU time")
