"""One proxy a case: what becomes of calls, which clusters the routes of a table name, what is let in.

The proxy is a pod of the case's labels and addresses; configuration and cluster objects are read as a user's, and the
calls are resolved in the very resources that the proxy would be sent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import pytest

from doubles import conformance
from doubles.meshes import labels_text
from ostria.analysis.simulation import Call, CallMode, CallProtocol, CallTls, Failure, Holdings, Outcome, resolve
from ostria.analysis.simulation.call import MESH_ROOTS
from ostria.analysis.simulation.model import Forward, RouteTable
from ostria.base import Level, ObjectKey
from ostria.engine import Engine
from ostria.envoy.catalogue import names, scope
from ostria.envoy.fragments import ResourceType
from ostria.mesh.allocation import Owner, address_of, owner_of
from ostria.mesh.clients import traits_of
from ostria.mesh.traits import ClientTraits
from ostria.resources import Change, Store, read_text

Case = Mapping[str, Any]


# --- what is out of scope, and what waits -------------------------------------------------------------------------


class Rule(NamedTuple):
    """Why some cases are left out: a feature of the case, seen in what it holds and never in its name."""

    reason: str
    applies: Callable[[Case], bool]


OUT_OF_SCOPE = (
    Rule(
        "the reference's internals: configuration that its own validation refuses, and an output that Envoy refuses",
        lambda case: bool(case.get("skipValidation")),
    ),
)


WAITING: tuple[Rule, ...] = ()
"""Capabilities that are not built yet. Each line goes with the commit that builds it."""


def marked(case: Any) -> Any:
    """A case's parameter with its mark. A case that waits must fail until its line here is gone."""
    (value,) = case.values
    if not value:
        return case
    for rule in OUT_OF_SCOPE:
        if rule.applies(value):
            return pytest.param(value, marks=pytest.mark.skip(reason=rule.reason), id=case.id)
    if found := [rule.reason for rule in WAITING if rule.applies(value)]:
        reason = f"not built yet: {', '.join(found)}"
        return pytest.param(value, marks=pytest.mark.xfail(strict=True, reason=reason), id=case.id)
    return case


# --- the proxy of a case ------------------------------------------------------------------------------------------

_KEYS = {
    "simulation": {"name", "kind", "proxy", "config", "kubernetes", "meshConfig", "features", "calls"},
    "routes": {"name", "kind", "proxy", "config", "kubernetes", "meshConfig", "routeName", "expectVirtualHosts"},
    "inbound": {
        "name", "kind", "proxy", "config", "kubernetes", "meshConfig", "services", "instances",
        "expectInboundClusters", "expectClusterServices", "calls",
    },
}  # fmt: skip
_PROXY_KEYS = {"type", "labels", "metadata", "configNamespace", "ipAddresses"}
_POD = "app"


class Proxy(NamedTuple):
    db: Engine
    client: ClientTraits
    held: Holdings
    gateway: bool


def proxy_of(case: Case) -> Proxy:
    assert set(case) <= _KEYS[case["kind"]], "the runner must know every key"
    told = case["proxy"]
    assert set(told) <= _PROXY_KEYS
    metadata = told.get("metadata") or {}
    namespace = told.get("configNamespace") or metadata.get("NAMESPACE") or "default"
    texts = [pod(told, namespace), mesh_config(case.get("meshConfig") or {}), *instances(case)]
    texts += [conformance.text("traffic", case[part]) for part in ("kubernetes", "config") if case.get(part)]
    db = Engine()
    store = Store(db, envoy_version="1.40.0")
    changes: list[Change] = []
    for text in texts:
        reading = read_text(text, "case.yaml", namespace="default", unknown=Level.WARNING)
        assert not reading.problems, reading.problems
        assert all(change.object for change in reading.changes), reading.changes
        changes += reading.changes
    store.apply(changes)
    client = traits_of(db, ObjectKey("", "Pod", namespace, _POD))
    assert client is not None
    return Proxy(db, client, Holdings.of_client(db, client), told["type"] == "router")


def pod(told: Case, namespace: str) -> str:
    """The workload that the proxy stands beside; node metadata are what its pod would make them."""
    labels = {**((told.get("metadata") or {}).get("LABELS") or {}), **(told.get("labels") or {})}
    metadata = told.get("metadata") or {}
    known = {"LABELS", "NAMESPACE", "CLUSTER_ID"}
    variables = [
        {"name": f"ISTIO_META_{name}", "value": str(value).lower() if isinstance(value, bool) else str(value)}
        for name, value in (told.get("metadata") or {}).items()
        if name not in known
    ]
    addresses = told.get("ipAddresses") or ["1.1.1.1"]
    router = told["type"] == "router"
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": _POD,
                "namespace": namespace,
                "labels": labels,
                "annotations": ({"inject.istio.io/templates": "gateway"} if router else {})
                # What injection marks pods with that have it.
                | ({"ostria.dev/dns-capture": "true"} if metadata.get("DNS_CAPTURE") in (True, "true") else {}),
            },
            "spec": {"containers": [{"name": "istio-proxy", "env": variables}]},
            "status": {
                "phase": "Running",
                "podIP": addresses[0],
                "podIPs": [{"ip": address} for address in addresses],
            },
        }
    )


