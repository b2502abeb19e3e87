"""What a process that stays resident, with tens of connections, does about its memory and its pauses at its start."""

from __future__ import annotations

import ctypes
import gc
from asyncio import sslproto

# What asyncio reads into, for each TLS connection: 256 KiB unless told, and tens of watches would be 10 MB.
_TLS_BUFFER = 16 * 1024
# M_ARENA_MAX of glibc's mallopt(3).
_ARENA_MAX = -8


def keep_small() -> None:
    """Small buffers for TLS, one heap for all threads, nothing imported that is looked at for garbage again.

    To be called once all is imported, and before there are connections or threads.
    """
    # Tens of thousands of objects that never go: to read them all held up the API server for 40 ms now and then.
    gc.freeze()
    sslproto.SSLProtocol.max_size = _TLS_BUFFER
    libc = ctypes.CDLL(None)
    # Threads that only wait get a heap each otherwise. Another libc than glibc has no such knob, and no such heaps.
    if hasattr(libc, "mallopt"):
        libc.mallopt(_ARENA_MAX, 1)
