"""Many calls of one URL: what came of them is counted, failures too."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator

import pytest

from ostria.samples import calls


class _Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        code = 418 if self.headers.get("tea") == "yes" else 200
        self.send_response(code)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/a?b=c"
        server.shutdown()


def test_every_call_is_counted_once(capsys: pytest.CaptureFixture[str]) -> None:
    with serving() as url:
        assert calls.main(["-n", "50", "-c", "4", "-X", "POST", "-H", "tea: yes", url], {}) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["statuses"] == {"418": 50}
    assert found["failures"] == {}
    assert 0 < found["p50"] <= found["p99"] <= found["max"]


def test_a_call_without_an_answer_is_told_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    with serving() as url:
        pass
    assert calls.main(["-n", "3", url], {}) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["statuses"] == {}
    assert sum(found["failures"].values()) == 3
    assert "refused" in next(iter(found["failures"]))
