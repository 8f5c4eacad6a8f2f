"""The built-in attacks, with a canary file, a listening socket and a secret in the environment as tripwires."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from rstar_eval.sandbox_cli import attack, built_in_attacks, observed_executor, tripwires

if TYPE_CHECKING:
    from .conftest import Unprivileged

AS_NOBODY = """
import asyncio, os, sys
from rstar_eval.sandbox_cli import attack, built_in_attacks, observed_executor, tripwires
async def main():
    with tripwires() as wires:
        async with observed_executor(sys.argv[1]) as executor:
            for item in built_in_attacks():
                _, problem = await attack(executor, item, wires)
                if problem:
                    print(item.name, problem)
            print(os.getuid(), executor.level)
asyncio.run(main())
"""


def problems(isolation: str, layers: set[str]) -> list[str]:
    async def run() -> list[str]:
        found = []
        with tripwires() as wires:
            async with observed_executor(isolation) as executor:
                for item in built_in_attacks():
                    if item.layer in layers:
                        _, problem = await attack(executor, item, wires)
                        if problem:
                            found.append(f"{item.name}: {problem}")
        return found

    return asyncio.run(run())


def test_the_built_in_set_has_enough_attacks_of_every_kind() -> None:
    attacks = built_in_attacks()
    assert len({item.name for item in attacks}) == len(attacks) >= 60
    assert min(Counter(item.layer for item in attacks).values()) >= 3
    assert set(Counter(item.layer for item in attacks)) == {
        "files", "secrets", "network", "processes", "kernel", "limits", "protocol", "state",
    }  # fmt: skip


def test_the_tripwires_notice_what_they_are_there_for() -> None:
    import socket

    with tripwires() as wires:
        assert wires.touched("") == ""
        assert wires.touched(f"x {wires.secret}") == "the secret was printed"
        socket.create_connection(("127.0.0.1", wires.port), 2).close()
        assert "socket" in wires.touched("")
        (wires.folder / "other").touch()
        assert "holds" in wires.touched("")
        (wires.folder / "other").unlink()
        (wires.folder / "canary.txt").write_text("changed")
        assert wires.touched("") == "canary file changed"


def test_attacks_are_held_at_the_strongest_level(level: str) -> None:
    assert problems(level, {"files", "secrets", "network", "processes", "protocol"}) == []


@pytest.mark.slow
@pytest.mark.parametrize("isolation", ["strong", "good"])
def test_every_attack_is_held(level: str, isolation: str) -> None:
    if isolation == "strong" != level:
        pytest.skip(f"the strongest level here is {level}")
    assert problems(isolation, {item.layer for item in built_in_attacks()}) == []


@pytest.mark.slow
@pytest.mark.parametrize("isolation", ["strong", "good"])
def test_every_attack_is_held_for_an_unprivileged_user(unprivileged: Unprivileged, isolation: str) -> None:
    done = unprivileged.run(AS_NOBODY, isolation)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines() == [f"65534 {isolation}"]
