"""The samples' services answer as people know them, over real sockets."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import socket
import threading
from collections.abc import Iterator, Mapping

import pytest

from ostria.samples import curl, details, helloworld, httpbin, nc, productpage, ratings, reviews, tcp_echo
from ostria.samples.web import Routes, server


@contextlib.contextmanager
def running(routes: Routes) -> Iterator[int]:
    """A service on a free port."""
    with server(0, routes, "sample") as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield found.server_address[1]
        found.shutdown()
        thread.join()


def ask(
    port: int, path: str, method: str = "GET", body: str | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path, body=body, headers=dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.read().decode(), {k.lower(): v for k, v in response.getheaders()}


@contextlib.contextmanager
def bookinfo(version: str | None) -> Iterator[int]:
    """The product page with all that is behind it; without a version, reviews are gone."""
    with contextlib.ExitStack() as stack:
        environ = {"HOSTNAME": "pod-1"}
        stack.enter_context(_place("details", details.routes(environ), environ))
        stack.enter_context(_place("ratings", ratings.routes(environ), environ))
        if version:
            stack.enter_context(_place("reviews", reviews.routes(environ, version), environ))
        else:
            with socket.socket() as gone:
                gone.bind(("127.0.0.1", 0))
                environ |= {"REVIEWS_HOSTNAME": "127.0.0.1", "REVIEWS_SERVICE_PORT": str(gone.getsockname()[1])}
        yield stack.enter_context(running(productpage.routes(environ)))


@contextlib.contextmanager
def _place(name: str, routes: Routes, environ: dict[str, str]) -> Iterator[None]:
    with running(routes) as port:
        environ |= {f"{name.upper()}_HOSTNAME": "127.0.0.1", f"{name.upper()}_SERVICE_PORT": str(port)}
        yield


@pytest.mark.parametrize(("version", "stars"), [("v1", 0), ("v2", 9), ("v3", 9)])
def test_the_page_shows_the_stars_of_the_version_that_serves_reviews(version: str, stars: int):
    with bookinfo(version) as port:
        status, page, _ = ask(port, "/productpage")
    assert status == 200
    assert "<title>Simple Bookstore App</title>" in page
    assert page.count("★") == stars
    assert "1234567890" in page
    assert ("#ba2525" in page) is (version == "v3")


def test_the_page_says_so_when_reviews_are_gone():
    with bookinfo(None) as port:
        status, page, _ = ask(port, "/productpage")
    assert status == 200
    assert "Error fetching product reviews!" in page
    assert "Book Details" in page


def test_who_signs_in_is_handed_on_as_end_user():
    seen: list[str] = []
    routes = reviews.routes({}, "v1")

    def noting(request):  # type: ignore[no-untyped-def]
        seen.append(request.header("end-user"))
        return routes[1][2](request)

    with running((("GET", "/reviews/(.*)", noting),)) as behind:
        environ = {
            "REVIEWS_HOSTNAME": "127.0.0.1",
            "REVIEWS_SERVICE_PORT": str(behind),
            "DETAILS_HOSTNAME": "127.0.0.1",
        }
        with running(productpage.routes(environ)) as port:
            status, _, headers = ask(port, "/login", "POST", "username=jason&passwd=")
            assert (status, headers["location"]) == (302, "/productpage")
            _, page, _ = ask(port, "/productpage", headers={"cookie": headers["set-cookie"].partition(";")[0]})
    assert seen == ["jason"]
    assert "jason" in page


def test_what_a_user_is_called_is_no_html():
    with bookinfo("v1") as port:
        _, page, _ = ask(port, "/productpage", headers={"cookie": "session-user=%3Cscript%3E"})
    assert "<script>" not in page


def test_ratings_can_be_changed():
    with running(ratings.routes({})) as port:
        assert json.loads(ask(port, "/ratings/0")[1])["ratings"] == {"Reviewer1": 5, "Reviewer2": 4}
        assert ask(port, "/ratings/0", "POST", '{"Reviewer1": 1}')[0] == 200
        assert json.loads(ask(port, "/ratings/0")[1])["ratings"] == {"Reviewer1": 1}
        assert ask(port, "/ratings/0", "POST", "[]")[0] == 400
        assert ask(port, "/ratings/x")[0] == 400


def test_reviews_say_when_ratings_are_gone():
    with running(reviews.routes({"RATINGS_HOSTNAME": "127.0.0.1", "RATINGS_SERVICE_PORT": "1"}, "v2")) as port:
        found = json.loads(ask(port, "/reviews/0")[1])["reviews"]
    assert [opinion["rating"] for opinion in found] == [{"error": "Ratings service is currently unavailable"}] * 2


def test_helloworld_names_its_version_and_pod():
    with running(helloworld.routes({"HOSTNAME": "pod-1"}, "v2")) as port:
        assert ask(port, "/hello")[1] == "Hello version: v2, instance: pod-1\n"


def test_httpbin_shows_what_the_caller_sent():
    with running(httpbin.routes({})) as port:
        found = json.loads(
            ask(port, "/anything/x?a=1&a=2", "POST", '{"k": 1}', {"content-type": "application/json"})[1]
        )
        assert (found["args"], found["json"], found["method"]) == ({"a": ["1", "2"]}, {"k": 1}, "POST")
        assert found["url"].endswith("/anything/x?a=1&a=2")
        assert ask(port, "/status/418")[0] == 418
        assert ask(port, "/status/nonsense")[0] == 400
        assert ask(port, "/response-headers?x-a=1")[2]["x-a"] == "1"
        assert ask(port, "/redirect/2")[2]["location"] == "/redirect/1"
        assert ask(port, "/nowhere")[0] == 404
        assert "X-Custom" in json.loads(ask(port, "/headers", headers={"x-custom": "1"})[1])["headers"]


def test_a_body_may_come_in_chunks():
    with running(httpbin.routes({})) as port, socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(b"POST /post HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n")
        raw.sendall(b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\ntrailer: 1\r\n\r\n")
        answer = raw.makefile("rb").read()
    assert b'"data": "abcde"' in answer


def test_tcp_echo_puts_a_word_before_each_line():
    with tcp_echo.server(0, "hello") as echo:
        threading.Thread(target=echo.serve_forever, args=(0.01,), daemon=True).start()
        with socket.create_connection(("127.0.0.1", echo.server_address[1])) as raw:
            raw.sendall(b"world\nagain\n")
            raw.shutdown(socket.SHUT_WR)
            assert raw.makefile("rb").read() == b"hello world\nhello again\n"
        echo.shutdown()


def run_curl(*arguments: str) -> tuple[int, str, str]:
    out, log = io.BytesIO(), io.BytesIO()
    code = curl.run(arguments, out, log)
    return code, out.getvalue().decode(), log.getvalue().decode()


def test_curl_does_what_the_instructions_ask_of_it():
    with running(httpbin.routes({})) as port:
        at = f"127.0.0.1:{port}"
        assert json.loads(run_curl("-sS", f"{at}/get")[1])["method"] == "GET"
        assert run_curl("-s", "-o", "/dev/null", "-w", "%{http_code}\\n", f"http://{at}/status/503") == (0, "503\n", "")
        assert run_curl("-sI", f"{at}/get")[1].startswith("HTTP/1.1 200")
        assert json.loads(run_curl("-s", "-H", "X-A: 1", "-H", "Accept:", f"{at}/headers")[1])["headers"]["X-A"] == [
            "1"
        ]
        assert json.loads(run_curl("-s", "-d", "a=1", f"{at}/post")[1])["form"] == {"a": ["1"]}
        assert json.loads(run_curl("-sL", f"{at}/redirect/3")[1])["url"].endswith("/get")
        assert run_curl("-sf", f"{at}/status/404")[0] == 22
        assert run_curl("-s", "-m", "0.2", f"{at}/delay/5")[0] == 28


def test_curl_fails_as_curl_does():
    with socket.socket() as gone:
        gone.bind(("127.0.0.1", 0))
        port = gone.getsockname()[1]
    code, _, said = run_curl("-sS", f"127.0.0.1:{port}")
    assert (code, said.startswith("curl: (7)")) == (7, True)
    assert run_curl("-s", f"127.0.0.1:{port}")[2] == ""
    assert run_curl("-s", "ftp://127.0.0.1")[0] == 3


def run_nc(port: int, *options: str, said: bytes = b"") -> tuple[int, bytes]:
    out = io.BytesIO()
    return nc.main([*options, "127.0.0.1", str(port)], io.BufferedReader(io.BytesIO(said)), out), out.getvalue()


def test_nc_sends_what_it_reads_and_writes_what_comes_back():
    with tcp_echo.server(0, "hello") as echo:
        threading.Thread(target=echo.serve_forever, args=(0.01,), daemon=True).start()
        port = echo.server_address[1]
        assert run_nc(port, "-w", "5", said=b"world\nagain\n") == (0, b"hello world\nhello again\n")
        assert run_nc(port, "-z") == (0, b"")
        echo.shutdown()
    assert run_nc(port, "-w", "5")[0] == 1
