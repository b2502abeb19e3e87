"""A registry of images on loopback, and a place for files: as much of the OCI distribution API as a pull needs."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import http.server
import io
import json
import tarfile
import threading
from collections.abc import Iterator

USER = "reader:secret"


class Registry:
    """`port` is where it listens; `asked` the paths that were asked for with success.

    `realm` is where it says that tokens are given; "" is at itself.
    """

    def __init__(self, *, secured: bool = False) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.secured = secured
        self.port = 0
        self.realm = ""

    def push(self, repository: str, tag: str, module: bytes, *, artifact: bool = False) -> str:
        """An image that holds a module, as a layer of its own or in an archive; returns its digest."""
        layer = module if artifact else gzip.compress(_archive("plugin.wasm", module))
        kind = "application/vnd.module.wasm.content.layer.v1+wasm" if artifact else "application/vnd.oci.image.layer"
        self.files[f"/v2/{repository}/blobs/{digest(layer)}"] = layer
        manifest = json.dumps({"schemaVersion": 2, "layers": [{"mediaType": kind, "digest": digest(layer)}]}).encode()
        for reference in (tag, digest(manifest)):
            self.files[f"/v2/{repository}/manifests/{reference}"] = manifest
        return digest(manifest)

    @property
    def docker_config(self) -> bytes:
        """What a pull secret holds for it."""
        auth = base64.b64encode(USER.encode()).decode()
        return json.dumps({"auths": {f"127.0.0.1:{self.port}": {"auth": auth}}}).encode()


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _archive(name: str, content: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


@contextlib.contextmanager
def registry(*, secured: bool = False) -> Iterator[Registry]:
    """A registry that serves until the block ends; a secured one gives tokens to `USER` and manifests for tokens."""
    made = Registry(secured=secured)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = self.headers.get("authorization", "")
            if self.path.startswith("/token"):
                known = given == f"Basic {base64.b64encode(USER.encode()).decode()}"
                self._answer(*(200, b'{"token": "t"}') if known else (401, b""))
            elif made.secured and given != "Bearer t":
                self.send_response(401)
                realm = made.realm or f"http://127.0.0.1:{made.port}/token"
                self.send_header("www-authenticate", f'Bearer realm="{realm}",service="r",scope="pull"')
                self.end_headers()
            elif self.path in made.files:
                made.asked.append(self.path)
                self._answer(200, made.files[self.path])
            else:
                self._answer(404, b"")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
