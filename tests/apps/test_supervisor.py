"""The supervisor keeps processes running: small ones stand in for the API server and the node."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostria.apps import state, supervisor

BOUND = 20.0

# Serves the number of its start on the descriptor that it is given, as the API server does HTTPS.
APISERVER = """
import os, socket, sys, time
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
folder = words["--state"]
os.makedirs(folder, exist_ok=True)
listening = socket.socket(fileno=int(words["--listen"].removeprefix("fd:")))
with open(folder + "/starts", "a") as file: file.write("%d\\n" % os.getpid())
if os.path.exists(folder + "/refuse"): sys.exit(int(open(folder + "/refuse").read()))
os.write(int(words["--ready-fd"]), b"ready\\n")
while True:
    peer, _ = listening.accept()
    peer.sendall(b"%d" % os.getpid())
    peer.close()
"""

NODE = """
import os, sys, time
folder = sys.argv[sys.argv.index("--state") + 1]
os.makedirs(folder, exist_ok=True)
with open(folder + "/starts", "a") as file: file.write("%d\\n" % os.getpid())
time.sleep(1000)
"""

FOLLOW = NODE.replace('+ "/starts"', '+ "/follows"')


class Meshlet:
    """A mesh of small processes."""

    def __init__(self, folder: Path) -> None:
        self.mesh = state.Mesh("small", folder / "small")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.remember()
        packages = folder / "packages" / "ostria"
        (packages / "apps").mkdir(parents=True)
        # Found in place of the real ones, of which everything else is taken.
        for name, text in (("apiserver", APISERVER), ("node", NODE), ("follow", FOLLOW)):
            (folder / f"{name}.py").write_text(text)
        self._folder = folder
        self._started: list[subprocess.Popen[bytes]] = []

    def remember(self, *follow: str) -> None:
        state.write(
            self.mesh, state.Record("small", str(self.mesh.folder / "run"), {"api": self.port}, {"follow": follow})
        )

    def start(self) -> subprocess.Popen[bytes]:
        program = (
            "import sys; from ostria.apps import supervisor\n"
            f"supervisor.python = lambda module, *words: (sys.executable, {str(self._folder)!r} + '/' "
            "+ module.rpartition('.')[2] + '.py', *words, module)\n"
            f"sys.exit(supervisor.main(['--state', {str(self.mesh.folder)!r}]))"
        )
        process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
        self._started.append(process)
        return process

    def ask(self) -> int:
        """Which process answers; a connection waits until one does."""
        with socket.create_connection(("127.0.0.1", self.port), BOUND) as peer:
            peer.settimeout(BOUND)
            return int(peer.recv(100) or 0)

    def starts(self, name: str) -> list[int]:
        file = {"apiserver": self.mesh.apiserver, "node": self.mesh.node}.get(name, self.mesh.folder) / (
            "follows" if name == "follow" else "starts"
        )
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def wait_start(self, name: str, count: int) -> int:
        """Wait until it has been started so many times; the last one's process id."""
        wait_until(lambda: len(self.starts(name)) >= count)
        return self.starts(name)[-1]

    def close(self) -> None:
        for process in self._started:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()
        for name in ("apiserver", "node", "follow"):
            for pid in self.starts(name):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def wait_until(holds: object) -> None:
    until = time.monotonic() + BOUND
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < until, "it does not come about"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Meshlet]:
    meshlet = Meshlet(tmp_path)
    yield meshlet
    meshlet.close()


def test_the_node_is_started_once_the_api_serves_and_all_end_with_the_supervisor(small: Meshlet) -> None:
    process = small.start()
    api, node = small.wait_start("apiserver", 1), small.wait_start("node", 1)
    assert small.ask() == api
    assert state.holder(small.mesh) == process.pid
    process.terminate()
    assert process.wait(BOUND) == 0
    assert not is_alive(api)
    assert not is_alive(node)
    assert state.holder(small.mesh) is None


def test_no_connection_is_refused_while_the_api_server_is_started_again(small: Meshlet) -> None:
    small.start()
    node = small.wait_start("node", 1)
    before = small.ask()
    os.kill(before, signal.SIGKILL)
    # A process that is dying may still take a connection, and nobody can give that one back.
    wait_until(lambda: not Path(f"/proc/{before}").exists())
    after = small.ask()
    assert after not in (0, before)
    assert is_alive(node)


def test_a_node_that_died_is_started_again_and_the_api_goes_on(small: Meshlet) -> None:
    small.start()
    first = small.wait_start("node", 1)
    api = small.ask()
    os.kill(first, signal.SIGKILL)
    assert small.wait_start("node", 2) != first
    assert small.ask() == api


def test_a_child_that_says_that_it_cannot_run_here_ends_the_mesh_with_its_code(small: Meshlet) -> None:
    small.mesh.apiserver.mkdir(parents=True)
    (small.mesh.apiserver / "refuse").write_text("69")
    assert small.start().wait(BOUND) == 69
    assert len(small.starts("apiserver")) == 1


def test_what_a_killed_supervisor_leaves_is_ended_by_the_next_one(small: Meshlet) -> None:
    first = small.start()
    api, node = small.wait_start("apiserver", 1), small.wait_start("node", 1)
    first.kill()
    first.wait()
    assert is_alive(node), "it goes on without its supervisor"
    small.start()
    small.wait_start("node", 2)
    assert not is_alive(api)
    assert not is_alive(node)
    assert small.ask() == small.starts("apiserver")[-1]


def test_a_mesh_has_one_supervisor(small: Meshlet) -> None:
    small.start()
    node = small.wait_start("node", 1)
    assert small.start().wait(BOUND) == 1
    assert is_alive(node)
    assert len(small.starts("node")) == 1


def test_folders_are_followed_from_when_the_record_names_them(small: Meshlet) -> None:
    process = small.start()
    small.wait_start("node", 1)
    assert small.starts("follow") == []
    small.remember("/some/folder")
    process.send_signal(signal.SIGHUP)
    first = small.wait_start("follow", 1)
    small.remember("/another/folder")
    process.send_signal(signal.SIGHUP)
    assert small.wait_start("follow", 2) != first


def test_a_node_whose_settings_have_changed_is_started_again(small: Meshlet) -> None:
    process = small.start()
    first = small.wait_start("node", 1)
    record = state.read(small.mesh)
    assert record is not None
    state.write(small.mesh, record._replace(settings={**record.settings, "shared-paths": ["/some/folder"]}))
    process.send_signal(signal.SIGHUP)
    assert small.wait_start("node", 2) != first
    assert len(small.starts("apiserver")) == 1


def test_what_a_person_has_set_comes_to_the_node(tmp_path: Path) -> None:
    mesh = state.Mesh("one", tmp_path / "one")
    settings = {"images": ["/a.yaml"], "allow-host": True, "shared-paths": ["/work"]}
    command = supervisor.node(mesh, state.Record("one", "/run", {"gateway": 9080, "api": 1}, settings)).command
    for words in (
        ["--gateway-ports", "80:9080"],
        ["--images", "/a.yaml"],
        ["--shared-path", "/work"],
        ["--allow-host"],
    ):
        at = command.index(words[0])
        assert list(command[at : at + len(words)]) == words
    assert "--strict-ports" not in command
