"""Real Envoy takes everything that the goldens show, and nothing of it is on its way out of Envoy."""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import json
import pathlib
from typing import Any

import pytest
from envoy.config.listener.v3.listener_pb2 import Listener

from doubles.certificates import Authority, write_identity
from doubles.file_envoy import as_dict, envoy_path, file_envoy, http_get
from ostria.envoy import clusters, secrets
from ostria.envoy.bootstrap import ROOT_FILE, TOKEN_FILE, ControlPlane, Proxy, bootstrap
from ostria.envoy.clusters import PASSTHROUGH
from ostria.mesh.model import OutboundListener
from ostria.mesh.traits import ProxyType

pytestmark = pytest.mark.envoy


def goldens() -> Any:
    """The golden test beside this file, which pytest imports under a name of its own."""
    path = pathlib.Path(__file__).with_name("test_goldens.py")
    spec = importlib.util.spec_from_file_location("golden_cases", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def unbound(name: str, body: bytes, ports: itertools.count[int]) -> dict[str, Any]:
    """A listener that opens no port, under a name and at addresses that no other has."""
    listener = as_dict(Listener, body)
    listener |= {"name": name, "bind_to_port": False}
    port = next(ports)
    for place in (listener, *listener.get("additional_addresses", ())):
        place["address"]["socket_address"]["port_value"] = port
    return listener


# What the samples name of the proxy's own files.
FILES = ("file-cert:/etc/certs/cert.pem~/etc/certs/key.pem", "file-root:/etc/certs/ca.pem")


async def test_everything_is_accepted(tmp_path: pathlib.Path) -> None:
    cases = goldens()
    authority = Authority()
    mine, second = authority.issue("api.example.com"), authority.issue("second.example.com")
    for file, content in (("cert.pem", mine.certificate), ("key.pem", mine.key), ("ca.pem", mine.roots)):
        (tmp_path / file).write_bytes(content)
    ports = itertools.count(20_000)
    # What is asked for on demand needs the stream that files cannot stand for.
    tables = {name: body for name, body in cases.CONFIGURATIONS.items() if name != "on-demand"}
    wanted = ["9080", "reviews:9000", "443", "http.8080", "https.443.https.bookinfo-gateway.default"]
    wanted.append("https.443.mutual.bookinfo-gateway.default")
    # Each route in a virtual host of its own, as one configuration holds a name or a domain once.
    hosts = [
        cases.routes.member(
            cases.routes.virtual_host(cases.host(one, domains=(f"{name}.example",))._replace(name=name))
        )
        for name, one in cases.ROUTES.items()
    ]
    held = secrets.Credential(mine.certificate, mine.key, mine.roots)
    credentials = ("bookinfo-credential", "mutual-credential", "client-credential", "opened-credential")
    assignment = cases.endpoints.load_assignment
    listeners = [unbound(name, body, ports) for name, body in cases.LISTENERS.items()]
    listeners += [
        unbound(
            f"table-{name}",
            cases.listeners.outbound_listener(OutboundListener("", 1, f"table-{name}"), PASSTHROUGH),
            ports,
        )
        for name in tables
    ]
    async with file_envoy(
        tmp_path,
        bind=False,
        listeners=listeners,
        clusters=[named(cases.Cluster, name, body) for name, body in cases.CLUSTERS.items()],
        routes=[
            *(cases.routes.route_configuration(name, hosts) for name in wanted),
            *(named(cases.RouteConfiguration, f"table-{name}", body) for name, body in tables.items()),
        ],
        endpoints=[assignment(name, (cases.endpoint(mesh_tls=True),)) for name in eds_names(cases)],
        secrets=[
            *(secrets.certificate_secret(name, held) for name in credentials),
            # Beside another one: a name has one certificate of a kind.
            secrets.certificate_secret("second-credential", secrets.Credential(second.certificate, second.key)),
            *(secrets.authorities_secret(name, held) for name in credentials),
            *filter(None, map(secrets.file_secret, FILES)),
        ],
        replace={
            **write_identity(tmp_path, authority.issue("spiffe://cluster.local/ns/a/sa/b")),
            "/etc/certs": str(tmp_path),
        },
    ) as envoy:
        assert envoy.errors() == []
        dump = (await http_get(envoy.admin, "/config_dump?resource=dynamic_listeners")).json()
        states = {entry["name"]: entry for entry in dump["configs"]}
        assert set(states) == {listener["name"] for listener in listeners}
        assert all("active_state" in entry for entry in states.values())
        dump = (await http_get(envoy.admin, "/config_dump?resource=dynamic_active_clusters")).json()
        assert {entry["cluster"]["name"] for entry in dump["configs"]} == set(cases.CLUSTERS)


def named(message_type: Any, name: str, body: bytes) -> bytes:
    """The same under a name that no other has."""
    message = message_type.FromString(body)
    message.name = name
    return bytes(message.SerializeToString(deterministic=True))


def eds_names(cases: Any) -> set[str]:
    known = (cases.Cluster.FromString(body) for body in cases.CLUSTERS.values())
    return {cluster.eds_cluster_config.service_name for cluster in known if cluster.HasField("eds_cluster_config")}


@pytest.mark.parametrize("proxy_type", list(ProxyType))
@pytest.mark.parametrize("mark", [None, 1337])
async def test_the_bootstrap_is_valid(tmp_path: pathlib.Path, proxy_type: ProxyType, mark: int | None) -> None:
    (tmp_path / "root.pem").write_bytes(Authority().certificate)
    (tmp_path / "token").write_text("token")
    control_plane = ControlPlane(root_file=str(tmp_path / "root.pem"), token_file=str(tmp_path / "token"))
    assert ControlPlane().root_file == ROOT_FILE
    assert ControlPlane().token_file == TOKEN_FILE
    proxy = Proxy(proxy_type, ("10.0.0.1",), "reviews-v1-0", "default")
    config = tmp_path / "bootstrap.json"
    config.write_text(json.dumps(bootstrap(proxy, control_plane, mark=mark)))
    process = await asyncio.create_subprocess_exec(
        envoy_path(),
        "--mode",
        "validate",
        "-c",
        str(config),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, output.decode()
    assert b"deprecated option" not in output


def test_the_fixed_clusters_have_istios_names() -> None:
    assert (clusters.PASSTHROUGH, clusters.BLACK_HOLE) == ("PassthroughCluster", "BlackHoleCluster")
    assert clusters.INBOUND_PASSTHROUGH == "InboundPassthroughCluster"
