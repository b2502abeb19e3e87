"""From a kubeconfig or a pod to an API that answers: each way to say where, whom to trust and what to show."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ostria.sources.access import Access, AccessError, from_kubeconfig, in_cluster, kubeconfig_paths, proxy_of
from ostria.sources.api import Api


class Pair(NamedTuple):
    certificate: bytes
    key: bytes
    signer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def issue(name: str, signer: Pair | None = None) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    hour = datetime.timedelta(hours=1)
    local = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer.signer[0].subject if signer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - hour)
        .not_valid_after(now + hour)
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([local, x509.DNSName("mesh.test")]), critical=False)
        .sign(signer.signer[1] if signer else key, hashes.SHA256())
    )
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Pair(certificate.public_bytes(serialization.Encoding.PEM), encoded, (certificate, key))


class Server(NamedTuple):
    url: str
    seen: list[dict[str, str]]
    answers: list[int]


@asynccontextmanager
async def tls_server(path: Path, root: Pair) -> AsyncIterator[Server]:
    """Answers with what it has seen of the caller: the name in its certificate, and its headers."""
    pair = issue("server", root)
    (path / "server.pem").write_bytes(pair.certificate + pair.key)
    (path / "root.pem").write_bytes(root.certificate)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(path / "root.pem"))
    # The certificates here have no key identifiers, as many a cluster's: what kubectl takes must be taken.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_cert_chain(path / "server.pem")
    seen: list[dict[str, str]] = []
    answers: list[int] = []

    async def answer(request: web.Request) -> web.Response:
        assert request.transport is not None
        shown: Any = request.transport.get_extra_info("peercert") or {}
        name = shown["subject"][0][0][1] if shown else ""
        seen.append({"certificate": name, **{key: request.headers.get(key, "") for key in INTERESTING}})
        return web.json_response({}, status=answers.pop(0) if answers else 200)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield Server(f"https://127.0.0.1:{runner.addresses[0][1]}", seen, answers)
    finally:
        await runner.cleanup()


INTERESTING = ("Authorization", "Impersonate-User")


@pytest.fixture
def root() -> Pair:
    return issue("root")


@pytest.fixture
async def server(tmp_path: Path, root: Pair) -> AsyncIterator[Server]:
    async with tls_server(tmp_path, root) as server:
        yield server


def kubeconfig(path: Path, user: dict[str, Any], cluster: dict[str, Any], name: str = "one") -> Path:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": "prod"}}],
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": user}],
    }
    file = path / f"{name}.kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return file


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def ask(access: Access, times: int = 1) -> None:
    async with Api(access) as api:
        for _ in range(times):
            await api.get("/version")


async def test_a_token_and_an_authority_as_data(server: Server, tmp_path: Path, root: Pair) -> None:
    cluster = {"server": server.url, "certificate-authority-data": b64(root.certificate)}
    access = from_kubeconfig([kubeconfig(tmp_path, {"token": "abc", "as": "jane"}, cluster)], {})
    await ask(access)
    assert server.seen == [{"certificate": "", "Authorization": "Bearer abc", "Impersonate-User": "jane"}]
    assert (access.namespace, access.name) == ("prod", "one")


async def test_files_are_relative_to_the_kubeconfig_and_read_at_each_request(server: Server, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first\n")
    cluster = {"server": server.url, "certificate-authority": "root.pem"}
    access = from_kubeconfig([kubeconfig(tmp_path, {"tokenFile": "token", "token": "unused"}, cluster)], {})
    async with Api(access) as api:
        await api.get("/version")
        (tmp_path / "token").write_text("second\n")
        await api.get("/version")
    assert [seen["Authorization"] for seen in server.seen] == ["Bearer first", "Bearer second"]


async def test_a_client_certificate_is_shown_and_its_renewal_too(server: Server, tmp_path: Path, root: Pair) -> None:
    def write(name: str) -> None:
        pair = issue(name, root)
        (tmp_path / "tls.crt").write_bytes(pair.certificate)
        (tmp_path / "tls.key").write_bytes(pair.key)

    write("jane")
    cluster = {"server": server.url, "certificate-authority": "root.pem"}
    user = {"client-certificate": "tls.crt", "client-key": "tls.key"}
    async with Api(from_kubeconfig([kubeconfig(tmp_path, user, cluster)], {})) as api:
        await api.get("/version")
        write("jane-renewed")
        await api.get("/version")
    assert [seen["certificate"] for seen in server.seen] == ["jane", "jane-renewed"]


async def test_a_server_of_another_authority_is_refused_unless_told_otherwise(server: Server, tmp_path: Path) -> None:
    other = b64(issue("other").certificate)
    cluster = {"server": server.url, "certificate-authority-data": other}
    with pytest.raises(OSError, match="certificate verify failed"):
        await ask(from_kubeconfig([kubeconfig(tmp_path, {}, cluster)], {}))
    await ask(from_kubeconfig([kubeconfig(tmp_path, {}, {"server": server.url, "insecure-skip-tls-verify": True})], {}))
    assert len(server.seen) == 1


async def test_the_name_that_the_server_must_have(server: Server, tmp_path: Path) -> None:
    cluster = {"server": server.url, "certificate-authority": "root.pem", "tls-server-name": "mesh.test"}
    await ask(from_kubeconfig([kubeconfig(tmp_path, {}, cluster)], {}))
    cluster["tls-server-name"] = "else.test"
    access = from_kubeconfig([kubeconfig(tmp_path, {}, cluster)], {})
    with pytest.raises(OSError, match="Hostname mismatch"):
        await ask(access)


def plugin(path: Path, status: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A program that counts its runs, and gives a token that ends with the count."""
    program = path / "plugin.py"
    program.write_text(f"""
import json, os, pathlib, sys
runs = pathlib.Path({str(path / "runs")!r})
runs.write_text(runs.read_text() + "x" if runs.exists() else "x")
info = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
status = {status!r}
if "token" in status:
    status["token"] = status["token"] + os.environ["SUFFIX"] + str(len(runs.read_text()))
print(json.dumps({{"apiVersion": info["apiVersion"], "kind": "ExecCredential", "status": status}}))
""")
    section = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": [str(program)],
        "env": [{"name": "SUFFIX", "value": "-"}],
        "interactiveMode": "Never",
        **more,
    }
    return {"exec": section}


