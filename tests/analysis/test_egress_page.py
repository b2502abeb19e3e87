"""What docs/gateways.md says of the egress gateway is so: each hop is resolved in what its proxy would be sent."""

from __future__ import annotations

import pathlib
import re

from doubles.meshes import Mesh, endpoint_slice, service
from ostria.analysis.simulation import Call, CallMode, CallTls, Holdings, Outcome, resolve
from ostria.base import ObjectKey
from ostria.mesh.clients import traits_of
from ostria.mesh.traits import ClientTraits

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "gateways.md"
POD = """
apiVersion: v1
kind: Pod
metadata:
  name: egress
  namespace: istio-system
  labels: {istio: egressgateway}
  annotations: {inject.istio.io/templates: gateway}
"""
HOST = "partner.example.com"


def page() -> str:
    """The page's objects of the egress gateway."""
    found = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (block,) = (block for block in found if "name: partner-through-egress" in block)
    return str(block)


def mesh() -> Mesh:
    selector = {"istio": "egressgateway"}
    own = service("istio-egressgateway", 443, namespace="istio-system", ip="10.96.0.7", target=8443, selector=selector)
    ready = endpoint_slice("istio-egressgateway", {"egress": "10.0.0.7"}, port=8443, namespace="istio-system")
    return Mesh(POD, own, ready, page())


def resolved(client: ClientTraits | None, call: Call) -> Outcome:
    assert client is not None
    return resolve(Holdings.of_client(mesh().db, client), call)


def test_a_workload_calls_the_gateway_with_the_meshs_tls() -> None:
    found = resolved(ClientTraits(namespace="default"), Call("203.0.113.5", 80, host=HOST))
    assert found.failure is None
    assert found.cluster == "outbound|443|partner|istio-egressgateway.istio-system.svc.cluster.local"
    assert [(tls.mode, tls.sni) for tls in found.shares[0].tls] == [("ISTIO_MUTUAL", HOST)]


def test_the_gateway_opens_tls_to_the_partner() -> None:
    client = traits_of(mesh().db, ObjectKey("", "Pod", "istio-system", "egress"))
    call = Call("10.0.0.7", 8443, CallMode.GATEWAY, tls=CallTls.MUTUAL, host=HOST, sni=HOST)
    found = resolved(client, call)
    assert found.failure is None
    assert found.cluster == f"outbound|80||{HOST}"
    assert [(tls.mode, tls.sni) for tls in found.shares[0].tls] == [("TLS", HOST)]
    assert resolved(client, call._replace(tls=CallTls.TLS)).failure is not None
