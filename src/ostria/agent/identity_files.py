"""A workload's identity on disk: replaced as one, so that a certificate never lies beside another's key.

    folder/..<moment>/{cert-chain,key,root-cert}.pem    folder/..data -> ..<moment>    folder/key.pem -> ..data/key.pem

This is how Kubernetes replaces a volume: applications that read their proxy's certificate know it. Envoy reads files of
its own (envoy/secrets.py).
"""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Mapping

DATA = "..data"


def publish(folder: pathlib.Path, files: Mapping[str, bytes]) -> None:
    """Put these files in the place of those that are there. Raises OSError, and then nothing has changed."""
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f"..{time.time_ns():x}"
    fresh.mkdir(mode=0o700)
    for name, content in files.items():
        with os.fdopen(os.open(fresh / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
    before = _target(folder)
    staged = folder / "..data_tmp"
    staged.unlink(missing_ok=True)
    staged.symlink_to(fresh.name)
    staged.rename(folder / DATA)
    for name in files:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"{DATA}/{name}")
    _sweep(folder, {fresh.name, before})


def content(folder: pathlib.Path, name: str) -> bytes | None:
    """A file of the identity that is in force, None if there is none."""
    try:
        return (folder / DATA / name).read_bytes()
    except OSError:
        return None


def _target(folder: pathlib.Path) -> str:
    try:
        return os.readlink(folder / DATA)
    except OSError:
        return ""


def _sweep(folder: pathlib.Path, kept: set[str]) -> None:
    """Remove what older renewals left; the last one stays, as somebody may be reading it."""
    for old in folder.iterdir():
        if old.name.startswith("..") and old.name not in kept and not old.is_symlink():
            for file in old.iterdir():
                file.unlink()
            old.rmdir()
