"""Whoever asks for a certificate that is not theirs is refused, leaves a line in the audit log, and harms nobody.

The whole way is real: tokens of our API server's issuer, TokenReview, the gRPC server over TLS.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from doubles.authorities import NOW, csr, root
from ostria.identity.authority import load
from ostria.identity.issuing import Issued, Policy, issue
from ostria.identity.joining import Joining, made
from ostria.identity.keeping import Answer
from ostria.identity.possession import prove
from ostria.identity.server import CertificateService, Limits
from ostria.identity.service_wire import METHOD, Request, decode_response, encode_request
from ostria.identity.serving import make
from ostria.identity.spiffe import SpiffeId
from ostria.identity.tokens import TokenIdentity, TokenReviewer
from ostria.kubeapi.requests import Document, ResourceKey
from ostria.kubeapi.tokens import Invalid, Issuer, new_key

ISTIOD = "istiod.istio-system.svc"
REVIEWS = SpiffeId("cluster.local", "default", "reviews")
SECRETS = "/api/v1/namespaces/istio-system/secrets"


class Cluster:
    """Accounts and pods whose tokens are real, and Secrets."""

    def __init__(self) -> None:
        account = {"metadata": {"name": "reviews", "uid": "account-1"}}
        pod = {"metadata": {"name": "reviews-v1", "uid": "pod-1"}, "spec": {"serviceAccountName": "reviews"}}
        self.objects: dict[tuple[str, str], Document] = {("serviceaccounts", "reviews"): account}
        self.objects["pods", "reviews-v1"] = pod
        self.secrets: dict[str, bytes] = {}
        self.issuer = Issuer(new_key(), self)

    def get(self, key: ResourceKey, namespace: str, name: str) -> Document | None:
        return self.objects.get((key.plural, name))

    def list(self, key: ResourceKey, namespace: str = "") -> Sequence[Document]:
        return []

    def token(self, audience: str = "istio-ca", *, bound: bool = True, at: float = NOW) -> str:
        reference = {"kind": "Pod", "name": "reviews-v1", "uid": "pod-1"}
        spec = {"audiences": [audience]} | ({"boundObjectRef": reference} if bound else {})
        made = self.issuer.issue("default", "reviews", {"spec": spec}, datetime.fromtimestamp(at, UTC), "1")
        return str(made["status"]["token"])

    async def review(self, path: str, body: bytes) -> bytes:
        spec = json.loads(body)["spec"]
        try:
            found = self.issuer.review(spec["token"], spec["audiences"], datetime.fromtimestamp(NOW, UTC))
        except Invalid as error:
            return json.dumps({"status": {"authenticated": False, "error": str(error)}}).encode()
        extra = {name: list(values) for name, values in found.user.extra}
        user = {"username": found.user.name, "extra": extra}
        status = {"authenticated": True, "user": user, "audiences": list(found.audiences)}
        return json.dumps({"status": status}).encode()

    async def send(self, method: str, path: str, body: bytes | None) -> Answer:
        if method == "POST":
            assert body is not None
            path = f"{path}/{json.loads(body)['metadata']['name']}"
            if path in self.secrets:
                return Answer(409, b"")
            self.secrets[path] = body
        return Answer(200, self.secrets[path]) if path in self.secrets else Answer(404, b"")

    def join_token(self, *, ends: float = NOW + 600) -> str:
        token = made("outside", "printer", ends, os.urandom(40))
        self.secrets[f"{SECRETS}/{token.name}"] = json.dumps(token.document).encode()
        return token.text


class Plane:
    """A control plane's gRPC server with nothing but the certificate service."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.authority = load(root(), NOW)
        self.now = NOW
        self.trusted: set[tuple[str, str]] = set()
        self.service = CertificateService(
            lambda: self.authority,
            TokenReviewer(self.cluster.review).identify,
            lambda: "cluster.local",
            clock=lambda: self.now,
            joining=Joining(self.cluster.send),
            impersonate=self.impersonate,
            clusters=frozenset({"Kubernetes"}),
            limits=Limits(in_a_row=20),
        )
        self.port = 0

    def impersonate(self, caller: TokenIdentity, other: SpiffeId) -> bool:
        return (caller.pod, str(other)) in self.trusted

    def channel(self) -> grpc.aio.Channel:
        credentials = grpc.ssl_channel_credentials(self.authority.roots)
        options = [("grpc.ssl_target_name_override", ISTIOD), ("grpc.use_local_subchannel_pool", 1)]
        return grpc.aio.secure_channel(f"127.0.0.1:{self.port}", credentials, options)

    async def send(self, body: bytes, authorization: str, *more: tuple[str, str]) -> list[bytes]:
        async with self.channel() as channel:
            call: Any = channel.unary_unary(METHOD)
            metadata = (*((("authorization", authorization),) if authorization else ()), *more)
            return decode_response(await call(body, metadata=metadata, timeout=10))

    async def ask(self, request: bytes, authorization: str, **more: str) -> x509.Certificate:
        """The certificate that is given."""
        leaf, *_ = await self.send(encode_request(Request(request, **more)), authorization)  # type: ignore[arg-type]
        return x509.load_pem_x509_certificate(leaf)

    async def refused(self, request: bytes, authorization: str, **more: str) -> grpc.StatusCode:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await self.ask(request, authorization, **more)
        return error.value.code()


