"""One WebAssembly module fetched: `python -m ostria.apps.module_fetch`, with what is wanted as JSON on standard input.

    {"url", "sha256", "credentials"} -> a line of JSON, {"failure"}, and behind it the module's bytes

Where it leads is what somebody has written into an object, or what a registry answers: every address is looked at when
it is connected to. A process of its own, that ends: registries are slow and modules large, which is not the control
plane's to bear.
An image holds a module as a layer of its own (https://github.com/solo-io/wasm/blob/master/spec/README.md) or as a file
`plugin.wasm` in its last layer; how images are asked for stands in the OCI distribution specification.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.client
import io
import json
import os
import pathlib
import re
import socket
import sys
import tarfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any, NamedTuple

from ostria.apps.addresses import AddressRules, networks

LARGEST = 256 << 20
"""The bytes of the largest module, and of the largest layer."""

TIMEOUT = 30.0

_MAGIC = b"\0asm"
_WASM_LAYER = "application/vnd.module.wasm.content.layer.v1+wasm"
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_DOCKER_HUB, _DOCKER_REGISTRY = "docker.io", "registry-1.docker.io"
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


class FetchError(Exception):
    """There is no module this time; the message says why."""


class Image(NamedTuple):
    """An image's place: `reference` is a tag, or a digest such as sha256:…"""

    registry: str
    repository: str
    reference: str

    @property
    def plain(self) -> bool:
        """Whether its registry is asked without TLS: only on this machine, or where somebody says so."""
        host = self.registry.rpartition(":")[0] or self.registry
        insecure = os.environ.get("WASM_INSECURE_REGISTRIES", "").split(",")
        return host in ("localhost", "127.0.0.1", "[::1]") or "*" in insecure or self.registry in insecure


def image_of(url: str) -> Image:
    """The image that `oci://registry/repository:tag@digest` names, spelled as Docker reads it."""
    rest = url.removeprefix("oci://")
    rest, _, digest = rest.partition("@")
    head, slash, tail = rest.partition("/")
    if not slash or not ("." in head or ":" in head or head == "localhost"):
        head, tail = _DOCKER_HUB, rest
    repository, _, tag = tail.partition(":")
    if head == _DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    registry = _DOCKER_REGISTRY if head == _DOCKER_HUB else head
    return Image(registry, repository, digest or tag or "latest")


def credentials_for(registry: str, config: bytes) -> str:
    """`user:password` for a registry, out of a `.dockerconfigjson`; "" where there is none."""
    try:
        auths = json.loads(config or b"{}").get("auths") or {}
        names = (_DOCKER_HUB, "index.docker.io", "https://index.docker.io/v1/") if registry == _DOCKER_REGISTRY else ()
        for name in (registry, f"https://{registry}", f"http://{registry}", *names):
            entry = auths.get(name)
            if entry and entry.get("auth"):
                return base64.b64decode(entry["auth"]).decode()
            if entry:
                return f"{entry.get('username', '')}:{entry.get('password', '')}"
    except (ValueError, AttributeError):
        raise FetchError("the Secret of the registry cannot be read") from None
    return ""


def module_in(content: bytes) -> bytes:
    """The module in what was fetched: itself, or packed with gzip, or `*.wasm` in a tar archive. Raises FetchError."""
    if content.startswith(b"\x1f\x8b"):
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as packed:
            content = packed.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise FetchError("it is too large")
    if content.startswith(_MAGIC):
        return content
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            files = [member for member in archive if member.isfile() and member.name.endswith(".wasm")]
            files.sort(key=lambda member: pathlib.PurePosixPath(member.name).name != "plugin.wasm")
            for member in files[:1]:
                file = archive.extractfile(member)
                found = file.read(LARGEST) if file else b""
                if found.startswith(_MAGIC):
                    return found
    except tarfile.TarError:
        pass
    raise FetchError("it holds no WebAssembly module")


def fetch(url: str, sha256: str = "", config: bytes = b"", rules: AddressRules | None = None) -> bytes:
    """A module's bytes, from where the rules permit (none given: the usual ones); raises FetchError."""
    web = _Web(rules or AddressRules())
    try:
        if url.startswith("oci://"):
            return _from_image(web, image_of(url), sha256, config)
        if not url.startswith(("http://", "https://")):
            raise FetchError(f'"{url}" cannot be fetched')
        content = web.get(urllib.request.Request(url))  # noqa: S310 - The scheme has been looked at.
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise FetchError(f"{url}: {error}") from None
    found = module_in(content)
    if sha256 and sha256 not in (_sha256(content), _sha256(found)):
        raise FetchError(f"{url}: its checksum is {_sha256(content)}, and {sha256} is wanted")
    return found


def _from_image(web: _Web, image: Image, sha256: str, config: bytes) -> bytes:
    registry = _Registry(web, image, credentials_for(image.registry, config))
    wanted = image.reference if image.reference.startswith("sha256:") else f"sha256:{sha256}" if sha256 else ""
    manifest, digest = registry.manifest(image.reference)
    if wanted and digest != wanted:
        raise FetchError(f"{image.repository}: its checksum is {digest}, and {wanted} is wanted")
    if "manifests" in manifest:
        manifest, _ = registry.manifest(manifest["manifests"][0]["digest"])
    layers = manifest.get("layers") or []
    if not layers:
        raise FetchError(f"{image.repository}: the image has no layers")
    chosen = next((layer for layer in layers if layer.get("mediaType") == _WASM_LAYER), layers[-1])
    return module_in(registry.blob(chosen["digest"]))


