"""A llama.cpp server of our own that dies is started again, and what was asked of it is asked again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rstar_eval.errors import BackendError
from rstar_eval.solver.backends import llamacpp
from rstar_eval.solver.backends.engine import Sampling
from rstar_eval.solver.backends.http_client import JsonClient
from rstar_eval.solver.backends.llamacpp import RESTARTS, LlamaCppEngine
from rstar_eval.solver.types import Prompt

SAMPLING = Sampling(n=2, seed=1, temperature=1.0, top_p=1.0, max_tokens=9, stops=())
SHARED = "The same beginning of every prompt, long enough to be computed once for all of them. "


class Child:
    """Stands for the process of a server: it has ended when the server is stopped."""

    def __init__(self, server: Any) -> None:
        self.server, self.process, self.ended, self.stopped = server, self, asyncio.Event(), False

    async def wait(self) -> None:
        await self.ended.wait()

    def failure(self) -> str | None:
        return "llama.cpp ended with code -9 (killed)" if self.ended.is_set() else None

    def remove_slot_file(self, name: str) -> None:
        pass

    async def stop(self) -> None:
        self.stopped = True

    def kill(self) -> None:
        self.server.stop()
        self.ended.set()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    import openai._base_client as client

    monkeypatch.setattr(client, "INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr(client, "MAX_RETRY_DELAY", 0.02)
    monkeypatch.setattr(llamacpp, "DEATH_SECONDS", 0.3)


class Rig:
    def __init__(self, fake_server: Any) -> None:
        self.fake_server = fake_server
        self.children: list[Child] = []

    async def start(self) -> Any:
        server = self.fake_server("llamacpp")
        self.children.append(Child(server))
        return self.children[-1], JsonClient(server.root, retries=1, timeout=20)

    async def engine(self) -> LlamaCppEngine:
        process, client = await self.start()
        return LlamaCppEngine(client, slots=4, context=99, identity={}, process=process, restart=self.start)


def test_requests_of_a_server_that_died_are_answered_by_the_next(fake_server: Any) -> None:
    async def go() -> None:
        rig = Rig(fake_server)
        engine = await rig.engine()
        await engine.warm([Prompt(raw=SHARED + "a"), Prompt(raw=SHARED + "b")])
        before = await asyncio.gather(*(engine.generate(Prompt(raw=f"p{i}"), SAMPLING) for i in range(6)))
        rig.children[0].kill()
        after = await asyncio.gather(*(engine.generate(Prompt(raw=f"p{i}"), SAMPLING) for i in range(6)))
        assert after == before
        assert len(rig.children) == 2
        assert rig.children[0].stopped
        asked = [one for one in rig.children[1].server.seen if one["path"] == "/completion"]
        assert asked[0]["prompt"] == SHARED  # computed once, before the rest or beside it
        await engine.close()
        assert rig.children[1].stopped

    asyncio.run(go())


def test_a_server_that_keeps_dying_ends_the_run_with_its_reason(fake_server: Any) -> None:
    async def go() -> None:
        rig = Rig(fake_server)
        engine = await rig.engine()
        for _ in range(RESTARTS):
            rig.children[-1].kill()
            assert (await engine.generate(Prompt(raw="p"), SAMPLING)).completions
        rig.children[-1].kill()
        with pytest.raises(BackendError, match="ended with code -9"):
            await engine.generate(Prompt(raw="p"), SAMPLING)
        assert len(rig.children) == RESTARTS + 1
        await engine.close()

    asyncio.run(go())


def test_a_server_that_is_alive_but_fails_is_not_started_again(fake_server: Any) -> None:
    async def go() -> None:
        rig = Rig(fake_server)
        engine = await rig.engine()
        rig.children[0].server.faults = [500] * 9
        with pytest.raises(BackendError, match="keeps failing"):
            await engine.generate(Prompt(raw="p"), SAMPLING)
        assert len(rig.children) == 1
        await engine.close()

    asyncio.run(go())
