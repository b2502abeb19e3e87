"""The certificate service: a proof of identity and a signing request in, a certificate chain out.

    authorization: Bearer <token of a service account, bound to a pod, for audience istio-ca>     TokenReviewer
    authorization: Bearer <join token>                                                            Joining
    authorization: Ostria-Certificate <certificate and a signature by its key>                    possession

It is one method of the control plane's gRPC server (port 15012, beside ADS); the composition root adds the handler.
Whose certificate it is, the proof says and never the request; keys are made where they are used, and only public ones
come here. Every answer leaves a line in the log `ostria.audit`: who asked, from where, what became of it and why.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import grpc
import grpc.aio

from ostria.identity.authority import Authority
from ostria.identity.issuing import Policy, Refusal, examine, issue, life
from ostria.identity.joining import JOINED, Joining, Refused
from ostria.identity.possession import SCHEME, proven
from ostria.identity.service_wire import JOIN_TOKEN, METHOD, Request, decode_request, encode_response
from ostria.identity.spiffe import SpiffeId, parse, spiffe_id
from ostria.identity.tokens import TokenIdentity

audit = logging.getLogger("ostria.audit")
log = logging.getLogger(__name__)

Verify = Callable[[str], Awaitable[TokenIdentity | None]]
"""Whose a token is, None if it does not hold; raises if that cannot be known now (`TokenReviewer.identify`)."""

Impersonate = Callable[[TokenIdentity, SpiffeId], bool]
"""Whether a caller may ask for another's certificate: as a node's agent does for the pods of its node."""

Sign = Callable[[Request, SpiffeId, float], Awaitable[list[bytes]]]
"""Has somebody else sign a request for so many seconds: certificate, chain, roots; raises SigningError."""


class SigningError(Exception):
    """Somebody else was to sign and did not; the message says why."""


class Limits(NamedTuple):
    """What one caller and all together may ask: at once, and in a row before `every` seconds pass for each more."""

    at_once: int = 32
    waiting: int = 256
    in_a_row: int = 20
    every: float = 3.0
    callers: int = 20_000


class Statistics(NamedTuple):
    """Requests since the start: answered with a certificate, and refused (in all, and by gRPC's code)."""

    issued: int
    refused: int
    by_code: tuple[tuple[str, int], ...] = ()


class _RefusedError(Exception):
    def __init__(self, code: grpc.StatusCode, message: str, caller: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.caller = caller


class _Caller(NamedTuple):
    """Who has asked, as it is proven. `unit` goes on in the certificate."""

    identity: SpiffeId
    key: str
    unit: str = ""


class CertificateService(grpc.GenericRpcHandler):
    """Signs for workloads. `authority` and `trust_domain` are asked at each request: they may change meanwhile.

    With `sign` it is a registration authority: who asks is examined here and somebody else signs. `clusters` are those
    whose tokens can be reviewed, if callers say which they mean. `more_roots` (PEM) are trusted by workloads alone, and
    prove nothing here.
    """

    def __init__(
        self,
        authority: Callable[[], Authority],
        verify: Verify,
        trust_domain: Callable[[], str],
        *,
        policy: Policy = Policy(),  # noqa: B008 - Frozen.
        clock: Callable[[], float] = time.time,
        joining: Joining | None = None,
        impersonate: Impersonate | None = None,
        sign: Sign | None = None,
        clusters: frozenset[str] = frozenset(),
        more_roots: Callable[[], bytes] = bytes,
        limits: Limits = Limits(),  # noqa: B008 - Frozen.
    ) -> None:
        self._authority = authority
        self._verify = verify
        self._trust_domain = trust_domain
        self._policy = policy
        self._clock = clock
        self._joining = joining
        self._impersonate = impersonate
        self._sign = sign
        self._clusters = clusters
        self._more_roots = more_roots
        self._limits = limits
        self._turns = asyncio.Semaphore(limits.at_once)
        self._here = 0
        self._callers: OrderedDict[str, float] = OrderedDict()
        self._issued = 0
        self._refused: Counter[str] = Counter()
        self._method: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(self._create)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        """The handler of the called method, if it is ours."""
        return self._method if details.method == METHOD else None

    def statistics(self) -> Statistics:
        """How it goes."""
        return Statistics(self._issued, sum(self._refused.values()), tuple(sorted(self._refused.items())))

    async def _create(self, body: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        try:
            if self._here >= self._limits.waiting:
                raise _RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many ask at once: come again")
            self._here += 1
            try:
                async with self._turns:
                    answer = await self._answer(body, context)
            finally:
                self._here -= 1
        except _RefusedError as refused:
            self._refused[refused.code.name] += 1
            said = {"peer": context.peer(), "caller": refused.caller, "reason": str(refused), "code": refused.code.name}
            audit.warning("a certificate was refused", extra=said)
            await context.abort(refused.code, str(refused))
        self._issued += 1
        return answer

    async def _answer(self, body: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        try:
            request = decode_request(body)
        except ValueError as error:
            raise _RefusedError(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from None
        caller = await self._identify(request, context)
        self._pace(caller)
        asked = life(self._policy, request.validity_seconds)
        if self._sign is not None:
            found = examine(request.csr, caller.identity, named=True)
            if isinstance(found, Refusal):
                raise _refusal(found, caller)
            try:
                parts = await self._sign(request, caller.identity, asked)
            except SigningError as error:
                raise _RefusedError(grpc.StatusCode.UNAVAILABLE, str(error), caller.key) from None
            until = self._clock() + asked
        else:
            authority = self._authority()
            issued = issue(
                request.csr,
                caller.identity,
                authority,
                self._clock(),
                self._policy,
                lifetime=request.validity_seconds,
                unit=caller.unit,
            )
            if isinstance(issued, Refusal):
                raise _refusal(issued, caller)
            roots = authority.roots + self._more_roots()
            parts = [part for part in (issued.certificate, authority.chain, roots) if part]
            until = issued.not_after
        said = {"peer": context.peer(), "caller": caller.key, "identity": str(caller.identity), "until": until}
        audit.info("a certificate was issued", extra=said)
        # Istio's clients take the last element for the roots.
        return encode_response(parts)

    def _pace(self, caller: _Caller) -> None:
        """Let nobody take all turns: a caller may ask some times in a row, and then now and then."""
        limits, now = self._limits, self._clock()
        # When the caller will have been quiet for long enough to have all of its turns again.
        rested = max(self._callers.pop(caller.key, now), now)
        if rested - now > limits.every * (limits.in_a_row - 1):
            self._callers[caller.key] = rested
            raise _RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, "asks too often: come again", caller.key)
        self._callers[caller.key] = rested + limits.every
        while len(self._callers) > limits.callers:
            self._callers.popitem(last=False)

    # --- who asks --------------------------------------------------------------------------------------------

    async def _identify(self, request: Request, context: grpc.aio.ServicerContext[bytes, bytes]) -> _Caller:
        scheme, shown, cluster = _credentials(context)
        if cluster and self._clusters and cluster not in self._clusters:
            raise _RefusedError(grpc.StatusCode.UNAUTHENTICATED, "tokens of this cluster are not known here")
        try:
            if scheme == SCHEME:
                caller = await self._by_certificate(shown, request)
            elif scheme == "bearer" and shown.startswith(JOIN_TOKEN):
                caller = await self._by_join_token(shown)
            else:
                return await self._by_token(shown if scheme == "bearer" else "", request)
        except _RefusedError:
            raise
        except Exception as error:
            # Not to know is not to refuse: the caller keeps its proof and comes again.
            log.warning("callers cannot be identified", exc_info=error)
            raise _RefusedError(grpc.StatusCode.UNAVAILABLE, "tokens cannot be verified now") from None
        if request.impersonated:
            raise _RefusedError(grpc.StatusCode.UNAUTHENTICATED, "it may not ask in another's name", caller.key)
        return caller

    async def _by_token(self, token: str, request: Request) -> _Caller:
        found = await self._verify(token) if token else None
        if found is None or found.expires <= self._clock():
            raise _RefusedError(grpc.StatusCode.UNAUTHENTICATED, "a valid bearer token is required")
        key = f"{found.namespace}/{found.service_account}/{found.pod}"
        try:
            identity = spiffe_id(self._trust_domain(), found.namespace, found.service_account)
            if not request.impersonated:
                return _Caller(identity, key)
            other = parse(request.impersonated)
        except ValueError as error:
            raise _RefusedError(grpc.StatusCode.UNAUTHENTICATED, str(error), key) from None
        if self._impersonate is None or not self._impersonate(found, other):
            raise _RefusedError(grpc.StatusCode.UNAUTHENTICATED, "it may not ask in another's name", key)
        return _Caller(other, key)

    async def _by_join_token(self, token: str) -> _Caller:
        if self._joining is None:
            raise _RefusedError(grpc.StatusCode.UNAUTHENTICATED, "join tokens are not taken here")
        found = await self._joining.use(token, self._clock())
        if isinstance(found, Refused):
            # The id may be told, the secret behind it not.
            raise _RefusedError(grpc.StatusCode.UNAUTHENTICATED, found.reason, ".".join(token.split(".")[:2])[:40])
        identity = spiffe_id(self._trust_domain(), found.namespace, found.service_account)
        return _Caller(identity, found.pod_uid, found.pod_uid)

    async def _by_certificate(self, shown: str, request: Request) -> _Caller:
        found = proven(shown, request.csr, self._authority().roots, self._clock())
        if found is None or found.identity.trust_domain != self._trust_domain():
            raise _RefusedError(grpc.StatusCode.UNAUTHENTICATED, "the certificate proves nothing here")
        key = found.joined or str(found.identity)
        # A pod has its token, which ends with the pod; a certificate of its must not live on by itself.
        joined = found.joined.removeprefix(JOINED) if found.joined.startswith(JOINED) else ""
        if not joined or self._joining is None or not await self._joining.member(joined, found.identity):
            raise _RefusedError(grpc.StatusCode.UNAUTHENTICATED, "this certificate is not renewed by itself", key)
        return _Caller(found.identity, key, found.joined)


def _refusal(refusal: Refusal, caller: _Caller) -> _RefusedError:
    code = grpc.StatusCode.PERMISSION_DENIED if refusal.another else grpc.StatusCode.INVALID_ARGUMENT
    return _RefusedError(code, refusal.reason, caller.key)


def _credentials(context: grpc.aio.ServicerContext[bytes, bytes]) -> tuple[str, str, str]:
    """The scheme of the caller's credentials, what follows it, and the cluster that the caller names."""
    scheme = shown = cluster = ""
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str) and not scheme:
            scheme, _, shown = value.partition(" ")
        elif key == "clusterid" and isinstance(value, str):
            cluster = value
    return scheme.lower(), shown.strip(), cluster
