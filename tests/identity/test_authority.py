"""Which material can sign, where it is kept, and what its certificates chain up to."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import pathlib
import stat

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import rsa

from doubles.authorities import NOW, csr, intermediate, root
from ostria.identity.authority import CA_CERT, CA_KEY, Authority, AuthorityError, Material, load, self_signed
from ostria.identity.issuing import Issued, issue
from ostria.identity.keeping import Answer, FolderKeeper, SecretKeeper, establish
from ostria.identity.spiffe import SpiffeId

YEAR = 365.25 * 86_400


def leads_to_root(authority: Authority) -> list[str]:
    """The organizations on the way from a workload's certificate to the root; every step is verified."""
    answer = issue(csr(), SpiffeId("cluster.local", "default", "a"), authority, NOW)
    assert isinstance(answer, Issued)
    (leaf,) = x509.load_pem_x509_certificates(answer.certificate)
    chain = x509.load_pem_x509_certificates(authority.chain) if authority.chain else []
    roots = x509.load_pem_x509_certificates(authority.roots)
    path = [leaf, *chain]
    for lower, upper in itertools.pairwise(path):
        lower.verify_directly_issued_by(upper)
    root = next(root for root in roots if signed(path[-1], root))
    return [certificate.subject.rfc4514_string() for certificate in [*path[1:], root]]


def signed(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(by)
    except InvalidSignature:
        return False
    return True


def test_a_root_of_our_own_signs_for_ten_years():
    authority = load(self_signed(NOW), NOW)
    assert leads_to_root(authority) == ["O=cluster.local"]
    assert authority.chain == b""
    assert authority.certificate.not_valid_after_utc.timestamp() - NOW == pytest.approx(10 * YEAR, rel=0.001)
    load(self_signed(NOW), NOW + 9.9 * YEAR)


def test_an_intermediate_authority_is_plugged_in_with_istios_file_names():
    middle = intermediate(root(), "middle")
    lower = intermediate(middle, "lower")
    files = {
        "ca-cert.pem": lower.certificate,
        "ca-key.pem": lower.key,
        "cert-chain.pem": lower.certificate + lower.chain,
        "root-cert.pem": lower.roots,
    }
    assert leads_to_root(load(Material.of(files), NOW)) == ["O=lower", "O=middle", "O=cluster.local"]


def test_new_roots_may_stand_beside_the_old_ones():
    old, new = root(), root()
    lower = intermediate(old, "lower")
    both = load(lower._replace(roots=new.certificate + old.certificate), NOW)
    assert both.roots == new.certificate + old.certificate
    assert leads_to_root(both)[-1] == "O=cluster.local"


ABOVE = root()
LOWER = intermediate(ABOVE, "lower")


@pytest.mark.parametrize(
    ("material", "message"),
    [
        (LOWER._replace(key=root().key), "ca-key.pem is not the key of ca-cert.pem"),
        (LOWER._replace(key=b"x"), "ca-key.pem is no private key"),
        (LOWER._replace(certificate=b"x"), "ca-cert.pem holds no certificates"),
        (LOWER._replace(roots=b"x"), "root-cert.pem holds no certificates"),
        (LOWER._replace(roots=root().certificate), "does not lead to root-cert.pem"),
        (intermediate(intermediate(ABOVE, "m"), "l")._replace(chain=b""), "between them into cert-chain.pem"),
        (intermediate(ABOVE, "leaf", ca=False), "not an authority's"),
        (intermediate(ABOVE, "late", days=-0.5), "is valid only from"),
    ],
)
def test_material_that_cannot_sign_says_which_file_is_at_fault(material: Material, message: str):
    with pytest.raises(AuthorityError, match=message):
        load(material, NOW)


@pytest.mark.parametrize("missing", [CA_CERT, CA_KEY])
def test_a_missing_file_is_named(missing: str):
    files = {name: content for name, content in LOWER.files.items() if name != missing}
    with pytest.raises(AuthorityError, match=f"{missing} is missing"):
        Material.of(files)


class SecretApi:
    """One collection of Secrets."""

    def __init__(self) -> None:
        self.secrets: dict[str, bytes] = {}
        self.fails = 0

    async def send(self, method: str, path: str, body: bytes | None) -> Answer:
        if self.fails:
            return Answer(self.fails, b"")
        if method == "POST":
            assert body is not None
            name = f"{path}/{json.loads(body)['metadata']['name']}"
            if name in self.secrets:
                return Answer(409, b"")
            self.secrets[name] = body
            return Answer(201, body)
        return Answer(200, self.secrets[path]) if path in self.secrets else Answer(404, b"")


@pytest.fixture(params=["folder", "secret"])
def keeper(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> FolderKeeper | SecretKeeper:
    return FolderKeeper(tmp_path / "state" / "ca") if request.param == "folder" else SecretKeeper(SecretApi().send)


async def test_a_root_is_made_once_and_kept(keeper: FolderKeeper | SecretKeeper):
    first = await establish(keeper, NOW)
    again = await establish(keeper, NOW + YEAR)
    assert again.certificate == first.certificate
    assert again.key.private_numbers() == first.key.private_numbers()


async def test_replicas_that_start_together_agree(keeper: FolderKeeper | SecretKeeper):
    found = await asyncio.gather(*(establish(keeper, NOW) for _ in range(5)))
    assert len({authority.certificate for authority in found}) == 1


async def test_a_second_root_is_never_written_over_the_first(keeper: FolderKeeper | SecretKeeper):
    assert await keeper.create(root().files)
    kept = await keeper.read()
    assert not await keeper.create(root().files)
    assert await keeper.read() == kept


async def test_what_is_plugged_in_goes_before_what_is_kept(keeper: FolderKeeper | SecretKeeper):
    await establish(keeper, NOW)
    assert leads_to_root(await establish(keeper, NOW, plugged_in=LOWER.files))[0] == "O=lower"


async def test_the_key_is_for_its_owners_eyes(tmp_path: pathlib.Path):
    folder = tmp_path / "ca"
    await establish(FolderKeeper(folder), NOW)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert list(tmp_path.iterdir()) == [folder]


async def test_the_secret_is_istios():
    api = SecretApi()
    await establish(SecretKeeper(api.send), NOW)
    ((path, body),) = api.secrets.items()
    secret = json.loads(body)
    assert path == "/api/v1/namespaces/istio-system/secrets/istio-ca-secret"
    assert secret["type"] == "istio.io/ca-root"
    assert base64.b64decode(secret["data"]["ca-cert.pem"]).startswith(b"-----BEGIN CERTIFICATE")


async def test_an_api_that_fails_makes_no_second_root():
    api = SecretApi()
    api.fails = 500
    with pytest.raises(ConnectionError):
        await establish(SecretKeeper(api.send), NOW)


def test_an_rsa_authority_signs_too():
    authority = load(intermediate(ABOVE, "rsa", key=rsa.generate_private_key(65537, 2048)), NOW)
    assert leads_to_root(authority) == ["O=rsa", "O=cluster.local"]
