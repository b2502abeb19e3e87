"""The algorithm: marks pushed forward along the readers, values pulled back on demand, equality stops both.

A node is one remembered value: an input fact, an index bucket, or a query with its arguments. Each is in one
of three states:

    CLEAN   the value holds
    CHECK   something further up may have changed: ask the suspects first
    DIRTY   something that was read has changed: compute again

A write sets the readers of what changed to DIRTY and everything behind them to CHECK, each node telling its
readers that it is a suspect. A pull settles the suspects of a CHECK node in the order in which they were read
(an earlier read may decide whether a later one is made at all); if none of them changed, the node is CLEAN
without having run. Asking suspects rather than all reads makes the cost of a pull that of the change, not that
of the number of things read: a list of ten thousand services settles at the price of the one that moved.

A node lives while something reads or watches it. When the last reader goes, it goes, and so do the reads it
alone made; `collect()` does the same for what was asked once from outside and never again.
"""

from __future__ import annotations

import enum
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar

from ostria.engine.tables import Index, Input, Query, Table

P = ParamSpec("P")
R = TypeVar("R")
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

CLEAN, CHECK, DIRTY, RUNNING = range(4)

# The value of a query that has never run; no query returns it, so the first result always counts as different.
_NEVER: Any = object()


class CycleError(RuntimeError):
    """A query asked for itself. Queries form no cycle: this is a defect of the rooms, never of the input."""


class Outcome(enum.Enum):
    """What came of one execution."""

    NEW = "new"
    CHANGED = "changed"
    EQUAL = "equal"


class Execution(NamedTuple):
    """One line of the execution log: a query that ran, and whether its readers had to hear of it."""

    epoch: int
    query: str
    args: tuple[Hashable, ...]
    outcome: Outcome


class Statistics(NamedTuple):
    """A snapshot of the engine's size and work since it was made."""

    epoch: int
    nodes: int
    watched: int
    executions: int


class Epoch(NamedTuple):
    """One atomic write: its number, and how many facts it changed (0: nothing was different)."""

    number: int
    changed: int


class Node:
    """One remembered value."""

    __slots__ = ("args", "deps", "readers", "state", "suspects", "table", "value", "watch")

    def __init__(self, table: Table, args: Any) -> None:
        self.table = table
        self.args = args
        self.value: Any = _NEVER
        self.state = DIRTY
        self.deps: tuple[Node, ...] = ()
        self.readers: dict[Node, None] = {}
        self.suspects: set[Node] | None = None
        self.watch: Watch[Any] | None = None


class Watch(Generic[R]):
    """A standing interest in one query. `value` is what the last `flush` (or the making) found."""

    __slots__ = ("_node", "args", "holders", "query", "value")

    def __init__(self, node: Node, query: Query[..., R], args: tuple[Hashable, ...], value: R) -> None:
        self._node = node
        self.query = query
        self.args = args
        self.value = value
        self.holders = 1

    def __repr__(self) -> str:
        return f"<watch {self.query.name}{self.args!r}>"


