"""The library's face: every public name is there, nothing heavy is loaded for it, no module hides a function."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import rstar_eval


@pytest.mark.parametrize("name", rstar_eval.__all__)
def test_every_public_name_can_be_had(name: str) -> None:
    assert getattr(rstar_eval, name) is not None
    assert name in dir(rstar_eval)


def test_no_module_has_the_name_of_a_public_function() -> None:
    modules = {one.name for one in pkgutil.iter_modules(rstar_eval.__path__)}
    assert not modules & set(rstar_eval.__all__)
    for name in ("comparison", "grading", "tasks"):
        importlib.import_module(f"rstar_eval.{name}")
    assert callable(rstar_eval.compare)
    assert rstar_eval.grade("1/2", "0.5").outcome == "correct"


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import rstar_eval, sys; print(sorted({'sympy', 'torch', 'numpy', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'grdae'"):
        _ = rstar_eval.grdae
