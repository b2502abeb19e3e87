"""What proxies run beside the mesh's own filters: modules and scripts, in their order, each for some traffic.

WasmPlugin, TrafficExtension -> extension(object) -> extensions_of(client) by phase, priority and age
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from ostria.base import ObjectKey
from ostria.engine import Engine, Input, query
from ostria.mesh.attachments import is_attached
from ostria.mesh.services import age
from ostria.mesh.traits import ClientTraits
from ostria.resources import by_kind, objects
from ostria.resources.extensions import TrafficExtension, TrafficSelector, WasmConfig, WasmPlugin

KINDS = ("WasmPlugin", "TrafficExtension")


class Phase(enum.IntEnum):
    """Where an extension stands: in front of what authenticates, authorizes, counts; LAST is before the router."""

    AUTHN = 0
    AUTHZ = 1
    STATS = 2
    LAST = 3


class OnFailure(enum.Enum):
    """What becomes of traffic while a module cannot run: it is refused, let through, or the module is loaded anew."""

    CLOSE = "FAIL_CLOSE"
    OPEN = "FAIL_OPEN"
    RELOAD = "FAIL_RELOAD"


class Source(NamedTuple):
    """Where a module is to be had. `sha256` is the checksum that people gave: an image's for oci://, else its own.

    `secret` names a Secret of the namespace with a registry's credentials. `made_for` tells apart what is fetched anew
    although its URL is the same: the object's content, where it asks for that.
    """

    url: str
    sha256: str = ""
    namespace: str = ""
    secret: str = ""
    made_for: str = ""


class Fetched(NamedTuple):
    """What came of fetching a module: its bytes, or why there are none."""

    content: bytes = b""
    failure: str = ""


class Module(NamedTuple):
    """A WebAssembly module; `config` is JSON, "" for none."""

    source: Source
    plugin_name: str = ""
    config: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    host_environment: tuple[str, ...] = ()
    on_failure: OnFailure = OnFailure.CLOSE

    @property
    def file(self) -> str:
        """The path where the module lies in the proxy's own container; "" where it is to be fetched."""
        url = self.source.url
        return url.removeprefix("file://") if url.startswith("file://") else ""


class Traffic(NamedTuple):
    """Some traffic: what is sent, what is taken in, and to which ports; () is every port."""

    sent: bool = True
    taken: bool = True
    ports: tuple[int, ...] = ()


class Extension(NamedTuple):
    """One extension; exactly one of `module` and `script` is there. `network`: it reads connections, not requests."""

    name: str
    origin: ObjectKey
    phase: Phase
    priority: int
    traffic: tuple[Traffic, ...] = ()
    network: bool = False
    module: Module | None = None
    script: str = ""

    def applies(self, *, inbound: bool, ports: Iterable[int]) -> bool:
        """Whether it is for what is sent (or taken in) to one of these ports."""
        known = set(ports)
        return not self.traffic or any(
            (each.taken if inbound else each.sent) and (not each.ports or not known.isdisjoint(each.ports))
            for each in self.traffic
        )


@query
def extension(db: Engine, key: ObjectKey) -> Extension | None:
    """What one object has proxies run."""
    value = objects(db, key)
    if isinstance(value, WasmPlugin):
        wasm: WasmConfig | None = value.spec
        script = ""
    elif isinstance(value, TrafficExtension):
        wasm, script = value.spec.wasm, value.spec.lua.inline_code if value.spec.lua else ""
    else:
        return None
    return Extension(
        name=extension_name(key),
        origin=key,
        phase=_PHASES.get(value.spec.phase.removeprefix("EXECUTION_PHASE_"), Phase.LAST),
        priority=value.spec.priority,
        traffic=tuple(_traffic(selector) for selector in value.spec.match),
        network=wasm is not None and wasm.type == "NETWORK",
        module=_module(wasm, key) if wasm is not None else None,
        script=script,
    )


_PHASES = {"AUTHN": Phase.AUTHN, "AUTHZ": Phase.AUTHZ, "STATS": Phase.STATS}


