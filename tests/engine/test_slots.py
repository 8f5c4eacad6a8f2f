"""Who gets a worker: the emptiest one, in the order of asking; a search that must be alone gets one for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from rstar_eval.engine.slots import Slot, Slots
from rstar_eval.engine.worker import Ready


def ready(width: int) -> Ready:
    return Ready(width, {}, "host", "node", 1, "0", "3", ())


def slots(*widths: int) -> Slots:
    return Slots([Slot(f"w{i:03}", ready=ready(width) if width else None) for i, width in enumerate(widths)])


def in_loop(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 5))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_the_emptiest_worker_is_taken_and_nobody_gets_more_than_a_worker_takes() -> None:
    async def work() -> None:
        places = slots(2, 2)
        taken = [await places.take(alone=False) for _ in range(4)]
        assert [one.name for one in taken] == ["w000", "w001", "w000", "w001"]
        fifth = asyncio.create_task(places.take(alone=False))
        await settle()
        assert not fifth.done()
        places.give_back(taken[1])
        assert (await fifth).name == "w001"
        assert [one.open for one in places.places] == [2, 2]

    in_loop(work)


def test_a_worker_that_is_not_ready_gets_nothing_until_it_is() -> None:
    async def work() -> None:
        places = slots(0)
        assert places.width == 0
        first = asyncio.create_task(places.take(alone=False))
        await settle()
        assert not first.done()
        places.places[0].ready = ready(1)
        places.dispatch()
        assert (await first).name == "w000"

    in_loop(work)


def test_a_search_that_must_be_alone_waits_for_an_empty_worker_which_takes_nothing_else_meanwhile() -> None:
    async def work() -> None:
        places = slots(2, 2)
        taken = [await places.take(alone=False) for _ in range(3)]  # w000 has two, w001 one
        alone = asyncio.create_task(places.take(alone=True))
        await settle()
        other = asyncio.create_task(places.take(alone=False))
        await settle()
        assert not alone.done()
        assert not other.done(), "w001 is being emptied and w000 is full"
        places.give_back(taken[1])
        assert (await alone).name == "w001"
        await settle()
        assert not other.done(), "a lone search shares its worker with nobody"
        places.give_back(taken[0])
        assert (await other).name == "w000"
        places.give_back(places.places[1])
        assert not places.places[1].alone
        assert (await places.take(alone=False)).name == "w001"

    in_loop(work)


def test_who_gives_up_waiting_keeps_no_place() -> None:
    async def work() -> None:
        places = slots(1)
        held = await places.take(alone=False)
        for alone in (False, True):
            waiting = asyncio.create_task(places.take(alone=alone))
            await settle()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        # Cancelled after the place was given, before it was taken: the place comes back.
        late = asyncio.create_task(places.take(alone=False))
        await settle()
        places.give_back(held)
        late.cancel()
        with pytest.raises(asyncio.CancelledError):
            await late
        assert places.places[0].open == 0
        assert not places.places[0].draining
        assert (await places.take(alone=False)).name == "w000"

    in_loop(work)


def test_when_there_will_be_no_workers_all_who_wait_are_told() -> None:
    async def work() -> None:
        places = slots(0)
        waiting = [asyncio.create_task(places.take(alone=alone)) for alone in (False, True)]
        await settle()
        places.fail(ValueError("gone"))
        for one in waiting:
            with pytest.raises(ValueError, match="gone"):
                await one

    in_loop(work)