def mesh_config(value: Case) -> str:
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "istio", "namespace": "istio-system"},
            "data": {"mesh": json.dumps(value)},
        }
    )


def instances(case: Case) -> list[str]:
    """Services of which the proxy itself is an instance, as cluster objects that come to that."""
    told = (case["proxy"].get("labels") or {}) | ((case["proxy"].get("metadata") or {}).get("LABELS") or {})
    assert not case.get("services") or not told, "services that are given directly select by a label of the pod"
    found = []
    for service in case.get("services") or ():
        name, namespace, *rest = service["hostname"].split(".")
        assert rest == ["svc", "cluster", "local"], service
        mine = [each for each in case["instances"] if each["service"] == service["hostname"]]
        by_port = {each["servicePort"]: each for each in mine}
        ports = [(port["name"], port["port"], port["protocol"].lower()) for port in service["ports"]]
        listed = ", ".join(
            f"{{name: {port}, port: {number}, appProtocol: {protocol}, targetPort: {port}}}"
            for port, number, protocol in ports
        )
        targets = ", ".join(
            f"{{name: {port}, port: {by_port[number]['targetPort']}}}" for port, number, _ in ports if number in by_port
        )
        found.append(f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{clusterIP: {service["address"]}, selector: {{}}, ports: [{listed}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}, namespace: {namespace}, labels: {labels_text({"kubernetes.io/service-name": name})}}}
addressType: IPv4
ports: [{targets}]
endpoints:
- addresses: ['{mine[0]["address"]}']
  targetRef: {{kind: Pod, name: {_POD}, namespace: default}}
