"""Where a gateway's credentials come from, who may have them, and what a change of one costs."""

from __future__ import annotations

import base64
import json

import pytest
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret

from doubles.certificates import Authority, Identity
from doubles.meshes import Mesh
from ostria.analysis import findings
from ostria.envoy import catalogue, sds
from ostria.envoy.fragments import ResourceType
from ostria.mesh.gateway_chains import gateway_listeners
from ostria.mesh.traits import ClientTraits, ProxyType

AUTHORITY, OTHERS = Authority(), Authority()
ONE, TWO = AUTHORITY.issue("a.example"), AUTHORITY.issue("b.example")
EDGE = ClientTraits(ProxyType.GATEWAY, "edges", (("istio", "edge"),))
POD = """
apiVersion: v1
kind: Pod
metadata: {name: edge, namespace: edges, labels: {istio: edge}, annotations: {inject.istio.io/templates: gateway}}
"""
GRANT = """
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: in, namespace: shop}
spec:
  from: [{group: %s, kind: Gateway, namespace: %s}]
  to: [{group: "", kind: Secret}]
"""


def gateway(tls: str) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: g}}
spec:
  selector: {{istio: edge}}
  servers: [{{port: {{number: 443, name: https, protocol: HTTPS}}, hosts: [a.example], tls: {tls}}}]
"""


def held(name: str, data: dict[str, bytes], *, namespace: str = "edges", kind: str = "Secret") -> str:
    texts = {key: base64.b64encode(text).decode() if kind == "Secret" else text.decode() for key, text in data.items()}
    return (
        f"apiVersion: v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\ndata: {json.dumps(texts)}\n"
    )


def pair(identity: Identity, **more: bytes) -> dict[str, bytes]:
    return {
        "tls.crt": identity.certificate,
        "tls.key": identity.key,
        **{k.replace("_", "."): v for k, v in more.items()},
    }


def check(mesh: Mesh, *expect: str) -> dict[str, Secret]:
    """The names of the credentials that the gateway's one server asks for; those that it is not sent in brackets."""
    ((chain,),) = (listener.chains for listener in gateway_listeners(mesh.db, EDGE))
    assert chain.tls is not None
    names = [chain.tls.credential, *chain.tls.more_credentials]
    if chain.tls.mode.value in ("mutual", "optional_mutual"):
        names.append(f"{chain.tls.authorities_credential or chain.tls.credential}-cacert")
    sent = {name: sds.resource(mesh.db, name, EDGE) for name in names}
    assert [name if sent[name] else f"[{name}]" for name in names] == list(expect)
    return {name: Secret.FromString(found.body) for name, found in sent.items() if found is not None}


@pytest.mark.parametrize("names", [("tls.crt", "tls.key", "ca.crt", "ca.crl"), ("cert", "key", "cacert", "crl")])
def test_a_secret_of_either_shape(names: tuple[str, ...]) -> None:
    data = dict(zip(names, (ONE.certificate, ONE.key, OTHERS.certificate), strict=False))
    mesh = Mesh(POD, gateway("{mode: MUTUAL, credentialName: c}"), held("c", data))
    sent = check(mesh, "kubernetes://c", "kubernetes://c-cacert")
    assert sent["kubernetes://c"].tls_certificate.private_key.inline_bytes == ONE.key
    assert sent["kubernetes://c-cacert"].validation_context.trusted_ca.inline_bytes == OTHERS.certificate


@pytest.mark.parametrize("kind", ["Secret", "ConfigMap"])
def test_authorities_of_their_own_stand_before_those_beside_the_certificate(kind: str) -> None:
    mesh = Mesh(POD, gateway("{mode: MUTUAL, credentialName: c}"), held("c", pair(ONE, ca_crt=AUTHORITY.certificate)))
    mesh.apply(held("c-cacert", {"ca.crt": OTHERS.certificate}, kind=kind))
    sent = check(mesh, "kubernetes://c", "kubernetes://c-cacert")
    assert sent["kubernetes://c-cacert"].validation_context.trusted_ca.inline_bytes == OTHERS.certificate


