"""What the page on Wasm and Lua shows does what the page says."""

from __future__ import annotations

import re

from architecture.repository import ROOT, text_of
from doubles.patched import GATEWAY, Patched, http_filters
from ostria.envoy.fragments import ResourceType
from ostria.mesh.extensions import Source, wanted_modules
from ostria.resources import read_text

PAGE = ROOT / "docs" / "extensions.md"


def test_what_the_page_shows() -> None:
    script, module = re.findall(r"```yaml\n(.*?)```", text_of(PAGE), re.DOTALL)
    for text in (script, module):
        assert [change.problems for change in read_text(text, "page").changes] == [()]
    mesh = Patched(script, module)
    assert all(filters[0] == "parity" for filters in http_filters(mesh.listener("virtualInbound")))
    assert "default.parity" not in str(mesh.listener("0.0.0.0_9080"))
    lua = mesh.get(ResourceType.EXTENSION, "extensions.istio.io/trafficextension/default.parity")
    assert 'add("x-parity", "even")' in lua["typed_config"]["default_source_code"]["inline_string"]
    for name in ("0.0.0.0_8080", "0.0.0.0_443"):
        assert http_filters(mesh.listener(name, GATEWAY))[0][0].endswith("openid-connect")
    url = "oci://registry.example.com/team/openid:v1"
    assert wanted_modules(mesh.db) == {Source(url, namespace="istio-system", secret="registry")}
