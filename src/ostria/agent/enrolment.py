"""How a workload gets its certificate: a key made here, a request signed with it, the pod's token, one call.

Where the token is one by which a machine joins, it is good for the first certificate; that one is shown for the next.

Runs only in a short-lived child: it loads cryptography and TLS, which nobody wants resident beside every workload.
"""

from __future__ import annotations

import pathlib
import socket
import ssl
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ostria.agent.identity_files import content
from ostria.agent.settings import Settings
from ostria.agent.unary_call import UnaryCall
from ostria.envoy.secrets import CERTIFICATE_CHAIN, PRIVATE_KEY
from ostria.identity.possession import prove
from ostria.identity.service_wire import JOIN_TOKEN, METHOD, Request, decode_response, encode_request
from ostria.identity.spiffe import spiffe_id

BOUND = 20.0
"""How long (seconds) one exchange with the authority may take."""

_SO_MARK = 36
_PEM = serialization.Encoding.PEM


class EnrolmentError(Exception):
    """There is no certificate this time; the message says why."""


class Enrolled(NamedTuple):
    """An identity in PEM, and its life in seconds since 1970."""

    chain: bytes
    key: bytes
    roots: bytes
    not_before: float
    not_after: float


def enrol(settings: Settings) -> Enrolled:
    """Ask the authority for a new certificate; raises EnrolmentError."""
    key = ec.generate_private_key(ec.SECP256R1())
    try:
        name = spiffe_id(settings.trust_domain, settings.namespace, settings.service_account)
        token = pathlib.Path(settings.token_file).read_text().strip()
    except (ValueError, OSError) as error:
        raise EnrolmentError(str(error)) from None
    asked = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(name))])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(asked, critical=True)
    csr = builder.sign(key, hashes.SHA256()).public_bytes(_PEM)
    credentials = _by_certificate(settings, csr) if token.startswith(JOIN_TOKEN) else ""
    body = ask(
        settings, METHOD, credentials or f"Bearer {token}", encode_request(Request(csr, settings.certificate_lifetime))
    )
    try:
        parts = decode_response(body)
        leaf = x509.load_pem_x509_certificate(parts[0])
    except (ValueError, IndexError):
        raise EnrolmentError("the authority's answer holds no certificate") from None
    if len(parts) < 2 or leaf.public_key() != key.public_key():
        raise EnrolmentError("the authority's answer is not for our key, or comes without roots")
    return Enrolled(
        b"".join(part if part.endswith(b"\n") else part + b"\n" for part in parts[:-1]),
        key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        parts[-1],
        *life(leaf),
    )


def _by_certificate(settings: Settings, csr: bytes) -> str:
    """The proof by the certificate that is in force, "" if there is none."""
    folder = pathlib.Path(settings.credentials)
    chain, key = content(folder, CERTIFICATE_CHAIN), content(folder, PRIVATE_KEY)
    if chain is None or key is None:
        return ""
    signer = serialization.load_pem_private_key(key, None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey), "we made it"
    return prove(csr, chain, signer)


def life(certificate: x509.Certificate) -> tuple[float, float]:
    """When a certificate begins and ends, in seconds since 1970."""
    return certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()


def ask(settings: Settings, method: str, authorization: str, message: bytes) -> bytes:
    """One call to the authority's server, with the value of its header `authorization`; raises EnrolmentError."""
    address = settings.authority_address
    call = UnaryCall(
        method,
        message,
        authority=settings.authority_name,
        scheme="https",
        headers={"authorization": authorization},
    )
    try:
        # The authority is known by the roots that every pod is given, and by its name.
        context = ssl.create_default_context(cafile=settings.root_file)
        context.set_alpn_protocols(["h2"])
        with (
            _connected(address, settings.mark) as plain,
            context.wrap_socket(plain, server_hostname=settings.authority_name) as sock,
        ):
            sock.sendall(call.begin())
            while not call.done:
                sock.sendall(call.receive(sock.recv(65536)))
    except (OSError, ValueError) as error:
        raise EnrolmentError(f"{address}: {error}") from None
    if call.message is None:
        raise EnrolmentError(f"{address}: {call.failure}")
    return call.message


def _connected(address: str, mark: int | None) -> socket.socket:
    """A connection that capture lets pass: by our owner's id, or by the mark that Envoy sets too."""
    if address.startswith("unix:"):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(BOUND)
        sock.connect(address.removeprefix("unix:"))
        return sock
    host, _, port = address.rpartition(":")
    error: OSError = OSError("no address")
    for family, kind, protocol, _, place in socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(BOUND)
            if mark is not None:
                sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark)
            sock.connect(place)
            return sock
        except OSError as failed:
            sock.close()
            error = failed
    raise error
