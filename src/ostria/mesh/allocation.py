"""The addresses that the mesh gives to ServiceEntries which have none, so that connections to them can be told apart.

    ServiceEntry without addresses -> address_of(namespace, host) -> Service.allocated; status.addresses (controllers)

They come from blocks that lead nowhere outside a pod (istio.io: DNS proxying): 240.240.0.0/16 and 2001:2::/48. What
stands in a status already is kept, whoever wrote it. Everyone else's place follows from its name: a host has a few
places that a hash gives it, and takes the first that nobody has before it. So an address depends on nothing that a
restart forgets, replicas agree without talking, and once it is written down nobody who comes or goes moves it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from hashlib import blake2b
from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.base.hosts import is_ip, is_wildcard
from ostria.engine import Engine, Index, query
from ostria.resources import Object, objects
from ostria.resources.service_entry import ServiceEntry

# "false" keeps the mesh from giving addresses to a ServiceEntry (istio.io: labels).
OPT_OUT_LABEL = "networking.istio.io/enable-autoallocate-ip"

_V4, _V6 = ipaddress.IPv4Address("240.240.0.0"), ipaddress.IPv6Address("2001:2::")
_HOSTS = 254  # Of each /24; .0 and .255 are left out.
_PLACES = 256 * _HOSTS

# With ten thousand hosts one in two millions finds none of its places free, and has no address.
_TRIES = 8


class Owner(NamedTuple):
    """Whom an address is for. ServiceEntries of one namespace that name one host share it."""

    namespace: str
    host: str


def wants_address(value: ServiceEntry, host: str) -> bool:
    """Whether the mesh gives an address to one host of a ServiceEntry.

    With resolution NONE a call goes on to the address that was called, and a wildcard is no name that is looked up.
    """
    spec = value.spec
    return (
        spec.resolution != "NONE"
        and not spec.addresses
        and not is_wildcard(host)
        and not is_ip(host)
        and value.metadata.labels.get(OPT_OUT_LABEL, "").lower() != "false"
    )


def _wanting(key: ObjectKey, value: Object) -> Iterator[Owner]:
    if isinstance(value, ServiceEntry):
        yield from {Owner(key.namespace, host.lower()) for host in value.spec.hosts if wants_address(value, host)}


def _tried(key: ObjectKey, value: Object) -> Iterator[int]:
    yield from {place for owner in _wanting(key, value) for place in _places(owner)}


def _written(key: ObjectKey, value: Object) -> Iterator[str]:
    if isinstance(value, ServiceEntry) and value.status.addresses:
        for owner in _wanting(key, value):
            yield from _in_status(value, owner.host)


wanting = Index("mesh.allocation.wanting", objects, _wanting)
trying = Index("mesh.allocation.trying", objects, _tried)
written = Index("mesh.allocation.written", objects, _written)


@query
def allocated(db: Engine, key: ObjectKey, host: str) -> tuple[str, ...]:
    """The addresses that one host of a ServiceEntry has from the mesh, IPv4 first; () where it has none."""
    value = objects(db, key)
    if not isinstance(value, ServiceEntry) or not wants_address(value, host):
        return ()
    return address_of(db, Owner(key.namespace, host.lower()))


@query
def address_of(db: Engine, owner: Owner) -> tuple[str, ...]:
    """The addresses of one owner: those in a status, or those of the first of its places that it may have."""
    kept = _kept(db, owner)
    if kept:
        return kept
    return next((_addresses(place) for place in _places(owner) if _holder(db, place) == owner), ())


@query
def owner_of(db: Engine, address: str) -> Owner | None:
    """Who has an address from the mesh."""
    for key in written(db, address):
        for owner in _wanting_of(db, key):
            if address in _kept(db, owner):
                return owner
    place = _place(address)
    return _holder(db, place) if place is not None else None


@query
def _wanting_of(db: Engine, key: ObjectKey) -> tuple[Owner, ...]:
    value = objects(db, key)
    return tuple(sorted(_wanting(key, value))) if value is not None else ()


@query
def _kept(db: Engine, owner: Owner) -> tuple[str, ...]:
    """What the owner's objects have in their status, unless another owner has it by an older object."""
    for key in _by_age(db, wanting(db, owner)):
        value = objects(db, key)
        assert isinstance(value, ServiceEntry), key
        found = tuple(_in_status(value, owner.host))
        if found and all(_first_writer(db, address) == owner for address in found):
            return found
    return ()


@query
def _first_writer(db: Engine, address: str) -> Owner | None:
    """In whose name an address stands in a status: the oldest object's."""
    for key in _by_age(db, written(db, address)):
        value = objects(db, key)
        for owner in _wanting_of(db, key):
            if isinstance(value, ServiceEntry) and address in _in_status(value, owner.host):
                return owner
    return None


@query
def _holder(db: Engine, place: int) -> Owner | None:
    """Who has a place without having written it down: the first for whom it comes first and all earlier were taken.

    To find out whether somebody got an earlier place only earlier tries are looked at, so this ends.
    """
    if any(written(db, address) for address in _addresses(place)):
        return None
    found = {owner for key in trying(db, place) for owner in _wanting_of(db, key)}
    tries = sorted((_places(owner).index(place), owner) for owner in found if place in _places(owner))
    for number, owner in tries:
        if not _kept(db, owner) and not any(_holder(db, earlier) == owner for earlier in _places(owner)[:number]):
            return owner
    return None


def _by_age(db: Engine, keys: tuple[ObjectKey, ...]) -> list[ObjectKey]:
    return sorted(keys, key=lambda key: (_created(db, key), key)) if len(keys) > 1 else list(keys)


@query
def _created(db: Engine, key: ObjectKey) -> str:
    value = objects(db, key)
    return (value.metadata.creation_timestamp if value else None) or "~"


def _in_status(value: ServiceEntry, host: str) -> Iterator[str]:
    for address in value.status.addresses:
        if address.host.lower() == host and is_ip(address.value):
            yield str(ipaddress.ip_address(address.value))


def _places(owner: Owner) -> tuple[int, ...]:
    """The places that an owner tries, in their order and without repetitions."""
    digest = blake2b(f"{owner.namespace}/{owner.host}".encode(), digest_size=2 * _TRIES).digest()
    found = (int.from_bytes(digest[at : at + 2]) % _PLACES for at in range(0, 2 * _TRIES, 2))
    return tuple(dict.fromkeys(found))


def _addresses(place: int) -> tuple[str, ...]:
    number = (place // _HOSTS << 8) + place % _HOSTS + 1
    return str(_V4 + number), str(_V6 + number)


def _place(address: str) -> int | None:
    """The place that an address stands for, None for one that is not of the mesh's blocks."""
    if not is_ip(address):
        return None
    ip = ipaddress.ip_address(address)
    number = int(ip) - int(_V4 if ip.version == 4 else _V6)
    third, fourth = divmod(number, 256)
    return third * _HOSTS + fourth - 1 if 0 <= third < 256 and 1 <= fourth <= _HOSTS else None