@pytest.mark.parametrize(("expires", "runs"), [(None, 1), ("2999-01-01T00:00:00Z", 1), ("2001-01-01T00:00:00Z", 3)])
async def test_a_plugin_is_asked_again_when_its_answer_has_run_out(
    server: Server, tmp_path: Path, expires: str | None, runs: int
) -> None:
    status = {"token": "t"} | ({"expirationTimestamp": expires} if expires else {})
    cluster = {"server": server.url, "certificate-authority": "root.pem"}
    await ask(from_kubeconfig([kubeconfig(tmp_path, plugin(tmp_path, status), cluster)], {}), times=3)
    assert (tmp_path / "runs").read_text() == "x" * runs
    assert server.seen[-1]["Authorization"] == f"Bearer t-{runs}"


async def test_a_plugin_is_asked_again_when_its_answer_is_refused(server: Server, tmp_path: Path) -> None:
    cluster = {"server": server.url, "certificate-authority": "root.pem"}
    server.answers.append(401)
    await ask(from_kubeconfig([kubeconfig(tmp_path, plugin(tmp_path, {"token": "t"}), cluster)], {}))
    assert [seen["Authorization"] for seen in server.seen] == ["Bearer t-1", "Bearer t-2"]


async def test_a_plugin_may_give_a_certificate(server: Server, tmp_path: Path, root: Pair) -> None:
    pair = issue("from-plugin", root)
    status = {"clientCertificateData": pair.certificate.decode(), "clientKeyData": pair.key.decode()}
    cluster = {"server": server.url, "certificate-authority": "root.pem"}
    await ask(from_kubeconfig([kubeconfig(tmp_path, plugin(tmp_path, status), cluster)], {}))
    assert server.seen[0]["certificate"] == "from-plugin"


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"command": "ostria-no-such-program", "installHint": "Install it."}, "cannot be run.*Install it."),
        ({"command": sys.executable, "args": ["-c", "import sys; sys.exit('log in first')"]}, "log in first"),
        ({"command": sys.executable, "args": ["-c", "print(1)"]}, "gave no ExecCredential"),
    ],
)
async def test_a_plugin_that_fails_says_why(tmp_path: Path, section: dict[str, Any], message: str) -> None:
    section = {"apiVersion": "client.authentication.k8s.io/v1", **section}
    access = from_kubeconfig([kubeconfig(tmp_path, {"exec": section}, {"server": "https://127.0.0.1:1"})], {})
    with pytest.raises(ValueError, match=message):
        await access.credentials.get()


