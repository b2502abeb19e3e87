"""What `ostria run` asks the API for."""

from __future__ import annotations

from pathlib import Path

from ostria.cli.main import load, parser
from ostria.cli.run import manifests


def test_a_program_sees_its_folder_and_environment_and_no_expansion_happens_to_it() -> None:
    env = {"PATH": "/bin", "PRICE": "$(5)", "bad-name": "x", "KUBECONFIG": "/secret"}
    service, deployment = manifests("shop", "v2", 8000, ["sh", "-c", "echo $(date)"], Path("/work/shop"), env)
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert container["command"] == ["sh", "-c", "echo $$(date)"]
    assert container["env"] == [{"name": "PATH", "value": "/bin"}, {"name": "PRICE", "value": "$$(5)"}]
    assert container["workingDir"] == pod["spec"]["volumes"][0]["hostPath"]["path"] == "/work/shop"
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert deployment["spec"]["selector"]["matchLabels"] == pod["metadata"]["labels"]


def test_versions_share_a_service_and_nothing_else() -> None:
    (one, first), (two, second) = (manifests("shop", version, 80, ["a"], Path("/"), {}) for version in ("v1", "v2"))
    assert one == two
    assert first["metadata"]["name"] != second["metadata"]["name"]


def test_flags_stand_before_the_program_and_the_rest_is_its_own() -> None:
    line = ["hello", "--port", "8000", "--", "python3", "-m", "http.server", "--port", "1"]
    args = parser("run", load("run")).parse_args(line)
    assert (args.name, args.port) == ("hello", 8000)
    assert args.command[-5:] == ["python3", "-m", "http.server", "--port", "1"]
