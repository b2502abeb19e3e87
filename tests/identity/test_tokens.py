"""A token is worth what its issuer says of it, for the audience it was made for, bound to a pod."""

from __future__ import annotations

import base64
import json

import pytest

from ostria.identity.tokens import PATH, TokenIdentity, TokenReviewer, expiry


def token(**claims: object) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{payload}.c2ln"


def answer(
    *,
    authenticated: bool = True,
    username: str = "system:serviceaccount:default:reviews",
    audiences: tuple[str, ...] = ("istio-ca",),
    pod: str = "reviews-v1",
) -> dict[str, object]:
    extra = {"authentication.kubernetes.io/pod-name": [pod], "authentication.kubernetes.io/pod-uid": ["u-1"]}
    user = {"username": username, "extra": extra if pod else {}}
    return {"status": {"authenticated": authenticated, "user": user, "audiences": list(audiences)}}


async def identify(answered: dict[str, object], shown: str) -> tuple[TokenIdentity | None, list[dict[str, object]]]:
    asked: list[dict[str, object]] = []

    async def post(path: str, body: bytes) -> bytes:
        assert path == PATH
        asked.append(json.loads(body)["spec"])
        return json.dumps(answered).encode()

    return await TokenReviewer(post).identify(shown), asked


async def test_a_token_that_holds_names_its_pod_and_its_end():
    shown = token(exp=1234.0)
    found, asked = await identify(answer(), shown)
    assert found == TokenIdentity("default", "reviews", "reviews-v1", "u-1", 1234.0)
    assert asked == [{"token": shown, "audiences": ["istio-ca"]}]


@pytest.mark.parametrize(
    "answered",
    [
        answer(authenticated=False),
        answer(audiences=("https://kubernetes.default.svc",)),
        answer(audiences=()),
        answer(username="admin"),
        answer(username="system:serviceaccount:default"),
        answer(pod=""),
        {},
    ],
    ids=[
        "refused",
        "for another audience",
        "an API server that ignores audiences",
        "a user",
        "cut off",
        "unbound",
        "empty",
    ],
)
async def test_any_other_token_is_nobodys(answered: dict[str, object]):
    found, _ = await identify(answered, token(exp=1.0))
    assert found is None


@pytest.mark.parametrize("shown", ["", "x" * 20_000])
async def test_what_can_be_no_token_is_not_asked_about(shown: str):
    found, asked = await identify(answer(), shown)
    assert (found, asked) == (None, [])


async def test_an_api_server_that_cannot_be_asked_is_no_refusal():
    async def post(path: str, body: bytes) -> bytes:
        raise ConnectionError("refused")

    with pytest.raises(ConnectionError):
        await TokenReviewer(post).identify(token(exp=1.0))


@pytest.mark.parametrize("text", ["", "a.b.c", "a.e30.c", "no dots", token(exp="soon")])
def test_an_end_that_cannot_be_read_is_none(text: str):
    assert expiry(text) == 0.0
