"""What the text of a step tells before it runs: does it parse, which step is it, and is it tame?

A tame step is one that a static check finds unable to change anything outside its own namespace: it may run in the
worker that its siblings share. Any other step is *strict*: it runs in a worker of its own. The check is an allow-list
for modules and a deny-list for names, attributes and text; it errs towards strict. It protects siblings from one
another, not the machine: that is the cage's business.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from json import dumps
from operator import attrgetter
from typing import Any

from .tables import CHANGERS, MODULES, TABLES

MAX_CODE, MAX_SENT = 60_000, 120_000
"""Longest step that is run: in characters, and in bytes of the JSON string that it is sent as."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


TAME_MODULES = _words(
    "math cmath fractions decimal itertools functools collections random statistics heapq bisect operator string re "
    "datetime time calendar numbers copy typing dataclasses array sympy mpmath numpy scipy"
)

_REFUSED = _words(
    "eval exec compile open globals locals vars getattr hasattr setattr delattr breakpoint help memoryview exit quit "
    "super wraps update_wrapper singledispatch total_ordering attrgetter methodcaller cached_property "
    "getcontext setcontext localcontext DefaultContext BasicContext ExtendedContext "
    "lambdastr autowrap ufuncify binary_function preview init_printing init_session set_printoptions seterr seterrcall "
    "setbufsize pprint_use_unicode pprint_try_use_unicode pretty_use_unicode plot plot3d plot_implicit plotting "
    "os sys builtins ctypes ctypeslib subprocess importlib inspect converter dispatch "
    "sympy_converter external_converter "
    "errstate printoptions test doctest run_doctests runtests physical_constants sieve"
)
_NAMES = _REFUSED | TABLES | CHANGERS
_REFUSED_ATTRIBUTES = _words(
    "os sys io builtins modules ctypes ctypeslib subprocess importlib inspect gc signal threading socket pickle "
    "warnings traceback linecache atexit testing f2py distutils mp_setcontext "
    "gi_frame gi_code cr_frame ag_frame f_back f_globals f_locals f_builtins f_code tb_frame tb_next with_traceback "
    "settrace setprofile setrecursionlimit addaudithook set_int_max_str_digits register_assumption "
    "tofile save savez savetxt fromfile memmap dump dumps setflags setfield load loads mro register"
)
_ATTRIBUTES = _NAMES | MODULES | _REFUSED_ATTRIBUTES
_CHANGES = _words(
    "append extend insert update setdefault add discard remove pop popitem popleft appendleft clear sort reverse fill "
    "put resize partition itemset intersection_update difference_update symmetric_difference_update"
)
_TEXT = re.compile(
    r"(?<!__main)__(?!main__)|\b(?:eval|exec|compile|open|globals|locals|vars|setattr|delattr|getattr|breakpoint|type)\s*\("
    r"|\bimport\s+\w"
)
"""Text that sympy's parser, which evaluates strings, would turn into more than an expression."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """`key`: hex digest, equal for steps with equal syntax trees. `strict`: why the step is not tame ("" if it is).
    `error`: (type, message) if it does not parse, else None."""

    key: str
    strict: str = ""
    error: tuple[str, str] | None = None


def analyse(code: str) -> Analysis:
    """Map the source of a step to its `Analysis`. Never raises, whatever the text."""
    if len(code) > MAX_CODE:
        message = f"the step has {len(code)} characters, more than {MAX_CODE}"
        return Analysis(key=_digest(code), error=("SyntaxError", message))
    if 12 * len(code) > MAX_SENT and len(dumps(code)) > MAX_SENT:
        message = f"the step has {len(code)} characters, too many of them not ASCII"
        return Analysis(key=_digest(code), error=("SyntaxError", message))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(code, "<step>")
    except SyntaxError as error:
        place = f" (line {error.lineno})" if error.lineno else ""
        return Analysis(key=_digest(code), error=(type(error).__name__, f"{error.msg}{place}"))
    except (ValueError, RecursionError, MemoryError, OverflowError, SystemError) as error:
        # Text that the parser gives up on: null bytes, lone surrogates, nesting too deep for it. SystemError comes from
        # CPython's own check of its nesting count.
        return Analysis(key=_digest(code), error=("SyntaxError", f"cannot be parsed ({type(error).__name__})"))
    shape: list[str] = []
    strict = _walk(tree, shape)
    return Analysis(key=_digest("\0".join(shape)), strict=strict)


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _walk(tree: ast.AST, shape: list[str]) -> str:
    """Write the tree's structure to `shape` and return the first reason for the strict path ("" if none)."""
    reason = ""
    stack: list[Any] = [tree]
    while stack:
        node = stack.pop()
        kind = type(node)
        plan = _PLANS.get(kind)
        if plan is not None:
            name, parts, check = plan
            shape.append(name)
            if check is not None and not reason:
                reason = check(node)
            if parts is not None:
                stack.extend(parts(node))
        elif kind is list:
            shape.append(f"[{len(node)}")
            stack.extend(node)
        elif kind is int and abs(node) >> 10000:
            shape.append(hex(node))  # the decimal form of such a number is costly, and refused past 4300 digits
        else:
            shape.append(repr(node))  # a constant or an identifier: no two that differ look alike, nor like a class
    return reason


