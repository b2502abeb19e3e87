"""Which mesh a command is about, and where settings come from."""

from __future__ import annotations

import argparse
import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostria.apps import state
from ostria.apps.state import Record
from ostria.cli import configuration, targets
from ostria.cli.errors import CliError, Exit
from ostria.cli.main import Context
from ostria.cli.output import Output

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: prod
clusters:
- name: one
  cluster: {server: "https://prod.example:6443"}
- name: two
  cluster: {server: "https://stage.example:6443"}
contexts:
- name: prod
  context: {cluster: one, user: me}
- name: stage
  context: {cluster: two, user: me}
users:
- name: me
  user: {token: secret}
"""


class World:
    """A home with local meshes, some of which run, and a person's kubeconfig."""

    def __init__(self, folder: Path) -> None:
        self.env = {"HOME": str(folder), "OSTRIA_HOME": str(folder / "ostria")}
        self.home = folder / "ostria"
        self._held: list[int] = []
        (folder / ".kube").mkdir()
        (folder / ".kube" / "config").write_text(KUBECONFIG)
        self.output = Output(io.StringIO(), io.StringIO(), io.StringIO(), self.env)

    def mesh(self, name: str, *, runs: bool) -> None:
        mesh = state.mesh(self.home, name)
        state.write(mesh, Record(name, str(mesh.folder / "run")))
        mesh.kubeconfig.write_text(KUBECONFIG.replace("prod.example", f"{name}.local"))
        if runs:
            held = state.hold(mesh)
            assert held is not None
            self._held.append(held)

    def find(self, line: str = "", **env: str) -> str:
        parser = argparse.ArgumentParser()
        targets.add_arguments(parser)
        context = Context({**self.env, **env}, self.output)
        return targets.find(parser.parse_args(line.split()), context).title

    def refused(self, line: str = "", **env: str) -> CliError:
        with pytest.raises(CliError) as refused:
            self.find(line, **env)
        return refused.value

    def close(self) -> None:
        for descriptor in self._held:
            os.close(descriptor)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.chdir(tmp_path)
    made = World(tmp_path)
    yield made
    made.close()


def test_the_one_mesh_that_runs_is_meant(world: World) -> None:
    world.mesh("dev", runs=True)
    world.mesh("old", runs=False)
    assert world.find() == "mesh dev (https://dev.local:6443)"


def test_a_name_counts_more_than_what_runs_and_a_context_more_than_a_name(world: World) -> None:
    world.mesh("dev", runs=True)
    world.mesh("test", runs=True)
    assert world.find("--mesh test") == "mesh test (https://test.local:6443)"
    assert world.find(OSTRIA_MESH="test") == "mesh test (https://test.local:6443)"
    assert world.find("--mesh dev", OSTRIA_MESH="test") == "mesh dev (https://dev.local:6443)"
    assert world.find("--context stage", OSTRIA_MESH="test") == "context stage (https://stage.example:6443)"


def test_a_named_kubeconfig_means_its_current_context(world: World) -> None:
    path = world.home.parent / ".kube" / "config"
    assert world.find(f"--kubeconfig {path}") == "context prod (https://prod.example:6443)"


def test_the_persons_current_context_is_never_taken_by_itself(world: World) -> None:
    error = world.refused()
    assert error.code == Exit.UNAVAILABLE
    assert error.what == "no mesh runs on this machine"
    assert error.hint == "ostria up | --context prod | --context stage"


def test_of_several_meshes_the_choices_are_listed(world: World) -> None:
    world.mesh("dev", runs=True)
    world.mesh("test", runs=True)
    error = world.refused()
    assert error.what == "which mesh? 2 run on this machine"
    assert error.hint == "--mesh dev | --mesh test | --context prod | --context stage"


def test_a_mesh_that_does_not_run_is_told_from_one_that_is_not_there(world: World) -> None:
    world.mesh("dev", runs=False)
    assert world.refused("--mesh dev").what == "mesh dev does not run"
    assert world.refused("--mesh other").what == "there is no mesh other"


def test_settings_come_from_the_nearest_word(tmp_path: Path) -> None:
    user, project = tmp_path / "user", tmp_path / "project" / "deep"
    user.mkdir()
    project.mkdir(parents=True)
    (user / "config.toml").write_text('profile = "minimal"\nmesh = "mine"\ngateway-port = 1\n')
    (tmp_path / "project" / "ostria.toml").write_text('mesh = "ours"\ngateway-port = 2\nimages = ["images.yaml"]\n')
    found = configuration.resolve(
        {"gateway-port": 4}, {"OSTRIA_GATEWAY_PORT": "3", "OSTRIA_STRICT_PORTS": "true"}, project, user
    )
    assert {name: tuple(value) for name, value in found.items()} == {
        "mesh": ("ours", str(tmp_path / "project" / "ostria.toml")),
        "profile": ("minimal", str(user / "config.toml")),
        "gateway-port": (4, "--gateway-port"),
        "gateway-tls-port": (8443, "default"),
        "strict-ports": (True, "OSTRIA_STRICT_PORTS"),
        "images": ((str(tmp_path / "project" / "images.yaml"),), str(tmp_path / "project" / "ostria.toml")),
        "allow-host": (False, "default"),
        "log": ("info", "default"),
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('profil = "demo"', 'there is no setting "profil"'),
        ('gateway-port = "8080"', '"gateway-port" must be a whole number'),
        ("strict-ports = 1", '"strict-ports" must be true or false'),
        ('images = ["a", 1]', '"images" must be a list of texts'),
        ("= 1", "the configuration cannot be read"),
    ],
)
def test_a_bad_configuration_is_told_with_its_file(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(CliError) as refused:
        configuration.resolve({}, {}, tmp_path / "none", tmp_path)
    assert words in refused.value.what
    assert refused.value.where == str(tmp_path / "config.toml")
    assert refused.value.code == Exit.BAD_INPUT


@pytest.mark.parametrize("env", [{"OSTRIA_GATEWAY_PORT": "http"}, {"OSTRIA_STRICT_PORTS": "maybe"}])
def test_a_variable_of_the_wrong_type_is_told(tmp_path: Path, env: dict[str, str]) -> None:
    with pytest.raises(CliError, match=next(iter(env))):
        configuration.resolve({}, env, tmp_path, tmp_path)
