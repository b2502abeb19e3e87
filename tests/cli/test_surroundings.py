"""What leads to a mesh from elsewhere: a person's own kubeconfig, a shell, istioctl's command lines, completion."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from conftest import Golden
from ostria.apps import state
from ostria.cli import istioctl, kubeconfig, shell
from ostria.cli.errors import CliError, Exit
from ostria.cli.main import VERBS, Context, run
from ostria.cli.output import Output
from ostria.sources.kubeconfig import merged, without

MESH = """
apiVersion: v1
kind: Config
current-context: admin
clusters: [{name: local, cluster: {server: "https://127.0.0.1:41233", certificate-authority-data: Y2E=}}]
users: [{name: admin, user: {client-certificate-data: Y2VydA==, client-key-data: a2V5}}]
contexts: [{name: admin, context: {cluster: local, user: admin, namespace: default}}]
"""
THEIRS = """
apiVersion: v1
kind: Config
preferences: {colors: true}
current-context: work
clusters: [{name: work, cluster: {server: "https://work:6443"}}]
users: [{name: me, user: {token: secret}}]
contexts: [{name: work, context: {cluster: work, user: me}}]
"""
OPERATOR = """
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
spec:
  components: {cni: {enabled: true}}
"""


class Printed(NamedTuple):
    code: int
    stdout: str
    stderr: str


def typed(line: str, env: Mapping[str, str]) -> Printed:
    output = Output(io.StringIO(), io.StringIO(), io.StringIO(), env)
    try:
        code = run(line.split(), Context(env, output))
    except CliError as error:
        code = error.code
        output.progress(str(error))
    return Printed(code, output.stdout.getvalue(), output.stderr.getvalue())  # type: ignore[attr-defined]


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A home with the mesh `dev`."""
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "meshes"
    mesh = state.mesh(home, "dev")
    state.write(mesh, state.Record("dev", "run"))
    mesh.kubeconfig.write_text(MESH)
    return {"HOME": str(tmp_path), "OSTRIA_HOME": str(home), "PATH": os.environ["PATH"]}


# --- kubeconfig ---


def test_a_context_is_added_and_nothing_else_is_touched() -> None:
    after = yaml.safe_load(merged(THEIRS, MESH, "ostria-dev"))
    before = yaml.safe_load(THEIRS)
    assert after["current-context"] == "work"
    assert after["preferences"] == before["preferences"]
    for section in ("clusters", "users", "contexts"):
        assert after[section][:-1] == before[section]
        assert after[section][-1]["name"] == "ostria-dev"
    assert after["contexts"][-1]["context"] == {"cluster": "ostria-dev", "user": "ostria-dev", "namespace": "default"}
    assert yaml.safe_load(merged(THEIRS, MESH, "ostria-dev", use=True))["current-context"] == "ostria-dev"


def test_adding_twice_is_adding_once_and_removing_gives_back_what_was_there() -> None:
    once = merged(THEIRS, MESH, "ostria-dev")
    assert merged(once, MESH, "ostria-dev") == once
    back = without(once, "ostria-dev")
    assert back is not None
    assert yaml.safe_load(back) == yaml.safe_load(THEIRS)
    assert without(THEIRS, "ostria-dev") is None


@pytest.mark.parametrize("text", ["[]", "clusters: {a: 1}", "a: [", "clusters: [1]", "{}\n---\n{}"])
def test_what_is_no_kubeconfig_is_not_overwritten(env: dict[str, str], text: str) -> None:
    path = Path(env["HOME"]) / ".kube" / "config"
    path.parent.mkdir()
    path.write_text(text)
    found = typed("kubeconfig --merge", env)
    assert found.code == Exit.BAD_INPUT
    assert str(path) in found.stderr
    assert path.read_text() == text


def test_the_file_as_it_was_is_kept_and_its_mode_too(env: dict[str, str]) -> None:
    path = Path(env["HOME"]) / ".kube" / "config"
    path.parent.mkdir()
    path.write_text(THEIRS)
    path.chmod(0o640)
    assert typed("kubeconfig --merge --use", env).stdout == "ostria-dev\n"
    assert path.with_name("config.before-ostria").read_text() == THEIRS
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert yaml.safe_load(path.read_text())["current-context"] == "ostria-dev"
    assert kubeconfig.remove("dev", env) == path
    assert yaml.safe_load(path.read_text())["contexts"] == yaml.safe_load(THEIRS)["contexts"]
    assert kubeconfig.remove("dev", env) is None


