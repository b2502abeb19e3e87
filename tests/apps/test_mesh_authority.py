"""The mesh's authority follows Secrets and the time, and keeps what a restart must not forget."""

from __future__ import annotations

import json
import pathlib

import pytest

from doubles.authorities import NOW, intermediate, revocation_list, root
from ostria.apps.mesh_authority import MeshAuthority, Terms, terms_from
from ostria.base.clock import ManualClock
from ostria.identity.authority import Material
from ostria.identity.keeping import PLUGGED_IN, SECRET, SUCCESSION, Answer, Files, SecretKeeper

TERMS = Terms(lifetime=3600.0)
PACE = TERMS.pace
A, B = root(), root()
SECRETS = "/api/v1/namespaces/istio-system/secrets"


class Api:
    """The Secrets and ConfigMaps of istio-system, as an API server keeps them."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, object]] = {}
        self.version = 0
        self.broken = False

    async def send(self, method: str, path: str, body: bytes | None) -> Answer:
        if self.broken:
            return Answer(500, b"")
        self.version += 1
        if method == "POST":
            path = f"{path}/{json.loads(body or b'')['metadata']['name']}"
            if path in self.objects:
                return Answer(409, b"")
        elif path not in self.objects:
            return Answer(404, b"")
        if method == "DELETE":
            del self.objects[path]
            return Answer(200, b"")
        if body is not None:
            value = json.loads(body)
            known = self.objects.get(path, {}).get("metadata", {})
            asked = value["metadata"].get("resourceVersion")
            if asked and asked != known.get("resourceVersion"):  # type: ignore[attr-defined]
                return Answer(409, b"")
            value["metadata"]["resourceVersion"] = str(self.version)
            self.objects[path] = value
        return Answer(200, json.dumps(self.objects[path]).encode())

    async def put(self, name: str, files: Files) -> None:
        await SecretKeeper(self.send, name=name).write(files)

    async def files(self, name: str) -> Files | None:
        return await SecretKeeper(self.send, name=name).read()


class Mesh:
    def __init__(self) -> None:
        self.api = Api()
        self.clock = ManualClock(NOW)

    async def start(self, terms: Terms = TERMS, folder: pathlib.Path | None = None) -> MeshAuthority:
        return await MeshAuthority.start(self.api.send, terms=terms, clock=self.clock, folder=folder)

    async def follow(self, authority: MeshAuthority, seconds: float = 0.0) -> bool:
        """Let time pass, and the authority look."""
        self.clock.advance(seconds)
        known = {name: await self.api.files(name) for name in (PLUGGED_IN, SECRET, SUCCESSION)}
        return await authority.follow(known.get)


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


def signs(authority: MeshAuthority) -> bytes:
    return authority.trust.signer.certificate


async def test_a_changed_secret_is_followed_without_a_restart(mesh: Mesh):
    await mesh.api.put(PLUGGED_IN, A.files)
    authority = await mesh.start()
    await mesh.api.put(PLUGGED_IN, B.files)
    assert await mesh.follow(authority)
    assert (signs(authority), authority.authority.roots) == (A.certificate, B.roots + A.roots)
    assert not await mesh.follow(authority, 1.0)
    await mesh.follow(authority, PACE.announced)
    assert (signs(authority), authority.authority.roots) == (B.certificate, B.roots + A.roots)
    await mesh.follow(authority, PACE.retired)
    assert authority.authority.roots == B.roots


async def test_a_restart_goes_on_where_it_was(mesh: Mesh):
    await mesh.api.put(PLUGGED_IN, A.files)
    authority = await mesh.start()
    await mesh.api.put(PLUGGED_IN, B.files)
    await mesh.follow(authority)
    again = await mesh.start()
    assert again.trust == authority.trust
    await mesh.follow(again, PACE.announced)
    assert signs(again) == B.certificate
    # The former key is not kept for longer than it signs.
    kept = await mesh.api.files(SUCCESSION)
    assert kept is not None
    assert A.key not in kept.values()


async def test_replicas_agree(mesh: Mesh):
    await mesh.api.put(PLUGGED_IN, A.files)
    one, other = await mesh.start(), await mesh.start()
    await mesh.api.put(PLUGGED_IN, B.files)
    await mesh.follow(one)
    await mesh.follow(other, 1.0)
    assert one.trust == other.trust


async def test_what_cannot_be_used_changes_nothing_and_is_told(mesh: Mesh):
    await mesh.api.put(PLUGGED_IN, A.files)
    authority = await mesh.start()
    await mesh.api.put(PLUGGED_IN, B._replace(key=A.key).files)
    assert not await mesh.follow(authority)
    assert "ca-key.pem is not the key of ca-cert.pem" in authority.trouble
    await mesh.api.put(PLUGGED_IN, A.files)
    await mesh.follow(authority)
    assert authority.trouble == ""


async def test_a_secret_that_vanishes_leaves_its_authority_in_force(mesh: Mesh):
    await mesh.api.put(PLUGGED_IN, A.files)
    authority = await mesh.start()
    del mesh.api.objects[f"{SECRETS}/{PLUGGED_IN}"]
    assert not await mesh.follow(authority)
    assert signs(authority) == A.certificate


async def test_a_secret_as_cert_manager_writes_it(mesh: Mesh):
    lower = intermediate(A, "lower")
    files = {"tls.crt": lower.certificate + lower.chain, "tls.key": lower.key, "ca.crt": A.roots}
    await mesh.api.put(PLUGGED_IN, files)
    authority = await mesh.start()
    assert (authority.authority.roots, authority.plugged_in) == (A.roots, True)


async def test_a_folder_serves_where_no_secret_is(mesh: Mesh, tmp_path: pathlib.Path):
    for name, content in A.files.items():
        (tmp_path / name).write_bytes(content)
    authority = await mesh.start(folder=tmp_path)
    assert signs(authority) == A.certificate
    for name, content in B.files.items():
        (tmp_path / name).write_bytes(content)
    await mesh.follow(authority)
    assert authority.authority.roots == B.roots + A.roots


async def test_an_authority_that_was_brought_along_while_nobody_looked_leaves_the_former_root_trusted(mesh: Mesh):
    own = await mesh.start()
    published = {"metadata": {"name": "x"}, "data": {"root-cert.pem": own.authority.roots.decode()}}
    mesh.api.objects["/api/v1/namespaces/istio-system/configmaps/istio-ca-root-cert"] = published
    await mesh.api.put(PLUGGED_IN, B.files)
    authority = await mesh.start()
    assert (signs(authority), authority.authority.roots) == (B.certificate, B.roots + own.authority.roots)
    await mesh.follow(authority, PACE.retired + 1)
    assert authority.authority.roots == B.roots


async def test_the_meshs_own_root_is_made_anew_long_before_it_ends(mesh: Mesh):
    terms = TERMS._replace(root_lifetime=100 * 3600.0, root_look=3600.0, root_jitter=False)
    authority = await mesh.start(terms)
    first = signs(authority)
    await mesh.follow(authority, 78 * 3600.0)
    assert len(authority.trust.roots) == 1
    await mesh.follow(authority, 3 * 3600.0)
    assert (signs(authority), len(authority.trust.roots)) == (first, 2)
    await mesh.follow(authority, terms.pace.announced)
    assert (signs(authority) == first, len(authority.trust.roots)) == (False, 2)
    await mesh.follow(authority, terms.pace.retired)
    assert len(authority.trust.roots) == 1
    kept = await mesh.api.files(SECRET)
    assert kept is not None
    assert Material.of(kept).certificate == signs(authority)


async def test_nothing_changes_while_it_cannot_be_kept(mesh: Mesh):
    await mesh.api.put(PLUGGED_IN, A.files)
    authority = await mesh.start()
    before = authority.trust
    known: dict[str, Files | None] = {PLUGGED_IN: B.files}
    mesh.api.broken = True
    with pytest.raises(ConnectionError):
        await authority.follow(known.get)
    assert authority.trust == before
    mesh.api.broken = False
    assert await authority.follow(known.get)


async def test_revocation_lists_are_given_if_there_is_one_for_each_authority(mesh: Mesh):
    lower = intermediate(A, "lower")
    lists = revocation_list(A) + revocation_list(lower, 5)
    await mesh.api.put(PLUGGED_IN, lower._replace(revocations=lists).files)
    authority = await mesh.start()
    assert authority.revocations() == lists
    assert authority.revocations(B.roots) == b""
    await mesh.api.put(PLUGGED_IN, lower._replace(revocations=revocation_list(lower)).files)
    # What has changed are the lists alone, and it is told.
    assert await mesh.follow(authority)
    assert authority.revocations() == b""


def test_the_terms_have_istios_names():
    found = terms_from(
        {
            "DEFAULT_WORKLOAD_CERT_TTL": "1h",
            "MAX_WORKLOAD_CERT_TTL": "2h",
            "CITADEL_SELF_SIGNED_CA_CERT_TTL": "8760h",
            "CITADEL_SELF_SIGNED_ROOT_CERT_GRACE_PERIOD_PERCENTILE": "30",
            "CITADEL_SELF_SIGNED_ROOT_CERT_CHECK_INTERVAL": "0s",
            "CITADEL_ENABLE_JITTER_FOR_ROOT_CERT_ROTATOR": "false",
            "OSTRIA_CA_ANNOUNCE": "5m",
        }
    )
    assert found == Terms(3600.0, 7200.0, 8760 * 3600.0, 30, 0.0, False, 300.0)
    assert terms_from({}) == Terms()
    with pytest.raises(ValueError, match="DEFAULT_WORKLOAD_CERT_TTL"):
        terms_from({"DEFAULT_WORKLOAD_CERT_TTL": "soon"})
    with pytest.raises(ValueError, match="PERCENTILE"):
        terms_from({"CITADEL_SELF_SIGNED_ROOT_CERT_GRACE_PERIOD_PERCENTILE": "100"})
