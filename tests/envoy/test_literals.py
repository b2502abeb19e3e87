"""What people write in a policy means itself, whatever it would mean in an expression (ISTIO-SECURITY-2026-003)."""

from __future__ import annotations

from envoy.type.matcher.v3.string_pb2 import StringMatcher
from hypothesis import assume, given
from hypothesis import strategies as st

from ostria.base.regex import compiled
from ostria.envoy.rbac import identity, text
from ostria.mesh.model import Attribute

WORDS = st.text(alphabet=st.sampled_from("ab.+?|()[]{}^$\\-_X"), min_size=1, max_size=12)
# Where in a name each of them stands.
NAMES = {
    Attribute.PRINCIPAL: ("{}", "spiffe://{}"),
    Attribute.NAMESPACE: ("{}", "spiffe://td/ns/{}/sa/x"),
    Attribute.ACCOUNT: ("{}/x", "spiffe://td/ns/{}/sa/x"),
    Attribute.TRUST_DOMAIN: ("{}", "spiffe://{}/ns/a/sa/x"),
}


def matches(matcher: StringMatcher, value: str) -> bool:
    """As Envoy compares."""
    kind = matcher.WhichOneof("match_pattern")
    if kind == "safe_regex":
        return compiled(matcher.safe_regex.regex).fullmatch(value) is not None
    wanted: str = getattr(matcher, kind)
    return {"exact": value == wanted, "prefix": value.startswith(wanted), "suffix": value.endswith(wanted)}[kind]


@given(st.sampled_from(sorted(NAMES, key=str)), WORDS, WORDS)
def test_a_name_is_that_name_and_no_other(attribute: Attribute, word: str, other: str) -> None:
    written, shown = NAMES[attribute]
    matcher = identity(attribute, written.format(word))
    assert matches(matcher, shown.format(word))
    assert matches(matcher, shown.format(other)) is (word == other)


@given(WORDS, WORDS)
def test_so_is_an_account(word: str, other: str) -> None:
    """CVE-2026-39350: the dot of cert-manager.io stood for any letter."""
    matcher = identity(Attribute.ACCOUNT, f"ns/{word}")
    assert matches(matcher, f"spiffe://td/ns/ns/sa/{word}")
    assert matches(matcher, f"spiffe://td/ns/ns/sa/{other}") is (word == other)
    dotted = identity(Attribute.ACCOUNT, "ns/cert-manager.io")
    assert not matches(dotted, "spiffe://td/ns/ns/sa/cert-managerXio")


@given(WORDS, WORDS, st.sampled_from(["", "spiffe://"]))
def test_an_asterisk_stands_for_something_at_one_end_only(word: str, other: str, front: str) -> None:
    assume(word not in other)
    assert matches(text(f"*{word}", front), f"{front}{other}{word}")
    assert matches(text(f"{word}*", front), f"{front}{word}{other}")
    for pattern in (word, f"*{word}", f"{word}*"):
        assert not matches(text(pattern, front), front + other)
