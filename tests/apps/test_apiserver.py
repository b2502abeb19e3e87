"""The process `apiserver`: killed, ended and started again, on a socket that somebody else keeps."""

from __future__ import annotations

import http.client
import json
import pathlib
import signal
import socket
import ssl
import tempfile
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import pytest

from doubles.api_process import ApiProcess
from ostria.apps import apiserver

MAPS = "/api/v1/namespaces/default/configmaps"


class Process(ApiProcess):
    """The process, and a client that is nobody's but ours."""

    def connect(self) -> http.client.HTTPSConnection:
        """A connection as the administrator."""
        config = json.loads(self.kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        context = ssl.create_default_context(cadata=b64decode(cluster["certificate-authority-data"]).decode())
        with tempfile.NamedTemporaryFile() as pair:
            pair.write(b64decode(user["client-certificate-data"]) + b64decode(user["client-key-data"]))
            pair.flush()
            context.load_cert_chain(pair.name)
        host, _, port = self.address.partition(":")
        return http.client.HTTPSConnection(host, int(port), context=context, timeout=30)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection = self.connect()
        try:
            headers = {"Content-Type": "application/json"}
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()


@pytest.fixture
def process(tmp_path: pathlib.Path) -> Iterator[Process]:
    made = Process(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.end()
        made.socket.close()


def config_map(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": {"a": "b"}}


def test_what_was_acknowledged_survives_a_kill(process: Process) -> None:
    made = [process.ask("POST", MAPS, config_map(f"n{number}"))[1] for number in range(20)]
    process.end(signal.SIGKILL)
    process.start()
    code, listed = process.ask("GET", MAPS)
    assert code == 200
    assert sorted(each["metadata"]["uid"] for each in listed["items"]) == sorted(
        each["metadata"]["uid"] for each in made
    )
    assert process.ask("GET", f"{MAPS}/n7")[1] == made[7]


def test_a_watch_from_before_a_start_must_list_again_unless_nothing_has_happened(process: Process) -> None:
    _, first = process.ask("POST", MAPS, config_map("first"))
    process.ask("POST", MAPS, config_map("second"))
    process.end(signal.SIGKILL)
    process.start()
    since = first["metadata"]["resourceVersion"]
    code, status = process.ask("GET", f"{MAPS}?watch=1&resourceVersion={since}&timeoutSeconds=1")
    assert (code, status["reason"]) == (410, "Expired")
    _, listed = process.ask("GET", MAPS)
    since = listed["metadata"]["resourceVersion"]
    connection = process.connect()
    connection.request("GET", f"{MAPS}?watch=1&resourceVersion={since}&timeoutSeconds=1")
    response = connection.getresponse()
    assert (response.status, response.read()) == (200, b"")
    connection.close()


def test_it_ends_in_order_when_asked_and_watches_with_it(process: Process) -> None:
    connection = process.connect()
    connection.request("GET", f"{MAPS}?watch=1")
    response = connection.getresponse()
    assert response.status == 200
    assert process.end(signal.SIGTERM) == 0
    assert response.read() == b"", "the stream is ended, not cut"
    connection.close()


def test_connections_wait_while_it_is_started_again(process: Process) -> None:
    process.end(signal.SIGTERM)
    with socket.create_connection(process.socket.getsockname()):
        process.start()
    assert process.ask("GET", "/version")[0] == 200


def test_who_brings_no_credential_may_hardly_do_anything(process: Process) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    host, _, port = process.address.partition(":")
    connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=30)
    for path, code in ((MAPS, 403), ("/readyz", 200), ("/version", 200)):
        connection.request("GET", path)
        response = connection.getresponse()
        assert (path, response.status) == (path, code)
        response.read()
    connection.close()


def test_credentials_are_for_their_owner_alone(process: Process) -> None:
    for path in (process.folder / "kubeconfig", process.folder / "apiserver" / "node.kubeconfig"):
        assert path.stat().st_mode & 0o777 == 0o600
    for path in (process.folder / "apiserver" / "pki").glob("*.key"):
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_state_that_cannot_be_read_is_refused(tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "apiserver").mkdir()
    (tmp_path / "apiserver" / "objects.db").write_bytes(b"no database" * 1000)
    arguments = ["--state", str(tmp_path / "apiserver"), "--listen", "127.0.0.1:0", "--advertise", "127.0.0.1:1"]
    arguments += ["--node-socket", str(tmp_path / "node.sock"), "--kubeconfig", str(tmp_path / "kubeconfig")]
    assert apiserver.main(arguments) == apiserver.BAD_INPUT
    assert "cannot be read" in capfd.readouterr().err
