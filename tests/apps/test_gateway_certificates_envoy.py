"""Certificates of gateways through the whole control plane: what a client is shown as Secrets come, change and go."""

from __future__ import annotations

import pathlib

import pytest

from doubles.certificates import Authority
from doubles.secured_gateway import change, connect, edge, secret, shown, tls

pytestmark = pytest.mark.envoy

LISTENERS = ("listener_manager.listener_modified", "listener_manager.listener_in_place_updated")


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


LATE = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: late}
spec:
  selector: {istio: edge}
  servers:
  - {port: {number: 443, name: late, protocol: HTTPS}, bind: "unix://FOLDER/s", hosts: [late.example],
     tls: {mode: SIMPLE, serverCertificate: FOLDER/late.crt, privateKey: FOLDER/late.key}}
"""


async def test_a_file_that_is_missing_harms_no_other_server(tmp_path: pathlib.Path) -> None:
    """It is the proxy's own lack, and so no fault of the Gateway's, which stays in effect."""
    one = Authority().issue("one.example")
    async with edge(tmp_path, tls("one", one), LATE.replace("FOLDER", str(tmp_path))) as (ground, _):
        assert await shown(tmp_path, "one.example") == one.serial
        assert await shown(tmp_path, "late.example") is None
        assert [each for each in ground.istiod.problems() if each.code == "envoy-refused"] == []
