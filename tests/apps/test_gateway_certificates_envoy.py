"""Certificates of gateways through the whole control plane: what a client is shown as Secrets come, change and go."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import pathlib
import ssl
from collections.abc import AsyncIterator

import pytest
from cryptography import x509

from doubles.certificates import Authority, Identity
from doubles.control_planes import Ground, control_plane
from doubles.envoy_process import EnvoyProcess
from ostria.base import ObjectKey
from ostria.mesh.traits import ProxyType

pytestmark = pytest.mark.envoy

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
LISTENERS = ("listener_manager.listener_modified", "listener_manager.listener_in_place_updated")


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


async def connect(folder: pathlib.Path, name: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return await asyncio.open_unix_connection(str(folder / "s"), ssl=context, server_hostname=name)


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


async def test_a_secret_comes_changes_breaks_and_goes(tmp_path: pathlib.Path) -> None:
    authority = Authority()
    first, second, third = (authority.issue("one.example") for _ in range(3))
    wildcard, file = authority.issue("*.example"), authority.issue("file.example")
    async with edge(tmp_path, tls("one", first), tls("wildcard", wildcard)) as (ground, envoy):
        # One that is missing neither delays nor removes the listener, and its name is not answered by a wildcard's.
        assert await shown(tmp_path, "one.example") == first.serial
        assert await shown(tmp_path, "other.example") == wildcard.serial
        assert await shown(tmp_path, "two.example") is None
        assert await shown(tmp_path, "file.example") is None

        # A change is a Secret's and nothing else's: no listener is touched, and open connections go on.
        before = await envoy.stats(*LISTENERS)
        reader, writer = await connect(tmp_path, "one.example")
        await change(ground, tls("one", second))
        assert await shown(tmp_path, "one.example") == second.serial
        assert await envoy.stats(*LISTENERS) == before
        writer.write(b"GET / HTTP/1.1\r\nhost: one.example\r\n\r\n")
        assert b"404" in await reader.readline()
        writer.close()

        # A broken one leaves the last good one.
        await change(ground, secret("one", tls_crt=third.certificate, tls_key=first.key))
        assert await shown(tmp_path, "one.example") == second.serial
        await change(ground, secret("one", tls_crt=b"", tls_key=third.key))
        assert await shown(tmp_path, "one.example") == second.serial

        # One that is taken away is served no more; one that comes is, and other names have not been touched.
        reader, writer = await connect(tmp_path, "other.example")
        await change(ground, "-one")
        await change(ground, tls("two", third))
        await change(ground, tls("istio-ingressgateway-certs", file))
        assert await shown(tmp_path, "one.example") is None
        assert await shown(tmp_path, "two.example") == third.serial
        assert await shown(tmp_path, "file.example") == file.serial
        writer.write(b"GET / HTTP/1.1\r\nhost: other.example\r\n\r\n")
        assert b"404" in await reader.readline()
        writer.close()
        assert ground.refusals() == []


async def test_a_secret_that_is_broken_from_the_start_harms_nobody(tmp_path: pathlib.Path) -> None:
    """As after a restart of istiod: there is no last good one."""
    good, bad = Authority().issue("one.example"), Authority().issue("two.example")
    broken = secret("two", tls_crt=bad.certificate, tls_key=good.key)
    async with edge(tmp_path, tls("one", good), broken) as (ground, _):
        assert await shown(tmp_path, "one.example") == good.serial
        assert await shown(tmp_path, "two.example") is None
        await change(ground, tls("two", bad))
        assert await shown(tmp_path, "two.example") == bad.serial
        assert ground.refusals() == []
