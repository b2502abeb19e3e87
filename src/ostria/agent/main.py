"""The agent's command line, which takes pilot-agent's arguments: `proxy`, `istio-iptables`, `wait`, `request`.

`main` can be called in a process that was forked for it; importing this module starts nothing.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence

_USAGE = """usage: ostria agent proxy sidecar|router [--domain NAME] [--concurrency N] ...
       ostria agent wait [--timeoutSeconds 60] [--periodMillis 500] [--requestTimeoutMillis 500] [--url URL]
       ostria agent istio-iptables -p 15001 -z 15006 -u 1337 ...
       ostria agent request [--debug-port 15000] METHOD PATH
"""
_WAIT = {"timeoutSeconds": "60", "periodMillis": "500", "requestTimeoutMillis": "500",
         "url": "http://localhost:15021/healthz/ready"}  # fmt: skip
_REQUEST = {"debug-port": "15000"}


def main(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Run one verb; returns the exit code (64: wrong usage)."""
    verb, *rest = argv or ("",)
    if verb == "proxy":
        from ostria.agent import proxy

        return proxy.run(rest, env)
    if verb == "istio-iptables":
        from ostria.agent import redirection

        return redirection.run(rest)
    try:
        if verb == "wait":
            return _wait(*_options(rest, _WAIT))
        if verb == "request":
            return _request(*_options(rest, _REQUEST))
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
    sys.stderr.write(_USAGE)
    return 64


def _options(argv: Sequence[str], known: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    words: list[str] = []
    options = dict(known)
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("--"):
            words.append(word)
        elif name not in known or not (equals or rest):
            raise ValueError(f"{word} is not understood")
        else:
            options[name] = value if equals else rest.pop(0)
    return words, options


def _wait(words: list[str], options: Mapping[str, str]) -> int:
    """Hold until the proxy is ready: what an application's start can wait for."""
    if words:
        raise ValueError(f"{words[0]} is not understood")
    host, port, path = _place(options["url"])
    limit = time.monotonic() + float(options["timeoutSeconds"])
    period = float(options["periodMillis"]) / 1000
    while True:
        status, text = _ask(host, port, "GET", path, float(options["requestTimeoutMillis"]) / 1000)
        if status == 200:
            return 0
        if time.monotonic() + period > limit:
            sys.stderr.write(f"error: the proxy is not ready after {options['timeoutSeconds']} s: {text.strip()}\n")
            return 124
        time.sleep(period)


def _request(words: list[str], options: Mapping[str, str]) -> int:
    """Ask Envoy's admin interface, or the agent by its port, and print the answer."""
    if len(words) not in (2, 3):
        raise ValueError("a method and a path are needed")
    method, path = words[:2]
    status, text = _ask("127.0.0.1", int(options["debug-port"]), method.upper(), "/" + path.lstrip("/"), 60.0)
    if status == 200:
        sys.stdout.write(text)
        return 0
    sys.stderr.write(f"error: {status or 'no answer'}: {text}\n")
    return 1


def _place(url: str) -> tuple[str, int, str]:
    scheme, _, rest = url.partition("://")
    place, _, path = rest.partition("/")
    host, _, port = place.rpartition(":")
    if scheme != "http" or not port.isdecimal():
        raise ValueError(f"{url} is not http://HOST:PORT/PATH")
    return ("127.0.0.1" if host == "localhost" else host), int(port), f"/{path}"


def _ask(host: str, port: int, method: str, path: str, bound: float) -> tuple[int, str]:
    """Status and text of an answer; 0 and the reason if there is none."""
    from ostria.agent.loop import Loop, now
    from ostria.agent.streams import HttpError, fetch

    answer: list[tuple[int, str]] = []

    async def ask() -> int:
        try:
            answer.append(await fetch((host, port), method, path, now() + bound))
        except (OSError, HttpError) as error:
            answer.append((0, str(error)))
        return 0

    Loop().run(ask())
    return answer[0]


def program() -> int:
    """`pilot-agent`, as people's instructions call it inside a proxy's container."""
    return main(sys.argv[1:], os.environ)


if __name__ == "__main__":
    sys.exit(program())
