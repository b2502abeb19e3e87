"""Who the peer is: what a mesh's proxies tell each other of their workloads. For telemetry, never for authorization.

    caller's router            puts PEER_HEADER on what goes to an endpoint of the mesh; what an application wrote there
                               is dropped wherever it goes
    callee, mutual TLS         reads it into the dynamic metadata PEER, and drops it before any other filter sees it
    callee, anything else      drops it: whoever has not shown a certificate of the mesh says nothing

The facts are in the proxy's environment (PEER_VARIABLE), where the agent puts them: so nothing that is generated
differs between two proxies. A peer that sends none (Istio's, a proxyless client) is known by its certificate's SPIFFE
id only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any as Untyped
from typing import NamedTuple
from urllib.parse import quote

from envoy.config.core.v3.base_pb2 import HeaderValueOption
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.extensions.filters.http.header_mutation.v3.header_mutation_pb2 import HeaderMutation, Mutations
from envoy.extensions.filters.http.header_to_metadata.v3.header_to_metadata_pb2 import Config
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.http.upstream_codec.v3.upstream_codec_pb2 import UpstreamCodec
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from envoy.extensions.http.early_header_mutation.header_mutation.v3.header_mutation_pb2 import (
    HeaderMutation as EarlyHeaderMutation,
)

from ostria.envoy.wire import packed

PEER_HEADER = "x-ostria-peer"
PEER_VARIABLE = "OSTRIA_PEER"
PEER = "ostria.peer"


class Peer(NamedTuple):
    """What telemetry calls a workload by; "" is unknown. The field names are the keys of the dynamic metadata."""

    workload: str = ""
    namespace: str = ""
    app: str = ""
    version: str = ""
    canonical_service: str = ""
    canonical_revision: str = ""
    cluster: str = ""

    @property
    def text(self) -> str:
        """As the header has it."""
        return "|".join(quote(fact, safe="") for fact in self)


def peer_of(workload: str, namespace: str, cluster: str, labels: Mapping[str, str]) -> Peer:
    """A workload as it tells of itself; the canonical names are Istio's.

    https://istio.io/latest/docs/concepts/observability/#canonical-service
    """
    app, version = labels.get("app", ""), labels.get("version", "")
    service = labels.get("service.istio.io/canonical-name") or labels.get("app.kubernetes.io/name") or app or workload
    revision = (
        labels.get("service.istio.io/canonical-revision")
        or labels.get("app.kubernetes.io/version")
        or version
        or "latest"
    )
    return Peer(workload, namespace, app, version, service, revision, cluster)


def _tells() -> Untyped:
    """Three steps, none of which is a condition: Envoy has none here that costs nothing.

    What the endpoint says of its TLS becomes the header; where it says nothing there is none; and where there is one,
    it becomes what is to be told.
    """
    steps = HeaderMutation(mutations=Mutations())
    steps.mutations.request_mutations.add(remove=PEER_HEADER)
    for value, action in (
        ("%UPSTREAM_METADATA(envoy.transport_socket_match:tlsMode)%", HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD),
        (f"%ENVIRONMENT({PEER_VARIABLE})%", HeaderValueOption.OVERWRITE_IF_EXISTS),
    ):
        option = steps.mutations.request_mutations.add().append
        option.header.key = PEER_HEADER
        option.header.value = value
        option.append_action = action
    return steps


def _hears() -> Untyped:
    config = Config()
    for number, fact in enumerate(Peer._fields):
        rule = config.request_rules.add(header=PEER_HEADER, remove=number == len(Peer._fields) - 1)
        rule.on_header_present.metadata_namespace = PEER
        rule.on_header_present.key = fact
        rewrite = rule.on_header_present.regex_value_rewrite
        # What is no fact is read as nothing: a value that does not match would be taken whole.
        rewrite.pattern.regex = rf"^(?:(?:[^|]*\|){{{number}}}([\w.%~-]*)(?:\|.*)?|.*)$"
        rewrite.substitution = r"\1"
    return config


def _filter(name: str, config: Untyped) -> HttpFilter:
    return HttpFilter(name=name, typed_config=packed(config))


TELLING_ROUTER = _filter(
    "envoy.filters.http.router",
    Router(
        upstream_http_filters=[
            _filter("ostria.tells_peer", _tells()),
            _filter("envoy.filters.http.upstream_codec", UpstreamCodec()),
        ]
    ),
)
HEARS_PEER = _filter("ostria.hears_peer", _hears())


def _deaf() -> TypedExtensionConfig:
    mutation = EarlyHeaderMutation()
    mutation.mutations.add(remove=PEER_HEADER)
    return TypedExtensionConfig(name="ostria.ignores_peer", typed_config=packed(mutation))


IGNORES_PEER = _deaf()
