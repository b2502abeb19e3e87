"""The API on a socket: HTTP/1.1 over TLS, with its bodies, its forms of answers, its streams.

Everything that decides is elsewhere; here requests are read, sent through the pipeline, and answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import logging
import platform
import random
import ssl
from collections.abc import AsyncGenerator, Callable
from typing import NamedTuple, Protocol

import msgspec
from aiohttp import web

from ostria.kubeapi import bodies, discovery, representation
from ostria.kubeapi.access import Access
from ostria.kubeapi.calls import (
    Answer,
    Call,
    delete_options,
    list_options,
    options,
    watch_options,
)
from ostria.kubeapi.errors import (
    StatusError,
    bad_request,
    internal,
    method_not_allowed,
    no_such_resource,
    unavailable,
    unsupported_media_type,
)
from ostria.kubeapi.kinds import LEFT_OUT
from ostria.kubeapi.openapi import V2_EMPTY, V2_MEDIA, V2_PATH
from ostria.kubeapi.patches import json_patch, merge_patch, strategic_merge_patch
from ostria.kubeapi.paths import route
from ostria.kubeapi.requests import Attributes, Document, Resource, User
from ostria.kubeapi.reviews import Reviews
from ostria.kubeapi.selection import seen
from ostria.kubeapi.service import Service, Watch
from ostria.kubeapi.subresources import Subresources

log = logging.getLogger("ostria.apiserver")

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
_MACHINE = platform.machine()
VERSION = {
    "major": "1",
    "minor": "33",
    "gitVersion": "v1.33.0+ostria",
    "platform": f"linux/{_MACHINES.get(_MACHINE, _MACHINE)}",
}
BOOKMARKS = 30.0
"""Seconds between the bookmarks of a watch on which nothing happens."""
_DISCOVERY = ("v2", "v2beta1")
_LONGEST_WATCH = (1800.0, 3600.0)
_SHARED = 32
"""How many encoded events are kept for the other watches that are about to tell them."""
_json = msgspec.json.Encoder()


WAYS = ("exec", "log", "portforward")


class Passage(Protocol):
    """The ways into pods, which are passed on to the node: one of WAYS below a pod."""

    async def respond(self, call: Call, request: web.Request) -> web.StreamResponse:
        """The answer. Raises StatusError."""


Documents = Callable[[str], Document | None]
"""The server's own documents by their path (OpenAPI, keys of tokens); None for what there is not."""


class Settings(NamedTuple):
    """What the server says of itself: where it is reached (HOST:PORT)."""

    address: str


