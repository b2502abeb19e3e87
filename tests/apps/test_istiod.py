"""The process istiod on a Kubernetes API: its authority, its streams, its webhook, and what it writes back."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import ssl
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import grpc
import grpc.aio
import msgspec
import pytest
from cryptography import x509

from doubles.ads_client import AdsClient
from doubles.authorities import csr, root
from doubles.kube_api import KubeApi
from doubles.meshes import pod, service
from ostria.apps.istiod import Istiod, Settings, settings_from
from ostria.apps.mesh_authority import MeshAuthority
from ostria.base import ObjectKey
from ostria.capture import Capture, marked
from ostria.envoy.fragments import ResourceType
from ostria.identity.keeping import Answer
from ostria.identity.service_wire import METHOD, Request, decode_response, encode_request
from ostria.injection.values import Global, Injected, Proxy, write_values
from ostria.mesh.settings import KeyFetching
from ostria.mesh.settings import Settings as MeshSettings
from ostria.resources import KINDS
from ostria.sources.api import Api, ApiError

NAMESPACES = """
apiVersion: v1
kind: Namespace
metadata: {name: default, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Namespace
metadata: {name: istio-system}
---
"""
ISTIOD = "istiod.istio-system.svc"


def token(pod_name: str, expires: float = 4e9) -> str:
    """A token as the API double knows it: what is read of it here is only its end."""
    payload = base64.urlsafe_b64encode(json.dumps({"exp": expires, "for": pod_name}).encode()).rstrip(b"=").decode()
    return f"e30.{payload}.c2ln"


class Machine:
    """A Kubernetes API, and istiod on it."""

    def __init__(self, api: KubeApi, istiod: Istiod, roots: bytes) -> None:
        self.api = api
        self.istiod = istiod
        self.roots = roots

    @contextlib.asynccontextmanager
    async def channel(self) -> AsyncIterator[grpc.aio.Channel]:
        options = [("grpc.ssl_target_name_override", ISTIOD), ("grpc.use_local_subchannel_pool", 1)]
        credentials = grpc.ssl_channel_credentials(self.roots)
        port = self.istiod.plane.server.ports[0]
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
            yield channel

    async def certificate(self, bearer: str) -> list[bytes]:
        """What the authority answers to who shows this token."""
        async with self.channel() as channel:
            call: Any = channel.unary_unary(METHOD)
            metadata = (("authorization", f"Bearer {bearer}"),)
            return decode_response(await call(encode_request(Request(csr())), metadata=metadata))

    async def until(self, condition: Any) -> None:
        while not condition():
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def machine(*texts: str) -> AsyncIterator[Machine]:
    async with asyncio.timeout(60), KubeApi().serve() as server:
        for text in (NAMESPACES, *texts):
            server.apply(text)
        access = server.access()
        async with Api(access) as api:

            async def send(method: str, path: str, body: bytes | None) -> Answer:
                try:
                    return Answer(200, await api.send(method, path, body))
                except ApiError as error:
                    return Answer(error.status, b"")

            authority = await MeshAuthority.start(send)
            settings = Settings(xds=("127.0.0.1:0",), webhook=("127.0.0.1", 0), monitoring=("127.0.0.1", 0))
            istiod = Istiod(api, access, settings, authority)
            task = asyncio.get_running_loop().create_task(istiod.run())
            try:
                await istiod.plane.serving.wait()
                yield Machine(server, istiod, authority.authority.roots)
            finally:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task


async def test_the_root_is_kept_in_a_secret_and_given_to_every_namespace():
    async with machine() as found:
        secret = found.api.objects[ObjectKey("", "Secret", "istio-system", "istio-ca-secret")]
        assert "ca-key.pem" in secret["data"]
        for namespace in ("default", "istio-system"):
            key = ObjectKey("", "ConfigMap", namespace, "istio-ca-root-cert")
            await found.until(lambda key=key: key in found.api.objects)
            assert found.api.objects[key]["data"]["root-cert.pem"] == found.roots.decode()


async def test_a_workload_gets_a_certificate_for_what_its_token_proves():
    async with machine(pod("reviews-v1", "10.0.0.1", {"app": "reviews"})) as found:
        mine = token("reviews-v1")
        found.api.tokens[mine] = ("default", "reviews", "reviews-v1")
        async with found.channel() as channel:
            call: Any = channel.unary_unary(METHOD)
            answer = await call(encode_request(Request(csr(), 0)), metadata=(("authorization", f"Bearer {mine}"),))
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(encode_request(Request(csr(), 0)), metadata=(("authorization", f"Bearer {token('x')}"),))
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        names = x509.load_pem_x509_certificate(decode_response(answer)[0]).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
        assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == [
            "spiffe://cluster.local/ns/default/sa/reviews"
        ]


async def test_an_authority_that_is_brought_along_while_it_runs_is_announced_before_it_signs():
    given = root()
    data = {name: base64.b64encode(content).decode() for name, content in given.files.items() if content}
    key = ObjectKey("", "ConfigMap", "default", "istio-ca-root-cert")
    async with machine() as found:
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cacerts", "namespace": "istio-system"}}
        found.api.put(KINDS["Secret"], {**secret, "data": data})
        told = given.roots + found.roots
        await found.until(lambda: key in found.api.objects)
        await found.until(lambda: found.api.objects[key]["data"]["root-cert.pem"].encode() == told)
        assert ObjectKey("", "Secret", "istio-system", "istio-ca-succession") in found.api.objects
        # The former authority signs on, and its roots come with what it signs.
        mine = token("reviews-v1")
        found.api.tokens[mine] = ("default", "reviews", "reviews-v1")
        leaf, *_, roots = await found.certificate(mine)
        x509.load_pem_x509_certificate(leaf).verify_directly_issued_by(x509.load_pem_x509_certificate(found.roots))
        assert roots == told


async def test_authorities_of_meshconfig_are_trusted_by_workloads_alone():
    other = root()
    config = json.dumps(json.dumps({"caCertificates": [{"pem": other.roots.decode()}, {"pem": "no certificate"}]}))
    metadata = "{name: istio, namespace: istio-system}"
    text = f"{{apiVersion: v1, kind: ConfigMap, metadata: {metadata}, data: {{mesh: {config}}}}}"
    key = ObjectKey("", "ConfigMap", "default", "istio-ca-root-cert")
    async with machine() as found:
        await found.until(lambda: key in found.api.objects)
        found.api.apply(text)
        # That something has changed is seen in the ConfigMap, and what it is comes with the next certificate.
        await found.until(lambda: "Workloads trust others" in found.api.objects[key]["data"]["root-cert.pem"])
        assert other.roots.decode() not in found.api.objects[key]["data"]["root-cert.pem"]
        mine = token("reviews-v1")
        found.api.tokens[mine] = ("default", "reviews", "reviews-v1")
        *_, roots = await found.certificate(mine)
        assert roots == found.roots + other.roots


async def test_its_metrics_say_how_long_the_authority_lasts_and_who_was_refused():
    async with machine() as found, aiohttp.ClientSession() as session:
        with pytest.raises(grpc.aio.AioRpcError):
            await found.certificate("nobody's")
        async with session.get(f"http://127.0.0.1:{found.istiod.monitoring.ports[0]}/metrics") as answer:
            lines = dict(line.rsplit(" ", 1) for line in (await answer.text()).splitlines() if line[0] != "#")
        assert 9.9 * 365 * 86_400 < float(lines["citadel_server_root_cert_expiry_seconds"]) < 10.1 * 365 * 86_400
        assert float(lines["citadel_server_root_cert_expiry_timestamp"]) > time.time()
        assert lines['ostria_certificates_refused_total{code="UNAUTHENTICATED"}'] == "1"


async def test_a_proxy_is_served_as_its_tokens_pod():
    async with machine(pod("reviews-v1", "10.0.0.1", {"app": "reviews"}), service("ratings", ip="10.96.0.1")) as found:
        mine = token("reviews-v1")
        found.api.tokens[mine] = ("default", "reviews", "reviews-v1")
        node = "sidecar~10.0.0.1~reviews-v1.default~default.svc.cluster.local"
        async with found.channel() as channel, AdsClient(channel, pod="reviews-v1", token=mine, node=node) as client:
            client.subscribe(ResourceType.CLUSTER)
            name = "outbound|9080||ratings.default.svc.cluster.local"
            await client.wait(lambda: client.version(ResourceType.CLUSTER, name) is not None)


async def test_the_webhook_gives_a_pod_its_proxy():
    review = {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "1",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "namespace": "default",
            "operation": "CREATE",
            "object": {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "app", "namespace": "default"},
                "spec": {"containers": [{"name": "app", "image": "app"}]},
            },
        },
    }
    async with machine() as found:
        context = ssl.create_default_context(cadata=found.roots.decode())
        async with aiohttp.ClientSession() as session:
            url = f"https://127.0.0.1:{found.istiod.webhook.ports[0]}/inject"
            async with session.post(url, json=review, ssl=context, server_hostname=ISTIOD) as answer:
                response = (await answer.json())["response"]
        assert response["allowed"] is True, response
        assert "patch" in response, response
        patch = base64.b64decode(response["patch"]).decode()
        assert "istio-proxy" in patch


def test_what_was_installed_says_how_pods_are_injected():
    proxy = Proxy(log_level="debug", exclude_inbound_ports="22")
    values = Injected(Global(hub="registry.example", tag="1.2", proxy=proxy))
    found = settings_from({"OSTRIA_SOCKET_MARK": "1337"}, write_values(values)).injection
    assert (found.image, found.log_level) == ("registry.example/proxy:1.2", "debug")
    # What one machine needs of capture stays, with what people add to it.
    assert found.capture == msgspec.structs.replace(marked(), inbound_ports_exclude=(22,))
    with pytest.raises(ValueError, match="logLevl"):
        settings_from({}, '{"global": {"proxy": {"logLevl": "debug"}}}')


async def test_the_process_ends_in_order_when_it_is_told_to_and_says_why_it_cannot_serve(tmp_path):
    kubeconfig = tmp_path / "kubeconfig"

    async def start(server: str) -> asyncio.subprocess.Process:
        cluster = {"name": "x", "cluster": {"server": server}}
        context = {"name": "x", "context": {"cluster": "x", "user": "x"}}
        config = {"clusters": [cluster], "contexts": [context], "users": [{"name": "x", "user": {}}]}
        kubeconfig.write_text(json.dumps({**config, "current-context": "x"}))
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ostria.apps.istiod"),
            *("--secureGRPCAddr", "127.0.0.1:0", "--httpsAddr", "127.0.0.1:0", "--monitoringAddr", "127.0.0.1:0"),
            env={"KUBECONFIG": str(kubeconfig), "OSTRIA_LOG": "info", "PATH": os.environ["PATH"]},
            stderr=asyncio.subprocess.PIPE,
        )

    async with asyncio.timeout(60):
        nowhere = await start("http://127.0.0.1:1")
        _, told = await nowhere.communicate()
        assert (nowhere.returncode, b"cannot serve" in told, b"Traceback" in told) == (1, True, False), told
        async with KubeApi().serve() as server:
            server.apply(NAMESPACES)
            process = await start(server.url)
            try:
                assert process.stderr is not None
                while b"serving proxies" not in (line := await process.stderr.readline()):
                    assert line, "it ended before it served"
                process.terminate()
                assert await process.wait() == 0
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()


def test_the_environment_is_read_once_into_settings():
    found = settings_from({"POD_NAMESPACE": "mesh", "REVISION": "prod", "OSTRIA_SOCKET_MARK": "1337"})
    assert found.mesh == MeshSettings(root_namespace="mesh", revision="prod", socket_mark=1337)
    assert found.injection.revision == "prod"
    # Where the mark tells the proxy, its owner does not, and its stream to the control plane goes by its port.
    assert found.injection.capture == marked()
    assert settings_from({}).injection.capture == Capture()
    assert found.injection.discovery_address == "istiod-prod.mesh.svc:15012"


def test_what_cannot_be_read_is_said_and_not_guessed():
    with pytest.raises(ValueError, match="OSTRIA_SOCKET_MARK is a number"):
        settings_from({"OSTRIA_SOCKET_MARK": "x"})


def test_who_fetches_keys_and_from_where() -> None:
    found = settings_from(
        {
            "PILOT_JWT_ENABLE_REMOTE_JWKS": "hybrid",
            "PILOT_JWT_PUB_KEY_REFRESH_INTERVAL": "90s",
            "BLOCKED_CIDRS_IN_JWKS_URIS": "10.0.0.0/8, fd00::/8",
            "OSTRIA_ALLOWED_CIDRS_IN_JWKS_URIS": "127.0.0.1/32",
        }
    )
    assert (found.mesh.keys, found.keys.refresh) == (KeyFetching.HYBRID, 90.0)
    permitted = {each: found.keys.rules.permit(each) for each in ("127.0.0.1", "127.0.0.2", "10.1.1.1", "192.0.2.1")}
    assert permitted == {"127.0.0.1": True, "127.0.0.2": False, "10.1.1.1": False, "192.0.2.1": True}
    assert settings_from({}).mesh.keys is settings_from({"PILOT_JWT_ENABLE_REMOTE_JWKS": "false"}).mesh.keys


@pytest.mark.parametrize(
    "variable",
    [
        ("PILOT_JWT_ENABLE_REMOTE_JWKS", "perhaps"),
        ("PILOT_JWT_PUB_KEY_REFRESH_INTERVAL", "soon"),
        ("PILOT_JWT_PUB_KEY_REFRESH_INTERVAL", "0s"),
        ("BLOCKED_CIDRS_IN_JWKS_URIS", "10.0.0.0/33"),
        ("OSTRIA_ALLOWED_CIDRS_IN_JWKS_URIS", "localhost"),
    ],
)
def test_what_makes_no_sense_of_keys_is_refused(variable: tuple[str, str]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - Whatever the words are, they are for people.
        settings_from(dict([variable]))
