"""An external authority, over the real API server: istiod makes and approves requests, a controller signs."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import pathlib
from collections.abc import AsyncIterator

import pytest
from cryptography import x509

from doubles.api_process import running
from doubles.authorities import NOW, csr, intermediate, root
from ostria.apps.istiod import answering
from ostria.base.clock import SystemClock
from ostria.identity.authority import Authority, load
from ostria.identity.issuing import Issued, issue
from ostria.identity.registration import COLLECTION, Registration
from ostria.identity.server import SigningError
from ostria.identity.service_wire import Request
from ostria.identity.spiffe import SpiffeId
from ostria.sources.access import from_kubeconfig
from ostria.sources.api import Api

SIGNER = "issuers.cert-manager.io/istio-system.mesh"
REVIEWS = SpiffeId("cluster.local", "default", "reviews")


async def control(api: Api, authority: Authority, signed: list[str]) -> None:
    """A signer as cert-manager is one: it signs what is approved for it, and writes the status."""
    while True:
        for item in json.loads(await api.get(COLLECTION))["items"]:
            said = {each["type"] for each in item.get("status", {}).get("conditions", ())}
            if item["spec"]["signerName"] != SIGNER or "Approved" not in said or "certificate" in item["status"]:
                continue
            request = base64.b64decode(item["spec"]["request"])
            made = issue(request, REVIEWS, authority, NOW, lifetime=item["spec"]["expirationSeconds"])
            assert isinstance(made, Issued)
            certificate = base64.b64encode(made.certificate + authority.chain).decode()
            body = {**item, "status": {**item["status"], "certificate": certificate}}
            path = f"{COLLECTION}/{item['metadata']['name']}/status"
            await api.send("PUT", path, json.dumps(body).encode())
            signed.append(item["spec"]["username"])
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def controlled(api: Api, authority: Authority) -> AsyncIterator[list[str]]:
    signed: list[str] = []
    task = asyncio.get_running_loop().create_task(control(api, authority, signed))
    try:
        yield signed
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_signers_controller_signs_for_workloads(tmp_path: pathlib.Path) -> None:
    authority = load(intermediate(root(), "issuer"), NOW)
    with running(tmp_path) as process:
        access = from_kubeconfig((process.kubeconfig,), {})
        async with asyncio.timeout(60), Api(access) as api:
            registration = Registration(answering(api), SIGNER, lambda: authority.roots, SystemClock(), bound=20.0)
            async with controlled(api, authority) as signed:
                request = csr(str(REVIEWS))
                leaf, chain, roots = await registration.sign(Request(request), REVIEWS, 3600)
            assert (chain, roots, len(signed)) == (authority.chain, authority.roots, 1)
            assert x509.load_pem_x509_certificate(leaf).not_valid_after_utc.timestamp() == NOW + 3600
            assert json.loads(await api.get(COLLECTION))["items"] == []
            # Nobody signs any more: it is not waited for, and nothing is left behind.
            silent = Registration(answering(api), SIGNER, lambda: authority.roots, SystemClock(), bound=0.2)
            with pytest.raises(SigningError, match="has not signed"):
                await silent.sign(Request(request), REVIEWS, 3600)
            assert json.loads(await api.get(COLLECTION))["items"] == []
