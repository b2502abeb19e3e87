"""Where a name or a URL leads before any proxy has been asked: what a workload's resolver answers, and which port."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from ostria.analysis.simulation.call import Call, CallMode, CallProtocol, CallTls
from ostria.engine import Engine
from ostria.mesh.endpoints import endpoints
from ostria.mesh.inbound import selecting, target_number
from ostria.mesh.model import Service
from ostria.mesh.services import service
from ostria.mesh.settings import settings
from ostria.mesh.traits import ClientTraits

OUTSIDE = "192.0.2.1"
"""Stands for the address of a host that is none of the mesh's (RFC 5737: no service ever has it)."""

_SCHEMES = {
    "http": (80, CallProtocol.HTTP, CallTls.PLAINTEXT),
    "https": (443, CallProtocol.HTTP, CallTls.TLS),
    "grpc": (80, CallProtocol.HTTP2, CallTls.PLAINTEXT),
    "grpcs": (443, CallProtocol.HTTP2, CallTls.TLS),
    "tcp": (0, CallProtocol.TCP, CallTls.PLAINTEXT),
    "tls": (443, CallProtocol.TCP, CallTls.TLS),
}


class UrlError(ValueError):
    """A URL that nobody can call; the text says why, for people."""


def address_of(db: Engine, host: str, namespace: str) -> str:
    """What the resolver of a pod in `namespace` answers; "" where there is no such name.

    As in a pod: a short name is tried in the own namespace first (kubernetes.io: DNS for Services and Pods). A name
    that looks like one of the world's and is none of the mesh's has an address OUTSIDE.
    """
    host = host.removesuffix(".").lower()
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    domain = settings(db).domain_suffix
    for name in (f"{host}.{namespace}.svc.{domain}", f"{host}.svc.{domain}", f"{host}.{domain}", host):
        found = service(db, name, namespace)
        if found is not None:
            return _address(db, found, namespace)
    inside = "." not in host or host.endswith(f".{domain}")
    return "" if inside else OUTSIDE


def _address(db: Engine, found: Service, namespace: str) -> str:
    for address in found.addresses:
        if "/" not in address:
            return address
    if not found.in_cluster:
        return OUTSIDE
    # A headless service's name has the addresses of its endpoints.
    members = [each for port in found.ports for each in endpoints(db, found.host, namespace, port.number)]
    return members[0].addresses[0] if members else ""


def call_to(db: Engine, url: str, client: ClientTraits, *, mode: CallMode = CallMode.OUTBOUND) -> Call:
    """The call that a URL means. Raises UrlError.

    OUTBOUND: a program beside the client's proxy calls it; the address is "" where its name has none. GATEWAY: the
    world calls it at the client, whose Service may lead to another port. INBOUND: it arrives at the client.
    """
    if "://" not in url:
        url = f"http://{url}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UrlError(f'"{url}" is no URL: {error}') from None
    if parts.scheme not in _SCHEMES:
        raise UrlError(f'"{parts.scheme}" is not a scheme that can be called; there are {", ".join(_SCHEMES)}')
    default, protocol, tls = _SCHEMES[parts.scheme]
    host = parts.hostname or ""
    if not (port or default):
        raise UrlError(f'"{url}" names no port')
    number = port or default
    if mode is CallMode.OUTBOUND:
        if not host:
            raise UrlError(f'"{url}" names no host')
        address = address_of(db, host, client.namespace)
    else:
        address = OUTSIDE
        if mode is CallMode.GATEWAY:
            number = gateway_port(db, number, client)
    named = f"[{host}]" if ":" in host else host
    authority = named if port is None or port == default else f"{named}:{port}"
    path = parts.path or "/"
    headers = (("content-type", "application/grpc"),) if parts.scheme.startswith("grpc") else ()
    return Call(
        address=address,
        port=number,
        mode=mode,
        protocol=protocol,
        tls=tls,
        host=authority if protocol is not CallProtocol.TCP else "",
        path=f"{path}?{parts.query}" if parts.query else path,
        method="POST" if headers else "GET",
        headers=headers,
        sni=host if tls is CallTls.TLS and not _is_address(host) else "",
    )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def gateway_port(db: Engine, port: int, client: ClientTraits) -> int:
    """The port that a gateway's workload is called at when its Service is called at this one."""
    for found in selecting(db, client.namespace):
        described = found.port(port)
        if described is not None and client.has_labels(found.selector):
            return target_number(db, found, described) or port
    return port
