"""What is wrong with a mesh although every object by itself is right: said of the object, the field and what to do.

Each module is one subject; it asks mesh/ what it has decided and never decides a second time. Nothing here knows
kubectl, files or sockets.
"""

from ostria.analysis.findings import findings

__all__ = ["findings"]
