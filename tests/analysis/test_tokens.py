"""A call with a token, simulated from files: let on, routed by what it says, or refused and by whom."""

from __future__ import annotations

import pytest

from doubles.token_issuer import LONG_AGO, TokenIssuer, named
from ostria.analysis.simulation import CallMode, Failure, Trace, call_to, pod_of, simulate
from ostria.analysis.simulation.telling import told
from ostria.apps.offline import OfflineMesh
from ostria.mesh.clients import traits_of

ISSUER = TokenIssuer()
NOW = 2_000_000_000.0
SHOP = """\
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: default}
spec: {selector: {app: cart}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart, namespace: default}
spec:
  selector: {matchLabels: {app: cart}}
  template: {metadata: {labels: {app: cart}}, spec: {containers: [{name: cart, image: cart}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: page, namespace: default}
spec:
  selector: {matchLabels: {app: page}}
  template: {metadata: {labels: {app: page}}, spec: {containers: [{name: page, image: page}]}}
"""


def policy(keys: str) -> str:
    return f"""\
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: login, namespace: default}}
spec:
  selector: {{matchLabels: {{app: cart}}}}
  jwtRules: [{{issuer: '{ISSUER.name}', {keys}}}]
"""


INLINE = f"jwks: '{ISSUER.published()}'"


def trace(token: str, keys: str = INLINE) -> Trace:
    mesh = OfflineMesh([("shop.yaml", SHOP), ("login.yaml", policy(keys))])
    assert not mesh.errors
    client = traits_of(mesh.db, pod_of(mesh.db, "page", "default"))
    assert client is not None
    call = call_to(mesh.db, "http://cart/", client, mode=CallMode.OUTBOUND)
    headers = (*call.headers, ("authorization", f"Bearer {token}")) if token else call.headers
    return simulate(mesh.db, client, call._replace(headers=headers, now=NOW))


@pytest.mark.parametrize("token", ["", ISSUER.token()], ids=named)
def test_a_good_token_and_none_at_all_are_let_on(token: str) -> None:
    assert trace(token).failure is None


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (ISSUER.token(exp=LONG_AGO), "the token in header authorization is expired"),
        (ISSUER.token(nbf=3_000_000_000), "the token in header authorization is not good yet"),
        (TokenIssuer(number=1).token(), "is signed by none of the keys of https://issuer.example.com"),
        (ISSUER.token(iss="https://other.example.com"), "its token is of another issuer"),
        ("nonsense", "what stands in header authorization is no token"),
    ],
    ids=named,
)
def test_a_bad_one_is_refused_by_whose_policy(token: str, reason: str) -> None:
    found = trace(token)
    assert found.failure is Failure.UNAUTHENTICATED
    assert reason in found.detail
    assert found.deciders[0].object.kind == "RequestAuthentication"
    assert "RequestAuthentication default/login (login.yaml:1:1)" in told(found)
    answer = found.received[0].outcome.answer
    assert answer is not None
    assert answer.status == 401


def test_what_is_not_known_is_not_guessed() -> None:
    found = trace(ISSUER.token(), "jwksUri: https://issuer.example.com/keys")
    assert found.failure is None
    words = "the token in header authorization: the keys of https://issuer.example.com are not known here"
    assert found.received[0].outcome.unread == (words,)
    assert f"not evaluated {words}" in told(found)
