"""How a Kubernetes API is reached, and as whom: a kubeconfig's or a pod's answer to where, whom to trust, what to show.

    kubeconfig files, a context's name, the environment -> Access(server, trust, credentials)

Files that are replaced while we run (a pod's token, certificates) are read at each request: it costs microseconds and
no rotation is missed. A plugin is asked again when what it gave has run out or has been refused.
See https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/ and
https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins.
"""

from __future__ import annotations

import base64
import os
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from ostria.base import Problem
from ostria.base.yaml import read_documents
from ostria.sources.exec_plugin import ExecPlugin

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class AccessError(ValueError):
    """Why a configuration does not lead to an API, in words for its author."""


class Credential(NamedTuple):
    """What is shown to the API: headers, and a client certificate with its key as PEM."""

    headers: Mapping[str, str] = {}
    certificate: tuple[bytes, bytes] | None = None


class Credentials(Protocol):
    """Where credentials come from. `now` decides whether what is remembered still holds."""

    async def get(self) -> Credential:
        """What to show now. Raises OSError or ValueError if there is nothing to show."""

    def refused(self) -> None:
        """The API has refused what was shown: do not show it again if there is another way."""


class Bytes(NamedTuple):
    """Bytes that are given, or that stand in a file which may be replaced."""

    given: bytes | None = None
    path: Path | None = None

    def read(self) -> bytes | None:
        """The bytes as they are now; None if there are none. Raises OSError."""
        return self.path.read_bytes() if self.path is not None else self.given


NOTHING = Bytes()


class Access(NamedTuple):
    """One API: where it is, whom to trust there, and what to show.

    `proxy` is "" for none. `server_name` is the name that its certificate must have, "" for the host's.
    """

    server: str
    credentials: Credentials
    namespace: str = "default"
    authority: Bytes = NOTHING
    insecure: bool = False
    server_name: str = ""
    proxy: str = ""
    name: str = ""


