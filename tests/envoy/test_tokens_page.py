"""What the page on tokens shows as YAML does what the page says."""

from __future__ import annotations

import re

from architecture.repository import ROOT, text_of
from doubles.patched import GATEWAY, Patched, http_filters
from ostria.mesh.model import KeySource
from ostria.mesh.request_authentication import wanted_keys
from ostria.resources import read_text
from ostria.resources.fields import fields_of
from ostria.resources.request_authentication import JWTRule

PAGE = ROOT / "docs" / "tokens.md"


def test_what_the_page_shows() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", text_of(PAGE), re.DOTALL)
    assert [change.problems for change in read_text(text, "page").changes] == [(), ()]
    mesh = Patched(text.replace("gateways: [shop]", "gateways: [edge]"))
    assert all(filters[0] == "jwt_authn" for filters in http_filters(mesh.listener("0.0.0.0_8080", GATEWAY)))
    assert "jwt_authn" not in str(mesh.listener("virtualInbound"))
    assert [source for source, _ in wanted_keys(mesh.db)] == [KeySource("https://login.example/keys")]
    assert "'payload'" in str(mesh.hosts("http.8080", GATEWAY))


def test_every_field_of_a_rule_is_told() -> None:
    """Of `jwks_uri` there is nothing to tell: it is jwksUri."""
    text = text_of(PAGE)
    assert [name for name in fields_of(JWTRule) if name not in text and name != "jwks_uri"] == []
