"""Cheap signs that a step changed what its siblings share: module contents, interpreter settings, numeric contexts.

They back up the static check: a step that trips one runs again in a worker of its own, and the worker is discarded.
"""

from __future__ import annotations

import builtins
import collections
import ctypes
import decimal
import fractions
import functools
import itertools
import math
import operator
import random
import signal
import sys
from typing import Any

RECURSION_LIMIT = 1010
"""Python's default of 1000, and the frames between the worker's loop and a step."""


_handler = getattr(signal.getsignal, "__wrapped__", signal.getsignal)  # the C function: signal's own makes enum members
_ALARM, _INTERRUPT = int(getattr(signal, "SIGALRM", signal.SIGINT)), int(signal.SIGINT)


def _version(table: dict[str, Any]) -> ctypes.c_uint64:
    """Return a view of CPython's private version of a dictionary, which every change of it changes (PEP 509). Valid as
    long as the dictionary lives."""
    return ctypes.c_uint64.from_address(id(table) + 3 * ctypes.sizeof(ctypes.c_ssize_t))


def _versions_work() -> bool:
    """Return whether this interpreter still keeps those versions (CPython to 3.13 does); found out by trying."""
    table: dict[str, Any] = {"a": 1, "b": 2}
    version = _version(table)
    seen = {version.value}
    for change in ("a", "c", "b"):
        table[change] = object()
        seen.add(version.value)
    return len(seen) == 4


class Canaries:
    """A picture of the shared state, taken once in the zygote and compared after every tame step."""

    def __init__(self) -> None:
        modules: list[Any] = [builtins, math, random, itertools, functools, operator, collections, fractions, decimal]
        self._context: Any = None
        self._float_errors: Any = None
        self._evaluation: dict[str, Any] = {}
        self._assumptions: set[Any] = set()
        if "sympy" in sys.modules:
            import mpmath
            import numpy
            import sympy

            modules += [sympy, numpy, mpmath, sympy.S, sympy.core.cache, sympy.solvers.solvers]
            self._context, self._float_errors = mpmath.mp, numpy.geterr
            # What `with evaluate(False)` and `with assuming(...)` change; a generator can hold such a block open.
            self._evaluation = vars(sympy.core.parameters.global_parameters)
            self._assumptions = sympy.assumptions.global_assumptions
        self._tables: list[tuple[dict[str, Any], int, list[Any]]] = []
        for module in modules:
            table = getattr(module, "__dict__", None)
            if isinstance(table, dict):
                self._tables.append((table, len(table), list(table.values())))
        self._versions = [_version(table) for table, _, _ in self._tables] if _versions_work() else []
        self._seen = [version.value for version in self._versions]
        self._settings = self._read()

    def _read(self) -> tuple[Any, ...]:
        context = self._context
        return (
            sys.getrecursionlimit(),
            sys.gettrace(),
            sys.getprofile(),
            len(sys.meta_path),
            len(sys.path_hooks),
            len(sys.path),
            sys.excepthook,
            sys.displayhook,
            decimal.getcontext().prec,
            decimal.getcontext().rounding,
            _handler(_ALARM),
            _handler(_INTERRUPT),
            context.prec if context is not None else 0,
            tuple(self._float_errors().values()) if self._float_errors is not None else (),
            tuple(self._evaluation.values()),
            len(self._assumptions),
        )

    def tripped(self) -> bool:
        """Return whether anything differs. Importing a submodule adds to a module's table and is no difference."""
        for index, (table, size, values) in enumerate(self._tables):
            if self._versions:
                # Looking at every value would also touch its reference count, and so copy its page after a fork.
                version = self._versions[index].value
                if version == self._seen[index]:
                    continue
                self._seen[index] = version
            now = list(table.values())
            if len(now) != size:
                now = now[:size]
            if now != values:
                return True
        return self._read() != self._settings
