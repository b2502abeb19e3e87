"""Which of the mesh's clusters an encoded resource names, wherever in it: what a filter's configuration calls, say.

A person's patch may hold messages that nothing here can read field by field, so names are found in the bytes: a string
stands behind its length (protobuf.dev/programming-guides/encoding), and a cluster of the mesh begins with "outbound|".
"""

from __future__ import annotations

import re

_BEGIN = re.compile(rb"outbound\|")
# The prefix of a statistic is spelled like it, but for a semicolon at its end.
_NAME = re.compile(rb"outbound\|\d+\|[\w.-]*\|[\w.*-]+", re.ASCII)
_MORE = 0x80


def named_clusters(body: bytes) -> frozenset[str]:
    """The names of clusters that stand in a message."""
    found: set[str] = set()
    for match in _BEGIN.finditer(body):
        start = match.start()
        # The length is one byte, or two; what stands before it is a tag, whose last byte has no continuation.
        lengths = [body[start - 1]] if start else []
        if start > 1 and body[start - 2] & _MORE:
            lengths.append(body[start - 2] & ~_MORE & 0xFF | body[start - 1] << 7)
        for length in reversed(lengths):
            name = body[start : start + length]
            if len(name) == length and _NAME.fullmatch(name):
                found.add(name.decode())
                break
    return frozenset(found)
