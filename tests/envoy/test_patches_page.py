"""What the page on EnvoyFilter shows does what the page says."""

from __future__ import annotations

import re

from architecture.repository import ROOT, text_of
from doubles.patched import OTHER, Patched, http_filters, managers
from ostria.resources import read_text

PAGE = ROOT / "docs" / "envoy-filter.md"


def test_what_the_page_shows() -> None:
    patience, limit, routes = re.findall(r"```yaml\n(.*?)```", text_of(PAGE), re.DOTALL)
    for text in (patience, limit, routes):
        assert [change.problems for change in read_text(text, "page").changes] == [()]
    mesh = Patched(patience, limit, routes)
    (manager,) = managers(mesh.listener("0.0.0.0_9080"))
    assert manager["common_http_protocol_options"] == {"idle_timeout": "30s"}
    assert mesh.cluster("outbound|9080||reviews.default.svc.cluster.local")["connect_timeout"] == "1s"
    for filters in http_filters(mesh.listener("virtualInbound")):
        assert filters[-2:] == ["local_ratelimit", "router"]
    (route,) = mesh.hosts("9080", OTHER)["reviews.default.svc.cluster.local:9080"]["routes"]
    assert route["request_headers_to_add"][0]["header"] == {"key": "x-from", "value": "mesh"}
