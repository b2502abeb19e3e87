"""A registration authority: who asks is examined by the mesh, and somebody else signs, by Kubernetes' API for that.

    request + SpiffeId -> CertificateSigningRequest, approved -> (a signer's controller) -> certificate, checked

See https://istio.io/latest/docs/tasks/security/cert-management/custom-ca-k8s/ and, for the API,
https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/.
"""

from __future__ import annotations

import base64
from collections.abc import Callable

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from ostria.base.clock import Clock
from ostria.identity.authority import is_signed
from ostria.identity.keeping import Answer, Send
from ostria.identity.server import SigningError
from ostria.identity.service_wire import Request
from ostria.identity.spiffe import SpiffeId

COLLECTION = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
PREFIX = "csr-workload-"
USAGES = ("digital signature", "key encipherment", "server auth", "client auth")
BOUND = 15.0
"""How long (seconds) a signer may take."""

_FIRST_LOOK, _LAST_LOOK = 0.05, 1.0
_SHORTEST = 600  # Kubernetes refuses a shorter life.


class _Condition(msgspec.Struct, frozen=True):
    type: str = ""
    status: str = "True"
    reason: str = ""
    message: str = ""


class _Status(msgspec.Struct, frozen=True):
    certificate: bytes = b""
    conditions: tuple[_Condition, ...] = ()


class _Signing(msgspec.Struct, frozen=True):
    status: _Status = _Status()


class Registration:
    """Has requests signed by a Kubernetes signer. `roots` (PEM) are the mesh's, which every answer must lead to.

    `signers` are what a request may ask for in the place of the usual one (MeshConfig and proxies say `certSigners`).
    """

    def __init__(
        self,
        send: Send,
        signer: str,
        roots: Callable[[], bytes],
        clock: Clock,
        *,
        domain: str = "",
        bound: float = BOUND,
    ) -> None:
        self._send = send
        self._signer = signer
        self._roots = roots
        self._clock = clock
        self._domain = domain
        self._bound = bound

    async def sign(self, request: Request, identity: SpiffeId, seconds: float) -> list[bytes]:
        """Certificate, what is between it and the roots, the roots; raises SigningError and what sending raises."""
        signer = f"{self._domain}/{request.signer}" if request.signer and self._domain else self._signer
        if request.signer and not self._domain:
            raise SigningError("no other signer may be asked for here: CERT_SIGNER_DOMAIN is not set")
        document = {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": {"generateName": PREFIX},
            "spec": {
                "request": base64.b64encode(request.csr).decode(),
                "signerName": signer,
                "usages": list(USAGES),
                "expirationSeconds": max(_SHORTEST, round(seconds)),
            },
        }
        answer = await self._send("POST", COLLECTION, msgspec.json.encode(document))
        _expect(answer, "made")
        made = msgspec.json.decode(answer.body)
        name = made["metadata"]["name"]
        try:
            approval = {"type": "Approved", "status": "True", "reason": "MeshWorkload", "message": str(identity)}
            body = {**made, "status": {"conditions": [approval]}}
            _expect(await self._send("PUT", f"{COLLECTION}/{name}/approval", msgspec.json.encode(body)), "approved")
            chain = await self._signed(name, signer)
        finally:
            await self._send("DELETE", f"{COLLECTION}/{name}", None)
        return [*_checked(chain, request.csr, identity, self._roots(), self._clock.now()), self._roots()]

    async def _signed(self, name: str, signer: str) -> bytes:
        until, pause = self._clock.monotonic() + self._bound, _FIRST_LOOK
        while True:
            answer = await self._send("GET", f"{COLLECTION}/{name}", None)
            _expect(answer, "read")
            status = msgspec.json.decode(answer.body, type=_Signing).status
            if status.certificate:
                return status.certificate
            for said in status.conditions:
                if said.type in ("Denied", "Failed"):
                    raise SigningError(f"{signer} does not sign: {said.reason} {said.message}".strip())
            if self._clock.monotonic() + pause > until:
                raise SigningError(f"{signer} has not signed within {self._bound:g} s: does its controller run?")
            await self._clock.sleep(pause)
            pause = min(pause * 2, _LAST_LOOK)


def _expect(answer: Answer, what: str) -> None:
    if answer.status not in (200, 201):
        raise SigningError(f"a CertificateSigningRequest cannot be {what}: status {answer.status}")


def _checked(chain: bytes, csr: bytes, identity: SpiffeId, roots: bytes, now: float) -> list[bytes]:
    """The certificate and what is above it, if it is for this key and this identity and leads to the roots."""
    try:
        leaf, *above = x509.load_pem_x509_certificates(chain)
        asked = x509.load_pem_x509_csr(csr)
        names = list(leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
        tops = x509.load_pem_x509_certificates(roots)
        same = leaf.public_key() == asked.public_key()
    except (ValueError, x509.ExtensionNotFound, UnsupportedAlgorithm):
        raise SigningError("the signer's answer holds no certificate of a workload") from None
    if not same or names != [x509.UniformResourceIdentifier(str(identity))]:
        raise SigningError(f"the signer's certificate is not for {identity} and its key")
    if leaf.not_valid_after_utc.timestamp() <= now:
        raise SigningError("the signer's certificate has ended already")
    current, left = leaf, [each for each in above if each not in tops]
    path: list[x509.Certificate] = []
    while not any(is_signed(current, top) for top in tops):
        upper = next((each for each in left if is_signed(current, each)), None)
        if upper is None:
            raise SigningError("the signer's certificate leads to none of the mesh's roots: add its root to cacerts")
        left.remove(upper)
        path.append(upper)
        current = upper
    pem = [each.public_bytes(_PEM) for each in (leaf, *path)]
    return [pem[0], *([b"".join(pem[1:])] if path else [])]


_PEM = serialization.Encoding.PEM