class Server:
    """The API of one service; `app` is for aiohttp, `end` closes its streams."""

    def __init__(
        self,
        service: Service,
        access: Access,
        reviews: Reviews,
        subresources: Subresources,
        passage: Passage | None,
        documents: Documents,
        settings: Settings,
    ) -> None:
        self._service = service
        self._registry = service.registry
        self._access = access
        self._reviews = reviews
        self._passage = passage
        self._subresources = subresources
        self._documents = documents
        self._settings = settings
        self._encoded: dict[tuple[int, str], bytes] = {}
        self._known: dict[tuple[str, str], tuple[int, bytes, str]] = {}
        self.ready = True
        self.app = web.Application(client_max_size=bodies.MOST)
        self.app.router.add_route("*", "/{path:.*}", self._handle)

    def end(self) -> None:
        """Say that this server goes, and end its watches."""
        self.ready = False
        self._service.store.end_watches()

    def _now(self) -> float:
        return self._service.surroundings.now().timestamp()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._answer(request)
        except StatusError as error:
            return _refused(error)
        except web.HTTPRequestEntityTooLarge:
            return _refused(bodies.too_large())
        except (ConnectionResetError, asyncio.CancelledError):
            raise
        except Exception:
            # One request's fault must not end the server; the log has what the caller is spared.
            log.exception("%s %s failed", request.method, request.path)
            return _refused(internal("the request could not be served; the server's log says why"))

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        about = route(request.method, request.rel_url.raw_path, request.query)
        if about.path in ("/healthz", "/livez", "/readyz"):
            if about.path == "/readyz" and not self.ready:
                raise unavailable("the server is about to end")
            return web.Response(text="ok")
        user = self._access.authenticate(request.headers, _certificate(request))
        # Who may not even ask is told so, whether or not there is such a thing.
        self._access.authorize(user, about)
        if about.path:
            return self._document(request, about)
        resource = self._registry.find(about.group, about.version, about.resource)
        if resource is None:
            raise no_such_resource()
        return await self._serve(request, user, resource, about)

    async def _serve(
        self, request: web.Request, user: User, resource: Resource, about: Attributes
    ) -> web.StreamResponse:
        query = dict(request.query)
        agent = request.headers.get("User-Agent", "")
        # A namespace's own path names it twice, for authorization.
        namespace = about.namespace if resource.namespaced else ""
        call = Call(user, resource, namespace, about.name, about.subresource, options(query, agent=agent))
        if about.subresource and about.subresource not in resource.subresources:
            raise no_such_resource(LEFT_OUT.get((resource.group, resource.plural, about.subresource), ""))
        if about.subresource in WAYS:
            if self._passage is None:
                raise unavailable("no node runs here that could be asked")
            return await self._passage.respond(call, request)
        if not about.subresource and about.verb not in resource.verbs:
            raise method_not_allowed()
        if self._reviews.answers(resource.group, resource.kind):
            review = self._reviews.answer(resource.group, resource.kind, await self._body(request), user, namespace)
            return _response(201, review)
        if resource.namespaced and not namespace and about.verb not in ("list", "watch"):
            raise bad_request("an empty namespace may not be set during creation or change")
        if about.verb == "watch":
            return await self._watch(request, call)
        form = representation.negotiate(request.headers.get("Accept", ""), request.query.get("includeObject", ""))
        now = self._now()
        if about.verb == "list":
            listed = self._service.list(call, list_options(query))
            return _response(200, representation.many(resource, *listed, form, now))
        if about.verb == "deletecollection":
            body = await self._body(request)
            wished, tried = delete_options(query, body)
            call = call._replace(options=call.options._replace(dry_run=tried))
            gone = await self._service.delete_collection(call, list_options(query), wished)
            return _response(200, representation.many(resource, *gone, form, now))
        answer = await self._one(request, call, about.verb, query)
        return _response(answer.code, representation.one(resource, answer.document, form, now), answer.warnings)

    async def _one(self, request: web.Request, call: Call, verb: str, query: dict[str, str]) -> Answer:
        service = self._service
        match verb:
            case "get":
                return Answer(200, service.get(call))
            case "create" if not call.name:
                return await service.create(call, await self._body(request))
            case "create" if call.subresource:
                answer = await self._subresources.create(call, await self._body(request))
                if answer is not None:
                    return answer
            case "update":
                return await service.update(call, await self._body(request))
            case "patch":
                return await self._patch(request, call)
            case "delete":
                wished, tried = delete_options(query, await self._body(request))
                return await service.delete(call._replace(options=call.options._replace(dry_run=tried)), wished)
        raise method_not_allowed()

    async def _patch(self, request: web.Request, call: Call) -> Answer:
        media, body = request.content_type, await request.read()
        if media == bodies.APPLY_PATCH:
            applied = bodies.from_yaml(body)
            if not isinstance(applied, dict):
                raise bad_request("the applied configuration is no object")
            return await self._service.apply(call, applied)
        patch = bodies.from_json(body)
        if media == bodies.JSON_PATCH:
            return await self._service.patch(call, lambda live: json_patch(live, patch))
        if media == bodies.MERGE_PATCH:
            return await self._service.patch(call, lambda live: merge_patch(live, patch))
        if media == bodies.STRATEGIC_PATCH and not call.resource.crd:
            schema = self._service.forming.schema(call.resource)
            if call.subresource != "scale" and schema is not None:
                return await self._service.patch(call, lambda live: strategic_merge_patch(live, patch, schema))
            # A Scale has no lists, so a strategic patch of it is a merge patch.
            return await self._service.patch(call, lambda live: merge_patch(live, patch))
        taken = [each for each in bodies.PATCHES if each != bodies.STRATEGIC_PATCH or not call.resource.crd]
        raise unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: " + ", ".join(taken)
        )

    async def _body(self, request: web.Request) -> Document:
        body = await request.read()
        if not body:
            if request.method == "DELETE":
                return {}
            raise bad_request("the body of the request is empty")
        return bodies.document(request.headers.get("Content-Type", ""), body)

    # The server's own documents.

    def _document(self, request: web.Request, about: Attributes) -> web.StreamResponse:
        """A document, with an ETag, so that clients that have it need not read it again."""
        if about.verb != "get":
            raise method_not_allowed()
        path, media = about.path.rstrip("/"), "application/json"
        if path == V2_PATH:
            return web.Response(body=V2_EMPTY, headers={"Content-Type": V2_MEDIA})
        accept = request.headers.get("Accept", "").replace(" ", "")
        if path in ("/api", "/apis"):
            offered = (
                f"application/json;g=apidiscovery.k8s.io;v={each};as=APIGroupDiscoveryList" for each in _DISCOVERY
            )
            media = next((each for each in offered if each in accept), media)
        known = self._known.get((path, media))
        if known is None or known[0] != self._registry.generation:
            found = self._made(path, media)
            if found is None:
                raise no_such_resource()
            encoded = _json.encode(found)
            etag = f'"{hashlib.sha256(encoded).hexdigest()[:32].upper()}"'
            # Kept as it is mostly sent: nearly every client takes it packed.
            known = self._known[path, media] = (self._registry.generation, gzip.compress(encoded, 6), etag)
        _, packed, etag = known
        headers = {"ETag": etag, "Vary": "Accept, Accept-Encoding", "Cache-Control": "public", "Content-Type": media}
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers=headers)
        if "gzip" not in request.headers.get("Accept-Encoding", ""):
            return web.Response(body=gzip.decompress(packed), headers=headers)
        return web.Response(body=packed, headers={**headers, "Content-Encoding": "gzip"})

    def _made(self, path: str, media: str) -> Document | None:
        resources = self._registry.resources
        if media != "application/json":
            version = media.partition("v=")[2].partition(";")[0]
            return discovery.aggregated(resources, core=path == "/api", version=version)
        if path == "/api":
            return discovery.core_versions(self._settings.address)
        if path == "/apis":
            return discovery.group_list(resources)
        if path == "/version":
            return dict(VERSION)
        if path == "/api/v1":
            return discovery.resource_list(resources, "", "v1")
        if path.startswith("/apis/"):
            name, _, version = path.removeprefix("/apis/").partition("/")
            if version:
                return discovery.resource_list(resources, name, version)
            return discovery.group(resources, name)
        return self._documents(path)

    # Watches.

    async def _watch(self, request: web.Request, call: Call) -> web.StreamResponse:
        form = representation.negotiate(request.headers.get("Accept", ""), request.query.get("includeObject", ""))
        wished = watch_options(dict(request.query))
        seconds = request.query.get("timeoutSeconds", "")
        # Watches end at different times, so that their clients do not come back all at once.
        longest = float(seconds) if seconds.isdigit() and int(seconds) else random.uniform(*_LONGEST_WATCH)  # noqa: S311
        watch = self._service.watch(call, wished)
        try:
            response = web.StreamResponse(
                headers={"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
            )
            await response.prepare(request)
            frames = self._frames(call, form, watch, longest, bookmarks=wished.bookmarks)
            # A client that goes ends its watch, and that is no fault.
            with contextlib.suppress(ConnectionResetError):
                async with contextlib.aclosing(frames):
                    async for frame in frames:
                        await response.write(frame)
                await response.write_eof()
            return response
        finally:
            self._service.store.leave(call.resource.key, watch.watcher)

    async def _frames(
        self, call: Call, form: representation.Form, watch: Watch, longest: float, *, bookmarks: bool
    ) -> AsyncGenerator[bytes]:
        """What a watch is told, as many events in one piece as there are."""
        resource, watcher = call.resource, watch.watcher
        shown = _Shown(resource, form, self._now, self._encoded)
        first = b"".join(shown.frame("ADDED", document, 0) for document in watch.initial)
        if watch.marked:
            first += shown.bookmark(watch.revision, marked=True)
        # An empty first piece is sent too: the client sees that the watch stands.
        yield first
        loop = asyncio.get_running_loop()
        end = loop.time() + longest
        while not watcher.ended:
            try:
                async with asyncio.timeout_at(min(end, loop.time() + BOOKMARKS)):
                    await watcher.ready()
            except TimeoutError:
                if bookmarks:
                    yield shown.bookmark(self._service.store.revision)
                if loop.time() >= end:
                    return
                continue
            try:
                events = watcher.take()
            except StatusError as error:
                yield b'{"type":"ERROR","object":%s}\n' % _json.encode(error.body())
                return
            piece = b""
            for event in events:
                if call.namespace and event.namespace != call.namespace:
                    continue
                kind = seen(event, watch.wanted)
                if kind:
                    document, revision = event.document, event.revision
                    if kind == "DELETED" and event.type != "DELETED" and event.before is not None:
                        # To this watch it has gone: it is told what it last saw, as of now.
                        metadata = {**event.before["metadata"], "resourceVersion": str(revision)}
                        document, revision = {**event.before, "metadata": metadata}, 0
                    piece += shown.frame(kind, document, revision)
            if piece:
                yield piece


class _Shown:
    """How one watch sees objects. Whole objects are encoded once for all watches that see the same event."""

    def __init__(
        self,
        resource: Resource,
        form: representation.Form,
        now: Callable[[], float],
        encoded: dict[tuple[int, str], bytes],
    ) -> None:
        self._resource = resource
        self._form = form
        self._now = now
        self._encoded = encoded
        self._headed = False

    def frame(self, kind: str, document: Document, revision: int) -> bytes:
        """One event; `revision` is its own, or 0 if it is this watch's alone."""
        return b'{"type":"%s","object":%s}\n' % (kind.encode(), self._object(document, revision))

    def bookmark(self, revision: int, *, marked: bool = False) -> bytes:
        """How far the watch has come; `marked` ends what was there at the beginning."""
        metadata: Document = {"resourceVersion": str(revision)}
        if marked:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        found: Document = {"kind": self._resource.kind, "apiVersion": self._resource.api_version, "metadata": metadata}
        if self._form.as_kind == "Table":
            found = representation.rows(self._resource, [], metadata, self._form, self._now())
            if marked:
                # A table's metadata has no annotations: the mark stands on a row's object.
                found["metadata"] = {"resourceVersion": str(revision)}
                partial = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
                found["rows"] = [{"cells": [], "object": partial}]
        elif self._form.as_kind:
            found |= {"kind": "PartialObjectMetadata", "apiVersion": f"meta.k8s.io/{self._form.version}"}
        return b'{"type":"BOOKMARK","object":%s}\n' % _json.encode(found)

    def _object(self, document: Document, revision: int) -> bytes:
        if self._form.as_kind:
            shown = representation.one(self._resource, document, self._form, self._now())
            if self._form.as_kind == "Table":
                if self._headed:
                    shown = {**shown, "columnDefinitions": None}
                self._headed = True
            return _json.encode(shown)
        at = (revision, self._resource.api_version)
        known = self._encoded.get(at) if revision else None
        if known is None:
            known = _json.encode(representation.of_version(self._resource, document))
            if revision:
                if len(self._encoded) >= _SHARED:
                    self._encoded.clear()
                self._encoded[at] = known
        return known


def tls(chain: str, key: str, authority: str) -> ssl.SSLContext:
    """The server's side of TLS, from files: its certificate, and the authority of clients that bring one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(chain, key)
    context.load_verify_locations(authority)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    return context


def _certificate(request: web.Request) -> bytes | None:
    connection = request.transport.get_extra_info("ssl_object") if request.transport else None
    found: bytes | None = connection.getpeercert(binary_form=True) if connection else None
    return found


def _response(code: int, document: Document, warnings: tuple[str, ...] = ()) -> web.Response:
    response = web.Response(status=code, body=_json.encode(document), content_type="application/json")
    for warning in dict.fromkeys(warnings):
        text = " ".join(warning.split()).replace("\\", "\\\\").replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{text}"')
    return response


def _refused(error: StatusError) -> web.Response:
    response = _response(error.code, error.body())
    seconds = error.details.get("retryAfterSeconds")
    if seconds:
        response.headers["Retry-After"] = str(seconds)
    return response
