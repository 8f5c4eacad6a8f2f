"""The one registry idiom of the project: tasks, policies, strategies, graders are all looked up by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from rstar_eval.errors import UserError, nearest

T = TypeVar("T")


class Registry(Generic[T]):
    """Names to things of one kind.

    >>> shapes: Registry[int] = Registry("shape")
    >>> _ = shapes.add("square", 4)
    >>> shapes["square"]
    4
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._items: dict[str, T] = {}

    def add(self, name: str, item: T) -> T:
        """Register `item` under `name`; ValueError if the name is taken."""
        if name in self._items:
            raise ValueError(f"{self.kind} {name!r} is already registered")
        self._items[name] = item
        return item

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that registers what it decorates under `name`."""
        return lambda item: self.add(name, item)

    def __getitem__(self, name: str) -> T:
        """Return the item; UserError with the nearest name if it is unknown."""
        try:
            return self._items[name]
        except KeyError:
            raise UserError(f"unknown {self.kind} {name!r}", nearest(name, self._items)) from None

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._items))

    def __len__(self) -> int:
        return len(self._items)
