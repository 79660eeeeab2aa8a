"""A network that gives the file, gives something else, or gives nothing: a server of our own plays each part."""

import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fmnist_jax.data import download
from fmnist_jax.errors import DataError

CONTENT = b"\x1f\x8b what a file holds"
FILE = download.RemoteFile("http://data.invalid/labels.gz", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


@contextmanager
def proxy(status: int, content: bytes, kind: str = "application/gzip", missing: int = 0) -> Iterator[str]:
    """A proxy that answers every request alike, but for so many bytes, which it never sends; its address."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content) + missing))
            self.end_headers()
            self.wfile.write(content)
            if missing:
                self.wfile.flush()
                time.sleep(1.0)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def through(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("http_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


def refused() -> str:
    start = time.monotonic()
    with pytest.raises(DataError) as caught:
        download.refuse_unreachable(FILE, Path("/data"))
    assert time.monotonic() - start < 20
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert "--data.raw-dir (or FMNIST_RAW_DIR)" in message
    assert "delete" not in message
    return message


def test_a_proxy_that_hands_on_the_file_is_no_problem(through: pytest.MonkeyPatch) -> None:
    with proxy(200, CONTENT) as address:
        through.setenv("http_proxy", address)
        download.refuse_unreachable(FILE, Path("/data"))


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
def test_a_proxy_that_nobody_listens_at_is_named(variable: str, through: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    through.setenv(variable, f"http://somebody:secret@127.0.0.1:{port}")
    message = refused()
    assert f"through the proxy http://127.0.0.1:{port} " in message
    assert "refused" in message
    assert "fix or unset the proxy" in message
    assert "secret" not in message


@pytest.mark.parametrize(
    ("status", "content", "kind"),
    [
        (200, b"<!DOCTYPE html><title>Sign in</title>", "text/html"),
        (403, b"<html>Forbidden</html>", "text/html"),
        (407, b"", "text/plain"),
        (503, b"", "text/plain"),
        (200, CONTENT[:-1], "application/gzip"),
        (200, CONTENT + b"more", "application/gzip"),
    ],
)
def test_a_proxy_that_gives_something_else_is_named_with_its_answer(
    status: int, content: bytes, kind: str, through: pytest.MonkeyPatch
) -> None:
    with proxy(status, content, kind) as address:
        through.setenv("http_proxy", address)
        message = refused()
    assert address in message
    assert f"({status} " in message
    assert kind in message


def test_a_proxy_that_stalls_in_the_middle_is_named(through: pytest.MonkeyPatch) -> None:
    through.setattr(download, "_TIMEOUT", 0.3)
    with proxy(200, b"", missing=7) as address:
        through.setenv("http_proxy", address)
        assert f"through the proxy {address}" in refused()


def test_a_proxy_that_never_answers_is_given_up(through: pytest.MonkeyPatch) -> None:
    through.setattr(download, "_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        through.setenv("http_proxy", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert "timed out" in refused()


@pytest.mark.parametrize("address", ["http://", "nonsense://x", "http://[::1", "socks5://127.0.0.1:1"])
def test_a_proxy_that_is_none_is_named(address: str, through: pytest.MonkeyPatch) -> None:
    through.setenv("http_proxy", address)
    assert "cannot be reached" in refused()


def test_no_network_is_said_without_a_proxy(through: pytest.MonkeyPatch) -> None:
    message = refused()
    assert "data.invalid cannot be reached (" in message
    assert "connect to a network" in message
    assert "proxy" not in message