@pytest.mark.parametrize(
    ("user", "cluster", "message"),
    [
        ({}, {}, "names no cluster with a server"),
        ({"exec": {"apiVersion": "v0", "command": "x"}}, {"server": "https://h"}, "apiVersion"),
        ({"auth-provider": {"name": "gcp"}}, {"server": "https://h"}, "removed from Kubernetes"),
        ({"client-key-data": "%%"}, {"server": "https://h"}, "client-key-data is not base64"),
    ],
)
def test_what_leads_nowhere_says_so(tmp_path: Path, user: Any, cluster: Any, message: str) -> None:
    with pytest.raises(AccessError, match=message):
        from_kubeconfig([kubeconfig(tmp_path, user, cluster)], {})


def test_files_are_merged_and_the_first_to_speak_counts(tmp_path: Path) -> None:
    one = kubeconfig(tmp_path, {}, {"server": "https://one"}, "one")
    two = kubeconfig(tmp_path, {}, {"server": "https://two"}, "two")
    missing = tmp_path / "missing"
    env = {"KUBECONFIG": f"{missing}:{one}:{two}"}
    assert from_kubeconfig(kubeconfig_paths(env), env).server == "https://one"
    assert from_kubeconfig(kubeconfig_paths(env), env, "two").server == "https://two"
    with pytest.raises(AccessError, match=r'no context "three".*there are one, two'):
        from_kubeconfig(kubeconfig_paths(env), env, "three")
    with pytest.raises(AccessError, match="there is no kubeconfig"):
        from_kubeconfig([missing], {})
    assert kubeconfig_paths({"HOME": "/home/jane"}) == (Path("/home/jane/.kube/config"),)


def test_the_environment_names_a_proxy_and_its_exceptions() -> None:
    env = {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "10.0.0.1,.internal"}
    assert proxy_of("https://api.example.com", env) == "http://proxy:3128"
    assert proxy_of("https://10.0.0.1:6443", env) == ""
    assert proxy_of("https://api.internal", env) == ""
    assert proxy_of("http://api.example.com", env) == ""


async def test_a_pod_finds_the_api_of_its_cluster(server: Server, tmp_path: Path, root: Pair) -> None:
    (tmp_path / "token").write_text("bound")
    (tmp_path / "ca.crt").write_bytes(root.certificate)
    (tmp_path / "namespace").write_text("istio-system")
    host, port = server.url.removeprefix("https://").split(":")
    env = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
    access = in_cluster(env, tmp_path)
    async with Api(access) as api:
        await api.get("/version")
        (tmp_path / "token").write_text("rotated")
        await api.get("/version")
    assert [seen["Authorization"] for seen in server.seen] == ["Bearer bound", "Bearer rotated"]
    assert access.namespace == "istio-system"
    with pytest.raises(AccessError):
        in_cluster({}, tmp_path)


def test_a_kubeconfig_that_is_no_yaml_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("a: [\n")
    with pytest.raises(AccessError, match="config:2"):
        from_kubeconfig([path], {})
    path.write_text(json.dumps([1]))
    with pytest.raises(AccessError, match="no kubeconfig"):
        from_kubeconfig([path], {})
