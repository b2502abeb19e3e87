"""The declarations: inputs, indexes and queries, as module-level constants of the rooms that own them.

A declaration holds no state; what is known under it lives in an `Engine`, so that any number of meshes can be
computed by one process without touching each other.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

if TYPE_CHECKING:
    from ostria.engine.core import Engine

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
I = TypeVar("I", bound=Hashable)  # noqa: E741 - the value that an index is asked by.
P = ParamSpec("P")
R = TypeVar("R")


class Table:
    """What inputs, indexes and queries have in common: a name for people, and an identity for the engine."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<{type(self).__name__.lower()} {self.name}>"


class Input(Table, Generic[K, V]):
    """A table of ground facts. Calling it reads one fact, or None where there is none, and records the read."""

    __slots__ = ("indexes",)

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.indexes: list[Index[K, V, Any]] = []

    def __call__(self, db: Engine, key: K) -> V | None:
        """The fact under `key`, or None; the read is recorded."""
        value: V | None = db.read(self, key)
        return value


class Index(Table, Generic[K, V, I]):
    """The keys of an input, listed by a property of their values.

    `of` is pure and total and yields the index values of one fact; equal yields wake no reader of the index. Calling
    the index with an index value gives the keys that have it, sorted, so that results do not depend on the order of
    writes; the keys of one table must therefore compare with each other. An engine builds an index when it is first
    asked.
    """

    __slots__ = ("of", "source")

    def __init__(self, name: str, source: Input[K, V], of: Callable[[K, V], Iterable[I]]) -> None:
        super().__init__(name)
        self.source = source
        self.of = of
        source.indexes.append(self)

    def __call__(self, db: Engine, value: I) -> tuple[K, ...]:
        """The keys that have `value`, sorted; the read is recorded."""
        keys: tuple[K, ...] = db.read(self, value)
        return keys


class Query(Table, Generic[P, R]):
    """A derived value: a pure function of its arguments and of what it reads through the engine."""

    __slots__ = ("few", "function")

    def __init__(self, function: Callable[Concatenate[Engine, P], R], name: str, *, few: bool = False) -> None:
        super().__init__(name)
        self.function = function
        self.few = few

    def __call__(self, db: Engine, *args: P.args, **kwargs: P.kwargs) -> R:
        """The value for these arguments, computed if it has to be; the read is recorded."""
        # The arguments are the cache key, and one key must have one spelling.
        assert not kwargs, f"{self.name}: a query takes positional arguments only"
        value: R = db.derive(self, args)
        return value


@overload
def query(function: Callable[Concatenate[Engine, P], R], /) -> Query[P, R]: ...
@overload
def query(
    *, name: str | None = None, few: bool = False
) -> Callable[[Callable[Concatenate[Engine, P], R]], Query[P, R]]: ...


def query(
    function: Callable[Concatenate[Engine, P], R] | None = None, /, *, name: str | None = None, few: bool = False
) -> Query[P, R] | Callable[[Callable[Concatenate[Engine, P], R]], Query[P, R]]:
    """Make a pure function `f(db, *args)` a query; its arguments must be hashable and its result immutable.

    `few`: it comes to the same for most arguments, and equal values are to be one object; they must be hashable.
    """

    def declare(f: Callable[Concatenate[Engine, P], R]) -> Query[P, R]:
        return Query(f, name or f"{f.__module__.removeprefix('ostria.')}.{f.__name__}", few=few)

    return declare(function) if function is not None else declare