@pytest.fixture
async def plane() -> AsyncIterator[Plane]:
    plane = Plane()
    first = make(plane.authority, [ISTIOD], NOW)
    server = grpc.aio.server(handlers=[plane.service])
    plane.port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(first.key, first.chain)]))
    await server.start()
    try:
        yield plane
        # Nothing of it has harmed anybody: who asks for their own certificate gets it.
        plane.now = NOW + 300
        name, *_ = names(await plane.ask(csr(), f"Bearer {plane.cluster.join_token(ends=NOW + 900)}"))
        assert name == "spiffe://cluster.local/ns/outside/sa/printer"
    finally:
        await server.stop(None)


def names(certificate: x509.Certificate) -> list[str]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return found.get_values_for_type(x509.UniformResourceIdentifier)


@pytest.fixture
def audited(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "ostria.audit")
    return caplog


def lines(log: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [each for each in log.records if each.name == "ostria.audit"]


def reasons(log: pytest.LogCaptureFixture) -> list[str]:
    return [getattr(each, "reason", "") for each in lines(log) if each.levelname != "INFO"]


async def test_a_bound_token_of_the_right_audience_has_a_certificate(plane: Plane, audited: pytest.LogCaptureFixture):
    assert names(await plane.ask(csr(), f"Bearer {plane.cluster.token()}")) == [str(REVIEWS)]
    (line,) = lines(audited)
    assert (getattr(line, "caller"), getattr(line, "identity")) == ("default/reviews/reviews-v1", str(REVIEWS))  # noqa: B009
    assert plane.cluster.token() not in str(vars(line))


async def test_a_request_for_somebody_elses_identity(plane: Plane, audited: pytest.LogCaptureFixture):
    other = csr("spiffe://cluster.local/ns/default/sa/ratings")
    assert await plane.refused(other, f"Bearer {plane.cluster.token()}") is grpc.StatusCode.PERMISSION_DENIED
    assert reasons(audited) == [f"the request names another than {REVIEWS}"]


async def test_a_token_for_another_audience(plane: Plane, audited: pytest.LogCaptureFixture):
    foreign = plane.cluster.token("vault")
    assert await plane.refused(csr(), f"Bearer {foreign}") is grpc.StatusCode.UNAUTHENTICATED
    assert reasons(audited) == ["a valid bearer token is required"]


async def test_a_token_of_a_pod_that_was_deleted(plane: Plane, audited: pytest.LogCaptureFixture):
    token = plane.cluster.token()
    del plane.cluster.objects["pods", "reviews-v1"]
    assert await plane.refused(csr(), f"Bearer {token}") is grpc.StatusCode.UNAUTHENTICATED
    assert len(reasons(audited)) == 1


async def test_a_token_of_a_pod_of_the_same_name_that_came_after(plane: Plane):
    token = plane.cluster.token()
    plane.cluster.objects["pods", "reviews-v1"]["metadata"]["uid"] = "pod-2"
    assert await plane.refused(csr(), f"Bearer {token}") is grpc.StatusCode.UNAUTHENTICATED


async def test_a_token_that_is_bound_to_no_pod_or_has_ended(plane: Plane):
    for token in (plane.cluster.token(bound=False), plane.cluster.token(at=NOW - 7200)):
        assert await plane.refused(csr(), f"Bearer {token}") is grpc.StatusCode.UNAUTHENTICATED


async def test_a_join_token_that_is_used_again(plane: Plane, audited: pytest.LogCaptureFixture):
    token = plane.cluster.join_token()
    assert names(await plane.ask(csr(), f"Bearer {token}")) == ["spiffe://cluster.local/ns/outside/sa/printer"]
    assert await plane.refused(csr(), f"Bearer {token}") is grpc.StatusCode.UNAUTHENTICATED
    assert reasons(audited) == ["the join token was used before"]
    secret = token.rpartition(".")[2]
    assert secret not in str([vars(each) for each in audited.records])
    assert secret not in str(plane.cluster.secrets)


async def test_one_of_many_who_come_with_one_join_token_at_once(plane: Plane):
    token = plane.cluster.join_token()
    asked = (plane.ask(csr(), f"Bearer {token}") for _ in range(8))
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(each, x509.Certificate) for each in found) == 1