""")
    return found


# --- calls --------------------------------------------------------------------------------------------------------

_CALL_KEYS = {
    "address", "port", "path", "protocol", "tls", "alpn", "host", "headers", "sni", "callMode", "mtlsSecretConfigName",
}  # fmt: skip
_REFUSED = {"no_filter_chain", "tls_error", "mtls_error"}

# What is wrong behind the route: such calls were resolved all the same.
_RESOLVED = {None, Failure.BLOCKED, Failure.NO_CLUSTER, Failure.NO_ENDPOINTS}


def call_of(told: Case, proxy: Proxy) -> Call:
    assert set(told) <= _CALL_KEYS, "the runner must know every key"
    mode = told.get("callMode") or ("gateway" if proxy.gateway else "outbound")
    tls = CallTls(told.get("tls") or ("tls" if told.get("sni") else "plaintext"))
    host, sni = told.get("host", ""), told.get("sni", "")
    secret = told.get("mtlsSecretConfigName")
    return Call(
        address=told.get("address") or "1.3.3.7",
        port=told["port"],
        mode=CallMode(mode),
        protocol=CallProtocol(told.get("protocol") or "tcp"),
        tls=tls,
        host=host,
        path=told.get("path") or "/",
        headers=tuple(headers_of(told.get("headers") or {})),
        sni=sni or (host if tls is CallTls.TLS else ""),
        alpn=(told["alpn"],) if told.get("alpn") else None,
        authority=authority_of(proxy, secret) if secret else MESH_ROOTS,
    )


def with_our_addresses(case: Case, proxy: Proxy) -> Case:
    """The case with the addresses that this mesh gives, where the reference has calculated some of its own."""
    given: dict[str, str] = {}
    for call in case.get("calls", ()):
        address, host = call["call"].get("address", ""), call["call"].get("host", "")
        if address.startswith("240.240.") and owner_of(proxy.db, address) is None:
            given[address] = address_of(proxy.db, Owner("default", host))[0]
    text = json.dumps(case)
    for theirs, ours in given.items():
        text = text.replace(theirs, ours)
    translated: Case = json.loads(text)
    return translated


def headers_of(told: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for name, value in told.items():
        for each in value if isinstance(value, list) else [value]:
            yield name, str(each)


def authority_of(proxy: Proxy, secret: str) -> str:
    """Whom the server that shows this certificate trusts: its clients have theirs from there."""
    certificate = secret.removeprefix("file-cert:").partition("~")[0]
    for listener in proxy.held.listeners():
        for chain in listener.chains:
            if chain.tls and {secret, certificate} & set(chain.tls.certificates):
                return chain.tls.roots
    return secret


def short(name: str) -> str:
    """A cluster's name without the cluster's domain (see `meta.shortNames`)."""
    return name.removesuffix(".svc.cluster.local")


def check(outcome: Outcome, expect: Case, own: tuple[str, ...] = ()) -> None:
    # A port's chain is named by the address that it listens on; the reference may write the proxy's own for any.
    address, _, port = expect.get("filterChain", "").rpartition("_")
    if address in own:
        expect = {**expect, "filterChain": f"0.0.0.0_{port}"}
    seen = {
        "listener": outcome.listener,
        "filterChain": outcome.chain,
        "routeConfig": outcome.route_config,
        "virtualHost": outcome.virtual_host,
        "route": outcome.route,
        "cluster": outcome.cluster,
    }
    unknown = set(expect) - set(seen) - {"error", "downstreamTls", "strictMatch", "knownBug"}
    assert not unknown, f"the runner does not evaluate {unknown}"
    if expect.get("knownBug"):
        return  # The result on record is wrong, it says itself.
    error = expect.get("error")
    if error is None:
        assert outcome.failure in _RESOLVED, outcome
    else:
        found = str(outcome.failure)
        assert found == error or {found, error} <= _REFUSED, outcome
    # Strictly, what is not named must not be there.
    wanted = dict.fromkeys(seen, "") if expect.get("strictMatch") else {}
    for key, value in {**wanted, **{key: expect[key] for key in seen if key in expect}}.items():
        assert short(seen[key]) == short(value), f"{key}: {outcome}"
    if "downstreamTls" in expect:
        assert outcome.downstream_tls == expect["downstreamTls"], outcome


# --- the three kinds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [marked(case) for case in conformance.cases("traffic")])
def test_traffic(case: dict[str, Any]) -> None:
    proxy = proxy_of(case)
    case = dict(with_our_addresses(case, proxy))
    everything_is_there(proxy)
    if case["kind"] == "routes":
        check_routes(proxy, case)
    elif case["kind"] == "inbound":
        check_inbound(proxy, case)
    for told in case.get("calls", ()):
        assert set(told) == {"name", "call", "expect"}
        own = tuple(case["proxy"].get("ipAddresses") or ["1.1.1.1"])
        check(resolve(proxy.held, call_of(told["call"], proxy)), told["expect"], own)


def everything_is_there(proxy: Proxy) -> None:
    """All of it can be made and read, and no table has one domain twice."""
    for listener in proxy.held.listeners():
        for chain in (*listener.chains, *((listener.default,) if listener.default else ())):
            name = getattr(chain.handler, "table", "")
            table = getattr(chain.handler, "inline", None) or (proxy.held.table(name) if name else None)
            assert table or not name, f"{listener.name} names {name}"
            domains = [domain for host in (table.hosts if table else ()) for domain in host.domains]
            assert len(domains) == len(set(domains))
    for name in cluster_names(proxy):
        found = proxy.held.upstream(name)
        assert found is not None
        proxy.held.members(found)


def cluster_names(proxy: Proxy) -> tuple[str, ...]:
    client = scope(proxy.db, ResourceType.CLUSTER, "*").project(proxy.client)
    return names(proxy.db, ResourceType.CLUSTER, client)


def check_routes(proxy: Proxy, case: Case) -> None:
    table = proxy.held.table(case["routeName"])
    for domain, clusters in case["expectVirtualHosts"].items():
        assert clusters_behind(table, domain) == sorted(map(short, clusters or ())), domain


def clusters_behind(table: RouteTable | None, domain: str) -> list[str]:
    found = [host for host in (table.hosts if table else ()) if domain in host.domains]
    actions = [route.action for host in found for route in host.routes if isinstance(route.action, Forward)]
    return sorted(short(target.cluster) for action in actions for target in action.targets)


def check_inbound(proxy: Proxy, case: Case) -> None:
    wanted = case["expectInboundClusters"]
    assert {name for name in cluster_names(proxy) if name.startswith("inbound|")} == set(wanted)
    for name, places in wanted.items():
        found = proxy.held.upstream(name)
        assert found is not None
        members = proxy.held.members(found)
        assert [f"{each.address}:{each.port}" if each.port else each.address for each in members] == places
        assert (found.discovery == "ORIGINAL_DST") == (not places)
    for name, services in case["expectClusterServices"].items():
        found = proxy.held.upstream(name)
        assert found is not None
        assert sorted(found.services) == sorted(services)