def extension_name(key: ObjectKey) -> str:
    """What an extension's filter and its configuration are called."""
    return f"extensions.istio.io/{key.kind.lower()}/{key.namespace}.{key.name}"


def extensions_in_effect(db: Engine, keys: Iterable[ObjectKey], client: ClientTraits) -> tuple[Extension, ...]:
    """The extensions among these objects that are for a client, in the order in which they stand."""
    found = [
        made for key in keys if key.kind in KINDS and is_attached(db, key, client) and (made := extension(db, key))
    ]
    found.sort(key=lambda each: (each.phase, -each.priority, age(db, each.origin), each.origin))
    return tuple(found)


def _traffic(selector: TrafficSelector) -> Traffic:
    return Traffic(
        sent=selector.mode != "SERVER", taken=selector.mode != "CLIENT", ports=tuple(p.number for p in selector.ports)
    )


def _module(wasm: WasmConfig, key: ObjectKey) -> Module:
    variables = wasm.vm_config.env if wasm.vm_config else ()
    return Module(
        source=_source(wasm, key),
        plugin_name=wasm.plugin_name or "",
        config=msgspec.json.encode(wasm.plugin_config, order="sorted").decode() if wasm.plugin_config else "",
        environment=tuple(sorted((each.name, each.value) for each in variables if each.value_from == "INLINE")),
        host_environment=tuple(sorted(each.name for each in variables if each.value_from == "HOST")),
        on_failure=OnFailure(wasm.fail_strategy),
    )


def _source(wasm: WasmConfig, key: ObjectKey) -> Source:
    url = wasm.url if "://" in wasm.url else f"oci://{wasm.url}"
    tag = url.rpartition("/")[2].partition(":")[2]
    latest = url.startswith("oci://") and "@" not in url and tag in ("", "latest")
    policy = wasm.image_pull_policy
    always = policy == "Always" or (policy == "UNSPECIFIED_POLICY" and latest)
    # Whatever has a checksum is the same every time.
    anew = always and not wasm.sha256 and "@sha256:" not in url and not url.startswith("file://")
    return Source(
        url=url,
        sha256=wasm.sha256,
        namespace=key.namespace if wasm.image_pull_secret else "",
        secret=wasm.image_pull_secret or "",
        made_for=blake2b(repr((key, wasm)).encode(), digest_size=8).hexdigest() if anew else "",
    )


# --- modules that are to be fetched -------------------------------------------------------------------------------

fetched_input: Input[Source, Fetched] = Input("mesh.extensions.fetched")
"""What has come of each module that somebody has asked for."""


class LastGood(NamedTuple):
    """An extension as it was when its module was there."""

    extension: Extension
    content: bytes


last_good_input: Input[ObjectKey, LastGood] = Input("mesh.extensions.last_good")
"""What each object has last had proxies run; it goes on while the module of a newer version is fetched."""


def in_force(db: Engine, wanted: Extension) -> tuple[Extension, bytes]:
    """What proxies run of an extension now, with its module's bytes: b"" where there are none, or none are needed.

    Until the module of a changed object is there, all of what the object said before holds on.
    """
    if wanted.module is None or wanted.module.file:
        return wanted, b""
    found = fetched_input(db, wanted.module.source)
    if found is not None and found.content:
        return wanted, found.content
    last = last_good_input(db, wanted.origin)
    if last is not None and last.extension.network == wanted.network:
        return last.extension, last.content
    return wanted, b""


@query
def extensions_to_fetch(db: Engine) -> tuple[Extension, ...]:
    """All extensions whose modules have to be fetched."""
    made = (extension(db, key) for kind in KINDS for key in by_kind(db, kind))
    return tuple(each for each in made if each and each.module and not each.module.file)


@query
def wanted_modules(db: Engine) -> frozenset[Source]:
    """All modules that have to be fetched for some proxy."""
    return frozenset(each.module.source for each in extensions_to_fetch(db) if each.module)
