"""What is spoken on a port, as its object says it (istio.io: Protocol Selection)."""

from __future__ import annotations

from ostria.mesh.model import Protocol
from ostria.resources.kubernetes import ServicePort

# Server-first protocols on their well-known ports are never sniffed: both sides would wait for the other's first byte.
SERVER_FIRST_PORTS = {25: Protocol.TCP, 53: Protocol.TCP, 3306: Protocol.MYSQL, 27017: Protocol.MONGO}

# kubernetes.io, "Application protocol": the names that Kubernetes itself defines.
KUBERNETES_APP_PROTOCOLS = {
    "kubernetes.io/h2c": Protocol.HTTP2,
    "kubernetes.io/ws": Protocol.HTTP,
    "kubernetes.io/wss": Protocol.HTTPS,
}


def protocol_of(port: ServicePort) -> Protocol:
    """What a Kubernetes Service port speaks: appProtocol, else the prefix of its name, else to be found out."""
    if port.protocol != "TCP":
        return Protocol.UDP  # SCTP is left alone just as UDP is.
    if port.app_protocol:
        known = KUBERNETES_APP_PROTOCOLS.get(port.app_protocol) or parse_protocol(port.app_protocol)
    else:
        name = port.name.lower()
        known = Protocol.GRPC_WEB if name.startswith("grpc-web") else parse_protocol(name.partition("-")[0])
    return SERVER_FIRST_PORTS.get(port.port, known) if known is Protocol.AUTO else known


def parse_protocol(name: str) -> Protocol:
    """A protocol by its name in any case; AUTO for names that are not one."""
    try:
        return Protocol(name.lower())
    except ValueError:
        return Protocol.AUTO
