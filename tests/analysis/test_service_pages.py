"""What the pages on services have people write is taken as it stands, and comes to what they say."""

from __future__ import annotations

import pathlib
import re

import pytest

from doubles.meshes import Mesh
from ostria.analysis.findings import findings
from ostria.analysis.simulation import Call, CallMode, CallProtocol, CallTls, Holdings, resolve
from ostria.envoy.catalogue import fragment, names, scope
from ostria.envoy.fragments import ResourceType
from ostria.install import read
from ostria.mesh.endpoints import endpoints
from ostria.mesh.names import names_of
from ostria.mesh.services import aliases
from ostria.mesh.services import service as service_of
from ostria.mesh.traits import ClientTraits

DOCS = pathlib.Path(__file__).parents[2] / "docs"


def written(page: str) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def mesh_of(page: str) -> Mesh:
    """All manifests of a page, those of later blocks in the place of earlier ones."""
    return Mesh(*(text for text in written(page) if "IstioOperator" not in text))


@pytest.mark.parametrize("page", ["services.md", "external-services.md", "dns.md"])
def test_what_a_page_has_people_write_is_right(page: str) -> None:
    texts = written(page)
    assert texts
    for text in texts:
        if "IstioOperator" in text:
            assert not read([("operator.yaml", text)])[1]
            continue
        mesh = Mesh(text)
        # That a TCP service without addresses needs DNS capture is what the page on names is about.
        found = {f"{each.code} {each.field}" for each in findings(mesh.db)}
        assert found <= {"no-effect spec.ports[0].protocol"}
        client = ClientTraits(dns=True)
        for kind in (ResourceType.CLUSTER, ResourceType.LISTENER):
            for name in names(mesh.db, kind, scope(mesh.db, kind, "*").project(client)):
                assert fragment(mesh.db, kind, name, scope(mesh.db, kind, name).project(client)), name


def test_the_page_on_services() -> None:
    mesh = mesh_of("services.md")
    shop = service_of(mesh.db, "shop.default.svc.cluster.local", "default")
    assert shop is not None
    assert [port.protocol.value for port in shop.ports] == ["http", "grpc", "tcp"]
    assert [alias.name for alias in aliases(mesh.db, shop.host)] == ["store"]


def test_the_page_on_external_services() -> None:
    mesh = mesh_of("external-services.md")
    (machine,) = endpoints(mesh.db, "ledger.internal", "default", 80)
    assert (machine.addresses, machine.port, machine.mesh_tls, machine.weight) == (("192.0.2.20",), 8080, True, 2)
    (socket,) = endpoints(mesh.db, "agent.local", "default", 80)
    assert socket.addresses == ("unix:///var/run/agent.sock",)


def test_a_host_under_a_domain_is_looked_up_when_it_is_called() -> None:
    mesh = mesh_of("external-services.md").apply("""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: plain}
spec: {hosts: ['*.plain.example'], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DYNAMIC_DNS}
""")
    held = Holdings.of_client(mesh.db, ClientTraits(namespace="default"))
    here = {"address": "192.0.2.9", "mode": CallMode.OUTBOUND}
    tls = Call(port=443, protocol=CallProtocol.TCP, tls=CallTls.TLS, sni="a.partner.example", **here)
    plain = Call(port=80, protocol=CallProtocol.HTTP, host="b.plain.example", **here)
    found = [resolve(held, call) for call in (tls, plain)]
    assert [outcome.failure for outcome in found] == [None, None]
    members = [member for outcome in found for share in outcome.shares for member in share.members]
    assert [(each.address, each.port) for each in members] == [("a.partner.example", 443), ("b.plain.example", 80)]


def test_the_page_on_names() -> None:
    (name,) = names_of(mesh_of("dns.md").db, "db.example.com", "default")
    assert [address.partition(".")[0].partition(":")[0] for address in name.addresses] == ["240", "2001"]
