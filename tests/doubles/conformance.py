"""Where the conformance data lies, and its cases; without the data a suite is one skipped case that says so."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
DATA = pathlib.Path(os.environ.get("OSTRIA_CONFORMANCE") or REPOSITORY.parent / "shared" / "conformance")


def cases(suite: str) -> list[Any]:
    """The cases of a suite as pytest parameters, by name."""
    listing = DATA / suite / "expected.json"
    if not listing.exists():
        reason = f"no conformance data at {DATA}: set OSTRIA_CONFORMANCE to its folder"
        return [pytest.param({}, marks=pytest.mark.skip(reason=reason), id="no-data")]
    return [pytest.param(case, id=case["name"]) for case in json.loads(listing.read_text())["cases"]]


def text(suite: str, path: str) -> str:
    """A file of a suite."""
    return (DATA / suite / path).read_text()
