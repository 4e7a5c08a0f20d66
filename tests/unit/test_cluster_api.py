"""The API of a cluster: what is asked comes back as JSON, and what goes wrong as an error of ours."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from breakfix.cluster import api as cluster_api
from breakfix.cluster.api import Api, Refused
from breakfix.errors import HostUnreachable, ProbeFailed

if TYPE_CHECKING:
    from collections.abc import Iterator


class Server(ThreadingHTTPServer):
    """Answers from a table of paths, and notes what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, tuple[int, Any]] = {}
        self.asked: list[tuple[str, str, dict[str, list[str]], str, Any]] = []
        self.pages: list[list[str]] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        query = parse_qs(parts.query)
        kind = self.headers.get("Content-Type") or ""
        self.server.asked.append((self.command, parts.path, query, kind, json.loads(body) if body else None))
        status, content = self.server.answers.get(parts.path, (404, {"kind": "Status", "message": "not found"}))
        if parts.path == "/pages":
            number = int(query.get("continue", ["0"])[0])
            more = str(number + 1) if number + 1 < len(self.server.pages) else ""
            items = [{"metadata": {"name": name}} for name in self.server.pages[number]]
            status, content = 200, {"metadata": {"continue": more}, "items": items}
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def config(port: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "clusters": [{"name": "x", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "x", "user": {"token": "t0ken"}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
    }


@pytest.fixture
def api(server: Server) -> Api:
    return Api(config(server.server_address[1]), "toy")


def test_an_object_comes_back_as_it_is_with_its_nulls(api: Api, server: Server) -> None:
    odd = {"metadata": {"name": "a", "labels": None}, "spec": None, "status": {"conditions": [None]}}
    server.answers["/api/v1/pods/a"] = (200, odd)
    assert api.get("/api/v1/pods/a") == odd


def test_what_is_not_there_is_none(api: Api) -> None:
    assert api.get("/api/v1/pods/nobody") is None


@pytest.mark.parametrize(("status", "content"), [(403, {"message": "no"}), (500, b"broken"), (503, b"")])
def test_a_refusal_carries_its_code(api: Api, server: Server, status: int, content: object) -> None:
    server.answers["/x"] = (status, content)
    with pytest.raises(Refused) as caught:
        api.get("/x")
    assert caught.value.code == status
    assert isinstance(caught.value, ProbeFailed)


def test_an_answer_that_is_no_object_is_trouble_of_ours(api: Api, server: Server) -> None:
    server.answers["/x"] = (200, [1])
    with pytest.raises(ProbeFailed):
        api.get("/x")


def test_a_server_that_is_not_there_is_unreachable() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as gone:
        port = gone.server_address[1]
    with pytest.raises(HostUnreachable, match="toy"):
        Api(config(port), "toy").get("/x")


def test_a_server_that_says_nothing_is_unreachable_in_time(
    api: Api, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_api, "DEADLINE", 0.3)
    ended = threading.Event()
    monkeypatch.setattr(Handler, "do_GET", lambda _: ended.wait(5))
    with pytest.raises(HostUnreachable):
        api.get("/x")
    ended.set()


def test_a_list_is_read_page_by_page(api: Api, server: Server) -> None:
    server.pages = [["a", "b"], ["c"], []]
    assert [one["metadata"]["name"] for one in api.list("/pages", labelSelector="x=y")] == ["a", "b", "c"]
    assert [query.get("continue") for _, _, query, _, _ in server.asked] == [None, ["1"], ["2"]]
    assert all(query["labelSelector"] == ["x=y"] for _, _, query, _, _ in server.asked)


def test_a_list_without_end_is_given_up(api: Api, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_api, "MOST_OBJECTS", 3)
    server.pages = [["a", "b"]] * 9
    with pytest.raises(ProbeFailed, match="more than 3"):
        api.list("/pages")


def test_what_is_written_goes_as_the_api_wants_it(api: Api, server: Server) -> None:
    server.answers["/x"] = (200, {})
    api.create("/x", {"a": 1})
    api.merge("/x", {"c": None})
    api.delete("/x", at_once=True)
    api.delete("/gone")
    assert [(how, kind, body) for how, _, _, kind, body in server.asked] == [
        ("POST", "application/json", {"a": 1}),
        ("PATCH", "application/merge-patch+json", {"c": None}),
        ("DELETE", "application/json", {"propagationPolicy": "Background", "gracePeriodSeconds": 0}),
        ("DELETE", "application/json", {"propagationPolicy": "Background"}),
    ]


def test_a_delete_that_is_refused_is_told(api: Api, server: Server) -> None:
    server.answers["/x"] = (403, {"message": "no"})
    with pytest.raises(Refused, match="403"):
        api.delete("/x")


IN_THREADS = """
import sys
from concurrent.futures import ThreadPoolExecutor
from breakfix.cluster.api import Api

sys.setswitchinterval(1e-6)
cluster = {"name": "x", "cluster": {"server": "https://127.0.0.1:1"}}
context = {"name": "x", "context": {"cluster": "x", "user": "x"}}
users = [{"name": "x", "user": {}}]
config = {"current-context": "x", "contexts": [context], "clusters": [cluster], "users": users}
with ThreadPoolExecutor(8) as pool:
    for one in [pool.submit(Api, config) for _ in range(8)]:
        print(one.result().server)
"""


def test_the_first_may_come_in_several_threads_at_once() -> None:
    # Each node of a cluster is loaded in a thread of its own; the client was imported in all, and failed in most.
    done = subprocess.run([sys.executable, "-c", IN_THREADS], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.split() == ["https://127.0.0.1:1"] * 8, done.stderr
