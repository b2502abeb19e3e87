"""What an agent asks before it starts its Envoy: the patches that EnvoyFilters make to its bootstrap.

It is one method of the control plane's gRPC server (port 15012, beside ADS), and answers whom a token identifies.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import grpc
import grpc.aio

from ostria.engine import Engine
from ostria.envoy.bootstrap_patches import METHOD
from ostria.envoy.catalogue import bootstrap_patches
from ostria.mesh.traits import ClientTraits
from ostria.xds import Identity, Node, Verifier

Traits = Callable[[Engine, Identity, Node], ClientTraits | None]


class BootstrapService(grpc.GenericRpcHandler):
    """`traits` tells a proxy's traits from its token and from what its node says."""

    def __init__(self, db: Engine, verify: Verifier, traits: Traits) -> None:
        self._db = db
        self._verify = verify
        self._traits = traits
        self._method: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(self._patches)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        """The handler of the called method, if it is ours."""
        return self._method if details.method == METHOD else None

    async def _patches(self, metadata: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        token = next(
            (
                value[7:].strip()
                for key, value in context.invocation_metadata() or ()
                if key == "authorization" and isinstance(value, str) and value.lower().startswith("bearer ")
            ),
            "",
        )
        verified = await self._verify(token) if token else None
        if verified is None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "a valid bearer token is required")
        node = Node(metadata=metadata.decode("utf-8", "replace"))
        traits = self._traits(self._db, verified.identity, node)
        found = bootstrap_patches(self._db, traits) if traits is not None else []
        return json.dumps(found).encode()
