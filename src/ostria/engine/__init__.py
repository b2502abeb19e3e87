"""The incremental engine: ground facts in, derived values out, and only what a change touches is computed again.

Three nouns make it up. An *input* is a table of ground facts that is written from outside. An *index* lists the
keys of an input by a property of their values, and is kept up while the input is written. A *query* is a pure
function of its arguments and of what it reads through the engine; its reads are recorded, never declared.

    write -> inputs, indexes -> (marks pushed along the readers) -> queries recomputed when pulled -> watched changes

The law behind it: after any sequence of writes every value equals that of a clean rebuild. So a query must be
pure and total for all arguments it can be asked with, its result must be immutable and compare by value, and it
must not read anything that is not an argument or a read through the engine. Queries form no cycle.
A query that raises all the same is a defect, and has its exception for a value until what it read changes.

The engine knows nothing of Kubernetes, Envoy, asyncio, sockets or clocks, and belongs to one thread.
"""

from ostria.engine.core import CycleError, Engine, Epoch, Execution, Outcome, Statistics, Watch, Write
from ostria.engine.dump import dump
from ostria.engine.tables import Index, Input, Query, query

__all__ = [
    "CycleError",
    "Engine",
    "Epoch",
    "Execution",
    "Index",
    "Input",
    "Outcome",
    "Query",
    "Statistics",
    "Watch",
    "Write",
    "dump",
    "query",
]
