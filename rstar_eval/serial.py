"""The one place where records turn into JSON and back, with validation on the way in."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

from rstar_eval.errors import UserError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")


_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}


def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter  # here, because importing it costs start-up time that --help need not pay

    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def to_data(record: object) -> Any:
    """Return a dataclass record as plain dicts, lists and scalars."""
    return _adapter(type(record)).dump_python(record, mode="json")


def from_data(kind: type[T], data: object, where: str) -> T:
    """Return plain data as a record of type `kind`.

    UserError naming `where`, the field and the value if the data does not fit.
    """
    from pydantic import ValidationError

    try:
        return _adapter(kind).validate_python(data)  # type: ignore[no-any-return]
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{where}: {field}: {first['msg'].lower()}, got {first['input']!r:.80}") from None


def canonical(data: object) -> str:
    """Return JSON text that is the same for equal data: sorted keys, no blanks. For hashing."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def line(data: object) -> str:
    """Return one JSON line without its newline. ASCII only: a store must survive lone surrogates from a model."""
    return json.dumps(data, separators=(",", ":"))
