"""Envoy's bootstrap from the agent's settings and what the pod says of itself. Loaded by the child only.

Settings, labels, annotations -> bootstrap_of -> the JSON that Envoy is started with
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ostria.agent.settings import Settings
from ostria.envoy.bootstrap import ControlPlane, Proxy, bootstrap
from ostria.envoy.bootstrap_options import read_options

# What tools note on a pod for themselves, which may be long and is nobody's wish of the proxy.
_NOTES = ("kubectl.kubernetes.io/", "kubernetes.io/config.")
_LOCALITY_LABEL = "istio-locality"


def bootstrap_of(
    settings: Settings, labels: Mapping[str, str], annotations: Mapping[str, str], *, ipv6: bool = True
) -> dict[str, Any]:
    """A bootstrap as JSON-able values."""
    addresses = tuple(dict.fromkeys(settings.addresses))
    config = settings.proxy_config
    told = {name: value for name, value in annotations.items() if not name.startswith(_NOTES)}
    proxy = Proxy(
        settings.role,
        addresses,
        settings.pod,
        settings.namespace,
        settings.service_account,
        tuple(sorted(labels.items())),
        settings.workload,
        settings.cluster,
        settings.mesh,
        settings.domain_suffix,
        # A label's value cannot hold the slashes of a locality.
        locality=labels.get(_LOCALITY_LABEL, "").replace(".", "/"),
        node_name=settings.node_name,
        metadata=settings.metadata,
        annotations=tuple(sorted(told.items())),
        config=config,
    )
    plane = ControlPlane(settings.discovery_address, settings.discovery_name, settings.token_file, settings.root_file)
    return bootstrap(
        proxy,
        plane,
        mark=settings.mark,
        concurrency=settings.concurrency,
        # Whether connections are left is known only by the listeners' own statistics.
        kept_stats=("listener.",) if settings.drain.until_idle else (),
        ipv6=ipv6,
        agent_port=settings.agent_port,
        names_socket=settings.names_socket if settings.dns_capture else "",
        options=read_options(config, annotations, dict(settings.metadata), addresses),
    )