def test_authorities_by_a_name_of_their_own() -> None:
    mesh = Mesh(POD, gateway("{mode: MUTUAL, credentialName: c, caCertCredentialName: signers}"), held("c", pair(ONE)))
    check(mesh, "kubernetes://c", "[missing://signers-cacert]")
    mesh.apply(held("signers", {"ca.crt": OTHERS.certificate}, kind="ConfigMap"))
    check(mesh, "kubernetes://c", "kubernetes://signers-cacert")


def test_of_several_certificates_those_that_are_there_are_served() -> None:
    mesh = Mesh(POD, gateway("{mode: SIMPLE, credentialNames: [rsa, ecdsa]}"))
    check(mesh, "[missing://rsa]")
    mesh.apply(held("ecdsa", pair(ONE)))
    check(mesh, "kubernetes://ecdsa")
    mesh.apply(held("rsa", pair(TWO)))
    check(mesh, "kubernetes://rsa", "kubernetes://ecdsa")


@pytest.mark.parametrize("name", ["shop/c", "kubernetes-gateway://shop/c"])
@pytest.mark.parametrize("group", ["gateway.networking.k8s.io", "networking.istio.io"])
def test_another_namespaces_by_a_grant_for_the_gateways_namespace(name: str, group: str) -> None:
    mesh = Mesh(POD, gateway(f'{{mode: SIMPLE, credentialName: "{name}"}}'), held("c", pair(ONE), namespace="shop"))
    check(mesh, "[missing://c]")
    assert sds.resource(mesh.db, "kubernetes-gateway://shop/c", EDGE) is None
    mesh.apply(GRANT % (group, "elsewhere"))
    check(mesh, "[missing://c]")
    mesh.apply(GRANT % (group, "edges"))
    check(mesh, "kubernetes-gateway://shop/c")
    mesh.delete("ReferenceGrant", "in", "shop")
    check(mesh, "[missing://c]")


def test_a_proxy_is_sent_what_it_names_and_nothing_else() -> None:
    mesh = Mesh(POD, gateway("{mode: SIMPLE, credentialName: c}"), held("c", pair(ONE)), held("private", pair(TWO)))
    mesh.apply(held("c", pair(TWO), namespace="default"))
    assert sds.resource(mesh.db, "kubernetes://c", EDGE) is not None
    for name in (
        "kubernetes://private",
        "kubernetes-gateway://default/c",
        "kubernetes://default/c",
        "file-cert:/etc/istio/ingressgateway-certs/a~/b",
    ):
        assert sds.resource(mesh.db, name, EDGE) is None, name
    for client in (EDGE._replace(labels=(("istio", "other"),)), EDGE._replace(proxy_type=ProxyType.SIDECAR)):
        assert sds.resource(mesh.db, "kubernetes://c", client) is None


RULE = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: partner, namespace: edges}
spec:
  host: partner.example.com
  %s
  trafficPolicy: {tls: {mode: MUTUAL, credentialName: client}}
