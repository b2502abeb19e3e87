"""What a caller's sidecar says of calls: who answered them, and with which flags."""

from __future__ import annotations

import pytest

from ostria.apps import calling
from ostria.apps.calling import Logged

HEAD = '[2026-11-21T10:00:00.000Z] "GET /reviews/0 HTTP/1.1"'
TAIL = "outbound|9080|v1|reviews.default.svc.cluster.local 10.244.0.7:1 10.96.0.9:9080 10.244.0.7:2 - default"


def line(agent: str, host: str, code: int = 200, flags: str = "-") -> str:
    return f'{HEAD} {code} {flags} via_upstream - "-" 0 295 3 2 "-" "{agent}" "an-id" "reviews:9080" "{host}" {TAIL}'


def test_only_the_calls_of_this_run_are_counted() -> None:
    log = [line("curl/8", "10.244.0.5:9080"), line("ostria-call/a", "10.244.0.6:9080"), "Envoy says something"]
    assert calling.logged(log, "ostria-call/a") == [Logged("10.244.0.6:9080", "-")]


def test_flags_of_what_envoy_answered_itself_are_told() -> None:
    log = [line("ostria-call/a", "-", 500, "FI"), line("ostria-call/a", "-", 503, "UF,URX")]
    assert [each.flags for each in calling.logged(log, "ostria-call/a")] == ["FI", "UF,URX"]


@pytest.mark.parametrize(
    ("address", "who"),
    [
        ("10.244.0.5:9080", "reviews v1"),
        ("[fd00::5]:9080", "reviews v1"),
        ("10.244.0.6:9080", "reviews v3"),
        ("203.0.113.9:443", "203.0.113.9:443"),
        ("-", "no upstream"),
    ],
)
def test_a_host_is_told_as_app_and_version(address: str, who: str) -> None:
    def pod(version: str, *ips: str) -> dict[str, object]:
        labels = {"app": "reviews", "version": version}
        return {"metadata": {"name": "a", "labels": labels}, "status": {"podIPs": [{"ip": ip} for ip in ips]}}

    pods = [pod("v1", "10.244.0.5", "fd00::5"), pod("v3", "10.244.0.6")]
    assert calling.by_version({address: 3}, pods) == {who: 3}


@pytest.mark.parametrize("writes", [True, False])
def test_a_log_is_waited_for_only_where_one_is_written(writes: bool) -> None:
    log = {"typed_config": {"@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"}}
    listener = {"name": "virtualOutbound", "access_log": [log] if writes else []}
    assert calling.writes_log({"configs": [{"active_state": {"listener": listener}}]}) is writes


def test_without_a_log_envoys_own_counts_of_hosts_say_it() -> None:
    def host(address: str, total: int) -> dict[str, object]:
        return {
            "address": {"socket_address": {"address": address, "port_value": 9080}},
            "stats": [{"name": "rq_error", "value": "9"}, {"name": "rq_total", "value": str(total)}],
        }

    clusters = {
        "cluster_statuses": [
            {"name": "outbound|9080|v1|reviews", "host_statuses": [host("10.244.0.5", 7)]},
            {"name": "outbound|9080||reviews", "host_statuses": [host("10.244.0.5", 2), host("10.244.0.6", 1)]},
            {"name": "inbound|80||", "host_statuses": [host("127.0.0.1", 50)]},
        ]
    }
    assert calling.counts_of_hosts(clusters) == {"10.244.0.5:9080": 9, "10.244.0.6:9080": 1}
