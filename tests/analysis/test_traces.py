"""A call from one end to the other: what is decided where, by whom, and what is said when it fails."""

from __future__ import annotations

import pytest

from ostria.analysis.simulation import (
    Call,
    CallMode,
    CallProtocol,
    CallTls,
    Failure,
    Trace,
    UnknownWorkload,
    UrlError,
    call_to,
    pod_of,
    simulate,
)
from ostria.analysis.simulation.telling import culprit, document, told
from ostria.apps.offline import OfflineMesh
from ostria.mesh.clients import traits_of

SHOP = """\
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: default}
spec: {selector: {app: cart}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart-v1, namespace: default}
spec:
  replicas: 2
  selector: {matchLabels: {app: cart}}
  template:
    metadata: {labels: {app: cart, version: v1}}
    spec: {containers: [{name: cart, image: cart}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: page, namespace: default}
spec:
  selector: {matchLabels: {app: page}}
  template:
    metadata: {labels: {app: page}}
    spec: {containers: [{name: page, image: page}]}
"""

ROUTES = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: cart, namespace: default}
spec:
  hosts: [cart]
  http:
  - match: [{uri: {prefix: /v2}}]
    route:
    - destination:
        host: cart
        subset: v2
  - route: [{destination: {host: cart}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: cart, namespace: default}
spec:
  host: cart
  trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}
  subsets: [{name: v1, labels: {version: v1}}]
"""

INGRESS = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: shop, namespace: default}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [shop.example]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: default}
spec:
  hosts: [shop.example]
  gateways: [shop]
  http: [{match: [{uri: {prefix: /cart}}], route: [{destination: {host: cart}}]}]
"""


def peers(mode: str) -> str:
    return f"""\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: peers, namespace: default}}
spec: {{mtls: {{mode: {mode}}}}}
"""


def mesh(**files: str) -> OfflineMesh:
    made = OfflineMesh((f"{name}.yaml", text) for name, text in {"shop": SHOP, **files}.items())
    assert made.errors == ()
    return made


def trace(
    made: OfflineMesh, url: str, *, at: str = "page", mode: CallMode = CallMode.OUTBOUND, **changes: object
) -> Trace:
    namespace = "istio-system" if mode is CallMode.GATEWAY else "default"
    client = traits_of(made.db, pod_of(made.db, at, namespace))
    assert client is not None
    call: Call = call_to(made.db, url, client, mode=mode)
    return simulate(made.db, client, call._replace(**changes))


def test_it_arrives_at_the_proxy_of_who_is_called() -> None:
    found = trace(mesh(routes=ROUTES), "http://cart/")
    assert found.failure is None
    assert [(each.pod.name, each.outcome.cluster) for each in found.received] == [("cart-v1-0", "inbound|8080||")]
    assert found.received[0].outcome.downstream_tls == "mutual"
    assert [str(each.object) for each in found.deciders] == [
        "VirtualService default/cart",
        "DestinationRule default/cart",
        "Service default/cart",
    ]
    assert str(found.deciders[0].origin) == "routes.yaml:1:1"


def test_a_subset_that_is_not_there_is_found_on_its_line() -> None:
    made = mesh(routes=ROUTES)
    found = trace(made, "http://cart/v2")
    assert found.failure is Failure.NO_CLUSTER
    where, hint = culprit(found, made.origin)
    assert where == "VirtualService default/cart spec.http[0].route[0].destination.subset (routes.yaml:11:9)"
    assert hint == "its subsets are v1"
    cluster = "outbound|80|v2|cart.default.svc.cluster.local"
    assert told(found, made.origin).splitlines()[-3:] == [
        f"fails         there is no cluster {cluster}: the answer is 503 (no_cluster)",
        f"because of    {where}",
        f"try           {hint}",
    ]


def test_two_ends_that_do_not_agree() -> None:
    plain = ROUTES.replace("ISTIO_MUTUAL", "DISABLE")
    assert trace(mesh(routes=plain, peers=peers("PERMISSIVE")), "http://cart/").failure is None
    found = trace(mesh(routes=plain, peers=peers("STRICT")), "http://cart/")
    assert found.sent.failure is None
    assert found.failure is Failure.NO_FILTER_CHAIN
    assert "PeerAuthentication default/peers" in {str(each.object) for each in found.deciders}


