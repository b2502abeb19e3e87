"""A gateway in a real Envoy, with servers whose credentials are Secrets, called through a socket."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import pathlib
import ssl
from collections.abc import AsyncIterator

from cryptography import x509

from doubles.certificates import Identity
from doubles.control_planes import Ground, control_plane
from doubles.envoy_process import EnvoyProcess
from ostria.base import ObjectKey
from ostria.mesh.traits import ProxyType

# A socket can be called from outside of the gateway's own network.
MESH = """
apiVersion: v1
kind: Pod
metadata:
  name: edge
  namespace: istio-system
  labels: {istio: edge}
  annotations: {inject.istio.io/templates: gateway}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {istio: edge}
  servers:
  - {port: {number: 443, name: one, protocol: HTTPS}, bind: "unix://FOLDER/s", hosts: [one.example],
     tls: {mode: SIMPLE, credentialName: one}}
  - {port: {number: 443, name: two, protocol: HTTPS}, bind: "unix://FOLDER/s", hosts: [two.example],
     tls: {mode: SIMPLE, credentialName: two}}
  - {port: {number: 443, name: all, protocol: HTTPS}, bind: "unix://FOLDER/s", hosts: ["*.example"],
     tls: {mode: SIMPLE, credentialName: wildcard}}
  - {port: {number: 443, name: file, protocol: HTTPS}, bind: "unix://FOLDER/s", hosts: [file.example],
     tls: {mode: SIMPLE, serverCertificate: /etc/istio/ingressgateway-certs/tls.crt,
           privateKey: /etc/istio/ingressgateway-certs/tls.key}}
"""


def secret(name: str, **data: bytes) -> str:
    encoded = json.dumps({key.replace("_", "."): base64.b64encode(value).decode() for key, value in data.items()})
    return f"apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: istio-system}}\ndata: {encoded}\n"


def tls(name: str, identity: Identity) -> str:
    return secret(name, tls_crt=identity.certificate, tls_key=identity.key)


@contextlib.asynccontextmanager
async def edge(folder: pathlib.Path, *texts: str) -> AsyncIterator[tuple[Ground, EnvoyProcess]]:
    text = "---\n".join((MESH.replace("FOLDER", str(folder)), *texts))
    async with (
        asyncio.timeout(100),
        control_plane(folder, text) as ground,
        ground.proxy("edge", namespace="istio-system", type=ProxyType.GATEWAY) as envoy,
    ):
        await envoy.wait_ready()
        await ground.settled()
        yield ground, envoy


_ANYBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_ANYBODY.check_hostname, _ANYBODY.verify_mode = False, ssl.CERT_NONE


async def connect(folder: pathlib.Path, name: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_unix_connection(str(folder / "s"), ssl=_ANYBODY, server_hostname=name)


async def shown(folder: pathlib.Path, name: str) -> int | None:
    """The serial number of the certificate that a client is shown; None if it is refused."""
    try:
        _, writer = await connect(folder, name)
    except (ssl.SSLError, ConnectionError):
        return None
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(certificate).serial_number


async def change(ground: Ground, text: str) -> None:
    """Put a Secret in or take one out ("-NAME"), and wait until the gateway has accepted what follows from it."""
    epoch = ground.istiod.db.epoch
    if text.startswith("-"):
        ground.source.delete(ObjectKey("", "Secret", "istio-system", text[1:]))
    else:
        ground.source.apply(text)
    await ground.until(lambda: ground.istiod.db.epoch > epoch)
    await ground.settled()
