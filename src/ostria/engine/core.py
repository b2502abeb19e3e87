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

A query that raises has its exception for a value: its readers are raised to, watching tells of it, and it runs
again when something that it read changes. One defect so stops what is derived through it, and nothing beside it.

A node lives while something reads or watches it. When the last reader goes, it goes, and so do the reads it
alone made; `collect()` does the same for what was asked once from outside and never again.

Two bounds: a chain of queries may be some 150 deep (each level takes a few frames of Python's stack), and
arguments that compare equal are one argument (1, True and 1.0 are).
"""

from __future__ import annotations

import enum
from bisect import bisect_left, insort
from collections import Counter, defaultdict, deque
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, NamedTuple, NoReturn, ParamSpec, TypeVar

from ostria.engine.tables import Index, Input, Query, Table

P = ParamSpec("P")
R = TypeVar("R")
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

CLEAN, CHECK, DIRTY, RUNNING = range(4)

# The value of a query that has never run; no query returns it, so the first result always counts as different.
_NEVER: Any = object()
# How many different values of a query that has few are remembered.
_FEW = 4_096


class CycleError(RuntimeError):
    """A query asked for itself. Queries form no cycle: this is a defect of the rooms, never of the input."""


class Outcome(enum.Enum):
    """What came of one execution."""

    NEW = "new"
    CHANGED = "changed"
    EQUAL = "equal"
    FAILED = "failed"


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
        # Most values have one reader, for which a dict would take more than the node itself; a few have thousands.
        self.readers: Node | tuple[Node, ...] | dict[Node, None] = ()
        self.suspects: set[Node] | None = None
        self.watch: Watch[Any] | None = None

    def add_reader(self, reader: Node) -> None:
        """Note who reads this value."""
        readers = self.readers
        if isinstance(readers, dict):
            readers[reader] = None
        elif isinstance(readers, Node):
            if readers is not reader:
                self.readers = (readers, reader)
        elif not readers:
            self.readers = reader
        elif reader not in readers:
            grown = (*readers, reader)
            self.readers = grown if len(grown) <= 8 else dict.fromkeys(grown)

    def remove_reader(self, reader: Node) -> None:
        """Note who no longer does."""
        readers = self.readers
        if isinstance(readers, dict):
            readers.pop(reader, None)
        elif isinstance(readers, Node):
            self.readers = () if readers is reader else readers
        else:
            self.readers = tuple(other for other in readers if other is not reader)

    def each_reader(self) -> Iterable[Node]:
        """All who read this value."""
        return (self.readers,) if isinstance(self.readers, Node) else self.readers


class _Failure:
    """The value of a query that raised; equal to nothing but itself."""

    __slots__ = ("error", "traceback")

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.traceback = error.__traceback__

    def throw(self) -> NoReturn:
        # Raised as often as it is read: without the reset each raise would lengthen the one traceback.
        raise self.error.with_traceback(self.traceback)


class Watch(Generic[R]):
    """A standing interest in one query."""

    __slots__ = ("_node", "_value", "args", "holders", "query")

    def __init__(self, node: Node, query: Query[..., R], args: tuple[Hashable, ...]) -> None:
        self._node = node
        self._value: Any = node.value
        self.query = query
        self.args = args
        self.holders = 1

    @property
    def value(self) -> R:
        """What the last `flush` (or the making) found; raises what the query raised, if it did."""
        if type(self._value) is _Failure:
            self._value.throw()
        value: R = self._value
        return value

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
        self._nodes: defaultdict[Table, dict[Any, Node]] = defaultdict(dict)
        self._few: defaultdict[Table, dict[Any, Any]] = defaultdict(dict)
        self._reads: list[dict[Node, None]] = []
        self._running: list[Node] = []
        self._moved: dict[Node, None] = {}
        self._unread: list[Node] = []
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
        # First all that runs foreign code (comparisons, what the indexes yield), then all that changes state: if
        # the former raises, nothing has changed.
        changes: list[tuple[Input[Any, Any], Any, Any]] = []
        moves: dict[tuple[Index[Any, Any, Any], Any], _Move] = {}
        for (table, key), value in facts.items():
            old = self._facts.get(table, {}).get(key)
            if old is value or old == value:
                continue
            changes.append((table, key, value))
            for index in table.indexes:
                if index in self._buckets:
                    before = () if old is None else dict.fromkeys(index.of(key, old))
                    after = () if value is None else dict.fromkeys(index.of(key, value))
                    for at in before:
                        if at not in after:
                            moves.setdefault((index, at), _Move([], [])).out.append(key)
                    for at in after:
                        if at not in before:
                            moves.setdefault((index, at), _Move([], [])).into.append(key)
        if changes:
            self._epoch += 1
        for table, key, value in changes:
            known = self._facts.setdefault(table, {})
            if value is None:
                del known[key]
            else:
                known[key] = value
            node = self._nodes.get(table, {}).get(key)
            if node is not None:
                node.value = value
                self._push(node)
        for (index, at), move in moves.items():
            buckets = self._buckets[index]
            bucket = buckets.setdefault(at, _Bucket())
            bucket.change(move)
            if not bucket.keys:
                del buckets[at]
            node = self._nodes.get(index, {}).get(at)
            if node is not None:
                node.value = bucket.sorted()
                self._push(node)
        return Epoch(self._epoch, len(changes))

    def _push(self, changed: Node) -> None:
        """The direct readers must run again; everything behind them is suspect."""
        pending: list[Node] = []
        for reader in changed.each_reader():
            if reader.state == CLEAN:
                pending.append(reader)
                if reader.watch is not None:
                    self._moved[reader] = None
            reader.state = DIRTY
            reader.suspects = None
        while pending:
            node = pending.pop()
            for reader in node.each_reader():
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
        node = self._nodes[table].get(key)
        if node is None:
            node = Node(table, key)
            node.value = self._ground(table, key)
            node.state = CLEAN
            self._nodes[table][key] = node
        self._reads[-1][node] = None
        return node.value

    def _ground(self, table: Input[Any, Any] | Index[Any, Any, Any], key: Any) -> Any:
        if isinstance(table, Input):
            return self._facts.get(table, {}).get(key)
        buckets = self._buckets.get(table)
        if buckets is None:
            buckets = self._buckets[table] = self._build(table)
        bucket = buckets.get(key)
        return () if bucket is None else bucket.sorted()

    def _build(self, index: Index[Any, Any, Any]) -> dict[Any, _Bucket]:
        """An index comes to be when it is first asked, whenever its module was imported; writes then keep it up."""
        buckets: dict[Any, _Bucket] = {}
        for key, fact in self._facts.get(index.source, {}).items():
            for at in index.of(key, fact):
                buckets.setdefault(at, _Bucket()).keys.add(key)
        return buckets

    def derive(self, table: Query[..., Any], args: tuple[Hashable, ...]) -> Any:
        """A recorded read of a query. Rooms call the query itself: `cluster(db, host, port)`."""
        node = self._nodes[table].get(args)
        if node is None:
            node = self._nodes[table][args] = Node(table, args)
        if self._reads:
            self._reads[-1][node] = None
        if node.state != CLEAN:
            if node.state == RUNNING:
                path = [*self._running[self._running.index(node) :], node]
                raise CycleError(" -> ".join(_name(node) for node in path))
            self._settle(node)
        value = node.value
        if type(value) is _Failure:
            value.throw()
        return value

    def _settle(self, node: Node) -> None:
        """Bring one node to CLEAN, running as little as possible."""
        if node.state == CHECK:
            suspects = node.suspects or set()
            # One suspect needs no order; of several, an earlier read may make a later one moot.
            ordered = suspects if len(suspects) == 1 else [dep for dep in node.deps if dep in suspects]
            for suspect in ordered:
                if suspect.state == RUNNING:
                    # It is asking for us, so running us will either not ask for it again or meet the cycle.
                    break
                if suspect.state != CLEAN:
                    self._settle(suspect)
                if node.state != CHECK:
                    break
            else:
                node.state = CLEAN
                node.suspects = None
                return
        if node.state != CLEAN:
            self._run(node)

    def _run(self, node: Node) -> None:
        query = node.table
        assert isinstance(query, Query)
        reads: dict[Node, None] = {}
        self._reads.append(reads)
        self._running.append(node)
        node.state = RUNNING
        node.suspects = None
        value: Any
        try:
            value = query.function(self, *node.args)
            if query.few:
                value = self._one_of(query, value)
        except (MemoryError, RecursionError):
            # These tell of the moment, not of what the query read: nothing is learnt, the next pull tries again.
            raise
        except Exception as error:
            value = _Failure(error)
        finally:
            node.state = DIRTY
            self._reads.pop()
            self._running.pop()
            self._rewire(node, reads)
        known = node.value
        equal = known is value or known == value
        node.state = CLEAN
        if not equal:
            node.value = value
            for reader in node.each_reader():
                if reader.state != RUNNING:
                    reader.state = DIRTY
                    reader.suspects = None
        self.executions[query.name] += 1
        if type(value) is _Failure:
            outcome = Outcome.FAILED
        else:
            outcome = Outcome.EQUAL if equal else Outcome.NEW if known is _NEVER else Outcome.CHANGED
        self.log.append(Execution(self._epoch, query.name, node.args, outcome))
        if self._unread and not self._running:
            self._forget()

    def _one_of(self, query: Query[..., Any], value: Any) -> Any:
        """The first value of a query that was equal to this one."""
        known = self._few[query]
        if len(known) >= _FEW:
            known.clear()  # They are many after all, or were others once: what is used is soon there again.
        return known.setdefault(value, value)

    def _rewire(self, node: Node, reads: dict[Node, None]) -> None:
        before = node.deps
        after = tuple(reads)
        if before == after:
            return
        node.deps = after
        for dep in after:
            dep.add_reader(node)
        for dep in before:
            if dep not in reads:
                dep.remove_reader(node)
                if not dep.readers:
                    self._unread.append(dep)

    # --- watching --------------------------------------------------------------------------------------------

    def watch(self, query: Query[P, R], *args: P.args, **kwargs: P.kwargs) -> Watch[R]:
        """Hold on to one query: it is computed now, and `flush` tells when its value has changed.

        Watching the same query with the same arguments again gives the same watch, to be unwatched as often.
        """
        assert not kwargs, f"{query.name}: a query takes positional arguments only"
        assert not self._running, "a query must not watch"
        self.derive(query, args)
        node = self._nodes[query][args]
        if node.watch is None:
            node.watch = Watch(node, query, args)
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
            self._unread.append(node)
            self._forget()

    def flush(self) -> list[Watch[Any]]:
        """Settle every watched value that a write may have touched; return those that really changed.

        A query that raised is among them, and its `value` raises; it does not keep the others from being told.
        """
        assert not self._writing, "flush after the write, not within it"
        assert not self._running, "a query must not flush"
        for node in self._moved:
            if node.state != CLEAN:
                self._settle(node)
        # Only now, with nothing left that can raise, is anything reported: what is told is told once.
        changed: list[Watch[Any]] = []
        for node in self._moved:
            watch = node.watch
            if watch is not None and watch._value is not node.value and watch._value != node.value:
                watch._value = node.value
                changed.append(watch)
        self._moved.clear()
        return changed

    # --- forgetting ------------------------------------------------------------------------------------------

    def _forget(self) -> None:
        """Let go of what nothing reads any more.

        Never while a query runs: what it has read is not yet wired to it, and looks unread.
        """
        pending, self._unread = self._unread, []
        while pending:
            gone = pending.pop()
            nodes = self._nodes[gone.table]
            if gone.readers or gone.watch is not None or nodes.get(gone.args) is not gone:
                continue
            del nodes[gone.args]
            for dep in gone.deps:
                dep.remove_reader(gone)
                if not dep.readers:
                    pending.append(dep)

    def collect(self) -> int:
        """Forget everything that nothing reads and nobody watches; returns how many nodes went."""
        assert not self._running, "a query must not collect"
        before = self.statistics().nodes
        self._unread.extend(node for node in self.nodes() if not node.readers)
        self._forget()
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


class _Move(NamedTuple):
    """What one epoch did to the keys of one index value."""

    out: list[Any]
    into: list[Any]


class _Bucket:
    """The keys of one index value; sorted once a reader asks, and kept sorted under small changes from then on."""

    __slots__ = ("_sorted", "keys")

    def __init__(self) -> None:
        self.keys: set[Any] = set()
        self._sorted: tuple[Any, ...] | None = None

    def change(self, move: _Move) -> None:
        self.keys.difference_update(move.out)
        self.keys.update(move.into)
        # Each insertion copies the tuple; beyond a few, sorting anew is cheaper.
        if self._sorted is not None and len(move.out) + len(move.into) <= 8:
            keys = list(self._sorted)
            for key in move.out:
                del keys[bisect_left(keys, key)]
            for key in move.into:
                insort(keys, key)
            self._sorted = tuple(keys)
        else:
            self._sorted = None

    def sorted(self) -> tuple[Any, ...]:
        if self._sorted is None:
            self._sorted = tuple(sorted(self.keys))
        return self._sorted


def _name(node: Node) -> str:
    return f"{node.table.name}({', '.join(map(repr, node.args))})"