class Engine:
    """All that is known of one mesh, and how it hangs together."""

    def __init__(self, *, log_size: int = 10_000) -> None:
        self.log: deque[Execution] = deque(maxlen=log_size)
        self.executions: Counter[str] = Counter()
        self._epoch = 0
        self._facts: dict[Table, dict[Any, Any]] = {}
        self._buckets: dict[Table, dict[Any, _Bucket]] = {}
        self._nodes: dict[Table, dict[Any, Node]] = {}
        self._reads: list[dict[Node, None]] = []
        self._running: list[Node] = []
        self._moved: dict[Node, None] = {}
        self._watched = 0
        self._writing = False

    @property
    def epoch(self) -> int:
        """The number of the last write that changed something."""
        return self._epoch

    def statistics(self) -> Statistics:
        """Sizes and work so far."""
        return Statistics(
            epoch=self._epoch,
            nodes=sum(len(nodes) for nodes in self._nodes.values()),
            watched=self._watched,
            executions=self.executions.total(),
        )

    # --- writing ---------------------------------------------------------------------------------------------

    @contextmanager
    def write(self) -> Iterator[Write]:
        """One atomic epoch: `with db.write() as w: w.set(table, key, value)`. `w.epoch` tells what came of it.

        If the block raises, nothing has changed.
        """
        assert not self._writing, "writes do not nest"
        assert not self._running, "a query must not write"
        self._writing = True
        try:
            write = Write()
            yield write
        finally:
            self._writing = False
        write.epoch = self._commit(write.facts)

    def _commit(self, facts: dict[tuple[Input[Any, Any], Any], Any]) -> Epoch:
        changed = 0
        for (table, key), value in facts.items():
            known = self._facts.setdefault(table, {})
            old = known.get(key)
            if old is value or old == value:
                continue
            if not changed:
                self._epoch += 1
            changed += 1
            if value is None:
                del known[key]
            else:
                known[key] = value
            node = self._nodes.get(table, {}).get(key)
            if node is not None:
                node.value = value
                self._push(node)
            for index in table.indexes:
                self._reindex(index, key, old, value)
        return Epoch(self._epoch, changed)

    def _reindex(self, index: Index[Any, Any, Any], key: Any, old: Any, new: Any) -> None:
        before = set() if old is None else set(index.of(key, old))
        after = set() if new is None else set(index.of(key, new))
        buckets = self._buckets.setdefault(index, {})
        for value in before ^ after:
            bucket = buckets.get(value)
            if bucket is None:
                bucket = buckets[value] = _Bucket()
            if value in after:
                bucket.add(key)
            else:
                bucket.discard(key)
                if not bucket.keys:
                    del buckets[value]
            node = self._nodes.get(index, {}).get(value)
            if node is not None:
                node.value = bucket.sorted()
                self._push(node)

    def _push(self, changed: Node) -> None:
        """The direct readers must run again; everything behind them is suspect."""
        pending: list[Node] = []
        for reader in changed.readers:
            if reader.state == CLEAN:
                pending.append(reader)
                if reader.watch is not None:
                    self._moved[reader] = None
            reader.state = DIRTY
            reader.suspects = None
        while pending:
            node = pending.pop()
            for reader in node.readers:
                if reader.state == CLEAN:
                    reader.state = CHECK
                    reader.suspects = {node}
                    pending.append(reader)
                    if reader.watch is not None:
                        self._moved[reader] = None
                elif reader.state == CHECK:
                    assert reader.suspects is not None
                    reader.suspects.add(node)

    # --- reading ---------------------------------------------------------------------------------------------

    def fact(self, table: Input[K, V], key: K) -> V | None:
        """One ground fact, unrecorded: for shells, never inside a query."""
        assert not self._running, "inside a query, read through the table so that the read is recorded"
        value: V | None = self._facts.get(table, {}).get(key)
        return value

    def facts(self, table: Input[K, V]) -> dict[K, V]:
        """A copy of all ground facts of one table, unrecorded: for shells, never inside a query."""
        assert not self._running, "inside a query, read through an index"
        return dict(self._facts.get(table, {}))

    def read(self, table: Input[Any, Any] | Index[Any, Any, Any], key: Any) -> Any:
        """A recorded read of an input or index. Rooms call the table itself: `services(db, key)`."""
        if not self._reads:
            return self._ground(table, key)
        nodes = self._nodes.setdefault(table, {})
        node = nodes.get(key)
        if node is None:
            node = nodes[key] = Node(table, key)
            node.value = self._ground(table, key)
            node.state = CLEAN
        self._reads[-1][node] = None
        return node.value

    def _ground(self, table: Input[Any, Any] | Index[Any, Any, Any], key: Any) -> Any:
        if isinstance(table, Input):
            return self._facts.get(table, {}).get(key)
        bucket = self._buckets.get(table, {}).get(key)
        return () if bucket is None else bucket.sorted()

    def derive(self, table: Query[..., Any], args: tuple[Hashable, ...]) -> Any:
        """A recorded read of a query. Rooms call the query itself: `cluster(db, host, port)`."""
        node = self._node(table, args)
        if self._reads:
            self._reads[-1][node] = None
        if node.state != CLEAN:
            self._settle(node)
        return node.value

    def _node(self, table: Query[..., Any], args: tuple[Hashable, ...]) -> Node:
        nodes = self._nodes.get(table)
        if nodes is None:
            nodes = self._nodes[table] = {}
        node = nodes.get(args)
        if node is None:
            node = nodes[args] = Node(table, args)
        return node

    def _settle(self, node: Node) -> None:
        """Bring one node to CLEAN, running as little as possible."""
        if node.state == RUNNING:
            path = " -> ".join(n.table.name for n in [*self._running[self._running.index(node) :], node])
            raise CycleError(path)
        if node.state == CHECK:
            suspects = node.suspects or set()
            # One suspect needs no order; of several, an earlier read may make a later one moot.
            ordered = suspects if len(suspects) == 1 else [dep for dep in node.deps if dep in suspects]
            for suspect in ordered:
                if suspect.state != CLEAN:
                    self._settle(suspect)
                if node.state == DIRTY:
                    break
            else:
                node.state = CLEAN
                node.suspects = None
                return
        self._run(node)

    def _run(self, node: Node) -> None:
        query = node.table
        assert isinstance(query, Query)
        reads: dict[Node, None] = {}
        self._reads.append(reads)
        self._running.append(node)
        node.state = RUNNING
        node.suspects = None
        try:
            value = query.function(self, *node.args)
        except BaseException:
            node.state = DIRTY
            # What the failed run read stays recorded, so that a change of it is heard of.
            self._rewire(node, reads)
            raise
        finally:
            self._reads.pop()
            self._running.pop()
        self._rewire(node, reads)
        new = node.value is _NEVER
        equal = node.value is value or node.value == value
        node.state = CLEAN
        if not equal:
            node.value = value
            for reader in node.readers:
                if reader.state != RUNNING:
                    reader.state = DIRTY
                    reader.suspects = None
        self.executions[query.name] += 1
        outcome = Outcome.EQUAL if equal else Outcome.NEW if new else Outcome.CHANGED
        self.log.append(Execution(self._epoch, query.name, node.args, outcome))

    def _rewire(self, node: Node, reads: dict[Node, None]) -> None:
        before = node.deps
        after = tuple(reads)
        if before == after:
            return
        node.deps = after
        for dep in after:
            dep.readers[node] = None
        for dep in before:
            if dep not in reads:
                del dep.readers[node]
                self._release(dep)

    # --- watching --------------------------------------------------------------------------------------------

    def watch(self, query: Query[P, R], *args: P.args, **kwargs: P.kwargs) -> Watch[R]:
        """Hold on to one query: it is computed now, and `flush` tells when its value has changed.

        Watching the same query with the same arguments again gives the same watch, to be unwatched as often.
        """
        assert not kwargs, f"{query.name}: a query takes positional arguments only"
        assert not self._running, "a query must not watch"
        value = self.derive(query, args)
        node = self._nodes[query][args]
        if node.watch is None:
            node.watch = Watch(node, query, args, value)
            self._watched += 1
        else:
            node.watch.holders += 1
        return node.watch

    def unwatch(self, watch: Watch[Any]) -> None:
        """Let go of one hold; with the last one the value is forgotten, unless something else reads it."""
        watch.holders -= 1
        if watch.holders == 0:
            node = watch._node
            node.watch = None
            self._watched -= 1
            self._moved.pop(node, None)
            self._release(node)

    def flush(self) -> list[Watch[Any]]:
        """Settle every watched value that a write may have touched; return those that really changed."""
        assert not self._writing, "flush after the write, not within it"
        changed: list[Watch[Any]] = []
        moved, self._moved = self._moved, {}
        try:
            while moved:
                node = next(iter(moved))
                if node.state != CLEAN:
                    self._settle(node)
                del moved[node]
                watch = node.watch
                if watch is not None and watch.value is not node.value and watch.value != node.value:
                    watch.value = node.value
                    changed.append(watch)
        finally:
            # A query that raised is a defect; what had not been settled is still to be told about.
            self._moved = {**moved, **self._moved}
        return changed

    # --- forgetting ------------------------------------------------------------------------------------------

    def _release(self, node: Node) -> None:
        pending = [node]
        while pending:
            gone = pending.pop()
            if gone.readers or gone.watch is not None or gone.state == RUNNING:
                continue
            nodes = self._nodes[gone.table]
            if nodes.get(gone.args) is not gone:
                continue
            del nodes[gone.args]
            for dep in gone.deps:
                dep.readers.pop(gone, None)
                pending.append(dep)

    def collect(self) -> int:
        """Forget everything that nothing reads and nobody watches; returns how many nodes went."""
        before = self.statistics().nodes
        for nodes in self._nodes.values():
            for node in list(nodes.values()):
                self._release(node)
        return before - self.statistics().nodes

    def nodes(self) -> Iterable[Node]:
        """Every node, for the dump."""
        for nodes in self._nodes.values():
            yield from nodes.values()


class Write:
    """The facts of one epoch; the last one set for a key counts."""

    def __init__(self) -> None:
        self.facts: dict[tuple[Input[Any, Any], Any], Any] = {}
        self.epoch = Epoch(0, 0)

    def set(self, table: Input[K, V], key: K, value: V | None) -> None:
        """State one fact; None takes it back."""
        self.facts[table, key] = value


class _Bucket:
    """The keys of one index value; sorted once a reader asks, and kept sorted by insertion from then on."""

    __slots__ = ("_sorted", "keys")

    def __init__(self) -> None:
        self.keys: set[Any] = set()
        self._sorted: tuple[Any, ...] | None = None

    def add(self, key: Any) -> None:
        self.keys.add(key)
        if self._sorted is not None:
            at = bisect_left(self._sorted, key)
            self._sorted = (*self._sorted[:at], key, *self._sorted[at:])

    def discard(self, key: Any) -> None:
        self.keys.discard(key)
        if self._sorted is not None:
            at = bisect_left(self._sorted, key)
            self._sorted = self._sorted[:at] + self._sorted[at + 1 :]

    def sorted(self) -> tuple[Any, ...]:
        if self._sorted is None:
            self._sorted = tuple(sorted(self.keys))
        return self._sorted