def test_who_has_no_proxy_takes_no_mutual_tls() -> None:
    bare = SHOP.replace("{app: cart, version: v1}", '{app: cart, version: v1, sidecar.istio.io/inject: "false"}')
    assert trace(mesh(shop=bare), "http://cart/").failure is None
    assert trace(mesh(shop=bare, routes=ROUTES), "http://cart/").failure is Failure.MTLS_ERROR


def test_from_outside_through_a_gateway() -> None:
    made = mesh(ingress=INGRESS)

    def called(url: str) -> Trace:
        return trace(made, url, at="istio-ingressgateway", mode=CallMode.GATEWAY)

    found = called("http://shop.example/cart")
    # The gateway's Service leads from 80 to the port that its pods listen on.
    assert (found.sent.listener, found.sent.cluster) == (
        "0.0.0.0_8080",
        "outbound|80||cart.default.svc.cluster.local",
    )
    assert [each.pod.name for each in found.received] == ["cart-v1-0"]
    lost = called("http://shop.example/nothing")
    assert (lost.failure, lost.sent.answer and lost.sent.answer.status) == (Failure.NO_ROUTE, 404)
    assert str(lost.deciders[0].object) == "VirtualService default/shop"
    assert called("http://other.example/cart").failure is Failure.NO_VIRTUAL_HOST
    assert called("https://shop.example/cart").failure is Failure.NO_LISTENER


def test_what_a_name_means_to_a_pod() -> None:
    made = mesh()
    addresses = {
        name: trace(made, f"http://{name}/").sent.call.address
        for name in ("cart", "cart.default", "cart.default.svc.cluster.local", "10.0.0.1")
    }
    assert len({*addresses.values()} - {"10.0.0.1"}) == 1
    lost = trace(made, "http://kart/")
    assert (lost.failure, lost.detail) == (
        Failure.NO_ADDRESS,
        "kart has no address: there is no such service, did you mean cart?",
    )
    assert trace(made, "https://example.com/").sent.cluster == "PassthroughCluster"


@pytest.mark.parametrize("url", ["ftp://cart/", "http://cart:x/", "tcp://cart", "http:///path"])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(UrlError):
        trace(mesh(), url)


def test_what_urls_say() -> None:
    made = mesh()
    client = traits_of(made.db, pod_of(made.db, "page"))
    assert client is not None
    grpc = call_to(made.db, "grpc://cart:9000/shop.Cart/Get", client)
    assert (grpc.protocol, grpc.method, grpc.headers) == (
        CallProtocol.HTTP2,
        "POST",
        (("content-type", "application/grpc"),),
    )
    secure = call_to(made.db, "https://cart/a?b=c", client)
    assert (secure.tls, secure.port, secure.sni, secure.host, secure.path) == (
        CallTls.TLS,
        443,
        "cart",
        "cart",
        "/a?b=c",
    )
    assert call_to(made.db, "tcp://cart:5432", client).host == ""


def test_who_is_meant() -> None:
    made = mesh()
    for word in ("cart", "deploy/cart-v1", "cart-v1", "cart-v1-0", "pod/cart-v1-0", "cart.default"):
        assert pod_of(made.db, word).name == "cart-v1-0"
    with pytest.raises(UnknownWorkload) as caught:
        pod_of(made.db, "carts")
    assert caught.value.near[0] == "cart.default"
    with pytest.raises(UnknownWorkload):
        pod_of(made.db, "configmap/cart")


def test_a_document_for_programs() -> None:
    found = document(trace(mesh(routes=ROUTES), "http://cart/"))
    assert found["failure"] is None
    assert found["sent"]["clusters"][0]["endpoints"][0]["tls"]["mode"] == "ISTIO_MUTUAL"
    assert found["deciders"][0] == {
        "kind": "VirtualService",
        "namespace": "default",
        "name": "cart",
        "origin": {"source": "routes.yaml", "line": 1, "column": 1},
    }


def test_namespaces_and_injection() -> None:
    namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: default, labels: {%s}}\n"
    outside = mesh(shop=f"{SHOP}---\n{namespace % 'team: a'}", routes=ROUTES)
    assert trace(outside, "http://cart/").failure is Failure.MTLS_ERROR
    inside = mesh(shop=f"{SHOP}---\n{namespace % 'istio-injection: enabled'}", routes=ROUTES)
    assert trace(inside, "http://cart/").failure is None
