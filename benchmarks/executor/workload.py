"""The workload of the executor's benchmarks: solutions in steps, each step tried as several candidates.

A file of JSON Lines {"id", "steps": [code, ...]} is given on the command line; without one, a small built-in set is
used.
"""

from __future__ import annotations

import json
import os
import resource
from dataclasses import dataclass
from pathlib import Path

CANDIDATES = 8
BUILT_IN = [
    [
        "from sympy import symbols, solve, Eq\n",
        "a, b = symbols('a b')\n",
        "system = [Eq(a + 2*b, 8), Eq(a*b, 6)]\n",
        "found = solve(system, [a, b])\n",
        "best = max(p + q for p, q in found)\n",
        "print(best)\n",
    ],
    [
        "from math import comb, gcd\n",
        "ways = [comb(12, k) for k in range(13)]\n",
        "def odd(values):\n    return [v for v in values if v % 2]\n",
        "few = odd(ways)\n",
        "common = gcd(*ways[1:-1])\n",
        "print(len(few), common)\n",
    ],
    [
        "import numpy as np\n",
        "m = np.array([[3.0, 1.0], [1.0, 2.0]])\n",
        "w = np.linalg.eigvalsh(m)\n",
        "inv = np.linalg.inv(m)\n",
        "trace = float(np.trace(inv))\n",
        "print(round(trace, 6), w.round(3))\n",
    ],
    [
        "import sympy as sp\n",
        "t = sp.symbols('t', positive=True)\n",
        "f = t**2 * sp.exp(-t)\n",
        "df = sp.simplify(sp.diff(f, t))\n",
        "top = sp.solve(df, t)\n",
        "print(top, f.subs(t, top[-1]))\n",
    ],
]


@dataclass(frozen=True)
class Solution:
    """One solution: its name and its steps."""

    name: str
    steps: tuple[str, ...]


def solutions(path: Path | None) -> list[Solution]:
    """Read the solutions, or return the built-in ones."""
    if path is None:
        return [Solution(f"built-in {n}", tuple(steps)) for n, steps in enumerate(BUILT_IN)]
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [Solution(row["id"], tuple(row["steps"])) for row in rows]


def deepened(items: list[Solution], depth: int) -> list[Solution]:
    """Return solutions of exactly `depth` steps: each goes on with the next ones' steps until it is long enough."""
    made = []
    for start, item in enumerate(items):
        steps: list[str] = []
        index = start
        while len(steps) < depth:
            steps += items[index % len(items)].steps
            index += 1
        made.append(Solution(item.name, tuple(steps[:depth])))
    return made


def candidates(step: str) -> list[str]:
    """Return the candidates of a step: itself, variants with other names and prints, one that raises, one that does not
    parse, and one that differs by a comment only."""
    variants = [
        step,
        step + "check = 1\n",
        step + "check = [1, 2, 3]\nprint(len(check))\n",
        "# another way to say it\n" + step,
        step + "print('so far')\n",
        step + "total_of_nothing = sum([])\n",
        step + "print(name_that_is_not_there)\n",
        step + "if (:\n",
    ]
    assert len(variants) == CANDIDATES
    return variants


def children_cpu() -> float:
    """CPU seconds of all ended children and their children: zygotes and workers."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def descendants() -> list[int]:
    """Pids of all processes that descend from this one."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parents[int(entry)] = int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {os.getpid()})
