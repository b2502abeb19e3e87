"""Names in exactly one form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostria.identity.spiffe import SpiffeId, parse, spiffe_id

LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)


@given(st.from_regex(r"[a-z0-9._-]{1,40}", fullmatch=True), LABELS, LABELS)
def test_what_is_written_is_read_back(domain: str, namespace: str, account: str):
    name = spiffe_id(domain, namespace, account)
    assert parse(str(name)) == name


def test_the_form_is_istios():
    assert str(SpiffeId("cluster.local", "default", "bookinfo-reviews")) == (
        "spiffe://cluster.local/ns/default/sa/bookinfo-reviews"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cluster.local/ns/a/sa/b",
        "https://cluster.local/ns/a/sa/b",
        "SPIFFE://cluster.local/ns/a/sa/b",
        "spiffe://Cluster.local/ns/a/sa/b",
        "spiffe://user@cluster.local/ns/a/sa/b",
        "spiffe://cluster.local:443/ns/a/sa/b",
        "spiffe:///ns/a/sa/b",
        "spiffe://cluster.local/ns/a/sa/b/",
        "spiffe://cluster.local/ns/a/sa/b?x",
        "spiffe://cluster.local/ns/a/sa/b#x",
        "spiffe://cluster.local/ns/a/sa/",
        "spiffe://cluster.local/ns//sa/b",
        "spiffe://cluster.local/ns/a/sa/../b",
        "spiffe://cluster.local/ns/a/sa/b%2e",
        "spiffe://cluster.local/sa/a/ns/b",
        "spiffe://cluster.local/ns/a.b/sa/b",
        "spiffe://cluster.local/ns/a/sa/b\n",
        "spiffe://cluster.local/ns/a/sa/" + "b" * 3000,
    ],
)
def test_any_other_text_is_nobodys_name(text: str):
    with pytest.raises(ValueError, match="is n"):
        parse(text)
