"""The init step that injection writes into a pod redirects the pod's traffic."""

from __future__ import annotations

import socket

import pytest

from doubles import netns
from ostria.agent.main import main
from ostria.injection import Settings, inject


def init_step(settings: Settings) -> list[str]:
    injection = inject({"spec": {"containers": [{"name": "shop"}]}}, "default", settings)
    assert injection.pod
    step = injection.pod["spec"]["initContainers"][0]
    assert step["name"] == "istio-init"
    arguments: list[str] = step["args"]
    return arguments


# What runs in the namespaces.


def calls_reach_the_proxy(arguments: list[str]) -> list[str]:
    pod, peer = netns.pair()
    with pod.entered():
        assert main(arguments, {}) == 0
        assert main(arguments, {}) == 0, "the step may run again"
        listener = socket.create_server(("::", 15001), family=socket.AF_INET6, dualstack_ipv6=True)
        listener.settimeout(10)
        answers = []
        for address in peer.addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family) as caller:
                caller.settimeout(10)
                caller.connect((address, 80))
                connection, origin = listener.accept()
                connection.close()
                answers.append(origin[0])
    return answers


@netns.Users
def test_the_pods_calls_reach_its_proxy(ordinary: bool) -> None:
    answers = netns.run(calls_reach_the_proxy, init_step(Settings()), ordinary=ordinary)
    assert len(answers) == 2


def test_wrong_options_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["istio-iptables", "--unknown", "1"], {}) == 64
    assert "--unknown" in capsys.readouterr().err


def test_a_plugins_redirection_is_left_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["istio-iptables", "-p", "15001", "--run-validation", "--skip-rule-apply"], {}) == 0
    assert "plugin" in capsys.readouterr().err
