"""Certificates in files, as kubelets mount them: a file that changes is served."""

from __future__ import annotations

import asyncio
import pathlib
import ssl

import pytest
from cryptography import x509

from doubles.certificates import Authority, Identity
from doubles.file_envoy import file_envoy, free_port
from doubles.meshes import Mesh
from doubles.sent_resources import sent
from ostria.base import ObjectKey
from ostria.mesh.clients import traits_of

pytestmark = pytest.mark.envoy

MESH = """
apiVersion: v1
kind: Pod
metadata: {{name: edge, labels: {{istio: edge}}, annotations: {{inject.istio.io/templates: gateway}}}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge}}
spec:
  selector: {{istio: edge}}
  servers:
  - port: {{number: {port}, name: a, protocol: HTTPS}}
    bind: 127.0.0.1
    hosts: [a.example]
    tls:
      mode: MUTUAL
      serverCertificate: {folder}/tls.crt
      privateKey: {folder}/tls.key
      caCertificates: {folder}/ca.crt
"""


def mount(folder: pathlib.Path, identity: Identity, authority: Authority, version: int) -> None:
    """Write the files as a kubelet does: into a folder of their own, to which a link is moved at once."""
    own = folder / f"..{version}"
    own.mkdir(parents=True)
    files = {"tls.crt": identity.certificate, "tls.key": identity.key, "ca.crt": authority.certificate}
    for name, text in files.items():
        (own / name).write_bytes(text)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    (folder / "..data_tmp").symlink_to(own.name)
    (folder / "..data_tmp").rename(folder / "..data")


async def test_files_are_read_again(tmp_path: pathlib.Path) -> None:
    port, files = free_port(), tmp_path / "m"
    servers, old, new = Authority(), Authority(), Authority()
    first, second = servers.issue("a.example"), servers.issue("a.example")
    mount(files, first, old, 1)
    mesh = Mesh(MESH.format(port=port, folder=files))
    client = traits_of(mesh.db, ObjectKey("", "Pod", "default", "edge"))
    assert client is not None

    async def shown(signer: Authority) -> int | None:
        """The serial number that a client is shown whose certificate this authority has signed; None if refused."""
        own = signer.issue("client")
        for name, text in (("own.crt", own.certificate), ("own.key", own.key)):
            (tmp_path / name).write_bytes(text)
        context = ssl.create_default_context(cadata=servers.certificate.decode())
        context.check_hostname = False
        context.load_cert_chain(tmp_path / "own.crt", tmp_path / "own.key")
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="a.example")
        except (ssl.SSLError, ConnectionError):
            return None
        found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return x509.load_der_x509_certificate(found).serial_number

    resources = sent(mesh.db, client, (f"file-cert:{files}/tls.crt~{files}/tls.key", f"file-root:{files}/ca.crt"))
    async with asyncio.timeout(60), file_envoy(tmp_path, **resources):
        assert await shown(old) == first.serial
        assert await shown(new) is None
        mount(files, second, new, 2)
        while await shown(new) != second.serial:
            await asyncio.sleep(0.05)
        assert await shown(old) is None