def _name(node: ast.Name) -> str:
    if node.id in _NAMES or (node.id.startswith("__") and node.id != "__name__"):
        return f"name {node.id}"
    return ""


def _attribute(node: ast.Attribute) -> str:
    if not isinstance(node.ctx, ast.Load):
        return f"assigns to attribute {node.attr}"
    if node.attr.startswith("_") or node.attr in _ATTRIBUTES:
        return f"attribute {node.attr}"
    return ""


def _subscript(node: ast.Subscript) -> str:
    # `name[i] = v` changes a value of the namespace; `module.table[i] = v` may change a library's.
    base: ast.expr = node
    while isinstance(base, ast.Subscript):
        base = base.value
    if not isinstance(node.ctx, ast.Load) and not isinstance(base, ast.Name):
        return "assigns to an element of something that is not a name"
    return ""


def _import(node: ast.Import) -> str:
    return next((reason for alias in node.names if (reason := _module(alias.name))), "")


def _import_from(node: ast.ImportFrom) -> str:
    if node.level or not node.module:
        return "relative import"
    for alias in node.names:
        if alias.name.startswith("_") or alias.name in _ATTRIBUTES:
            return f"imports {alias.name}"
    return _module(node.module)


def _module(name: str) -> str:
    parts = name.split(".")
    if parts[0] not in TAME_MODULES or any(part.startswith("_") or part in _ATTRIBUTES for part in parts):
        return f"imports {name}"
    return ""


def _call(node: ast.Call) -> str:
    if isinstance(node.func, ast.Name) and node.func.id == "type" and (len(node.args) != 1 or node.keywords):
        return "makes a class"
    if (
        isinstance(node.func, ast.Attribute)
        and node.func.attr in _CHANGES
        and isinstance(node.func.value, ast.Attribute)
    ):
        return f"calls {node.func.attr} on an attribute"  # which may be a library's table
    return ""


def _constant(node: ast.Constant) -> str:
    if isinstance(node.value, str) and _TEXT.search(node.value):
        return "text that could be code"
    return ""


def _class(node: ast.ClassDef) -> str:
    return f"defines class {node.name}"


def _async(node: ast.AST) -> str:
    return "asynchronous code"


_CHECKS: dict[type[ast.AST], Callable[[Any], str]] = {
    ast.Name: _name, ast.Attribute: _attribute, ast.Subscript: _subscript, ast.Import: _import,
    ast.ImportFrom: _import_from, ast.Call: _call, ast.Constant: _constant, ast.ClassDef: _class,
    ast.AsyncFunctionDef: _async, ast.Await: _async,
}  # fmt: skip


def _parts(kind: type[ast.AST]) -> Callable[[Any], tuple[Any, ...]] | None:
    """Return what gives the fields of a node of this class. The context of a name follows from where it stands."""
    fields = [name for name in kind._fields if name != "ctx"]
    if len(fields) == 1:
        field = fields[0]
        return lambda node: (getattr(node, field),)
    return attrgetter(*fields) if fields else None


def _subclasses(kind: type[ast.AST]) -> Iterator[type[ast.AST]]:
    for below in kind.__subclasses__():
        yield below
        yield from _subclasses(below)


# By class: its name, what gives its fields, its check. Made once, as every candidate of a search comes through here.
_PLANS = {kind: (kind.__name__, _parts(kind), _CHECKS.get(kind)) for kind in _subclasses(ast.AST)}
