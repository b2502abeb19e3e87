"""What people write for Envoy, as Envoy's own messages: JSON in, a message and everything that is wrong with it out.

    {"name": ..., "typed_config": {"@type": ..., ...}} -> HttpFilter(...)

Every mistake is told with the path of its field. Nothing that is written is lost: a `typed_config` with fields, or of
a type, that our descriptions of Envoy do not hold is passed on as an `xds.type.v3.TypedStruct`, which Envoy reads by
its own (https://www.envoyproxy.io/docs/envoy/latest/api-v3/xds/type/v3/typed_struct.proto).

Envoy's descriptions are large: each module is imported when something of it is written first.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Mapping
from functools import cache
from typing import Any as Untyped
from typing import NamedTuple

from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError

from ostria.base.yaml import Path
from ostria.resources.fields import name_of, nearest

Descriptor = Untyped  # The C implementation's descriptors are no types for mypy.

_TYPED_STRUCT = "type.googleapis.com/xds.type.v3.TypedStruct"
_NETWORK = "envoy.extensions.filters.network.http_connection_manager.v3."
_MESSAGES = {
    "LISTENER": "envoy.config.listener.v3.Listener",
    "LISTENER_FILTER": "envoy.config.listener.v3.ListenerFilter",
    "FILTER_CHAIN": "envoy.config.listener.v3.FilterChain",
    "NETWORK_FILTER": "envoy.config.listener.v3.Filter",
    "HTTP_FILTER": f"{_NETWORK}HttpFilter",
    "ROUTE_CONFIGURATION": "envoy.config.route.v3.RouteConfiguration",
    "VIRTUAL_HOST": "envoy.config.route.v3.VirtualHost",
    "HTTP_ROUTE": "envoy.config.route.v3.Route",
    "CLUSTER": "envoy.config.cluster.v3.Cluster",
    "EXTENSION_CONFIG": "envoy.config.core.v3.TypedExtensionConfig",
    "BOOTSTRAP": "envoy.config.bootstrap.v3.Bootstrap",
}
# What a newer Envoy than our descriptions may know.
_MAYBE_KNOWN = re.compile(r"(envoy|xds)\.[a-z0-9_.]+\.v3(alpha)?\.[A-Za-z0-9.]+")
_OLD = re.compile(r"envoy\.[a-z0-9_.]+\.v[12](alpha\d*)?\.")


class Mistake(NamedTuple):
    """One thing that is wrong at a path within the value. `unknown` is what Envoy may know although we do not."""

    path: Path
    message: str
    hint: str = ""
    unknown: bool = False


class Value(NamedTuple):
    """The message, None where a mistake is an error."""

    message: Untyped
    mistakes: tuple[Mistake, ...]


def read_value(apply_to: str, value: Mapping[str, Untyped], *, to_merge: bool = False) -> Value:
    """The value of a patch, as the message that `apply_to` changes. Never raises for any JSON.

    What is `to_merge` into another message holds only what our descriptions know.
    """
    message = message_class(_MESSAGES[apply_to])()
    reading = _Reading([], to_merge)
    reading.fill(message, value, ())
    mistakes = reading.mistakes
    return Value(None if any(not each.unknown for each in mistakes) else message, tuple(mistakes))


@cache
def message_class(name: str) -> Untyped:
    """The class of a message by its full name; raises KeyError where our descriptions have none."""
    _load(name.rpartition(".")[0])
    return message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(name))


def message_of(any_: Untyped) -> Untyped:
    """What an Any holds; None where our descriptions do not know its type, or the bytes are not of it."""
    try:
        message = message_class(any_.type_url.rpartition("/")[2])()
        message.ParseFromString(any_.value)
    except (KeyError, DecodeError):
        return None
    return message


@cache
def _load(package: str) -> None:
    """Import the modules that describe a package's messages (nested messages are looked for in the package around)."""
    parts = package.split(".")
    if not all(part.isidentifier() for part in parts):
        return
    while parts:
        try:
            module = importlib.import_module(".".join(parts))
        except ImportError:
            parts.pop()
            continue
        for found in pkgutil.iter_modules(getattr(module, "__path__", ())):
            if found.name.endswith("_pb2"):
                importlib.import_module(f"{module.__name__}.{found.name}")
        return


# --- from JSON --------------------------------------------------------------------------------------------------------


