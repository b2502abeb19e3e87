"""The samples' manifests: what there is, and where the files are."""

from __future__ import annotations

import pathlib
from typing import NamedTuple

FOLDER = pathlib.Path(__file__).parent / "manifests"


class Sample(NamedTuple):
    """One file of manifests; `title` is what its first line says."""

    name: str
    path: pathlib.Path
    title: str


def samples() -> tuple[Sample, ...]:
    """All of them, by name."""
    return tuple(Sample(path.stem, path, _title(path)) for path in sorted(FOLDER.glob("*.yaml")))


def _title(path: pathlib.Path) -> str:
    with path.open() as file:
        return file.readline().removeprefix("#").strip()
