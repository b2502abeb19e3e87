"""The pytest plugin: options, and the fixtures `ostria_mesh` and `ostria_live`.

Which files a mesh is made of is said in pytest's configuration (`ostria_files = manifests/`), on the command line
(`--ostria-files`), or by a fixture `ostria_files` of one's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ostria.testing.live import LiveMesh
    from ostria.testing.offline import Mesh

_HELP = "manifests that the mesh is made of: files and folders"


def pytest_addoption(parser: pytest.Parser) -> None:
    """What can be said of the meshes."""
    group = parser.getgroup("ostria", "a service mesh's configuration")
    group.addoption("--ostria-files", action="append", default=[], metavar="PATH", help=_HELP)
    group.addoption(
        "--ostria-require-live", action="store_true", help="fail, and do not skip, where no mesh can be started"
    )
    parser.addini("ostria_files", _HELP, type="paths", default=[])
    parser.addini("ostria_namespace", "for objects that name no namespace", default="default")


@pytest.fixture(scope="session")
def ostria_files(pytestconfig: pytest.Config) -> list[str]:
    """The files and folders of the mesh; define a fixture of this name to say others."""
    found = [*pytestconfig.getoption("--ostria-files"), *map(str, pytestconfig.getini("ostria_files"))]
    if not found:
        raise pytest.UsageError("which mesh? Say `ostria_files = manifests/` in pytest's configuration")
    return found


@pytest.fixture(scope="session")
def ostria_mesh(ostria_files: list[str], pytestconfig: pytest.Config) -> Mesh:
    """The mesh that the files come to, without running anything."""
    from ostria.testing.offline import Mesh

    return Mesh.of_paths(ostria_files, namespace=str(pytestconfig.getini("ostria_namespace")))


@pytest.fixture(scope="session")
def ostria_live(
    ostria_files: list[str], pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveMesh]:
    """A real mesh with these files applied, one for each worker. Skips where this machine can run none."""
    from ostria.testing.live import LiveMesh, NotFit

    namespace = str(pytestconfig.getini("ostria_namespace"))
    try:
        with LiveMesh.started(ostria_files, namespace=namespace) as mesh:
            yield mesh
    except NotFit as error:
        if pytestconfig.getoption("--ostria-require-live"):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
