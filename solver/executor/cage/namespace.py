"""Copying the namespace a step left, so that siblings never see each other's changes.

Immutable values are shared; containers, arrays, matrices and functions are copied with a memo that preserves aliases;
anything else (iterators, open objects, instances and classes that a step defined) raises `NotCopyable`, and the caller
rebuilds the state by running the steps again.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import functools
import random
import re
import sys
import types
from collections.abc import Callable
from copy import deepcopy
from typing import Any

Namespace = dict[str, Any]
Memo = dict[int, Any]
Copier = Callable[[Any, "_Copy"], Any]


class NotCopyable(Exception):
    """A value that cannot be copied faithfully; the message names its type."""


_ATOMS = {
    type(None), bool, int, float, complex, str, bytes, range, slice, type(Ellipsis), type(NotImplemented),
    types.ModuleType, fractions.Fraction, decimal.Decimal, datetime.date, datetime.datetime, datetime.timedelta,
    datetime.time, re.Pattern, re.Match, types.WrapperDescriptorType, types.MethodDescriptorType, types.CodeType,
}  # fmt: skip


class _Copy:
    """One copy operation: the memo, and the old and the new globals for functions that a step defined."""

    __slots__ = ("keep", "memo", "new", "old")

    def __init__(self, old: Namespace, new: Namespace) -> None:
        self.old, self.new = old, new
        self.memo: Memo = {id(old): new}
        self.keep: list[Any] = []

    def __call__(self, value: Any) -> Any:
        kind = type(value)
        copier = _COPIERS.get(kind)
        if copier is None:
            copier = _classify(value, kind)
        if copier is _share or (kind not in _CONTAINERS and id(value) in _LIBRARY):
            return value
        found = self.memo.get(id(value))
        if found is not None:
            return found
        made = copier(value, self)
        self.memo[id(value)] = made
        return made


def _share(value: Any, copy: _Copy) -> Any:
    return value


def _list(value: list[Any], copy: _Copy) -> Any:
    made: list[Any] = []
    copy.memo[id(value)] = made
    made.extend([copy(item) for item in value])
    return made


def _deque(value: collections.deque[Any], copy: _Copy) -> Any:
    made: collections.deque[Any] = collections.deque(maxlen=value.maxlen)
    copy.memo[id(value)] = made
    made.extend([copy(item) for item in value])
    return made


def _dict(value: dict[Any, Any], copy: _Copy) -> Any:
    made: dict[Any, Any]
    if type(value) is collections.defaultdict:
        made = collections.defaultdict(copy(value.default_factory))
    else:
        made = type(value)()
    copy.memo[id(value)] = made
    for key, item in value.items():
        made[copy(key)] = copy(item)
    return made


def _set(value: set[Any], copy: _Copy) -> Any:
    # set.copy keeps the table and so the order of iteration, which printing shows; elements are shared if they may be.
    if all(copy(item) is item for item in value):
        return value.copy()
    return type(value)(copy(item) for item in value)


def _tuple(value: tuple[Any, ...], copy: _Copy) -> Any:
    items = [copy(item) for item in value]
    if all(new is old for new, old in zip(items, value, strict=True)):
        return value
    return tuple(items)


def _bytearray(value: bytearray, copy: _Copy) -> Any:
    return bytearray(value)


def _cell(value: types.CellType, copy: _Copy) -> Any:
    made = types.CellType()
    copy.memo[id(value)] = made
    try:
        content = value.cell_contents
    except ValueError:  # an empty cell: a name that is not bound yet
        return made
    made.cell_contents = copy(content)
    return made


def _function(value: types.FunctionType, copy: _Copy) -> Any:
    if value.__globals__ is not copy.old:
        if value.__module__ != "__main__":
            return value
        raise NotCopyable("function of another namespace")
    made = types.FunctionType(
        value.__code__,
        copy.new,
        value.__name__,
        None,
        tuple(_cell_of(cell, copy) for cell in value.__closure__ or ()) or None,
    )
    copy.memo[id(value)] = made
    made.__defaults__ = copy(value.__defaults__)
    made.__kwdefaults__ = copy(value.__kwdefaults__)
    made.__qualname__, made.__doc__ = value.__qualname__, value.__doc__
    made.__annotations__ = copy(value.__annotations__)
    if value.__dict__:
        made.__dict__.update(copy(value.__dict__))
    return made


def _cell_of(cell: types.CellType, copy: _Copy) -> Any:
    found = copy.memo.get(id(cell))
    return _cell(cell, copy) if found is None else found


def _partial(value: Any, copy: _Copy) -> Any:
    return functools.partial(copy(value.func), *copy(value.args), **copy(value.keywords))


def _cached(value: Any, copy: _Copy) -> Any:
    inner = copy(value.__wrapped__)
    if inner is value.__wrapped__:
        return value
    parameters = value.cache_parameters()
    return functools.lru_cache(maxsize=parameters["maxsize"], typed=parameters["typed"])(inner)


def _builtin(value: Any, copy: _Copy) -> Any:
    owner = value.__self__
    if owner is None or isinstance(owner, types.ModuleType | type):
        return value
    copied = copy(owner)
    return value if copied is owner else getattr(copied, value.__name__)


def _method(value: types.MethodType, copy: _Copy) -> Any:
    function, owner = copy(value.__func__), copy(value.__self__)
    if function is value.__func__ and owner is value.__self__:
        return value
    return types.MethodType(function, owner)


def _random(value: random.Random, copy: _Copy) -> Any:
    made = random.Random(0)
    made.setstate(value.getstate())
    return made


def _array(value: Any, copy: _Copy) -> Any:
    base = value.base
    if base is not None and type(base) is type(value) and base.flags.c_contiguous and base.dtype == value.dtype:
        # A view: copy the whole base and lay the same view on it, so that the two still share their elements.
        whole = copy(base)
        offset = value.__array_interface__["data"][0] - base.__array_interface__["data"][0]
        if value.size and not value.dtype.hasobject:
            return type(value)(value.shape, value.dtype, buffer=whole, offset=offset, strides=value.strides)
    if base is not None and not isinstance(base, bytes) and value.size and copy.memo.get(id(base)) is not None:
        raise NotCopyable("array view")
    made = value.copy(order="K")
    if value.dtype.hasobject:
        if value.dtype != object:
            raise NotCopyable("structured array with objects")
        flat, source = made.reshape(-1), value.reshape(-1)
        for index in range(source.shape[0]):
            flat[index] = copy(source[index])
        made = flat.reshape(value.shape)
    if not value.flags.writeable:
        made.flags.writeable = False
    return made


def _matrix(value: Any, copy: _Copy) -> Any:
    return value.copy()


def _refuse(value: Any, copy: _Copy) -> Any:
    raise NotCopyable(type(value).__name__)


_COPIERS: dict[type, Copier] = dict.fromkeys(_ATOMS, _share)
_COPIERS |= {
    list: _list, dict: _dict, collections.Counter: _dict, collections.OrderedDict: _dict,
    collections.defaultdict: _dict, set: _set, frozenset: _set, tuple: _tuple, collections.deque: _deque,
    bytearray: _bytearray, types.FunctionType: _function, types.CellType: _cell, functools.partial: _partial,
    functools._lru_cache_wrapper: _cached, types.BuiltinFunctionType: _builtin, types.MethodType: _method,
    random.Random: _random,
}  # fmt: skip


_CONTAINERS = {list, dict, set, tuple}
_LIBRARY: dict[int, Any] = {}
_SHARED_BASES: list[type] = []
_MATRIX_BASES: list[type] = []
_SHARED_MODULES = ("sympy.polys.", "sympy.core.", "sympy.assumptions.", "typing", "scipy.stats._distn_infrastructure")


def register_libraries() -> None:
    """Teach the copier numpy, sympy and mpmath, and which objects belong to loaded modules (and are shared, like the
    modules themselves). Call once, when all is imported."""
    import mpmath
    import numpy
    import sympy
    from mpmath.ctx_mp_python import _constant, _mpf

    _COPIERS[numpy.ndarray] = _array
    _COPIERS[numpy.ufunc] = _COPIERS[type(numpy.sum)] = _share
    _COPIERS[mpmath.matrix] = _matrix
    for kind in (numpy.matrix, numpy.poly1d, numpy.polynomial.Polynomial, numpy.random.Generator):
        _COPIERS[kind] = _deep
    for kind in (type(mpmath.mp), type(mpmath.iv), type(mpmath.fp), mpmath.mpf, mpmath.mpc, _mpf, _constant):
        _COPIERS[kind] = _share
    _SHARED_BASES.extend([sympy.Basic, numpy.generic, numpy.dtype, _mpf, _constant])
    _MATRIX_BASES.append(sympy.MatrixBase)
    for module in list(sys.modules.values()):
        if isinstance(module, types.ModuleType) and module.__name__ != "__main__":
            for value in vars(module).values():
                if type(value) not in _CONTAINERS and _COPIERS.get(type(value)) is not _share:
                    _LIBRARY[id(value)] = value
                for held in (value, *vars(value).values()) if isinstance(value, type) else (value,):
                    if type(held) is numpy.ndarray:
                        held.flags.writeable = False  # a constant: no step may change it for another one


def _deep(value: Any, copy: _Copy) -> Any:
    return deepcopy(value)


def _named_tuple(value: Any, copy: _Copy) -> Any:
    items = [copy(item) for item in value]
    if all(new is old for new, old in zip(items, value, strict=True)):
        return value
    if not hasattr(type(value), "_fields"):
        raise NotCopyable(type(value).__name__)
    return tuple.__new__(type(value), items)


def _is_named_tuple(kind: type) -> bool:
    return type(kind) is type and kind.__bases__ == (tuple,) and "_fields" in vars(kind)


def _classify(value: Any, kind: type) -> Copier:
    """Find the copier of a type seen for the first time, and remember it if it depends on the type alone."""
    if issubclass(kind, type):
        # Classes are values of many metaclasses: decide each by where it was defined, and remember nothing.
        return _refuse if vars(value).get("__module__") == "__main__" and not _is_named_tuple(value) else _share
    module = getattr(kind, "__module__", "__main__")
    if module == "__main__":
        return _named_tuple if _is_named_tuple(kind) else _refuse
    if issubclass(kind, tuple(_SHARED_BASES)):
        copier: Copier = _share
    elif issubclass(kind, tuple(_MATRIX_BASES)):
        copier = _matrix
    elif issubclass(kind, tuple):
        copier = _named_tuple
    elif issubclass(kind, dict) and module.startswith("scipy."):
        copier = _dict
    elif module.startswith(_SHARED_MODULES):
        copier = _share
    else:
        copier = _refuse
    _COPIERS[kind] = copier
    return copier


def parts_to_copy(namespace: Namespace) -> list[str]:
    """Return the names whose values are not plainly shared: the only ones a copy has to look at."""
    atoms, library, containers = _COPIERS, _LIBRARY, _CONTAINERS
    return [
        name
        for name, value in namespace.items()
        if atoms.get(type(value)) is not _share and (type(value) in containers or id(value) not in library)
    ]


def copy_namespace(namespace: Namespace, parts: list[str]) -> Namespace:
    """Return a copy of `namespace`; `parts` are its names from `parts_to_copy`. Raises NotCopyable."""
    made = namespace.copy()
    copy = _Copy(namespace, made)
    try:
        for name in parts:
            made[name] = copy(namespace[name])
    except RecursionError:
        raise NotCopyable("too deeply nested") from None
    return made