class _Reading(NamedTuple):
    """One message being filled; what is wrong is added to `mistakes`."""

    mistakes: list[Mistake]
    to_merge: bool

    def fill(self, message: Untyped, value: Untyped, path: Path) -> None:
        """Set a message's fields to what JSON says of them."""
        descriptor = message.DESCRIPTOR
        if descriptor.full_name.startswith("google.protobuf."):
            if descriptor.full_name == "google.protobuf.Any":
                self._any(message, value, path)
            else:
                self._leaf(message, value, path)
            return
        if not isinstance(value, Mapping):
            self.mistakes.append(Mistake(path, f"expected an object ({descriptor.name}), got {name_of(value)}"))
            return
        fields = _fields(descriptor.full_name)
        chosen: dict[str, str] = {}
        for name, item in value.items():
            field = fields.get(name)
            if field is None:
                hint = nearest(str(name), {field.name for field in fields.values()})
                self.mistakes.append(
                    Mistake((*path, name), f'{descriptor.name} has no field "{name}"', hint, unknown=True)
                )
                continue
            if item is None and not _is_value(field):
                continue
            group = field.containing_oneof
            if group is not None and not (len(group.fields) == 1 and group.name.startswith("_")):
                if group.name in chosen:
                    message_ = f"only one of {chosen[group.name]} and {name} can be set"
                    self.mistakes.append(Mistake((*path, name), message_))
                    continue
                chosen[group.name] = name
            self._field(message, field, item, (*path, name))

    def _field(self, message: Untyped, field: Descriptor, item: Untyped, path: Path) -> None:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            self._map(message, field, item, path)
        elif field.message_type is None:
            self._leaf(message, {field.name: item}, path)
        elif not field.is_repeated:
            inner = getattr(message, field.name)
            inner.SetInParent()
            self.fill(inner, item, path)
        elif isinstance(item, list | tuple):
            for index, each in enumerate(item):
                self.fill(getattr(message, field.name).add(), each, (*path, index))
        else:
            self.mistakes.append(Mistake(path, f"expected a list, got {name_of(item)}"))

    def _map(self, message: Untyped, field: Descriptor, item: Untyped, path: Path) -> None:
        if not isinstance(item, Mapping):
            self.mistakes.append(Mistake(path, f"expected an object, got {name_of(item)}"))
            return
        values = field.message_type.fields_by_name["value"]
        keys = field.message_type.fields_by_name["key"]
        for key, each in item.items():
            if values.message_type is None or keys.cpp_type != FieldDescriptor.CPPTYPE_STRING:
                self._leaf(message, {field.name: {key: each}}, (*path, key))
            else:
                self.fill(getattr(message, field.name)[key], each, (*path, key))

    def _leaf(self, message: Untyped, value: Untyped, path: Path) -> None:
        """What protobuf's own reader does best: numbers, enums, bytes, durations, structs."""
        try:
            json_format.ParseDict(value, message)
        except (json_format.ParseError, TypeError, ValueError, AttributeError, OverflowError) as error:
            self.mistakes.append(Mistake(path, _said(error)))

    def _any(self, message: Untyped, value: Untyped, path: Path) -> None:
        if value == {}:
            return
        if not isinstance(value, Mapping) or not isinstance(value.get("@type"), str):
            hint = 'its type stands in it, as "@type": type.googleapis.com/...'
            self.mistakes.append(Mistake(path, 'expected an object with "@type"', hint))
            return
        url = value["@type"]
        name = url.rpartition("/")[2]
        rest = {key: item for key, item in value.items() if key != "@type"}
        if name.startswith("google.protobuf."):
            self._leaf(message, value, path)
            return
        try:
            # Our descriptions hold the API before v3 as well, which Envoy has lost.
            inner = message_class(name)() if not _OLD.match(name) else None
        except KeyError:
            inner = None
        if inner is None:
            known = _MAYBE_KNOWN.fullmatch(name) is not None
            hint = "use the v3 API" if _OLD.match(name) else ""
            self.mistakes.append(
                Mistake((*path, "@type"), f'"{name[:200]}" is no type of Envoy\'s', hint, unknown=known)
            )
            if known:
                self._keep(message, url, rest, path)
            return
        beneath = _Reading([], self.to_merge)
        beneath.fill(inner, rest, path)
        self.mistakes.extend(beneath.mistakes)
        if beneath.mistakes and all(each.unknown for each in beneath.mistakes) and not self.to_merge:
            self._keep(message, url, rest, path)
        else:
            message.type_url = f"type.googleapis.com/{name}"
            message.value = inner.SerializeToString(deterministic=True)

    def _keep(self, message: Untyped, url: str, rest: Mapping[str, Untyped], path: Path) -> None:
        """Hand on what cannot be described here as it was written."""
        whole = message_class("xds.type.v3.TypedStruct")(type_url=url if "/" in url else f"type.googleapis.com/{url}")
        self._leaf(whole.value, rest, path)
        message.type_url = _TYPED_STRUCT
        message.value = whole.SerializeToString(deterministic=True)


def _said(error: Exception) -> str:
    """An error of protobuf's reader without the names of what it was reading, which the path tells better."""
    words = re.sub(r"^(Failed to parse \S+ field: )+", "", str(error).strip())
    words = re.sub(r" at [A-Za-z_][\w.\[\]]*\.?$", "", words)
    return (words[:1].lower() + words[1:]).rstrip(".") or "cannot be read"


@cache
def _fields(name: str) -> dict[str, Descriptor]:
    """A message's fields by both of their spellings."""
    found = message_class(name).DESCRIPTOR.fields
    return {field.json_name: field for field in found} | {field.name: field for field in found}


def _is_value(field: Descriptor) -> bool:
    return field.message_type is not None and field.message_type.full_name == "google.protobuf.Value"
