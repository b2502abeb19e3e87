"""A capture as a command line: the options that Istio's own init step takes, written and read.

    Capture -> arguments (injection, into a pod) -> read_arguments (the agent, in the pod's init step) -> Capture

See https://istio.io/latest/docs/reference/commands/pilot-agent/#pilot-agent-istio-iptables.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from ostria.capture.settings import Capture, Everything, Mode, Network, Ports

COMMAND = "istio-iptables"


def arguments(capture: Capture) -> list[str]:
    """The arguments of the init step for a capture."""
    found = [
        *("-p", str(capture.outbound_port), "-z", str(capture.inbound_port)),
        *("-u", _joined(capture.proxy_uids)),
        *(("-g", _joined(capture.proxy_gids)) if capture.proxy_gids != capture.proxy_uids else ()),
        *("-m", str(capture.mode), "-i", _joined(capture.outbound_ranges)),
        *("-x", _joined(capture.outbound_ranges_exclude), "-b", _joined(capture.inbound_ports)),
        *("-d", _joined(dict.fromkeys((*capture.own_ports, *capture.inbound_ports_exclude)))),
    ]
    for option, value in (
        ("-q", capture.outbound_ports),
        ("-o", capture.outbound_ports_exclude),
        ("-k", capture.interfaces_reroute),
        ("-c", capture.interfaces_exclude),
    ):
        if value:
            found += [option, _joined(value)]
    # Options of our own, for a machine where the proxy is known by a mark on its packets.
    if capture.mark is not None:
        found += ["--mark", str(capture.mark)]
        found += ["--control-ports", _joined(capture.control_ports)]
    if capture.dns_servers:
        found += ["--dns-servers", _joined(capture.dns_servers)]
    return found


def read_arguments(given: Sequence[str]) -> Capture:
    """The capture that such arguments ask for; raises ValueError for an option or value that is none.

    Options about logging and validation are passed over. Ports that Istio's agent and Envoy have for themselves are
    told from a pod's own exclusions by their numbers.
    """
    found: dict[str, Any] = {}
    rest = list(given)
    while rest:
        option = rest.pop(0)
        name, equals, value = option.partition("=")
        if name in _FLAGS or (name in _IGNORED and equals):
            continue
        if not equals:
            if not rest:
                raise ValueError(f"{name[:40]} has no value")
            value = rest.pop(0)
        if name in _IGNORED:
            continue
        if name not in _OPTIONS:
            raise ValueError(f"{name[:40]} is no option of {COMMAND}")
        field, read = _OPTIONS[name]
        found[field] = read(value)
    known = Capture()
    excluded = found.get("inbound_ports_exclude", ())
    found["own_ports"] = tuple(port for port in excluded if port in known.own_ports)
    found["inbound_ports_exclude"] = tuple(port for port in excluded if port not in known.own_ports)
    found.setdefault("proxy_gids", found.get("proxy_uids", known.proxy_gids))
    return msgspec.structs.replace(known, **found)


def _joined(values: Iterable[object]) -> str:
    return ",".join(map(str, values))


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _numbers(text: str) -> Ports:
    return tuple(int(item) for item in _items(text))


def _numbers_or_all(text: str) -> Ports | Everything:
    return "*" if text == "*" else _numbers(text)


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(item, strict=False) for item in _items(text))


def _networks_or_all(text: str) -> tuple[Network, ...] | Everything:
    return "*" if text == "*" else _networks(text)


def _addresses(text: str) -> Any:
    return "*" if text == "*" else tuple(ipaddress.ip_address(item) for item in _items(text))


def _names(text: str) -> tuple[str, ...]:
    return tuple(_items(text))


_OPTIONS: dict[str, tuple[str, Any]] = {
    "-p": ("outbound_port", int),
    "-z": ("inbound_port", int),
    "-u": ("proxy_uids", _numbers),
    "-g": ("proxy_gids", _numbers),
    "-m": ("mode", Mode),
    "-i": ("outbound_ranges", _networks_or_all),
    "-x": ("outbound_ranges_exclude", _networks),
    "-b": ("inbound_ports", _numbers_or_all),
    "-d": ("inbound_ports_exclude", _numbers),
    "-q": ("outbound_ports", _numbers),
    "-o": ("outbound_ports_exclude", _numbers),
    "--control-ports": ("control_ports", _numbers),
    "-k": ("interfaces_reroute", _names),
    "-c": ("interfaces_exclude", _names),
    "--mark": ("mark", int),
    "--dns-servers": ("dns_servers", _addresses),
}
_IGNORED = frozenset({"--log_output_level"})
_FLAGS = frozenset({"--run-validation", "--skip-rule-apply"})
