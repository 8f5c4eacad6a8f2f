"""No table of a library that a tame step could reach: a step that changes one would change it for its siblings."""

from __future__ import annotations

import collections
import sys
import types
from collections.abc import Iterator

import numpy as np
import pytest

from rstar_eval.solver.executor.cage import namespace, warmup
from rstar_eval.solver.executor.cage.analysis import TAME_MODULES, analyse

TABLE_KINDS = (list, dict, set, bytearray, collections.deque, np.ndarray)


def tables() -> Iterator[tuple[str, object]]:
    """Yield every public table of the modules that steps may import, with code that reaches it."""
    warmup.load(("sympy", "mpmath", "numpy", "scipy"))
    warmup.run()
    for name, module in sorted(sys.modules.items()):
        if not isinstance(module, types.ModuleType) or name.partition(".")[0] not in TAME_MODULES:
            continue
        for key, value in list(vars(module).items()):
            if isinstance(value, TABLE_KINDS) and not isinstance(value, type):
                yield f"from {name} import {key}", value
            elif isinstance(value, type) and value.__module__ == name:
                for attribute, held in list(vars(value).items()):
                    if isinstance(held, TABLE_KINDS):
                        yield f"from {name} import {key}\nx = {key}.{attribute}", held


def test_every_table_of_a_library_is_strict_or_cannot_be_changed() -> None:
    namespace.register_libraries()
    found, open_ones = 0, []
    for code, table in tables():
        found += 1
        frozen = type(table) is np.ndarray and not table.flags.writeable
        if not frozen and not analyse(code).strict:
            open_ones.append(code)
    assert found > 500
    assert open_ones == []


@pytest.mark.parametrize("name", ["sympy", "numpy", "math", "scipy.special", "sympy.abc", "fractions", "itertools"])
def test_what_a_star_import_brings_is_as_strict(name: str) -> None:
    warmup.load(("sympy", "mpmath", "numpy", "scipy"))
    module = sys.modules[name]
    brought = getattr(module, "__all__", [key for key in vars(module) if not key.startswith("_")])
    mutable = [key for key in brought if isinstance(getattr(module, key, None), TABLE_KINDS)]
    assert [key for key in mutable if not analyse(f"from {name} import *\n{key}.clear()").strict] == []
