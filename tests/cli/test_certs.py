"""What proxies show is listed with what is wrong with it; join tokens are made, listed and taken back."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cli.test_objects import POD, Person
from doubles.authorities import NOW, csr, root
from doubles.editable_api import EditableApi
from ostria.apps.certificates import Held, Pod, State, authority_problems, held
from ostria.base import Level, ObjectKey
from ostria.cli.errors import Exit
from ostria.engine import Engine
from ostria.identity.authority import Authority, load
from ostria.identity.issuing import Issued, Policy, issue, serving
from ostria.identity.keeping import Files
from ostria.identity.spiffe import SpiffeId
from ostria.resources import Change, Store
from ostria.resources.kubernetes import Secret
from ostria.resources.shapes import Meta

AUTHORITY, OTHER = load(root(), NOW), load(root(), NOW)
WEB = SpiffeId("cluster.local", "other", "default")
SHOP = "kubernetes://shop"


def secret(name: str, **content: Any) -> dict[str, Any]:
    return {"name": name, "secret": {"name": name, **content}}


def inline(pem: bytes) -> dict[str, str]:
    return {"inline_bytes": base64.b64encode(pem).decode()}


def dump(leaf: bytes, roots: bytes, *more: dict[str, Any]) -> dict[str, Any]:
    secrets = [
        secret("default", tls_certificate={"certificate_chain": inline(leaf), "private_key": inline(b"[redacted]")}),
        secret("ROOTCA", validation_context={"trusted_ca": inline(roots)}),
        *more,
    ]
    kind = "type.googleapis.com/envoy.admin.v3.SecretsConfigDump"
    return {"configs": [{"@type": kind, "dynamic_active_secrets": secrets}]}


def leaf(
    identity: SpiffeId = WEB, by: Authority = AUTHORITY, begins: float = NOW, life: float = 86_400.0
) -> tuple[bytes, float]:
    made = issue(csr(), identity, by, begins, Policy(life, life))
    assert isinstance(made, Issued)
    return made.certificate, made.not_after


def shop(*names: str) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return serving(key.public_key(), names, OTHER, NOW).certificate


def one(shown: dict[str, Any], now: float = NOW, **agent: float) -> Held:
    found, *_ = held(shown, Pod("web-1", "other", "default", agent), AUTHORITY.roots, now)
    return found


def test_a_good_one_says_whose_it_is_and_when_the_next_comes():
    pem, ends = leaf()
    found = one(dump(pem, AUTHORITY.roots), notAfter=ends, renewal=NOW + 40_000)
    assert (found.state, found.names, found.issuer) == (State.GOOD, (str(WEB),), "O=cluster.local")
    assert (found.ends, found.rotates, found.key, found.roots) == (ends, NOW + 40_000, "ECDSA secp256r1", 1)
    assert not found.gateway


@pytest.mark.parametrize(
    ("shown", "later", "state"),
    [
        (leaf(WEB._replace(service_account="robot"))[0], 1, State.ANOTHER_NAME),
        (leaf(by=OTHER)[0], 1, State.FOREIGN),
        (leaf()[0], 80_000, State.LATE),
        (leaf()[0], 86_400, State.EXPIRED),
        (b"no certificate", 1, None),
    ],
    ids=["another's name", "a foreign authority", "late", "ended", "none"],
)
def test_what_is_wrong_is_said(shown: bytes, later: float, state: State | None):
    found = held(dump(shown, AUTHORITY.roots), Pod("web-1", "other", "default"), AUTHORITY.roots, NOW + later)
    assert [each.state for each in found] == ([state] if state else [])


def test_what_a_proxy_shows_is_compared_with_what_its_agent_has_and_what_the_mesh_trusts():
    pem, ends = leaf()
    assert one(dump(pem, AUTHORITY.roots), notAfter=ends + 60).state == State.DIFFERS
    assert one(dump(pem, OTHER.roots), notAfter=ends).state == State.ROOTS_DIFFER
    assert one(dump(pem, AUTHORITY.roots + OTHER.roots), notAfter=ends).state == State.GOOD
    begins = AUTHORITY.certificate.not_valid_before_utc.timestamp()
    assert one(dump(leaf()[0], AUTHORITY.roots), begins - 10).state == State.NOT_YET_VALID


def test_a_gateways_is_compared_with_its_secret():
    certificate, newer = shop("a.example", "b.example"), shop("a.example")
    shown = dump(leaf()[0], AUTHORITY.roots, secret(SHOP, tls_certificate={"certificate_chain": inline(certificate)}))
    pod = Pod("web-1", "other", "default")
    for kept, state in ((certificate, State.GOOD), (newer, State.DIFFERS), (b"", State.GOOD)):
        found = held(shown, pod, AUTHORITY.roots, NOW, secrets={("other", "shop"): kept})[-1]
        assert (found.gateway, found.names, found.state) == (True, ("a.example", "b.example"), state)


@pytest.mark.parametrize(
    ("files", "later", "codes"),
    [
        (root().files, 0.0, []),
        (root().files, 3640 * 86_400.0, [("authority-ends", Level.WARNING)]),
        (root().files, 3660 * 86_400.0, [("authority-ends", Level.ERROR)]),
        (root()._replace(key=root().key).files, 0.0, [("authority-unusable", Level.ERROR)]),
        ({"ca-cert.pem": b"x"}, 0.0, [("authority-unusable", Level.ERROR)]),
    ],
)
def test_status_says_what_is_wrong_with_the_authority(files: Files, later: float, codes: list[tuple[str, Level]]):
    db = Engine()
    store = Store(db)
    for name in ("cacerts", "istio-ca-secret"):
        key = ObjectKey("", "Secret", "istio-system", name)
        # Where one is brought along, the mesh's own does not count.
        content = files if name == "cacerts" else {"ca-cert.pem": b"y"}
        store.apply([Change(key, Secret(metadata=Meta(name=name, namespace="istio-system"), data=content))])
    found = dict.fromkeys((each.code, each.level) for each in authority_problems(db, NOW + later))
    assert list(found) == codes


@pytest.fixture
async def person(tmp_path: Path) -> AsyncIterator[Person]:
    async with EditableApi().serve() as api:
        yield Person(api, tmp_path)


async def test_the_certificates_of_a_mesh(person: Person):
    manifests = "---".join(POD.replace("NAME", f"web-{at}").replace("READY", "True") for at in (1, 2))
    namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: other}\n"
    roots = json.dumps(AUTHORITY.roots.decode())
    trusted = f"""
