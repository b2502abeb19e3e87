"""Many calls of one URL, and what came of them as one JSON document: statuses, failures, times.

    python -m ostria.samples calls [-n 1000] [-c 8] [-X METHOD] [-H NAME:VALUE] [-m SECONDS] URL

Each connection is kept open and used by one thread, as clients do that have a pool. Times are milliseconds.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

MOST_AT_ONCE = 256


class Target(NamedTuple):
    """What is called, and how. `timeout` is in seconds."""

    url: urllib.parse.SplitResult
    method: str
    headers: Mapping[str, str]
    timeout: float


class Tally:
    """What has come of the calls so far; shared by all threads."""

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._left = count
        self.statuses: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.milliseconds: list[float] = []

    def take(self) -> bool:
        """Whether there is one more call to make; it is the taker's."""
        with self._lock:
            self._left -= 1
            return self._left >= 0

    def put(self, status: int, failure: str, milliseconds: float) -> None:
        """One call is done: its status, or in words why it has none."""
        with self._lock:
            if failure:
                self.failures[failure] += 1
            else:
                self.statuses[str(status)] += 1
            self.milliseconds.append(milliseconds)


def _call_on(target: Target, tally: Tally) -> None:
    connection: http.client.HTTPConnection | None = None
    path = urllib.parse.urlunsplit(("", "", target.url.path or "/", target.url.query, ""))
    kind = http.client.HTTPSConnection if target.url.scheme == "https" else http.client.HTTPConnection
    while tally.take():
        began = time.perf_counter()
        status, failure = 0, ""
        try:
            if connection is None:
                connection = kind(target.url.hostname or "", target.url.port, timeout=target.timeout)
            connection.request(target.method, path, headers=dict(target.headers))
            answer = connection.getresponse()
            answer.read()
            status = answer.status
        except (OSError, http.client.HTTPException) as error:
            failure = f"{type(error).__name__}: {error}"[:200]
            if connection is not None:
                connection.close()
            connection = None
        tally.put(status, failure, (time.perf_counter() - began) * 1000)


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """The command; its exit code is 0 whatever the calls came to."""
    parser = argparse.ArgumentParser(prog="calls", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("-n", type=int, default=1)
    parser.add_argument("-c", type=int, default=1)
    parser.add_argument("-X", default="GET")
    parser.add_argument("-H", action="append", default=[])
    parser.add_argument("-m", type=float, default=60.0)
    given = parser.parse_args(arguments)
    headers = dict(part.split(":", 1) for part in given.H)
    target = Target(
        urllib.parse.urlsplit(given.url), given.X, {name: value.strip() for name, value in headers.items()}, given.m
    )
    tally = Tally(given.n)
    began = time.perf_counter()
    threads = [
        threading.Thread(target=_call_on, args=(target, tally)) for _ in range(min(given.c, given.n, MOST_AT_ONCE))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times = sorted(tally.milliseconds)
    json.dump(
        {
            "statuses": dict(sorted(tally.statuses.items())),
            "failures": dict(tally.failures),
            "seconds": time.perf_counter() - began,
            "p50": times[len(times) // 2],
            "p99": times[min(len(times) - 1, len(times) * 99 // 100)],
            "max": times[-1],
        },
        sys.stdout,
    )
    return 0
