"""Somebody else signs: over our own API server's CertificateSigningRequests, by a signer that a test is."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509

from doubles.authorities import NOW, csr, intermediate, root
from ostria.base.clock import ManualClock
from ostria.identity.authority import Authority, load
from ostria.identity.issuing import Issued, issue
from ostria.identity.keeping import Answer
from ostria.identity.registration import Registration
from ostria.identity.server import SigningError
from ostria.identity.service_wire import Request
from ostria.identity.spiffe import SpiffeId

REVIEWS = SpiffeId("cluster.local", "default", "reviews")
OWN = load(intermediate(root(), "issuer"), NOW)
CSR = csr(str(REVIEWS))


def signed(authority: Authority = OWN, identity: SpiffeId = REVIEWS, request: bytes = CSR) -> bytes:
    made = issue(request, identity, authority, NOW)
    assert isinstance(made, Issued)
    return made.certificate + authority.chain


class Signer:
    """The API and a controller behind it: `answers` becomes the status of what was approved."""

    def __init__(self, answers: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._answers = answers
        self.objects: dict[str, dict[str, Any]] = {}
        self.asked: list[dict[str, Any]] = []

    async def send(self, method: str, path: str, body: bytes | None) -> Answer:
        if method == "POST":
            value = json.loads(body or b"")
            self.asked.append(value)
            value["metadata"]["name"] = f"{value['metadata']['generateName']}{len(self.asked)}"
            self.objects[f"{path}/{value['metadata']['name']}"] = value
            return Answer(201, json.dumps(value).encode())
        if method == "PUT":
            path, _, part = path.rpartition("/")
            assert part == "approval"
            self.objects[path]["status"] = {**json.loads(body or b"")["status"], **self._answers(self.objects[path])}
        if method == "DELETE":
            self.objects.pop(path)
            return Answer(200, b"")
        return Answer(200, json.dumps(self.objects[path]).encode())


def gives(certificate: bytes) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda _: {"certificate": base64.b64encode(certificate).decode()}


class Immediate(ManualClock):
    """Whoever sleeps has slept."""

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)


def registration(signer: Signer, **more: Any) -> Registration:
    return Registration(signer.send, "issuers.cert-manager.io/mesh", lambda: OWN.roots, Immediate(NOW), **more)


async def test_who_was_examined_here_is_approved_and_what_was_signed_there_is_given_on():
    signer = Signer(gives(signed()))
    leaf, chain, roots = await registration(signer).sign(Request(CSR), REVIEWS, 3600)
    assert x509.load_pem_x509_certificate(leaf).issuer == OWN.certificate.subject
    assert (chain, roots) == (OWN.chain, OWN.roots)
    (asked,) = signer.asked
    assert asked["spec"]["signerName"] == "issuers.cert-manager.io/mesh"
    assert asked["spec"]["expirationSeconds"] == 3600
    assert base64.b64decode(asked["spec"]["request"]) == CSR
    # Nothing is left behind.
    assert signer.objects == {}


@pytest.mark.parametrize(
    ("certificate", "words"),
    [
        (b"", "has not signed within 15 s"),
        (b"hello", "holds no certificate"),
        (signed(load(root(), NOW)), "leads to none of the mesh's roots"),
        (signed(identity=REVIEWS._replace(service_account="ratings"), request=csr()), "is not for spiffe://"),
        (signed(request=csr(str(REVIEWS))), "is not for spiffe://"),
    ],
    ids=["silent", "garbage", "foreign root", "another's", "another key"],
)
async def test_what_is_not_as_it_was_asked_for_is_not_given_on(certificate: bytes, words: str):
    signer = Signer(gives(certificate))
    with pytest.raises(SigningError, match=words):
        await registration(signer).sign(Request(CSR), REVIEWS, 3600)
    assert signer.objects == {}


async def test_a_signer_that_denies_is_not_waited_for():
    said = {"conditions": [{"type": "Failed", "reason": "NoPolicy", "message": "not today"}]}
    with pytest.raises(SigningError, match="NoPolicy not today"):
        await registration(Signer(lambda _: said)).sign(Request(CSR), REVIEWS, 3600)


async def test_a_proxy_may_ask_for_another_signer_of_the_domain():
    signer = Signer(gives(signed()))
    await registration(signer, domain="clusterissuers.cert-manager.io").sign(Request(CSR, signer="foo"), REVIEWS, 60)
    assert signer.asked[0]["spec"]["signerName"] == "clusterissuers.cert-manager.io/foo"
    assert signer.asked[0]["spec"]["expirationSeconds"] == 600
    with pytest.raises(SigningError, match="CERT_SIGNER_DOMAIN"):
        await registration(signer).sign(Request(CSR, signer="foo"), REVIEWS, 60)
