"""The certificate service: a bearer token and a signing request in, a certificate chain out.

It is one method of the control plane's gRPC server (port 15012, beside ADS); the composition root adds the handler.
Whose certificate it is, the token's issuer says; keys are made where they are used, and only public ones come here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import grpc
import grpc.aio

from ostria.identity.authority import Authority
from ostria.identity.issuing import Policy, Refusal, issue
from ostria.identity.service_wire import METHOD, decode_request, encode_response
from ostria.identity.spiffe import SpiffeId, spiffe_id
from ostria.identity.tokens import TokenIdentity

log = logging.getLogger(__name__)

Verify = Callable[[str], Awaitable[TokenIdentity | None]]
"""Whose a token is, None if it does not hold; raises if that cannot be known now (`TokenReviewer.identify`)."""


class Statistics(NamedTuple):
    """Requests since the start: answered with a certificate, and refused."""

    issued: int
    refused: int


class _RefusedError(Exception):
    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class CertificateService(grpc.GenericRpcHandler):
    """Signs for workloads. `authority` and `trust_domain` are asked at each request: they may change meanwhile."""

    def __init__(
        self,
        authority: Callable[[], Authority],
        verify: Verify,
        trust_domain: Callable[[], str],
        *,
        policy: Policy = Policy(),  # noqa: B008 - Frozen.
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._authority = authority
        self._verify = verify
        self._trust_domain = trust_domain
        self._policy = policy
        self._clock = clock
        self._issued = 0
        self._refused = 0
        self._method: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(self._create)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        """The handler of the called method, if it is ours."""
        return self._method if details.method == METHOD else None

    def statistics(self) -> Statistics:
        """How it goes."""
        return Statistics(self._issued, self._refused)

    async def _create(self, body: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        try:
            answer = await self._answer(body, context)
        except _RefusedError as refused:
            self._refused += 1
            log.warning("a certificate was refused", extra={"peer": context.peer(), "reason": str(refused)})
            await context.abort(refused.code, str(refused))
        self._issued += 1
        return answer

    async def _answer(self, body: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        identity = await self._identify(context)
        try:
            request = decode_request(body)
        except ValueError as error:
            raise _RefusedError(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from None
        authority = self._authority()
        issued = issue(request.csr, identity, authority, self._clock(), self._policy, lifetime=request.validity_seconds)
        if isinstance(issued, Refusal):
            code = grpc.StatusCode.PERMISSION_DENIED if issued.another else grpc.StatusCode.INVALID_ARGUMENT
            raise _RefusedError(code, issued.reason)
        log.info("a certificate was issued", extra={"identity": str(identity), "until": issued.not_after})
        # Istio's clients take the last element for the roots.
        return encode_response([part for part in (issued.certificate, authority.chain, authority.roots) if part])

    async def _identify(self, context: grpc.aio.ServicerContext[bytes, bytes]) -> SpiffeId:
        token = _bearer(context)
        try:
            found = await self._verify(token) if token else None
        except Exception as error:
            # Not to know is not to refuse: the caller keeps its token and comes again.
            log.warning("tokens cannot be verified", exc_info=error)
            raise _RefusedError(grpc.StatusCode.UNAVAILABLE, "tokens cannot be verified now") from None
        if found is None or found.expires <= self._clock():
            raise _RefusedError(grpc.StatusCode.UNAUTHENTICATED, "a valid bearer token is required")
        try:
            return spiffe_id(self._trust_domain(), found.namespace, found.service_account)
        except ValueError as error:
            raise _RefusedError(grpc.StatusCode.UNAUTHENTICATED, str(error)) from None


def _bearer(context: grpc.aio.ServicerContext[bytes, bytes]) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str):
            scheme, _, token = value.partition(" ")
            return token.strip() if scheme.lower() == "bearer" else ""
    return ""
