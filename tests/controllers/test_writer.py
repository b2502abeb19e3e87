"""Writing by key: what each place takes, and how it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from doubles.kube_api import KubeApi
from doubles.source_rigs import QUICK, running
from ostria.base import ObjectKey
from ostria.controllers.writer import FolderWriter, KubernetesWriter, MemoryWriter, WriteError, Writer
from ostria.sources import MemorySource
from ostria.sources.api import Api
from ostria.sources.folder import FolderSource

KEY = ObjectKey("", "ConfigMap", "default", "a")
DOCUMENT = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "a", "namespace": "default"},
    "data": {"v": "1"},
}


async def check(writer: Writer, data: object) -> None:
    await writer.create(KEY, DOCUMENT)
    assert data() == {"v": "1"}  # type: ignore[operator]
    with pytest.raises(WriteError) as refused:
        await writer.create(KEY, DOCUMENT)
    assert refused.value.status == 409
    await writer.patch(KEY, {"data": {"v": None, "w": "2"}})
    assert data() == {"w": "2"}  # type: ignore[operator]
    await writer.update(KEY, DOCUMENT)
    assert data() == {"v": "1"}  # type: ignore[operator]
    await writer.delete(KEY)
    for write in (writer.delete(KEY), writer.patch(KEY, {}), writer.update(KEY, DOCUMENT)):
        with pytest.raises(WriteError) as refused:
            await write
        assert refused.value.status == 404


async def test_a_memory_takes_writes() -> None:
    memory = MemorySource()
    await check(MemoryWriter(memory), lambda: memory.document(KEY)["data"])


async def test_a_kubernetes_api_takes_writes() -> None:
    async with KubeApi().serve() as server, Api(server.access()) as api:
        await check(KubernetesWriter(api), lambda: server.objects[KEY]["data"])


async def test_an_api_that_cannot_be_reached_is_status_0() -> None:
    server = KubeApi()
    async with server.serve():
        access = server.access()
    async with Api(access) as api:
        with pytest.raises(WriteError) as refused:
            await KubernetesWriter(api).delete(KEY)
        assert refused.value.status == 0


async def test_the_files_of_a_folder_are_never_written(tmp_path: Path) -> None:
    files = tmp_path / "mesh"
    files.mkdir()
    path = files / "a.yaml"
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"
    path.write_text(text)
    source = FolderSource([files], annotations=tmp_path / "state.json", pace=QUICK)
    writer = FolderWriter(source)
    async with running(source) as mesh:
        for write in (
            writer.create(KEY, {}),
            writer.update(KEY, {}),
            writer.delete(KEY),
            writer.patch(KEY, {"data": {}}),
        ):
            with pytest.raises(WriteError) as refused:
                await write
            assert refused.value.status == 405
        await writer.patch(KEY, {"metadata": {"annotations": {"x": "y"}}})
        await mesh.until(lambda: mesh.objects()[KEY].metadata.annotations == {"x": "y"})
    assert path.read_text() == text
    again = FolderSource([files], annotations=tmp_path / "state.json", pace=QUICK)
    async with running(again) as mesh:
        assert mesh.objects()[KEY].metadata.annotations == {"x": "y"}
        path.unlink()
        await mesh.until(lambda: not mesh.objects())
    assert "ConfigMap" not in (tmp_path / "state.json").read_text()


async def test_a_spoilt_annotation_file_is_begun_anew_and_a_newer_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text("{half")
    FolderSource([tmp_path / "mesh"], annotations=path)
    path.write_text('{"schema": 99, "objects": []}')
    with pytest.raises(ValueError, match="newer"):
        FolderSource([tmp_path / "mesh"], annotations=path)