"""


def test_a_rules_credential_is_for_gateways_and_for_the_workloads_that_it_selects() -> None:
    mesh = Mesh(POD, held("client", pair(ONE, ca_crt=AUTHORITY.certificate)), RULE % "")
    sidecar = ClientTraits(ProxyType.SIDECAR, "edges", (("app", "a"),))

    def given(client: ClientTraits) -> list[bool]:
        return [sds.resource(mesh.db, f"kubernetes://client{end}", client) is not None for end in ("", "-cacert")]

    assert (given(EDGE), given(sidecar)) == ([True, True], [False, False])
    mesh.apply(RULE % "workloadSelector: {matchLabels: {app: a}}")
    assert (given(EDGE), given(sidecar)) == ([False, False], [True, True])
    assert given(sidecar._replace(labels=(("app", "b"),))) == [False, False]
    assert given(sidecar._replace(namespace="default")) == [False, False]


def test_files_of_a_mounted_secret_are_the_secrets() -> None:
    certs, roots = "/etc/istio/ingressgateway-certs", "/etc/istio/ingressgateway-ca-certs"
    files = f"serverCertificate: {certs}/a.pem, privateKey: {certs}/a.key, caCertificates: {roots}/ca-chain.cert.pem"
    mesh = Mesh(POD, gateway(f"{{mode: MUTUAL, {files}}}"))
    check(mesh, "[missing://istio-ingressgateway-certs]", "[missing://istio-ingressgateway-ca-certs-cacert]")
    mesh.apply(held("istio-ingressgateway-certs", {"a.pem": ONE.certificate, "a.key": ONE.key}))
    mesh.apply(held("istio-ingressgateway-ca-certs", {"ca-chain.cert.pem": OTHERS.certificate}))
    sent = check(mesh, f"file-cert:{certs}/a.pem~{certs}/a.key", f"file-root:{roots}/ca-chain.cert.pem-cacert")
    assert sent[f"file-cert:{certs}/a.pem~{certs}/a.key"].tls_certificate.private_key.inline_bytes == ONE.key


def test_a_changed_secret_runs_the_queries_of_its_resource_alone() -> None:
    mesh = Mesh(POD, gateway("{mode: SIMPLE, credentialName: c}"), held("c", pair(ONE)))

    def pulled() -> tuple[str, str]:
        secret = catalogue.fragment(mesh.db, ResourceType.SECRET, "kubernetes://c", EDGE)
        (listener,) = catalogue.names(mesh.db, ResourceType.LISTENER, EDGE)
        served = catalogue.fragment(mesh.db, ResourceType.LISTENER, listener, EDGE)
        assert secret is not None
        assert served is not None
        return secret.version, served.version

    before = pulled()
    mesh.ran()
    mesh.apply(held("c", pair(TWO)))
    after = pulled()
    assert (before[0] != after[0], before[1] == after[1]) == (True, True)
    ran = {name.rpartition(".")[2] for name in mesh.ran()}
    assert ran == {"content", "certificate_there", "_credential", "fragment"}


def test_what_is_lacking_is_said_of_the_server_that_names_it() -> None:
    mesh = Mesh(POD, gateway("{mode: MUTUAL, credentialName: c}"), held("unused", pair(ONE)))

    def told() -> list[str]:
        return [f"{problem.code} {problem.field} {problem.message}" for problem in findings(mesh.db)]

    refused, field = "connections for this server's hosts are refused", "spec.servers[0].tls.credentialName"
    assert told() == [
        f"credential-not-served {field} in edges neither c-cacert nor c holds the authorities of clients (ca.crt): "
        f"{refused}",
        f"credential-not-served {field} there is no Secret edges/c with a certificate and its key: {refused}",
    ]
    mesh.apply(held("c", pair(ONE, ca_crt=AUTHORITY.certificate)))
    assert told() == []
    broken = held("c", {"tls.crt": TWO.certificate, "tls.key": ONE.key})
    mesh.take(broken)
    assert told() == [
        f"credential-not-renewed {field} Secret edges/c: tls.key is not the key of the certificate in tls.crt: "
        "the last good one is served on"
    ]
    check(mesh, "kubernetes://c", "kubernetes://c-cacert")
    mesh.take(held("unused", {"tls.crt": TWO.certificate, "tls.key": ONE.key}))
    assert len(told()) == 1
    fresh = Mesh(POD, gateway("{mode: SIMPLE, credentialName: c}")).take(broken)
    (problem,) = findings(fresh.db)
    assert problem.code == "credential-not-renewed"
    assert problem.message.endswith("the last good one is served on, if istiod has seen one since it started")
