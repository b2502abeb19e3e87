"""Who may import whom. The direction is what keeps a room readable without its neighbours."""

from __future__ import annotations

from architecture.repository import modules, rooms

# From the ground up; a room may import what lies below its own layer, and never its siblings.
LAYERS = (
    ("base",),
    ("engine",),
    ("resources",),
    ("mesh",),
    ("envoy",),
    ("xds", "identity", "injection", "analysis", "observability"),
    ("admission", "controllers", "install", "agent"),
    ("console",),
    ("apps",),
    ("cli", "testing"),
)

# These stand beside the tower: what each may import, all told.
BESIDE = {
    "sources": {"base", "resources"},
    "capture": {"base"},
    "kubeapi": {"base"},
    "node": {"base", "resources", "sources", "capture"},
    # Programs that run in pods and know nothing of the mesh.
    "samples": set(),
}

# Who in the tower may import a room that stands beside it.
ENTRANCES = {
    "sources": {"controllers", "install", "console", "apps", "cli", "testing"},
    "capture": {"injection", "agent", "apps", "cli", "testing"},
    "kubeapi": {"apps", "cli", "testing"},
    "node": {"apps", "cli", "testing"},
    "samples": {"apps", "cli", "testing"},
}

# What the layers would allow and the rooms must not know all the same.
IGNORANT = {
    "engine": {"base"},
    "xds": {"mesh", "resources"},
    "identity": {"resources", "mesh", "envoy"},
    "agent": {"mesh"},
}

# Single modules of such rooms that are known all the same, with the reason.
WORDS: dict[tuple[str, str], str] = {}


def may_import() -> dict[str, set[str]]:
    allowed: dict[str, set[str]] = {}
    below: set[str] = set()
    for layer in LAYERS:
        for room in layer:
            beside = {other for other, users in ENTRANCES.items() if room in users}
            allowed[room] = (below | beside) - IGNORANT.get(room, set())
        below |= set(layer)
    return allowed | BESIDE


def test_every_room_has_its_place() -> None:
    assert set(rooms()) <= set(may_import()), "a new room needs a layer, here and in ARCHITECTURE.md"


def test_imports_point_down() -> None:
    allowed = may_import()
    wrong = [
        f"{module.name} imports {name}"
        for module in modules()
        for name in module.imports()
        if name.startswith("ostria.")
        and (room := name.split(".")[1]) != module.room
        and module.room
        and room not in allowed[module.room]
        and (module.room, name) not in WORDS
    ]
    assert wrong == []


def test_the_package_itself_imports_nothing() -> None:
    """What stands in `ostria/__init__.py` is paid for by every command at its start."""
    assert [name for module in modules() if module.name == "" for name in module.imports()] == []


def test_the_engine_is_one_module_to_the_others() -> None:
    wrong = [
        f"{module.name} imports {name}"
        for module in modules()
        if module.room != "engine"
        for name in module.imports()
        if name.startswith("ostria.engine.")
    ]
    assert wrong == []


def test_only_public_modules_are_imported_from_other_rooms() -> None:
    """A room's surface is its `__init__` and its modules; what lies deeper, or begins with `_`, is its own affair."""
    wrong = [
        f"{module.name} imports {name}"
        for module in modules()
        for name in module.imports()
        if name.startswith("ostria.")
        and name.split(".")[1] != module.room
        and (name.count(".") > 2 or any(part.startswith("_") for part in name.split(".")))
    ]
    assert wrong == []
