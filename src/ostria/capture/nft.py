"""A plan as nf_tables rules: as messages for the kernel, and as text for people.

One table of our own in each family, replaced as a whole: the kernel takes a batch entirely or not at all, so that no
packet meets half a plan, and applying twice is applying once. The encoding is that of linux/netfilter/nf_tables.h: a
match loads a piece of the packet into a register and compares it. Nothing here touches a socket.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable, Iterator, Sequence

from ostria.capture.netlink import ACK, APPEND, CREATE, EXCLUSIVE, Message, attribute, nest, text
from ostria.capture.plan import (
    Chain,
    Drop,
    Family,
    Field,
    Hook,
    Match,
    Plan,
    Redirect,
    Return,
    Rule,
    Table,
    Verdict,
    Zone,
)

TABLE = "ostria"

_SUBSYSTEM = 10
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEW_TABLE, _DELETE_TABLE, _NEW_CHAIN, _NEW_RULE = 0, 2, 3, 6
# NFPROTO_IPV4 and NFPROTO_IPV6, and nft's words for them.
_PROTOCOL = {Family.IPV4: 2, Family.IPV6: 10}
_WORD = {Family.IPV4: "ip", Family.IPV6: "ip6"}
_HOOK = {Hook.PREROUTING: 0, Hook.OUTPUT: 3}
# The type and the priority that give our chains the place of iptables' tables (linux/netfilter_ipv4.h).
_PLACE = {
    Table.RAW: ("filter", -300),
    Table.MANGLE: ("filter", -150),
    Table.NAT: ("nat", -100),
}


def install(plan: Plan) -> tuple[Message, ...]:
    """The batch that puts the plan where none is in force yet; where one is, the kernel refuses it (EEXIST).

    It saves the grace period (some 15 ms) for which the kernel waits whenever a table is deleted.
    """
    changes: list[Message] = []
    for family in Family:
        chains = _of(plan, family)
        changes.append(_table(_NEW_TABLE, family, CREATE | EXCLUSIVE))
        changes.extend(_content(chains))
        if not chains:
            changes.append(_table(_DELETE_TABLE, family, 0))
    return _batch(changes)


def replace(plan: Plan) -> tuple[Message, ...]:
    """The batch that puts the plan in the place of whatever plan is in force, in both families."""
    changes: list[Message] = list(_removal())
    for family in Family:
        if chains := _of(plan, family):
            changes.append(_table(_NEW_TABLE, family, CREATE))
            changes.extend(_content(chains))
    return _batch(changes)


def remove() -> tuple[Message, ...]:
    """The batch that takes our tables away, if they are there."""
    return _batch(list(_removal()))


def render(plan: Plan) -> str:
    """The plan as `nft list ruleset` words it; `nft -f` reads it."""
    lines: list[str] = []
    for family in Family:
        if not (chains := _of(plan, family)):
            continue
        lines.append(f"table {_WORD[family]} {TABLE} {{")
        for chain in chains:
            kind, priority = _PLACE[chain.table]
            lines.append(f"  chain {_name(chain)} {{")
            lines.append(f"    type {kind} hook {chain.hook} priority {priority}; policy accept;")
            lines.extend(f"    {_words(family, rule)}" for rule in chain.rules)
            lines.append("  }")
        lines.append("}")
    return "".join(f"{line}\n" for line in lines)


def _of(plan: Plan, family: Family) -> list[Chain]:
    return [chain for chain in plan.chains if chain.family is family]


def _name(chain: Chain) -> str:
    return f"{chain.table}_{chain.hook}"


# Messages.


def _batch(changes: Sequence[Message]) -> tuple[Message, ...]:
    *others, last = changes
    edge = struct.pack(">BBH", 0, 0, _SUBSYSTEM)
    return (
        Message(_BATCH_BEGIN, 0, edge, "the rules as a whole"),
        *others,
        # The kernel speaks up about what it refuses; only the last message need say that all is done.
        last._replace(flags=last.flags | ACK),
        Message(_BATCH_END, 0, edge, "the rules as a whole"),
    )


def _message(kind: int, family: Family, flags: int, *attributes: bytes, what: str) -> Message:
    body = struct.pack(">BBH", _PROTOCOL[family], 0, 0) + b"".join(attributes)
    return Message(_SUBSYSTEM << 8 | kind, flags, body, what)


def _table(kind: int, family: Family, flags: int) -> Message:
    return _message(kind, family, flags, text(1, TABLE), what=f"table {_WORD[family]} {TABLE}")


def _removal() -> Iterator[Message]:
    for family in Family:
        # What is not there cannot be deleted, so it is made first: an existing table stays as it is.
        yield _table(_NEW_TABLE, family, CREATE)
        yield _table(_DELETE_TABLE, family, 0)


def _content(chains: Sequence[Chain]) -> Iterator[Message]:
    for chain in chains:
        yield _chain(chain)
        yield from (_rule(chain, rule) for rule in chain.rules)


def _chain(chain: Chain) -> Message:
    kind, priority = _PLACE[chain.table]
    return _message(
        _NEW_CHAIN,
        chain.family,
        CREATE,
        text(1, TABLE),
        text(3, _name(chain)),
        nest(4, _be32(1, _HOOK[chain.hook]), _be32(2, priority)),
        _be32(5, 1),
        text(7, kind),
        what=f"chain {_WORD[chain.family]} {_name(chain)}",
    )


def _rule(chain: Chain, rule: Rule) -> Message:
    expressions = (
        expression
        for part in (*(_match(chain.family, match) for match in rule.matches), _verdict(rule.verdict))
        for expression in part
    )
    return _message(
        _NEW_RULE,
        chain.family,
        CREATE | APPEND,
        text(1, TABLE),
        text(2, _name(chain)),
        nest(4, *expressions),
        what=f"rule {_WORD[chain.family]} {_name(chain)}: {_words(chain.family, rule)}",
    )


# Expressions. Everything goes through register 1.

_REGISTER = 1
_EQUAL, _UNEQUAL = 0, 1
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
_RETURN, _DROP = -5, 0
_CT_STATE, _CT_ZONE, _CT_INVALID = 0, 17, 1
_IP_PROTOCOL = {"tcp": 6, "udp": 17}
# Where the addresses stand in the header: offset by family and field.
_ADDRESS_AT = {
    (Family.IPV4, Field.SOURCE): 12,
    (Family.IPV4, Field.DESTINATION): 16,
    (Family.IPV6, Field.SOURCE): 8,
    (Family.IPV6, Field.DESTINATION): 24,
}
_PORT_AT = {Field.SOURCE_PORT: 0, Field.DESTINATION_PORT: 2}
# What the kernel knows of a packet beside its bytes: the key, and how a value stands in the register.
_META: dict[Field, tuple[int, Callable[[int | str], bytes]]] = {
    Field.PROTOCOL: (16, lambda value: bytes((_IP_PROTOCOL[str(value)],))),
    Field.IN_INTERFACE: (6, lambda value: str(value).encode().ljust(16, b"\0")),
    Field.OUT_INTERFACE: (7, lambda value: str(value).encode().ljust(16, b"\0")),
    Field.UID: (10, lambda value: struct.pack("=I", value)),
    Field.GID: (11, lambda value: struct.pack("=I", value)),
    Field.MARK: (3, lambda value: struct.pack("=I", value)),
}


def _match(family: Family, match: Match) -> tuple[bytes, ...]:
    """The expressions that go on only if the match holds."""
    field, value = match.field, match.value
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        size = value.max_prefixlen // 8
        load = [_payload(_NETWORK_HEADER, _ADDRESS_AT[family, field], size)]
        if value.prefixlen < value.max_prefixlen:
            load.append(_masked(value.netmask.packed))
        return *load, _compare(value.network_address.packed, negated=match.negated)
    if field in _PORT_AT:
        wanted = struct.pack(">H", value)
        return _payload(_TRANSPORT_HEADER, _PORT_AT[field], 2), _compare(wanted, negated=match.negated)
    if field is Field.STATE:
        state = _expression("ct", _be32(1, _REGISTER), _be32(2, _CT_STATE))
        # The state is a set of bits: "invalid" is that its bit is not absent.
        return state, _masked(struct.pack("=I", _CT_INVALID)), _compare(bytes(4), negated=not match.negated)
    key, encode = _META[field]
    load_meta = _expression("meta", _be32(1, _REGISTER), _be32(2, key))
    return load_meta, _compare(encode(value), negated=match.negated)


def _verdict(verdict: Verdict) -> tuple[bytes, ...]:
    match verdict:
        case Return():
            return (_end(_RETURN),)
        case Drop():
            return (_end(_DROP),)
        case Redirect(port):
            port_only = _be32(1, _REGISTER), _be32(2, _REGISTER)
            return _immediate(struct.pack(">H", port)), _expression("redir", *port_only)
        case Zone(number):
            zone = _expression("ct", _be32(2, _CT_ZONE), _be32(4, _REGISTER))
            return _immediate(struct.pack("=H", number)), zone


def _expression(name: str, *attributes: bytes) -> bytes:
    return nest(1, text(1, name), nest(2, *attributes))


def _payload(base: int, offset: int, length: int) -> bytes:
    return _expression("payload", _be32(1, _REGISTER), _be32(2, base), _be32(3, offset), _be32(4, length))


def _masked(mask: bytes) -> bytes:
    return _expression(
        "bitwise",
        _be32(1, _REGISTER),
        _be32(2, _REGISTER),
        _be32(3, len(mask)),
        nest(4, attribute(1, mask)),
        nest(5, attribute(1, bytes(len(mask)))),
    )


def _compare(value: bytes, *, negated: bool) -> bytes:
    operator = _UNEQUAL if negated else _EQUAL
    return _expression("cmp", _be32(1, _REGISTER), _be32(2, operator), nest(3, attribute(1, value)))


def _immediate(value: bytes) -> bytes:
    return _expression("immediate", _be32(1, _REGISTER), nest(2, attribute(1, value)))


def _end(code: int) -> bytes:
    # Register 0 is the verdict itself.
    return _expression("immediate", _be32(1, 0), nest(2, nest(2, _be32(1, code))))


def _be32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">I", value & 0xFFFFFFFF))


# Words.

_FIELD_WORDS = {
    Field.PROTOCOL: "meta l4proto",
    Field.IN_INTERFACE: "iifname",
    Field.OUT_INTERFACE: "oifname",
    Field.SOURCE: "{family} saddr",
    Field.DESTINATION: "{family} daddr",
    Field.SOURCE_PORT: "th sport",
    Field.DESTINATION_PORT: "th dport",
    Field.UID: "meta skuid",
    Field.GID: "meta skgid",
    Field.MARK: "meta mark",
    Field.STATE: "ct state",
}
_QUOTED = frozenset({Field.IN_INTERFACE, Field.OUT_INTERFACE})


def _words(family: Family, rule: Rule) -> str:
    return " ".join((*(_match_words(family, match) for match in rule.matches), _verdict_words(rule.verdict)))


def _match_words(family: Family, match: Match) -> str:
    field = _FIELD_WORDS[match.field].format(family=_WORD[family])
    value = f'"{match.value}"' if match.field in _QUOTED else str(match.value)
    return f"{field} {'!= ' if match.negated else ''}{value}"


def _verdict_words(verdict: Verdict) -> str:
    match verdict:
        case Return():
            return "return"
        case Drop():
            return "drop"
        case Redirect(port):
            return f"redirect to :{port}"
        case Zone(number):
            return f"ct zone set {number}"
