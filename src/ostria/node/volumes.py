"""Volumes: what their files hold (pure), and how they come to stand on disk so that a reader never sees half of it.

    Volume + objects + tokens -> Files -> a folder whose `..data` link is swung to a new one at once

Links and names are those of kubelet's atomic writer, which programs that watch for changes look for.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ostria.node.cluster import Token
from ostria.node.environment import Addresses, Capacity, Objects, Unresolved, field_of, resource_of
from ostria.node.pods import (
    ConfigMapVolume,
    Container,
    DownwardVolume,
    KeyToPath,
    Pod,
    Projection,
    SecretVolume,
    TokenProjection,
    Volume,
)

_DATA = "..data"
DEFAULT_MODE = 0o644


class File(NamedTuple):
    """One file of a volume."""

    content: bytes
    mode: int


Files = Mapping[str, File]
"""By their paths within the volume."""


class Wanted(NamedTuple):
    """The objects and tokens that a pod's volumes and variables name."""

    config_maps: frozenset[str]
    secrets: frozenset[str]
    tokens: frozenset[tuple[str, int]]


def wanted_by(pod: Pod) -> Wanted:
    """What must be asked for before the pod's containers can be made."""
    config_maps: set[str] = set()
    secrets: set[str] = set()
    tokens: set[tuple[str, int]] = set()
    for source in (source for volume in pod.spec.volumes for source in _sources(volume)):
        if source.config_map is not None:
            config_maps.add(source.config_map.name)
        if source.secret is not None:
            secrets.add(source.secret.name or source.secret.secret_name)
        if source.service_account_token is not None:
            tokens.add((source.service_account_token.audience, source.service_account_token.expiration_seconds))
    for container in pod.programs:
        for bulk in container.env_from:
            config_maps |= {bulk.config_map_ref.name} if bulk.config_map_ref else set()
            secrets |= {bulk.secret_ref.name} if bulk.secret_ref else set()
        for variable in container.env:
            if variable.value_from is not None:
                config_map, secret = variable.value_from.config_map_key_ref, variable.value_from.secret_key_ref
                config_maps |= {config_map.name} if config_map else set()
                secrets |= {secret.name} if secret else set()
    return Wanted(frozenset(config_maps), frozenset(secrets), frozenset(tokens))


def files_of(
    pod: Pod,
    volume: Volume,
    objects: Objects,
    tokens: Mapping[tuple[str, int], Token],
    addresses: Addresses,
    capacity: Capacity,
) -> Files | None:
    """What the volume's files hold, None for a volume that is no set of files. Raises Unresolved."""
    sources = _sources(volume)
    if not sources:
        return None
    default = DEFAULT_MODE
    for whole in (volume.config_map, volume.secret, volume.downward_api, volume.projected):
        if whole is not None and whole.default_mode is not None:
            default = whole.default_mode
    found: dict[str, File] = {}
    for source in sources:
        if source.config_map is not None:
            held = objects.config_maps.get(source.config_map.name)
            found |= _keys(source.config_map, "configmap", source.config_map.name, held, default)
        if source.secret is not None:
            name = source.secret.name or source.secret.secret_name
            found |= _keys(source.secret, "secret", name, objects.secrets.get(name), default)
        if source.downward_api is not None:
            found |= _downward(pod, source.downward_api, addresses, capacity, default)
        if source.service_account_token is not None:
            found |= _token(source.service_account_token, tokens, default)
    return found


def _sources(volume: Volume) -> Sequence[Projection]:
    if volume.projected is not None:
        return volume.projected.sources
    if volume.config_map is not None or volume.secret is not None or volume.downward_api is not None:
        return [Projection(volume.config_map, volume.secret, volume.downward_api)]
    return []


def _keys(
    source: ConfigMapVolume | SecretVolume, kind: str, name: str, held: Mapping[str, bytes] | None, default: int
) -> dict[str, File]:
    if held is None:
        if source.optional:
            return {}
        raise Unresolved(f'{kind} "{name}" not found')
    found = {}
    for item in source.items or [KeyToPath(key, key) for key in held]:
        if item.key not in held:
            if source.optional:
                continue
            raise Unresolved(f'references non-existent key "{item.key}" of {kind} "{name}"')
        found[_inner(item.path)] = File(held[item.key], default if item.mode is None else item.mode)
    return found


def _downward(
    pod: Pod, source: DownwardVolume, addresses: Addresses, capacity: Capacity, default: int
) -> dict[str, File]:
    found = {}
    for item in source.items:
        if item.field_ref is not None:
            text = field_of(pod, item.field_ref.field_path, addresses)
        elif item.resource_field_ref is not None:
            text = resource_of(pod, Container(""), item.resource_field_ref, capacity)
        else:
            continue
        found[_inner(item.path)] = File(text.encode(), default if item.mode is None else item.mode)
    return found


def _token(source: TokenProjection, tokens: Mapping[tuple[str, int], Token], default: int) -> dict[str, File]:
    token = tokens.get((source.audience, source.expiration_seconds))
    if token is None:
        raise Unresolved(f"no token for audience {source.audience!r}")
    return {_inner(source.path): File(token.text.encode(), default)}


def _inner(path: str) -> str:
    clean = os.path.normpath(path)
    if path.startswith("/") or clean.startswith("..") or clean == ".":
        raise Unresolved(f"the path {path!r} leads out of its volume")
    return clean


def write_files(folder: pathlib.Path, files: Files, gid: int | None = None) -> bool:
    """Make the folder hold exactly these files, all at once; return whether anything has changed."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    data = folder / _DATA
    if data.is_symlink() and _read(folder / os.readlink(data)) == files:
        return False
    fresh = pathlib.Path(tempfile.mkdtemp(prefix="..", dir=folder))
    fresh.chmod(0o755)
    for path, file in files.items():
        target = fresh / path
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        target.write_bytes(file.content)
        if gid is not None:
            os.chown(target, -1, gid)
        target.chmod(file.mode | (0o040 if gid is not None else 0))
    old = os.readlink(data) if data.is_symlink() else ""
    swing = folder / "..data_tmp"
    with contextlib.suppress(FileNotFoundError):
        swing.unlink()
    swing.symlink_to(fresh.name)
    swing.replace(data)
    tops = {path.split("/", 1)[0] for path in files}
    for top in tops:
        if not (folder / top).is_symlink():
            (folder / top).symlink_to(f"{_DATA}/{top}")
    for entry in folder.iterdir():
        if not entry.name.startswith("..") and entry.name not in tops:
            entry.unlink()
    if old:
        shutil.rmtree(folder / old, ignore_errors=True)
    return True


def _read(folder: pathlib.Path) -> dict[str, File]:
    return {str(path.relative_to(folder)): _file(path) for path in _files_below(folder)}


def _file(path: pathlib.Path) -> File:
    return File(path.read_bytes(), path.stat().st_mode & 0o777)


def _files_below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def within(folder: pathlib.Path, sub_path: str) -> pathlib.Path:
    """A place below a volume, its links followed; made as a folder if missing. Raises Unresolved if it leads out."""
    if sub_path.startswith("/") or ".." in sub_path.split("/"):
        raise Unresolved(f"the subPath {sub_path!r} leads out of its volume")
    place = folder / sub_path
    if not place.exists():
        place.mkdir(parents=True, exist_ok=True)
    real = place.resolve()
    if not real.is_relative_to(folder.resolve()):
        raise Unresolved(f"the subPath {sub_path!r} leads out of its volume")
    return real
