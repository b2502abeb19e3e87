"""A pod's annotations, and the rules that come of them: read, explain what cannot be read, plan, word."""

from __future__ import annotations

import ipaddress
import pathlib
from typing import Any

import msgspec
import pytest
import yaml

from ostria.base import Level, ObjectKey
from ostria.capture import Capture, Family, Hook, Mode, Packet, Plan, ipt, marked, nft, plan, read_annotations, verdict
from ostria.capture.plan import Redirect

GOLDENS = pathlib.Path(__file__).parent / "goldens"
CASES = sorted(path.stem for path in GOLDENS.glob("*.yaml"))
POD = ObjectKey("", "Pod", "default", "reviews")


def settings_of(case: dict[str, Any]) -> Capture:
    """A golden's settings: the ground it stands on, DNS captured or not, and the pod's annotations."""
    ground = marked() if case["ground"] == "one machine" else Capture()
    defaults = msgspec.structs.replace(ground, dns_servers="*" if case.get("captureDNS") else ())
    capture, problems = read_annotations(case.get("annotations", {}), defaults=defaults)
    assert not problems
    return capture


@pytest.mark.parametrize("name", CASES)
def test_rules(name: str, golden: Any) -> None:
    rules = plan(settings_of(yaml.safe_load((GOLDENS / f"{name}.yaml").read_text())))
    golden.check(GOLDENS / f"{name}.nft", nft.render(rules))
    golden.check(GOLDENS / f"{name}.iptables", ipt.restore(rules, Family.IPV4))
    golden.check(GOLDENS / f"{name}.ip6tables", ipt.restore(rules, Family.IPV6))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("traffic.sidecar.istio.io/includeInboundPorts", "80,http", '"http" is no port'),
        ("traffic.sidecar.istio.io/excludeInboundPorts", "*", '"*" is no port'),
        ("traffic.sidecar.istio.io/excludeOutboundPorts", "65536", '"65536" is no port'),
        ("traffic.sidecar.istio.io/includeOutboundPorts", "٣", '"٣" is no port'),
        ("traffic.sidecar.istio.io/includeOutboundIPRanges", "10.0.0.0/33", '"10.0.0.0/33" is no range of addresses'),
        ("traffic.sidecar.istio.io/excludeOutboundIPRanges", "*", '"*" is no range of addresses'),
        ("traffic.sidecar.istio.io/excludeInterfaces", "a/b", '"a/b" is no name of an interface'),
        ("sidecar.istio.io/interceptionMode", "SOME", '"SOME" is no mode'),
        ("status.sidecar.istio.io/port", "-1", '"-1" is no port'),
    ],
)
def test_what_cannot_be_read_is_a_problem_and_the_default_stays(name: str, text: str, message: str) -> None:
    capture, (problem,) = read_annotations({name: text}, defaults=Capture(), pod=POD)
    assert capture == Capture()
    assert (problem.code, problem.level, problem.object) == ("capture-annotation", Level.ERROR, POD)
    assert problem.field == f"metadata.annotations[{name}]"
    assert problem.message == f"{name}: {message}"
    assert problem.hint


@pytest.mark.parametrize(
    "text",
    [
        "eth1 -j ACCEPT",
        "-j ACCEPT",
        "eth1\n-A OUTPUT -j ACCEPT",
        "eth1;reboot",
        '"eth1"',
        "$(reboot)",
        "eth1 } accept",
        "e" * 16,
    ],
)
@pytest.mark.parametrize("name", ["excludeInterfaces", "kubevirtInterfaces"])
def test_no_annotation_smuggles_in_a_rule(name: str, text: str) -> None:
    """CVE-2026-23766: what stood in an annotation became arguments of iptables."""
    capture, problems = read_annotations({f"traffic.sidecar.istio.io/{name}": text}, defaults=Capture(), pod=POD)
    assert [problem.code for problem in problems] == ["capture-annotation"]
    assert capture == Capture()


def test_one_bad_annotation_does_not_harm_another() -> None:
    annotations = {
        "traffic.sidecar.istio.io/excludeOutboundPorts": " 3306 , 5432,",
        "traffic.sidecar.istio.io/excludeInboundPorts": "ssh",
        "sidecar.istio.io/inject": "true",
    }
    capture, problems = read_annotations(annotations, defaults=Capture())
    assert capture == Capture(outbound_ports_exclude=(3306, 5432))
    assert len(problems) == 1


def test_nothing_inbound_is_an_empty_annotation() -> None:
    capture, _ = read_annotations({"traffic.sidecar.istio.io/includeInboundPorts": ""}, defaults=Capture())
    assert capture.inbound_ports == ()


def test_interception_none_captures_nothing() -> None:
    capture, problems = read_annotations({"sidecar.istio.io/interceptionMode": "NONE"}, defaults=Capture())
    assert (capture.mode, problems) == (Mode.NONE, ())
    assert plan(capture) == Plan()


def test_tproxy_is_said_not_to_be_there() -> None:
    capture, (problem,) = read_annotations({"sidecar.istio.io/interceptionMode": "TPROXY"}, defaults=Capture())
    assert capture.mode is Mode.REDIRECT
    assert (problem.code, problem.level) == ("capture-tproxy", Level.WARNING)


@pytest.mark.parametrize(("text", "ports"), [("0", (15021, 15090)), ("16000", (16000, 15021, 15090))])
def test_the_status_port_moves_or_goes(text: str, ports: tuple[int, ...]) -> None:
    capture, problems = read_annotations({"status.sidecar.istio.io/port": text}, defaults=Capture())
    assert (capture.own_ports, problems) == (ports, ())


@pytest.mark.parametrize("capture", [Capture(), marked()], ids=["owner", "mark"])
def test_a_pod_reaches_itself_by_a_service_through_its_proxy_twice(capture: Capture) -> None:
    """app -> virtual address -> Envoy (client side) -> own address -> Envoy (server side) -> app."""
    rules = plan(capture)
    pod, virtual, inside = (ipaddress.ip_address(text) for text in ("10.1.0.5", "10.96.0.9", "127.0.0.6"))
    app = Packet(Hook.OUTPUT, pod, virtual, out_interface="eth0", uid=1000, gid=1000)
    envoy = app._replace(destination=pod, out_interface="lo", destination_port=8080, uid=1337, gid=1337, mark=1337)
    assert verdict(rules, app).verdict == Redirect(15001)
    assert verdict(rules, envoy).verdict == Redirect(15006)
    assert not isinstance(verdict(rules, envoy._replace(source=inside)).verdict, Redirect)
