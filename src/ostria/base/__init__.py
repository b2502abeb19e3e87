"""The words every room shares: names of objects and hosts, selectors, durations, YAML that knows its lines, problems.

Nothing here knows a room above it, and nothing here does IO except `logs`, which is told where to write.
"""

from ostria.base.names import ObjectKey
from ostria.base.problems import Level, Origin, Problem

__all__ = ["Level", "ObjectKey", "Origin", "Problem"]
