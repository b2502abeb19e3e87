"""What a Service is given, what it keeps, and what it cannot have."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
import yaml

from ostria.kubeapi import kinds
from ostria.kubeapi.allocation import Ranges, allocate
from ostria.kubeapi.causes import Prepared
from ostria.kubeapi.defaults import default

V4, V6 = ip_network("10.96.0.0/12"), ip_network("fd00:10:96::/112")
BOTH = Ranges((V4, V6), reserved=frozenset({"10.96.0.10"}))
ONLY_V4 = Ranges((V4,))
SERVICES = kinds.find("", "v1", "services")


def service(spec: str, name: str = "web") -> Any:
    assert SERVICES is not None
    return default(SERVICES, {"metadata": {"name": name, "namespace": "shop"}, "spec": yaml.safe_load(spec)})


def given(
    spec: str, old: Any = None, others: tuple[Any, ...] = (), ranges: Ranges = BOTH, name: str = "web"
) -> Prepared:
    return allocate(service(spec, name), old, others, ranges)


def told(prepared: Prepared) -> list[str]:
    return [f"{cause.field}: {cause.message}" for cause in prepared.causes]


def test_a_service_gets_an_address_of_the_first_family() -> None:
    spec = given("ports: [{port: 80}]").document["spec"]
    assert ip_address(spec["clusterIP"]) in V4
    assert spec["clusterIPs"] == [spec["clusterIP"]]
    assert (spec["ipFamilies"], spec["ipFamilyPolicy"]) == (["IPv4"], "SingleStack")


def test_a_service_that_is_made_again_has_its_address_of_before() -> None:
    assert given("ports: [{port: 80}]") == given("ports: [{port: 80}]")


def test_no_two_services_share_an_address_or_a_port() -> None:
    one = given("{type: NodePort, ports: [{port: 80}]}").document
    # The same name in a second place would wish for the same numbers.
    twin = {**one, "metadata": {"name": "other", "namespace": "shop"}}
    two = given("{type: NodePort, ports: [{port: 80}]}", others=(twin,)).document
    assert two["spec"]["clusterIP"] != one["spec"]["clusterIP"]
    assert two["spec"]["ports"][0]["nodePort"] != one["spec"]["ports"][0]["nodePort"]


def test_two_families_are_given_where_they_are_preferred() -> None:
    spec = given("{ipFamilyPolicy: PreferDualStack, ports: [{port: 80}]}").document["spec"]
    assert spec["ipFamilies"] == ["IPv4", "IPv6"]
    assert ip_address(spec["clusterIPs"][1]) in V6
    alone = given("{ipFamilyPolicy: PreferDualStack, ports: [{port: 80}]}", ranges=ONLY_V4).document["spec"]
    assert alone["ipFamilies"] == ["IPv4"]


def test_the_first_family_can_be_chosen() -> None:
    spec = given("{ipFamilies: [IPv6], ports: [{port: 80}]}").document["spec"]
    assert ip_address(spec["clusterIP"]) in V6


def test_a_headless_service_has_families_and_no_address() -> None:
    spec = given("{clusterIP: None, selector: {a: b}}").document["spec"]
    assert (spec["clusterIPs"], spec["ipFamilies"]) == (["None"], ["IPv4"])
    assert given("clusterIP: None").document["spec"]["ipFamilies"] == ["IPv4", "IPv6"]


def test_a_name_outside_has_nothing_to_allocate() -> None:
    spec = given("{type: ExternalName, externalName: example.com}").document["spec"]
    assert {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"} & set(spec) == set()


def test_an_update_that_says_nothing_keeps_what_was_given() -> None:
    old = given("{type: LoadBalancer, ports: [{port: 80}, {port: 443}]}").document
    new = given("{type: LoadBalancer, ports: [{port: 443, name: tls}, {port: 80, name: plain}]}", old=old)
    assert new.causes == ()
    assert new.document["spec"]["clusterIPs"] == old["spec"]["clusterIPs"]
    assert [port["nodePort"] for port in new.document["spec"]["ports"]] == [
        old["spec"]["ports"][1]["nodePort"],
        old["spec"]["ports"][0]["nodePort"],
    ]


def test_a_service_that_opens_no_port_any_more_gives_it_back() -> None:
    old = given("{type: NodePort, ports: [{port: 80, nodePort: 30080}]}").document
    new = given("{type: ClusterIP, ports: [{port: 80, nodePort: 30080}], externalTrafficPolicy: Cluster}", old=old)
    assert new.causes == ()
    assert "nodePort" not in new.document["spec"]["ports"][0]
    assert "externalTrafficPolicy" not in new.document["spec"]


def test_a_second_family_comes_and_goes_while_the_first_address_stays() -> None:
    old = given("ports: [{port: 80}]").document
    both = given("{ports: [{port: 80}], ipFamilyPolicy: PreferDualStack}", old=old).document
    assert len(both["spec"]["clusterIPs"]) == 2
    one = given("{ports: [{port: 80}], ipFamilyPolicy: SingleStack, ipFamilies: [IPv4]}", old=both).document
    assert one["spec"]["clusterIPs"] == old["spec"]["clusterIPs"] == both["spec"]["clusterIPs"][:1]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("{clusterIP: 10.96.0.7, ports: [{port: 80}]}",
         'spec.clusterIPs: Invalid value: ["10.96.0.7"]: failed to allocate IP 10.96.0.7: '
         "provided IP is already allocated"),
        ("{clusterIP: 192.0.2.1, ports: [{port: 80}]}",
         'spec.clusterIPs: Invalid value: ["192.0.2.1"]: failed to allocate IP 192.0.2.1: the provided IP '
         "(192.0.2.1) is not in the valid range. The range of valid IPs is 10.96.0.0/12"),
        ("{type: NodePort, ports: [{port: 80, nodePort: 30007}]}",
         "spec.ports[0].nodePort: Invalid value: 30007: provided port is already allocated"),
        ("{type: NodePort, ports: [{port: 80, nodePort: 80}]}",
         "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. "
         "The range of valid ports is 30000-32767"),
        ("{ports: [{port: 80, nodePort: 30080}]}",
         "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"),
        ("{clusterIP: nowhere, ports: [{port: 80}]}",
         'spec.clusterIPs[0]: Invalid value: "nowhere": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)'),
    ],
)  # fmt: skip
def test_what_cannot_be_given_is_told(spec: str, words: str) -> None:
    other = service("{clusterIP: 10.96.0.7, clusterIPs: [10.96.0.7], ports: [{port: 80, nodePort: 30007}]}", "other")
    assert told(given(spec, others=(other,))) == [words]


def test_an_address_does_not_change() -> None:
    old = given("{clusterIP: 10.96.0.7, ports: [{port: 80}]}").document
    new = given("{clusterIP: 10.96.0.8, ports: [{port: 80}]}", old=old)
    assert told(new) == ['spec.clusterIPs[0]: Invalid value: ["10.96.0.8"]: may not change once set']


def test_two_families_are_refused_where_there_is_one() -> None:
    assert told(given("{ipFamilyPolicy: RequireDualStack}", ranges=ONLY_V4)) == [
        'spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services'
    ]


def test_a_small_range_is_used_up_and_no_further() -> None:
    small = Ranges((ip_network("10.0.0.0/30"),))
    first = given("ports: [{port: 80}]", ranges=small, name="a").document
    second = given("ports: [{port: 80}]", ranges=small, name="b", others=(first,)).document
    third = given("ports: [{port: 80}]", ranges=small, name="c", others=(first, second))
    assert {first["spec"]["clusterIP"], second["spec"]["clusterIP"]} == {"10.0.0.1", "10.0.0.2"}
    assert third.causes[0].message.endswith("range 10.0.0.0/30 is full")


def test_who_knows_the_older_field_only_is_told_the_same() -> None:
    old = given("{clusterIP: 10.96.0.7, ports: [{port: 80}]}").document
    new = given("{clusterIP: 10.96.0.8, clusterIPs: [10.96.0.7], ports: [{port: 80}]}", old=old)
    assert told(new) == ['spec.clusterIPs[0]: Invalid value: ["10.96.0.8"]: may not change once set']
