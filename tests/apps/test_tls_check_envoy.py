"""Servers examined from outside: the seeds' Gateway in a real Envoy, and servers that no Envoy would be."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import io
import json
import pathlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from doubles.certificates import Authority, Identity
from doubles.file_envoy import file_envoy, free_port
from doubles.meshes import Mesh
from doubles.sent_resources import sent
from ostria.analysis.tls_check.hello import Version
from ostria.analysis.tls_check.report import ClientCertificate
from ostria.analysis.tls_check.suites import short_name
from ostria.apps.tls_check import Target, Unreachable, examine
from ostria.base import ObjectKey
from ostria.cli.errors import CliError, Exit
from ostria.cli.main import Context, run
from ostria.cli.output import Output
from ostria.mesh.clients import traits_of

MESH = """
apiVersion: v1
kind: Pod
metadata:
  name: edge
  namespace: istio-system
  labels: {{istio: ingressgateway}}
  annotations: {{inject.istio.io/templates: gateway}}
---
apiVersion: networking.istio.io/v1alpha3
kind: Gateway
metadata: {{name: foo}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - port: {{number: {port}, name: https, protocol: HTTPS}}
    bind: 127.0.0.1
    hosts: [foo.example.com]
    tls:
      mode: SIMPLE
      credentialNames: [rsa, ecdsa]
      cipherSuites:
      - CHACHA20-POLY1305-SHA256
      - ECDHE-ECDSA-AES256-GCM-SHA384
      - ECDHE-ECDSA-AES128-GCM-SHA256
      - ECDHE-RSA-AES128-GCM-SHA256
      - ECDHE-ECDSA-AES256-SHA384
      - ECDHE-ECDSA-AES256-SHA256
      - ECDHE-RSA-AES256-SHA256
      - ECDHE-ECDSA-AES256-SHA
      - ECDHE-RSA-AES256-SHA
      - ECDHE-RSA-AES256-GCM-SHA384
      - AES256-GCM-SHA384
      - AES128-GCM-SHA256
  - port: {{number: {port}, name: mutual, protocol: HTTPS}}
    bind: 127.0.0.1
    hosts: [mutual.example.com]
    tls: {{mode: MUTUAL, credentialName: ecdsa, minProtocolVersion: TLSV1_0, maxProtocolVersion: TLSV1_2,
          cipherSuites: [ECDHE-ECDSA-AES128-SHA, DES-CBC3-SHA]}}
  - port: {{number: {port}, name: optional, protocol: HTTPS}}
    bind: 127.0.0.1
    hosts: [optional.example.com]
    tls: {{mode: OPTIONAL_MUTUAL, credentialName: ecdsa, minProtocolVersion: TLSV1_3}}
"""
SERVED = {
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
}


def of_rsa(authority: Authority, name: str) -> Identity:
    """An identity with an RSA key, which signs itself."""
    key = rsa.generate_private_key(65537, 2048)
    known = x509.load_pem_x509_certificate(authority.issue(name).certificate)
    nobody = x509.Name([])
    made = x509.CertificateBuilder(nobody, nobody, key.public_key(), known.serial_number)
    made = made.not_valid_before(known.not_valid_before_utc).not_valid_after(known.not_valid_after_utc)
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    plain = serialization.NoEncryption()
    return Identity(
        made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain),
        authority.certificate,
    )


def secret(name: str, identity: Identity) -> str:
    data = {"tls.crt": identity.certificate, "tls.key": identity.key, "ca.crt": identity.roots}
    encoded = json.dumps({key: base64.b64encode(value).decode() for key, value in data.items()})
    return f"apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: istio-system}}\ndata: {encoded}\n"


@contextlib.asynccontextmanager
async def edge(folder: pathlib.Path, authority: Authority) -> AsyncIterator[int]:
    port = free_port()
    names = ("foo.example.com", "mutual.example.com", "optional.example.com")
    mesh = Mesh(MESH.format(port=port), secret("rsa", of_rsa(authority, names[0])))
    mesh.apply(secret("ecdsa", authority.issue(*names)))
    client = traits_of(mesh.db, ObjectKey("", "Pod", "istio-system", "edge"))
    assert client is not None
    resources = sent(mesh.db, client, ("rsa", "ecdsa", "ecdsa-cacert"))
    async with asyncio.timeout(60), file_envoy(folder, **resources) as envoy:
        yield port
        assert envoy.errors() == []


@pytest.mark.envoy
async def test_the_seeds_gateway_offers_what_it_lists_and_envoy_knows(tmp_path: pathlib.Path) -> None:
    authority = Authority()
    roots = tmp_path / "roots.pem"
    roots.write_bytes(authority.certificate)
    async with edge(tmp_path, authority) as port:
        found = await examine(Target("foo.example.com", port, "127.0.0.1", "foo.example.com", str(roots)))
        offered = {each.version: {short_name(suite) for suite in each.suites} for each in found.offered}
        assert list(offered) == [Version.TLS13, Version.TLS12]
        assert offered[Version.TLS12] == SERVED
        assert len(offered[Version.TLS13]) == 3
        assert found.alpn == ("h2", "http/1.1")
        assert {"X25519", "P-256"} <= set(found.groups)
        assert found.chain[0].names[0] == "foo.example.com"
        assert (found.distrust, found.stapled, found.client_certificate) == ("", "", ClientCertificate.NONE)
        assert found.without_name.startswith("refused")
        assert found.other_name.startswith("refused")

        mutual = await examine(Target("mutual.example.com", port, "127.0.0.1", "mutual.example.com"))
        assert {each.version for each in mutual.offered} == {Version.TLS10, Version.TLS11, Version.TLS12}
        # The other one of the list is for certificates with an RSA key.
        assert {suite for each in mutual.offered for suite in each.suites} == {"TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA"}
        assert mutual.client_certificate is ClientCertificate.REQUIRED
        assert "local issuer" in mutual.distrust

        optional = await examine(Target("optional.example.com", port, "127.0.0.1", "optional.example.com"))
        assert [each.version for each in optional.offered] == [Version.TLS13]
        assert optional.client_certificate is ClientCertificate.OPTIONAL
        with pytest.raises(Unreachable, match=r"refuses every handshake|ends them when TLS begins"):
            await examine(Target("other.example.com", port, "127.0.0.1", "other.example.com"))


def typed(*words: str) -> tuple[int, str]:
    output = Output(io.StringIO(), io.StringIO(), io.StringIO(), {})
    try:
        code = run(["gateway", "tls-check", *words], Context({}, output))
    except CliError as error:
        return error.code, str(error)
    except SystemExit as error:
        return int(error.code or 0), ""
    assert isinstance(output.stdout, io.StringIO)
    return code, output.stdout.getvalue()


@contextlib.asynccontextmanager
async def answering(handle: Any, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        await reader.read()
    writer.close()


async def test_what_is_printed(tmp_path: pathlib.Path) -> None:
    """A server of Python's own, whose chain the given authorities sign."""
    authority = Authority()
    identity = authority.issue("py.example")
    for name, text in (("crt", identity.certificate), ("key", identity.key), ("roots", authority.certificate)):
        (tmp_path / name).write_bytes(text)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    context.set_alpn_protocols(["http/1.1"])
    async with answering(silent, context) as port:
        words = (
            f"py.example:{port}",
            "--resolve",
            f"py.example:{port}:127.0.0.1",
            "--ca-file",
            str(tmp_path / "roots"),
        )
        code, text = await asyncio.to_thread(typed, *words)
        assert (code, text.splitlines()[:2]) == (Exit.OK, [f"py.example:{port} at 127.0.0.1", "grade A"])
        assert "  TLS_AES_256_GCM_SHA384" in text.splitlines()
        assert "ALPN: http/1.1" in text
        code, text = await asyncio.to_thread(typed, *words, "-o", "json")
        document = json.loads(text)
        assert (document["kind"], document["grade"], document["trusted"]) == ("TlsCheck", "A", True)
        assert document["certificates"][0]["names"] == ["py.example"]
        assert datetime.datetime.fromisoformat(document["certificates"][0]["notAfter"]).tzinfo is not None
        code, text = await asyncio.to_thread(typed, *words, "--sni", "other.example")
        assert (code, "M  the certificate is not for other.example" in text) == (Exit.ANALYSIS, True)


async def test_whoever_speaks_no_tls_is_told(tmp_path: pathlib.Path) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with answering(plain) as port:
        code, text = await asyncio.to_thread(typed, f"127.0.0.1:{port}")
        assert (code, "speaks no TLS" in text) == (Exit.UNAVAILABLE, True)
    code, text = await asyncio.to_thread(typed, f"127.0.0.1:{free_port()}")
    assert (code, "connection refused" in text or "connect call failed" in text) == (Exit.UNAVAILABLE, True)
    async with answering(silent) as port:
        code, text = await asyncio.to_thread(typed, f"127.0.0.1:{port}", "--timeout", "0.5")
        assert (code, "it took longer than 0.5 s" in text) == (Exit.TIMEOUT, True)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("https://a.example/",), Exit.USAGE),
        (("a.example:0",), Exit.USAGE),
        (("a.example:99999999999999999999",), Exit.USAGE),
        (("a.example:https",), Exit.USAGE),
        ((":443",), Exit.USAGE),
        (("[::1",), Exit.USAGE),
        (("a.example", "--resolve", "b.example:443:127.0.0.1"), Exit.USAGE),
        (("a.example", "--timeout", "0"), Exit.USAGE),
        (("a b.example",), Exit.USAGE),
        (("a..example",), Exit.USAGE),
        (("a\0.example",), Exit.USAGE),
        (("x" * 64 + ".example",), Exit.USAGE),
        (("a.example", "--ca-file", "/no/such/file"), Exit.BAD_INPUT),
        (("a.example", "--ca-file", "/dev/null/x"), Exit.BAD_INPUT),
        ((), Exit.USAGE),
    ],
)
def test_what_is_typed_wrongly_is_told(words: tuple[str, ...], code: Exit) -> None:
    found, said = typed(*words)
    assert found == code, said
