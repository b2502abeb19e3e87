"""Real calls from inside a pod, and who has answered them.

    exec `calls` in the caller's container -> statuses, times
    the caller's sidecar: access log       -> upstream host, response flags of exactly these calls
                          or, without one, its own count of requests of each upstream host, before and after
    upstream host -> pod -> its label `version`

So the split is what Envoy did, and not what an answer says of itself.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from ostria.sources.api import Api
from ostria.sources.streams import execute

PROXY = "istio-proxy"
AGENT = "ostria-call"
_FLUSHED = 3.0
_LOOK = 0.2
# Istio's text format: [time] "METHOD PATH PROTOCOL" code flags ... "user agent" "request id" "authority" "host" cluster
_LINE = re.compile(
    r'^\[[^]]*\] "[^"]*" (?P<code>\d+) (?P<flags>\S+) .*'
    r' "(?P<agent>[^"]*)" "[^"]*" "[^"]*" "(?P<host>[^"]*)" (?P<cluster>\S+) '
)


class Request(NamedTuple):
    """What is to be called: a URL, so many times, so many at once, with these headers ("name:value")."""

    url: str
    number: int = 1
    at_once: int = 1
    method: str = "GET"
    headers: tuple[str, ...] = ()
    timeout: float = 60.0


class Outcome(NamedTuple):
    """What has come of the calls. Times are milliseconds, `seconds` is how long all took.

    `split` counts answers by who gave them (`reviews v1`); it is empty if the caller's sidecar could not tell, and
    `source` says how it told: "access log", "statistics" or "". `flags` counts Envoy's response flags other than "-".
    """

    statuses: Mapping[str, int]
    failures: Mapping[str, int]
    p50: float
    p99: float
    max: float
    seconds: float
    split: Mapping[str, int] = {}
    flags: Mapping[str, int] = {}
    source: str = ""


class Logged(NamedTuple):
    """What a line of an access log says of one call."""

    host: str
    flags: str


class CallError(RuntimeError):
    """Why no call could be made, in words."""


def logged(lines: Iterable[str], agent: str) -> list[Logged]:
    """The calls of a user agent in an access log of Istio's text format."""
    found = (_LINE.match(line) for line in lines if agent in line)
    return [Logged(match["host"], match["flags"]) for match in found if match and match["agent"] == agent]


def counts_of_hosts(clusters: Mapping[str, Any]) -> Counter[str]:
    """Envoy's count of requests of each upstream host (`/clusters?format=json`)."""
    counts: Counter[str] = Counter()
    for cluster in clusters.get("cluster_statuses") or ():
        if not str(cluster.get("name", "")).startswith("outbound"):
            continue
        for host in cluster.get("host_statuses") or ():
            address = (host.get("address") or {}).get("socket_address") or {}
            for each in host.get("stats") or ():
                if each.get("name") == "rq_total":
                    counts[f"{address.get('address')}:{address.get('port_value')}"] += int(each.get("value", 0))
    return counts


def writes_log(dump: Mapping[str, Any]) -> bool:
    """Whether listeners write an access log, by Envoy's own word (`/config_dump?resource=dynamic_listeners`)."""
    return b"envoy.extensions.access_loggers." in msgspec.json.encode(dump)


def by_version(hosts: Mapping[str, int], pods: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Counts by host as counts by app and version: `reviews v1`; a host that is no pod counts as itself."""
    names: dict[str, str] = {}
    for pod in pods:
        labels = pod["metadata"].get("labels") or {}
        app = labels.get("app") or labels.get("app.kubernetes.io/name") or pod["metadata"]["name"]
        version = labels.get("version") or labels.get("app.kubernetes.io/version") or ""
        for address in (pod.get("status") or {}).get("podIPs") or ():
            names[address["ip"]] = f"{app} {version}".strip()
    split: Counter[str] = Counter()
    for host, count in hosts.items():
        address = host.rpartition(":")[0].strip("[]")
        if count:
            split[names.get(address, host if host not in ("", "-") else "no upstream")] += count
    return dict(sorted(split.items()))


async def call(
    api: Api, pod: Mapping[str, Any], container: str, request: Request, *, ask: Callable[[str], Any] | None = None
) -> Outcome:
    """Make the calls in a container. `ask` asks the pod's Envoy a path of its admin interface, None without a sidecar.

    Raises CallError, ApiError and FAILURES.
    """
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    given = any(header.lower().startswith("user-agent:") for header in request.headers)
    agent = f"{AGENT}/{pod['metadata'].get('uid', '')[:8]}-{asyncio.get_running_loop().time():.6f}"
    before = counts_of_hosts(await ask("/clusters?format=json")) if ask else Counter()
    headers = request.headers if given else (*request.headers, f"User-Agent:{agent}")
    done = await execute(api, namespace, name, container, _command(request, headers))
    if done.code:
        raise CallError(done.stderr.decode(errors="replace").strip() or f"it ended with code {done.code}")
    outcome = _outcome(done.stdout)
    if ask is None:
        return outcome
    total = request.number
    waits = not given and writes_log(await ask("/config_dump?resource=dynamic_listeners"))
    seen = await _wait_logged(api, namespace, name, agent, total, outcome.seconds) if waits else []
    if seen:
        hosts: Counter[str] = Counter(each.host for each in seen)
        flags = Counter(flag for each in seen for flag in each.flags.split(",") if flag != "-")
        source = "access log"
    else:
        hosts = counts_of_hosts(await ask("/clusters?format=json"))
        hosts.subtract(before)
        flags, source = Counter(), "statistics"
    pods = msgspec.json.decode(await api.get("/api/v1/pods")).get("items") or ()
    return outcome._replace(split=by_version(hosts, pods), flags=dict(sorted(flags.items())), source=source)


def _command(request: Request, headers: Iterable[str]) -> list[str]:
    words = [
        sys.executable,
        "-P",
        "-m",
        "ostria.samples",
        "calls",
        "-n",
        str(request.number),
        "-c",
        str(request.at_once),
    ]
    words += ["-X", request.method, "-m", str(request.timeout)]
    for header in headers:
        words += ["-H", header]
    return [*words, request.url]


def _outcome(printed: bytes) -> Outcome:
    try:
        found = msgspec.json.decode(printed)
        return Outcome(found["statuses"], found["failures"], found["p50"], found["p99"], found["max"], found["seconds"])
    except (ValueError, KeyError) as error:
        raise CallError(f"what was called from has not said what came of it: {error}") from None


async def _wait_logged(api: Api, namespace: str, pod: str, agent: str, total: int, seconds: float) -> list[Logged]:
    """What the sidecar has logged of the calls; it writes its log now and then, so it is waited for a little."""
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
    params = {"container": PROXY, "sinceSeconds": str(int(seconds) + 10)}
    until = asyncio.get_running_loop().time() + _FLUSHED
    while True:
        text = (await api.send("GET", path, accept="*/*", params=params)).decode(errors="replace")
        found = logged(text.splitlines(), agent)
        if len(found) >= total or asyncio.get_running_loop().time() > until:
            return found
        await asyncio.sleep(_LOOK)