@pytest.mark.parametrize("change", ["ended", "secret", "id", "form"])
async def test_other_join_tokens(plane: Plane, change: str):
    token = plane.cluster.join_token(ends=NOW - 1 if change == "ended" else NOW + 600)
    head, id, secret = token.split(".")
    text = {
        "ended": token,
        "secret": f"{head}.{id}.{'A' * len(secret)}",
        "id": f"{head}.{'a' * len(id)}.{secret}",
        "form": f"{head}.../secrets/{id}.{secret}",
    }[change]
    assert await plane.refused(csr(), f"Bearer {text}") is grpc.StatusCode.UNAUTHENTICATED


async def test_a_machine_that_has_joined_renews_with_its_certificate_until_it_is_put_out(plane: Plane):
    token = plane.cluster.join_token()
    first, second = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    chain = await plane.send(encode_request(Request(csr(key=first))), f"Bearer {token}")
    request = csr(key=second)
    proof = prove(request, chain[0], first)
    assert names(await plane.ask(request, proof)) == ["spiffe://cluster.local/ns/outside/sa/printer"]
    # Another's request under this proof, a request in another's name, and an end of the certificate.
    assert await plane.refused(csr(), proof) is grpc.StatusCode.UNAUTHENTICATED
    other = csr("spiffe://cluster.local/ns/default/sa/reviews", key=second)
    assert await plane.refused(other, prove(other, chain[0], first)) is grpc.StatusCode.PERMISSION_DENIED
    plane.now = NOW + 2 * 86_400
    assert await plane.refused(request, proof) is grpc.StatusCode.UNAUTHENTICATED
    plane.now = NOW
    plane.cluster.secrets.clear()
    assert await plane.refused(request, proof) is grpc.StatusCode.UNAUTHENTICATED


async def test_a_pods_certificate_does_not_outlive_its_token(plane: Plane):
    key = ec.generate_private_key(ec.SECP256R1())
    chain = await plane.send(encode_request(Request(csr(key=key))), f"Bearer {plane.cluster.token()}")
    request = csr()
    assert await plane.refused(request, prove(request, chain[0], key)) is grpc.StatusCode.UNAUTHENTICATED