def test_a_kubeconfig_is_made_where_there_is_none(env: dict[str, str]) -> None:
    assert typed("kubeconfig --merge", env).code == Exit.OK
    path = Path(env["HOME"]) / ".kube" / "config"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert yaml.safe_load(path.read_text())["current-context"] == "ostria-dev"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can write in another's home")
def test_under_sudo_nothing_in_the_callers_home_is_roots(env: dict[str, str], tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 1000, 1000)
    assert typed("kubeconfig --merge", {**env, "HOME": str(home)}).code == Exit.OK
    assert typed("kubeconfig --merge --use", {**env, "HOME": str(home)}).code == Exit.OK
    found = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in home.rglob("*")}
    assert found == dict.fromkeys((".kube", "config", "config.before-ostria"), (1000, 1000))


def test_without_flags_it_is_the_path(env: dict[str, str]) -> None:
    assert typed("kubeconfig", env).stdout == f"{env['OSTRIA_HOME']}/dev/kubeconfig\n"
    assert typed("kubeconfig --raw", env).stdout == MESH
    assert not (Path(env["HOME"]) / ".kube").exists()


# --- shell ---


def test_a_shell_means_the_mesh(env: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    found = typed("shell -- printenv KUBECONFIG OSTRIA_MESH", env)
    assert found.code == 0
    assert capfd.readouterr().out == f"{env['OSTRIA_HOME']}/dev/kubeconfig\ndev\n"
    assert typed("shell -- false", env).code == 1
    assert typed("shell -- no-such-program", env).code == Exit.UNAVAILABLE


def test_an_istioctl_is_put_on_the_path_unless_there_is_one(env: dict[str, str], tmp_path: Path) -> None:
    mesh = state.mesh(Path(env["OSTRIA_HOME"]), "dev")
    programs, ours = tmp_path / "programs", tmp_path / "ours"
    programs.mkdir()
    ours.mkdir()
    given = shell.environment(mesh, {"PATH": str(programs)}, ours)
    assert shutil.which("istioctl", path=given["PATH"]) == str(ours / "istioctl")
    said = subprocess.run([ours / "istioctl", "analyze"], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr.splitlines()[0]) == (
        Exit.UNAVAILABLE,
        "error: istioctl analyze is not there yet",
    )

    installed = programs / "istioctl"
    installed.write_text("#!/bin/sh\n")
    installed.chmod(0o755)
    (ours / "istioctl").unlink()
    given = shell.environment(mesh, {"PATH": str(programs)}, ours)
    assert shutil.which("istioctl", path=given["PATH"]) == str(installed)


@pytest.mark.parametrize("name", ["bash", "sh"])
def test_the_prompt_names_the_mesh(env: dict[str, str], tmp_path: Path, name: str) -> None:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"there is no {name}")
    mesh = state.mesh(Path(env["OSTRIA_HOME"]), "dev")
    inner = shell.environment(mesh, {**env, "SHELL": found}, tmp_path)
    command = shell._shell(mesh, inner, tmp_path)
    done = subprocess.run(command, input='echo "$PS1"', env=inner, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("(dev) ")


# --- istioctl ---


@pytest.mark.parametrize("name", istioctl.LATER)
def test_what_comes_later_says_so(env: dict[str, str], name: str) -> None:
    found = typed(f"istioctl {name} --whatever", env)
    assert found.code == Exit.UNAVAILABLE
    assert found.stderr.startswith(f"error: istioctl {name} is not there yet\n")


def test_what_istioctl_never_had_is_a_matter_of_usage(env: dict[str, str]) -> None:
    assert typed("istioctl frobnicate", env).code == Exit.USAGE
    assert typed("istioctl", env).code == Exit.USAGE


def test_every_verb_of_istioctls_leads_to_one_of_ours() -> None:
    assert set(istioctl.HERE.values()) <= set(VERBS)
    assert not set(istioctl.HERE) & set(istioctl.LATER)


def test_the_seeds_lines_mean_what_they_mean(env: dict[str, str]) -> None:
    """`istioctl install --set profile=demo -y` finds its mesh by OSTRIA_MESH, as `ostria shell` sets it."""
    found = typed("istioctl install --set profile=demo -y", {**env, "OSTRIA_MESH": "dev"})
    assert found.stderr.startswith("error: mesh dev does not run\n")
    found = typed("istioctl -i istio-system install --set profil=demo -y", {**env, "OSTRIA_MESH": "dev"})
    assert found.code == Exit.BAD_INPUT
    assert "--set profil=demo" in found.stderr
    assert typed("istioctl version --remote=false --short", env).code == Exit.OK


def test_manifests_are_generated_without_any_mesh(env: dict[str, str]) -> None:
    found = typed("istioctl manifest generate --set profile=demo", env)
    kinds = [document["kind"] for document in yaml.safe_load_all(found.stdout)]
    assert {"Namespace", "CustomResourceDefinition", "Deployment", "MutatingWebhookConfiguration"} <= set(kinds)
    assert kinds.index("Namespace") < kinds.index("Deployment")


# --- small ones ---


def test_documents_for_programs_name_their_version_and_kind(env: dict[str, str]) -> None:
    for line, kind in (
        ("version -o json", "Version"),
        ("config show -o json", "Configuration"),
        ("samples list -o json", "Samples"),
    ):
        document = json.loads(typed(line, env).stdout)
        assert (document["apiVersion"], document["kind"]) == ("ostria.dev/v1", kind)


def test_samples_are_listed_and_printed(env: dict[str, str]) -> None:
    path = typed("samples path bookinfo", env).stdout.strip()
    assert typed("samples print bookinfo", env).stdout == Path(path).read_text()
    assert "httpbin" in typed("samples", env).stdout
    assert typed("samples print bookinf", env).stderr.endswith("try: ostria samples print bookinfo\n")


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_completion_scripts_are_scripts(env: dict[str, str], tmp_path: Path, name: str) -> None:
    script = tmp_path / "script"
    script.write_text(typed(f"completion {name}", env).stdout)
    assert "proxy-config" in script.read_text()
    if shutil.which(name) is None:
        pytest.skip(f"there is no {name} to read it")
    assert subprocess.run([name, "-n", str(script)], capture_output=True, check=False).returncode == 0


def test_bash_completes_verbs_and_flags(env: dict[str, str], tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    script = tmp_path / "script"
    script.write_text(typed("completion bash", env).stdout)

    def completed(*words: str) -> str:
        line = f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _ostria; echo ${{COMPREPLY[@]}}"
        return subprocess.run([bash, "-c", f". {script}; {line}"], capture_output=True, text=True, check=True).stdout

    assert completed("ostria", "proxy-s").split() == ["proxy-status"]
    assert completed("ostria", "get", "--all").split() == ["--all-namespaces"]


def shape(value: object) -> object:
    """What programs rely on in a document: its fields and their types, not what they hold today."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return type(value).__name__


def test_fields_of_documents_are_only_added(env: dict[str, str], golden: Golden) -> None:
    """A diff that takes a field away, or changes its type, breaks somebody's script."""
    lines = ("version", "config show", "samples list", "doctor")
    shapes = {line: shape(json.loads(typed(f"{line} -o json", env).stdout)) for line in lines}
    golden.check(Path(__file__).parent / "goldens" / "documents.json", json.dumps(shapes, indent=2) + "\n")


def test_a_warning_about_values_is_told_once(env: dict[str, str], tmp_path: Path) -> None:
    """Istio has the field, and it has no effect here: `install` says so before it looks for the mesh."""
    path = tmp_path / "operator.yaml"
    path.write_text(OPERATOR)
    found = typed(f"install -f {path} -y", {**env, "OSTRIA_MESH": "dev"})
    assert found.stderr.count("Warning:") == 1
    assert f"{path}:5:16" in found.stderr
    assert "mesh dev does not run" in found.stderr