class _Registry:
    """One repository of a registry, with the token that it asked us to get."""

    def __init__(self, web: _Web, image: Image, credentials: str) -> None:
        self._web = web
        self._plain = image.plain
        scheme = "http" if image.plain else "https"
        self._base = f"{scheme}://{image.registry}/v2/{image.repository}"
        self._credentials = credentials
        self._authorization = ""

    def manifest(self, reference: str) -> tuple[dict[str, Any], str]:
        """A manifest and its digest."""
        body = self._ask(f"manifests/{reference}", {"accept": ", ".join(_MANIFESTS)})
        return json.loads(body), f"sha256:{_sha256(body)}"

    def blob(self, digest: str) -> bytes:
        """A blob, checked."""
        body = self._ask(f"blobs/{digest}", {})
        if f"sha256:{_sha256(body)}" != digest:
            raise FetchError(f"{self._base}: a layer is not what its digest says")
        return body

    def _ask(self, path: str, headers: Mapping[str, str]) -> bytes:
        url = f"{self._base}/{path}"
        try:
            return self._web.get(self._request(url, headers))
        except urllib.error.HTTPError as error:
            if error.code != 401 or self._authorization:
                raise
            self._authorize(error.headers.get("www-authenticate", ""))
        return self._web.get(self._request(url, headers))

    def _request(self, url: str, headers: Mapping[str, str]) -> urllib.request.Request:
        request = urllib.request.Request(url, headers=dict(headers))  # noqa: S310 - Ours.
        if self._authorization:
            # Not sent on where the registry sends us to fetch a blob.
            request.add_unredirected_header("authorization", self._authorization)
        return request

    def _authorize(self, challenge: str) -> None:
        """Do as a registry asks (https://distribution.github.io/distribution/spec/auth/token/)."""
        basic = f"Basic {base64.b64encode(self._credentials.encode()).decode()}" if self._credentials else ""
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() != "bearer":
            if not basic:
                raise FetchError(f"{self._base}: the registry asks for credentials: name a Secret in imagePullSecret")
            self._authorization = basic
            return
        fields = dict(_CHALLENGE.findall(rest))
        realm = fields.pop("realm", "")
        if not realm.startswith(("https://", "http://") if self._plain else "https://"):
            raise FetchError(f"{self._base}: the registry says not where tokens are given")
        request = urllib.request.Request(f"{realm}?{urllib.parse.urlencode(fields)}")  # noqa: S310 - Looked at.
        if basic:
            request.add_unredirected_header("authorization", basic)
        answer = json.loads(self._web.get(request))
        self._authorization = f"Bearer {answer.get('token') or answer.get('access_token') or ''}"


class _Web:
    """What is asked over HTTP; connects to no address that the rules forbid."""

    def __init__(self, rules: AddressRules) -> None:
        def connect(address: tuple[str, int], timeout: float | None = None, *_: Any) -> socket.socket:
            failure: OSError = OSError(f"{address[0]} has no address")
            for family, kind, protocol, _name, place in socket.getaddrinfo(*address, type=socket.SOCK_STREAM):
                if not rules.permit(str(place[0])):
                    failure = OSError(f"{place[0]} is an address that modules are not fetched from")
                    continue
                made = socket.socket(family, kind, protocol)
                made.settimeout(timeout)
                try:
                    made.connect(place)
                except OSError as error:
                    made.close()
                    failure = error
                else:
                    return made
            raise failure

        def connection(kind: type[http.client.HTTPConnection]) -> Any:
            def make(host: str, **options: Any) -> http.client.HTTPConnection:
                made = kind(host, **options)
                # The one seam that the library has for this, for plain connections and TLS alike.
                made._create_connection = connect  # type: ignore[attr-defined]
                return made

            return make

        class Plain(urllib.request.HTTPHandler):
            def http_open(self, request: urllib.request.Request) -> Any:
                return self.do_open(connection(http.client.HTTPConnection), request)

        class Tls(urllib.request.HTTPSHandler):
            def https_open(self, request: urllib.request.Request) -> Any:
                return self.do_open(connection(http.client.HTTPSConnection), request)

        self._opener = urllib.request.build_opener(Plain, Tls)

    def get(self, request: urllib.request.Request) -> bytes:
        """What is answered, redirects followed."""
        with self._opener.open(request, timeout=TIMEOUT) as response:
            content: bytes = response.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise FetchError(f"{request.full_url}: it is larger than {LARGEST >> 20} MiB")
        return content


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def main() -> int:
    """Fetch what standard input asks for."""
    wanted = json.load(sys.stdin)
    try:
        rules = AddressRules(allowed=networks(os.environ.get("OSTRIA_ALLOWED_CIDRS_IN_MODULE_URLS", "")))
        credentials = base64.b64decode(wanted.get("credentials", ""))
        content = fetch(wanted["url"], wanted.get("sha256", ""), credentials, rules)
        failure = ""
    except (FetchError, OSError, ValueError, KeyError) as error:
        content, failure = b"", str(error) or type(error).__name__
    sys.stdout.buffer.write(json.dumps({"failure": failure}).encode() + b"\n" + content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