class Written:
    """Credentials that are written down: a token or a password, a certificate, whom to act as."""

    def __init__(
        self,
        *,
        token: Bytes = NOTHING,
        certificate: Bytes = NOTHING,
        key: Bytes = NOTHING,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._token = token
        self._certificate = certificate
        self._key = key
        self._headers = dict(headers or {})

    async def get(self) -> Credential:
        """What is written there now."""
        headers = dict(self._headers)
        token = self._token.read()
        if token:
            headers["Authorization"] = f"Bearer {token.decode().strip()}"
        certificate, key = self._certificate.read(), self._key.read()
        return Credential(headers, (certificate, key) if certificate and key else None)

    def refused(self) -> None:
        """There is no other way; files are read again in any case."""


class Plugin:
    """Credentials that a program gives, on top of what is written."""

    def __init__(self, plugin: ExecPlugin, written: Written) -> None:
        self._plugin = plugin
        self._written = written

    async def get(self) -> Credential:
        """What the program gives, from memory while it holds."""
        written, answer = await self._written.get(), await self._plugin.get()
        headers = dict(written.headers)
        if answer.token:
            headers["Authorization"] = f"Bearer {answer.token}"
        certificate = (answer.certificate.encode(), answer.key.encode()) if answer.certificate else written.certificate
        return Credential(headers, certificate)

    def refused(self) -> None:
        """Ask the program again."""
        self._plugin.forget()


def in_cluster(env: Mapping[str, str], folder: Path = SERVICE_ACCOUNT) -> Access:
    """The API of the cluster that this process is a pod of. Raises AccessError if it is none."""
    host, port = env.get("KUBERNETES_SERVICE_HOST", ""), env.get("KUBERNETES_SERVICE_PORT", "")
    token = folder / "token"
    if not host or not port or not token.exists():
        raise AccessError(f"this is no pod of a cluster: KUBERNETES_SERVICE_HOST or {token} is missing")
    namespace = folder / "namespace"
    return Access(
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        credentials=Written(token=Bytes(path=token)),
        namespace=namespace.read_text().strip() if namespace.exists() else "default",
        authority=Bytes(path=folder / "ca.crt"),
        name="in-cluster",
    )


def kubeconfig_paths(env: Mapping[str, str]) -> tuple[Path, ...]:
    """The files that kubectl would read: those of KUBECONFIG, else ~/.kube/config."""
    named = [Path(path) for path in env.get("KUBECONFIG", "").split(os.pathsep) if path]
    return tuple(named) or (Path(env.get("HOME", "/")) / ".kube" / "config",)


def from_kubeconfig(paths: Iterable[Path], env: Mapping[str, str], context: str = "") -> Access:
    """The API that a context of some kubeconfig files leads to; "" is their current one.

    As with kubectl, of several files the first to say something counts, files that do not exist are passed over, and
    paths in a file are relative to it. Raises AccessError.
    """
    paths = tuple(paths)
    merged = _merge(paths)
    name = context or merged.current
    place = ", ".join(map(str, paths))
    if not name:
        raise AccessError(f"no context is chosen in {place}; there are {_choices(merged.contexts)}")
    if name not in merged.contexts:
        raise AccessError(f'there is no context "{name}" in {place}; there are {_choices(merged.contexts)}')
    chosen = merged.contexts[name]
    cluster = merged.clusters.get(_text(chosen, "cluster"))
    if cluster is None or not _text(cluster, "server"):
        raise AccessError(f'the context "{name}" in {place} names no cluster with a server')
    user = merged.users.get(_text(chosen, "user"), _Section({}, Path()))
    server = _text(cluster, "server")
    return Access(
        server=server.rstrip("/"),
        credentials=_credentials(user, cluster, env),
        namespace=_text(chosen, "namespace") or "default",
        authority=_bytes(cluster, "certificate-authority"),
        insecure=cluster.value.get("insecure-skip-tls-verify") is True,
        server_name=_text(cluster, "tls-server-name"),
        proxy=_text(cluster, "proxy-url") or proxy_of(server, env),
        name=name,
    )


def context_names(paths: Iterable[Path]) -> tuple[str, ...]:
    """The contexts of some kubeconfig files. Raises AccessError."""
    return tuple(sorted(_merge(tuple(paths)).contexts))


def proxy_of(server: str, env: Mapping[str, str]) -> str:
    """The proxy that the environment names for a server, "" for none."""
    parts = urlsplit(server)
    proxies = {name: env.get(f"{name}_proxy") or env.get(f"{name.upper()}_PROXY", "") for name in ("https", "http")}
    no = env.get("no_proxy") or env.get("NO_PROXY", "")
    if no and urllib.request.proxy_bypass_environment(parts.hostname or "", {"no": no}):  # type: ignore[attr-defined]
        return ""
    return proxies.get(parts.scheme, "")


class _Section(NamedTuple):
    """One named entry, and the folder that its paths are relative to."""

    value: Mapping[str, Any]
    folder: Path


class _Merged(NamedTuple):
    current: str
    contexts: dict[str, _Section]
    clusters: dict[str, _Section]
    users: dict[str, _Section]


def _merge(paths: tuple[Path, ...]) -> _Merged:
    merged = _Merged("", {}, {}, {})
    found = False
    for path in paths:
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise AccessError(f"{path} cannot be read: {error.strerror}") from None
        found = True
        for document in read_documents(text, str(path)):
            if isinstance(document, Problem):
                raise AccessError(str(document))
            if not isinstance(document.value, Mapping):
                raise AccessError(f"{path} is no kubeconfig")
            value = document.value
            merged = merged._replace(current=merged.current or str(value.get("current-context") or ""))
            sections = (("contexts", "context"), ("clusters", "cluster"), ("users", "user"))
            for (plural, singular), known in zip(sections, merged[1:], strict=True):
                entries = value.get(plural)
                for entry in entries if isinstance(entries, list) else ():
                    if isinstance(entry, Mapping) and isinstance(entry.get(singular), Mapping):
                        known.setdefault(str(entry.get("name")), _Section(entry[singular], path.parent))
    if not found:
        raise AccessError(f"there is no kubeconfig: {', '.join(map(str, paths))} does not exist")
    return merged


def _choices(contexts: Mapping[str, _Section]) -> str:
    return ", ".join(sorted(contexts)) or "none"


def _text(section: _Section, field: str) -> str:
    value = section.value.get(field)
    return value if isinstance(value, str) else ""


def _bytes(section: _Section, field: str) -> Bytes:
    """A field that has a twin with the bytes themselves, which counts if both are written."""
    data = _text(section, f"{field}-data")
    if data:
        try:
            return Bytes(given=base64.b64decode(data, validate=True))
        except ValueError:
            raise AccessError(f"{field}-data is not base64") from None
    path = _text(section, field)
    return Bytes(path=section.folder / path) if path else NOTHING


def _credentials(user: _Section, cluster: _Section, env: Mapping[str, str]) -> Credentials:
    if user.value.get("auth-provider"):
        raise AccessError("auth-provider has been removed from Kubernetes: use an exec plugin")
    headers = {}
    if _text(user, "as"):
        headers["Impersonate-User"] = _text(user, "as")
    if _text(user, "username"):
        pair = f"{_text(user, 'username')}:{_text(user, 'password')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    # kubectl: a file, where there is one, counts more than the token beside it.
    path, token = _text(user, "tokenFile"), _text(user, "token")
    written = Written(
        token=Bytes(path=user.folder / path) if path else Bytes(given=token.encode() or None),
        certificate=_bytes(user, "client-certificate"),
        key=_bytes(user, "client-key"),
        headers=headers,
    )
    plugin = user.value.get("exec")
    if not isinstance(plugin, Mapping):
        return written
    try:
        return Plugin(ExecPlugin.of(plugin, user.folder, cluster.value, env), written)
    except ValueError as error:
        raise AccessError(f"the exec plugin: {error}") from None
