"""Where objects live, as streams of changes: memory, folders of files, a Kubernetes API. One contract for all.

    a place -> batches of `resources.Change` -> `Store.apply`

`source.py` is the contract and tests/sources the rig that every source passes. A source knows how objects are read
and nothing of what they mean. The parts that do IO (`folder`, `kubernetes`, `api`) are imported by their own names.
"""

from ostria.sources.memory import MemorySource
from ostria.sources.source import Apply, Part, Source, Statistics

__all__ = ["Apply", "MemorySource", "Part", "Source", "Statistics"]
