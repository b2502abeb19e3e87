"""Modules from registries and from places for files."""

from __future__ import annotations

import functools
import gzip
import hashlib

import pytest

from doubles.registry import registry
from doubles.wasm_module import module
from ostria.apps import module_fetch
from ostria.apps.addresses import AddressRules, networks
from ostria.apps.module_fetch import FetchError, Image, credentials_for, image_of

MODULE = module()
SUM = hashlib.sha256(MODULE).hexdigest()
HERE = AddressRules(allowed=networks("127.0.0.0/8"))
fetch = functools.partial(module_fetch.fetch, rules=HERE)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("oci://ghcr.io/a/b:v1", Image("ghcr.io", "a/b", "v1")),
        ("oci://ghcr.io/a/b", Image("ghcr.io", "a/b", "latest")),
        ("oci://localhost:5000/a:v1", Image("localhost:5000", "a", "v1")),
        ("oci://ghcr.io/a/b:v1@sha256:00", Image("ghcr.io", "a/b", "sha256:00")),
        ("oci://a/b", Image("registry-1.docker.io", "a/b", "latest")),
        ("oci://busybox:1", Image("registry-1.docker.io", "library/busybox", "1")),
        ("oci://docker.io/busybox", Image("registry-1.docker.io", "library/busybox", "latest")),
    ],
)
def test_names_of_images(url: str, expected: Image) -> None:
    assert image_of(url) == expected


@pytest.mark.parametrize("artifact", [False, True], ids=["archive", "artifact"])
def test_a_module_out_of_an_image(artifact: bool) -> None:
    with registry() as images:
        digest = images.push("team/p", "v1", MODULE, artifact=artifact)
        base = f"oci://127.0.0.1:{images.port}/team/p"
        assert fetch(f"{base}:v1") == MODULE
        assert fetch(f"{base}@{digest}") == MODULE
        assert fetch(f"{base}:v1", digest.removeprefix("sha256:")) == MODULE
        with pytest.raises(FetchError, match="is wanted"):
            fetch(f"{base}:v1", SUM)
        with pytest.raises(FetchError, match="404"):
            fetch(f"{base}:v2")


def test_a_registry_that_asks_for_a_token() -> None:
    with registry(secured=True) as images:
        images.push("p", "v1", MODULE)
        url = f"oci://127.0.0.1:{images.port}/p:v1"
        assert fetch(url, config=images.docker_config) == MODULE
        with pytest.raises(FetchError, match="401"):
            fetch(url)


def test_a_module_out_of_a_file() -> None:
    with registry() as files:
        files.files |= {"/p.wasm": MODULE, "/p.gz": gzip.compress(MODULE), "/text": b"text"}
        base = f"http://127.0.0.1:{files.port}"
        assert fetch(f"{base}/p.wasm", SUM) == MODULE
        assert fetch(f"{base}/p.gz", SUM) == MODULE
        with pytest.raises(FetchError, match="is wanted"):
            fetch(f"{base}/p.wasm", "0" * 64)
        with pytest.raises(FetchError, match="no WebAssembly module"):
            fetch(f"{base}/text")


def test_credentials() -> None:
    assert credentials_for("ghcr.io", b'{"auths": {"https://ghcr.io": {"username": "a", "password": "b"}}}') == "a:b"
    assert credentials_for("ghcr.io", b"") == ""
    with pytest.raises(FetchError):
        credentials_for("ghcr.io", b"no JSON")


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "[::1]", "127.1", "0x7f000001", "[::ffff:127.0.0.1]"])
def test_nothing_is_fetched_from_this_machine(name: str) -> None:
    """ISTIO-SECURITY-2026-003: what is written into an object would reach what only the control plane reaches."""
    with registry() as files:
        files.files["/p.wasm"] = MODULE
        for url in (f"http://{name}:{files.port}/p.wasm", f"oci://{name}:{files.port}/p:v1"):
            with pytest.raises(FetchError, match=r"not fetched from|cannot|refused|SSL|Name or service"):
                module_fetch.fetch(url)
        assert files.asked == []


def test_where_a_registry_leads_is_looked_at_as_well() -> None:
    """ISTIO-SECURITY-2026-001: a registry named the place for tokens, and credentials went there."""
    with registry(secured=True) as images, registry() as inside:
        images.push("p", "v1", MODULE)
        elsewhere = "169.254.169.254:80"
        only = AddressRules(allowed=networks("127.0.0.1/32"))
        for realm in (f"http://{elsewhere}/latest", f"http://127.0.0.2:{inside.port}/token"):
            images.realm = realm
            with pytest.raises(FetchError, match="not fetched from"):
                module_fetch.fetch(f"oci://127.0.0.1:{images.port}/p:v1", config=images.docker_config, rules=only)
        assert inside.asked == []
