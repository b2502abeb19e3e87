"""An issuer's public keys fetched: from their URL, or from where its OpenID configuration says that they are.

    KeySource -> https:// ... -> the set as proxies are given it, or FetchError with words for people

Where it leads is what somebody has written into an object: so every address is looked at when it is connected to,
after names have been resolved and on each redirect anew, and what is answered is bounded in size and time.
OpenID Connect Discovery 1.0, section 4, says how keys are found.
"""

from __future__ import annotations

import asyncio
import pathlib
import socket
import ssl
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

import aiohttp
import msgspec

from ostria.apps.addresses import AddressRules
from ostria.mesh.model import KeySource
from ostria.resources.key_sets import LARGEST, read_key_set

REDIRECTS = 5
EXTRA_ROOTS = "/cacerts/extra.pem"
"""Further authorities that issuers' certificates may be of, as Istio mounts them (jwksResolverExtraRootCA)."""

_WELL_KNOWN = "/.well-known/openid-configuration"
_REDIRECTED = (301, 302, 303, 307, 308)


class FetchError(Exception):
    """There are no keys this time; the message says why."""


class _Configuration(msgspec.Struct):
    jwks_uri: str = ""


async def fetch_keys(source: KeySource, bound: float, rules: AddressRules) -> str:
    """The set as JSON, within so many seconds. Raises FetchError."""
    refused: list[str] = []
    try:
        async with asyncio.timeout(bound), _session(rules, refused) as session:
            uri = source.uri or await _discovered(session, source.issuer)
            return read_key_set(await _get(session, uri)).text
    except TimeoutError:
        raise FetchError(f"no answer within {bound:g} s") from None
    except (aiohttp.ClientError, OSError) as error:
        words = f"{refused[0]} is an address that keys are not fetched from" if refused else _words(error)
        raise FetchError(words) from None
    except ValueError as error:
        # A URL that is none, or an answer that is no set of keys.
        raise FetchError(str(error)[:500]) from None


async def _discovered(session: aiohttp.ClientSession, issuer: str) -> str:
    """Where an issuer says that its keys are."""
    text = await _get(session, issuer.rstrip("/") + _WELL_KNOWN)
    try:
        found = msgspec.json.decode(text, type=_Configuration).jwks_uri
    except (msgspec.DecodeError, RecursionError):
        found = ""
    if not found:
        raise FetchError(f"{issuer}{_WELL_KNOWN} names no jwks_uri")
    return found


async def _get(session: aiohttp.ClientSession, uri: str) -> str:
    parts = urlsplit(uri)
    for _ in range(REDIRECTS + 1):
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise FetchError(f"{_shown(parts)}: it is no URL of http or https")
        async with session.get(urlunsplit(parts), allow_redirects=False) as response:
            if response.status == 200:
                return await _text(response, parts)
            if response.status not in _REDIRECTED:
                raise FetchError(f"{_shown(parts)}: the answer is {response.status}")
            target = urlsplit(urljoin(urlunsplit(parts), response.headers.get("location", "")))
        if parts.scheme == "https" and target.scheme != "https":
            raise FetchError(f"{_shown(parts)}: it leads on to {_shown(target)}, without TLS")
        parts = target
    raise FetchError(f"{_shown(urlsplit(uri))}: it leads on more than {REDIRECTS} times")


async def _text(response: aiohttp.ClientResponse, parts: SplitResult) -> str:
    content = bytearray()
    async for chunk in response.content.iter_chunked(1 << 14):
        content += chunk
        if len(content) > LARGEST:
            raise FetchError(f"{_shown(parts)}: the answer is larger than {LARGEST >> 10} KiB")
    return content.decode()


def _session(rules: AddressRules, refused: list[str]) -> aiohttp.ClientSession:
    """A session that connects to no address that is forbidden (these are `refused`), and keeps nothing."""

    def connection(info: Any) -> socket.socket:
        family, kind, protocol, _, address = info
        if not rules.permit(str(address[0])):
            refused.append(str(address[0]))
            raise PermissionError
        return socket.socket(family, kind, protocol)

    connector = aiohttp.TCPConnector(socket_factory=connection, ssl=_trust(), force_close=True, use_dns_cache=False)
    return aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        headers={"accept": "application/json", "accept-encoding": "identity"},
        cookie_jar=aiohttp.DummyCookieJar(),
        max_line_size=8190,
        max_field_size=8190,
    )


def _trust() -> ssl.SSLContext:
    context = ssl.create_default_context()
    extra = pathlib.Path(EXTRA_ROOTS)
    if extra.exists():
        context.load_verify_locations(extra)
    return context


def _shown(parts: SplitResult) -> str:
    """A URL without what may be secret in it: passwords and parameters."""
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"[:200]


def _words(error: BaseException) -> str:
    return (str(error) or type(error).__name__)[:500]
