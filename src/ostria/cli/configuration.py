"""Settings, and where each comes from: flag > OSTRIA_* > the project's ostria.toml > the user's config.toml > default.

The project's file is the nearest `ostria.toml` in the current folder or above it. Both files are flat tables of the
names below; a name that is not known is an error, because a setting that is silently ignored costs an afternoon.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ostria.cli.errors import bad_input

PROJECT_FILE = "ostria.toml"
USER_FILE = "config.toml"


class Setting(NamedTuple):
    """One setting: its default (whose type is the setting's), and what it is for. Lists hold texts."""

    default: bool | int | str | tuple[str, ...]
    help: str


SETTINGS: Mapping[str, Setting] = {
    "mesh": Setting("", "the mesh that commands are about; empty for the one that runs"),
    "profile": Setting("default", "the profile that `up` installs"),
    "gateway-port": Setting(8080, "the port on 127.0.0.1 for the gateway's HTTP, if it is free"),
    "gateway-tls-port": Setting(8443, "the port on 127.0.0.1 for the gateway's HTTPS, if it is free"),
    "strict-ports": Setting(default=False, help="fail if a port is taken, in place of taking the next free one"),
    "images": Setting((), "files that say which program stands for which image"),
    "allow-host": Setting(default=False, help="let pods reach this machine's loopback as host.ostria.internal"),
    "log": Setting("info", "what the mesh's processes log, such as info,xds=debug"),
}


class Value(NamedTuple):
    """A setting's value, and where it comes from in words (`--profile`, `OSTRIA_PROFILE`, a file, `default`)."""

    value: Any
    origin: str


def resolve(flags: Mapping[str, Any], env: Mapping[str, str], folder: Path, user: Path) -> dict[str, Value]:
    """Every setting. `flags` are those given (None is not given); `user` is the folder of the user's configuration.

    Raises CliError for a file that cannot be read, an unknown name or a value of the wrong type.
    """
    project = next((file for at in (folder, *folder.parents) if (file := at / PROJECT_FILE).is_file()), None)
    files = [(path, _read(path)) for path in (project, user / USER_FILE) if path is not None]
    found = {}
    for name, setting in SETTINGS.items():
        variable = variable_of(name)
        if flags.get(name) is not None:
            found[name] = Value(flags[name], f"--{name}")
        elif env.get(variable):
            found[name] = Value(_of_text(variable, env[variable], setting.default), variable)
        else:
            written = [Value(value[name], str(path)) for path, value in files if name in value]
            found[name] = written[0] if written else Value(setting.default, "default")
    return found


def variable_of(name: str) -> str:
    """The environment variable of a setting."""
    return f"OSTRIA_{name.upper().replace('-', '_')}"


def _read(path: Path) -> dict[str, Any]:
    try:
        value = tomllib.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise bad_input(f"the configuration cannot be read: {error}", str(path)) from None
    for name, given in value.items():
        if name not in SETTINGS:
            near = difflib.get_close_matches(name, SETTINGS, 1)
            raise bad_input(
                f'there is no setting "{name}"', str(path), f'"{near[0]}"' if near else "ostria config show"
            )
        value[name] = _typed(name, given, SETTINGS[name].default, path)
    return value


def _typed(name: str, given: Any, default: Any, path: Path) -> Any:
    if isinstance(default, tuple) and isinstance(given, list) and all(isinstance(item, str) for item in given):
        # Files that a file names are relative to it.
        return tuple(str(path.parent / item) for item in given)
    if type(given) is not type(default):
        raise bad_input(f'"{name}" must be {_TYPES[type(default)]}', str(path))
    return given


_TYPES = {bool: "true or false", int: "a whole number", str: "a text", tuple: "a list of texts"}


def _of_text(variable: str, text: str, default: Any) -> Any:
    if isinstance(default, bool):
        if text.lower() not in ("true", "false", "1", "0"):
            raise bad_input(f'{variable} must be true or false, not "{text}"')
        return text.lower() in ("true", "1")
    if isinstance(default, int):
        if not text.isdigit():
            raise bad_input(f'{variable} must be a whole number, not "{text}"')
        return int(text)
    return tuple(filter(None, text.split(":"))) if isinstance(default, tuple) else text