async def test_a_certificate_of_a_foreign_authority(plane: Plane):
    plane.cluster.join_token()
    (name,) = plane.cluster.secrets
    unit = f"join:{name.rpartition('-')[2]}"
    printer = SpiffeId("cluster.local", "outside", "printer")
    key, foreign = ec.generate_private_key(ec.SECP256R1()), load(root(), NOW)
    request = csr()
    issued = issue(csr(key=key), printer, foreign, NOW, Policy(), unit=unit)
    assert isinstance(issued, Issued)
    assert await plane.refused(request, prove(request, issued.certificate, key)) is grpc.StatusCode.UNAUTHENTICATED


async def test_who_is_no_nodes_agent_asks_in_anothers_name(plane: Plane, audited: pytest.LogCaptureFixture):
    bearer, other = f"Bearer {plane.cluster.token()}", "spiffe://cluster.local/ns/default/sa/ratings"
    assert await plane.refused(csr(), bearer, impersonated=other) is grpc.StatusCode.UNAUTHENTICATED
    assert reasons(audited) == ["it may not ask in another's name"]
    plane.trusted.add(("reviews-v1", other))
    assert names(await plane.ask(csr(), bearer, impersonated=other)) == [other]


async def test_a_cluster_that_is_not_known_here(plane: Plane):
    body, bearer = encode_request(Request(csr())), f"Bearer {plane.cluster.token()}"
    assert await plane.send(body, bearer, ("clusterid", "Kubernetes"))
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await plane.send(body, bearer, ("clusterid", "elsewhere"))
    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    "request_",
    [
        b"",
        b"hello",
        b"-----BEGIN CERTIFICATE REQUEST-----\n" + b"A" * 100_000,
        csr(key=rsa.generate_private_key(3, 1024)),
    ],
    ids=["empty", "garbage", "oversized", "weak key"],
)
async def test_requests_that_are_none(plane: Plane, request_: bytes, audited: pytest.LogCaptureFixture):
    assert await plane.refused(request_, f"Bearer {plane.cluster.token()}") is grpc.StatusCode.INVALID_ARGUMENT
    assert len(reasons(audited)) == 1


async def test_a_caller_who_never_rests(plane: Plane, audited: pytest.LogCaptureFixture):
    bearer = f"Bearer {plane.cluster.token()}"
    for _ in range(20):
        await plane.ask(csr(), bearer)
    assert await plane.refused(csr(), bearer) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reasons(audited) == ["asks too often: come again"]
    plane.now += 3.0
    await plane.ask(csr(), bearer)


async def test_connections_that_say_nothing_keep_nobody_from_a_certificate(plane: Plane):
    silent = [socket.create_connection(("127.0.0.1", plane.port)) for _ in range(200)]
    try:
        for each in silent[::2]:
            each.sendall(b"\x16\x03\x01")
        await plane.ask(csr(), f"Bearer {plane.cluster.token()}")
    finally:
        for each in silent:
            each.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_garbage_of_every_kind(data: st.DataObject):
    """Neither bytes nor credentials of any kind come to more than a refusal."""
    body = data.draw(st.one_of(st.binary(max_size=300), st.builds(lambda x: encode_request(Request(x)), _TEXT)))
    credentials = data.draw(
        st.one_of(
            st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=80),
            st.builds("Bearer {}".format, st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=80)),
            st.builds("Ostria-Certificate {}".format, st.text("ABC.-_=", max_size=80)),
        )
    )

    async def call() -> None:
        plane = Plane()
        context = _Context(credentials)
        with pytest.raises(_AbortedError):
            await plane.service._create(body, context)  # type: ignore[arg-type]
        assert context.code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.INVALID_ARGUMENT)

    asyncio.run(call())


_TEXT = st.text(st.characters(codec="utf-8"), max_size=300).map(str.encode)


class _AbortedError(Exception):
    pass


class _Context:
    def __init__(self, credentials: str) -> None:
        self._credentials = credentials
        self.code: grpc.StatusCode | None = None

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", self._credentials),)

    def peer(self) -> str:
        return "test"

    async def abort(self, code: grpc.StatusCode, message: str) -> None:
        self.code = code
        raise _AbortedError(message)