apiVersion: v1
kind: ConfigMap
metadata: {{name: istio-ca-root-cert, namespace: other}}
data: {{root-cert.pem: {roots}}}
"""
    done = await person.applies("---".join((namespace, trusted, manifests)))
    assert done.code == Exit.OK, done.stderr
    silent = await person.types("certs")
    assert (silent.code, silent.stderr.count("does not answer")) == (Exit.FAILED, 2)
    pem, ends = leaf()
    agent = {"identity": {"notAfter": ends, "renewal": NOW + 40_000}}
    person.api.answers = {"config_dump": json.dumps(dump(pem, AUTHORITY.roots)), "debug": json.dumps(agent)}
    found = await person.types("certs")
    assert found.code == Exit.OK, found.stderr
    heading, *rows = found.stdout.splitlines()
    assert heading.split() == ["PROXY", "CERTIFICATE", "NAMES", "ISSUER", "EXPIRES", "ROTATES", "STATE"]
    assert [row.split()[0] for row in rows] == ["web-1.other", "web-2.other"]
    assert rows[0].split()[1:4] == ["default", str(WEB), "O=cluster.local"]
    assert "SERIAL" in (await person.types("certs web-1 -n other -o wide")).stdout
    document = json.loads((await person.types("certs -n other -o json")).stdout)
    assert (document["apiVersion"], document["kind"]) == ("ostria.dev/v1", "Certificates")
    assert [each["state"] for each in document["certificates"]] == ["GOOD", "GOOD"]
    assert (await person.types("certs -o yaml")).stdout.startswith("apiVersion: ostria.dev/v1\nkind: Certificates\n")
    person.api.answers["config_dump"] = json.dumps(dump(leaf(by=OTHER)[0], AUTHORITY.roots))
    foreign = await person.types("certs deploy/nothing")
    assert foreign.code == Exit.FAILED
    wrong = await person.types("certs")
    assert (wrong.code, "FOREIGN" in wrong.stdout) == (Exit.ANALYSIS, True)


async def test_join_tokens_are_made_listed_and_taken_back(person: Person):
    account = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: printer, namespace: default}\n"
    assert (await person.applies(account)).code == Exit.OK
    made = await person.types("join-token create --service-account printer --ttl 10m")
    assert made.code == Exit.OK, made.stderr
    _, id, word = made.stdout.strip().split(".")
    assert f"ns/default/sa/printer, within 10m" in made.stderr  # noqa: F541
    kept = person.api.objects[f"/api/v1/namespaces/istio-system/secrets/ostria-join-{id}"]
    assert word not in json.dumps(kept)
    assert base64.b64decode(kept["data"]["service-account"]) == b"printer"
    listed = await person.types("join-token list")
    assert f"ostria-join-{id}" in listed.stdout
    assert (await person.types("join-token create --service-account nobody")).code == Exit.FAILED
    assert (await person.types("join-token create --service-account printer --ttl soon")).code == Exit.BAD_INPUT
    assert (await person.types("join-token create --service-account printer --ttl 1000h")).code == Exit.BAD_INPUT
    assert (await person.types("join-token delete istio-ca-secret")).code == Exit.FAILED
    assert (await person.types(f"join-token delete ostria-join-{id}")).code == Exit.OK
    assert f"ostria-join-{id}" not in (await person.types("join-token list")).stdout
