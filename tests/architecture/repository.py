"""The repository as the architecture tests see it: modules parsed, files tracked."""

from __future__ import annotations

import ast
import functools
import pathlib
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[2]
SOURCE = ROOT / "src" / "ostria"


class Module(NamedTuple):
    """One module of the package: `name` without the leading `ostria.` ("" for the package itself)."""

    name: str
    path: pathlib.Path
    tree: ast.Module

    @property
    def room(self) -> str:
        return self.name.partition(".")[0]

    def imports(self) -> Iterator[str]:
        """Every module that is imported, wherever the statement stands (TYPE_CHECKING blocks and functions too)."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.path}:{node.lineno}: imports are absolute"
                # `from ostria.engine import core` imports a module, `from ostria.engine import Engine` does not.
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    yield full if full.removeprefix("ostria.") in module_names() else node.module or ""


@functools.cache
def modules() -> tuple[Module, ...]:
    """The modules that git knows: what somebody is still writing is judged when it is committed."""
    found = []
    for path in sorted(path for path in tracked() if path.is_relative_to(SOURCE) and path.suffix == ".py"):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append(Module(name, path, ast.parse(path.read_text())))
    return tuple(found)


@functools.cache
def module_names() -> frozenset[str]:
    return frozenset(module.name for module in modules())


@functools.cache
def rooms() -> tuple[str, ...]:
    return tuple(sorted({module.room for module in modules()} - {""}))


@functools.cache
def tracked() -> tuple[pathlib.Path, ...]:
    """The files that git knows, as they are now; without git, all that is not made."""
    # A checkout may belong to another user than the one who tests it.
    listing = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    try:
        listed = subprocess.run(listing, cwd=ROOT, capture_output=True, check=True, text=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        found = (path.relative_to(ROOT) for path in ROOT.rglob("*"))
        made = ("__pycache__", "node_modules", "dist")
        listed = [str(path) for path in found if not any(part in made or part.startswith(".") for part in path.parts)]
    return tuple(path for name in sorted(listed) if name and (path := ROOT / name).is_file())


def text_of(path: pathlib.Path) -> str:
    """The text of a file; "" of one that holds none."""
    try:
        return path.read_text()
    except UnicodeDecodeError:
        return ""


def shown(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))
