"""Machines that lack a kernel feature, made by a filter that takes the feature away: every combination must end in an
honest level, and a demanded level that cannot be had in one clear line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .conftest import Unprivileged

PROGRAM = """
import asyncio, json, sys
from rstar_eval.errors import UserError
from rstar_eval.solver.executor import probe_levels, start_executor
from rstar_eval.solver.executor.cage import linux, seccomp

CALLS = {"unshare": (272, 97), "mount": (165, 40), "pivot_root": (155, 41), "landlock": (444, 444),
         "seccomp": (317, 277),
         "capset": (126, 91), "userns": (272, 97)}
column = 0 if linux.MACHINE == "x86_64" else 1
code = seccomp._op(0x20, 0)
for name in json.loads(sys.argv[1]):
    number = CALLS[name][column]
    error = 0x00050000 | (38 if name == "landlock" else 1)
    if name == "userns":
        code += seccomp._when(number, seccomp._none_of(0, 0x10000000, error))
    else:
        code += seccomp._when(number, seccomp._op(6, error))
linux.prctl(38, 1)
seccomp.install(code + seccomp._op(6, seccomp.ALLOW))

async def main():
    report = await probe_levels()
    found = {"level": report.level, "layers": {layer.name: layer.took for layer in report.layers},
             "mends": {layer.name: layer.mend for layer in report.layers if not layer.took}}
    for level in ("strong", "good", "basic"):
        try:
            executor = await start_executor(level, workers=1)
            session = await executor.open("x")
            run = await session.run(None, "import socket, os\\ntry: socket.socket()\\nexcept OSError: print('held')")
            found[level] = [executor.level, run.output.strip()]
            await executor.close()
        except UserError as error:
            found[level] = str(error)
    print(json.dumps(found))
asyncio.run(main())
"""


def report(missing: list[str]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(missing)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


CASES = [
    (["unshare"], "good", {"strong": "namespaces"}),
    pytest.param(["mount"], "good", {"strong": "namespaces"}, marks=pytest.mark.slow),
    pytest.param(["pivot_root"], "good", {"strong": "root"}, marks=pytest.mark.slow),
    (["unshare", "landlock"], "basic", {"strong": "namespaces", "good": "landlock"}),
    pytest.param(["landlock"], "basic", {"strong": "landlock", "good": "landlock"}, marks=pytest.mark.slow),
    (["seccomp"], "accidents-only", {"strong": "seccomp", "good": "seccomp", "basic": "seccomp"}),
    pytest.param(
        ["capset"], "accidents-only", {"strong": "rights", "good": "rights", "basic": "rights"}, marks=pytest.mark.slow
    ),
]


@pytest.mark.parametrize(("missing", "expected", "refused"), CASES)
def test_a_missing_feature_ends_in_an_honest_level(
    level: str, missing: list[str], expected: str, refused: dict[str, str]
) -> None:
    if level != "strong":
        pytest.skip("needs a machine that has every layer")
    check(report(missing), expected, refused)


def check(found: dict[str, Any], level: str, refused: dict[str, str]) -> None:
    assert found["level"] == level
    for name in ("strong", "good", "basic"):
        if name in refused:
            assert refused[name] in found[name]
            assert "is not available here" in found[name]
            assert found["layers"][refused[name]] is False
            assert found["mends"][refused[name]]
        else:
            assert found[name] == [name, "held"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("missing", "level", "refused"),
    [
        ([], "strong", {}),
        (["userns"], "good", {"strong": "namespaces"}),
        (["landlock"], "basic", {"strong": "landlock", "good": "landlock"}),
        (["seccomp"], "accidents-only", {"strong": "seccomp", "good": "seccomp", "basic": "seccomp"}),
    ],
)
def test_the_same_for_an_unprivileged_user(
    unprivileged: Unprivileged, missing: list[str], level: str, refused: dict[str, str]
) -> None:
    done = unprivileged.run(PROGRAM, json.dumps(missing))
    assert done.returncode == 0, done.stderr[-2000:]
    check(json.loads(done.stdout), level, refused)


def test_the_tests_would_notice_a_cage_that_is_not_there() -> None:
    """The probe of the cases above, without a cage, must not say held."""
    code = "import socket\ntry: socket.socket()\nexcept OSError: print('held')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, env=os.environ
    )
    assert done.stdout == ""
