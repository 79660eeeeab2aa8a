"""Networks that serve the file, something else, or nothing, each played by a local server."""

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
def proxy(status: int, content: bytes, content_type: str = "application/gzip", missing: int = 0) -> Iterator[str]:
    """Runs a proxy that sends every client the same, but for the last `missing` bytes, and yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(content) + missing))
            self.end_headers()
            self.wfile.write(content)
            if missing:
                self.wfile.flush()
                time.sleep(1.0)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def proxyless(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("http_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


def unreachable_message() -> str:
    start = time.monotonic()
    with pytest.raises(DataError) as exc_info:
        download.refuse_unreachable(FILE, Path("/data"))
    assert time.monotonic() - start < 20
    message = str(exc_info.value)
    assert len(message.splitlines()) == 1
    assert "--data.raw-dir (or FMNIST_RAW_DIR)" in message
    assert "delete" not in message
    return message


def test_proxy_that_serves_the_file_is_accepted(proxyless: pytest.MonkeyPatch) -> None:
    with proxy(200, CONTENT) as address:
        proxyless.setenv("http_proxy", address)
        download.refuse_unreachable(FILE, Path("/data"))


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
def test_unreachable_proxy_is_named_without_its_password(variable: str, proxyless: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    proxyless.setenv(variable, f"http://somebody:secret@127.0.0.1:{port}")
    message = unreachable_message()
    assert f"through the proxy http://127.0.0.1:{port} " in message
    assert "refused" in message
    assert "fix or unset the proxy" in message
    assert "secret" not in message


@pytest.mark.parametrize(
    ("status", "content", "content_type"),
    [
        (200, b"<!DOCTYPE html><title>Sign in</title>", "text/html"),
        (403, b"<html>Forbidden</html>", "text/html"),
        (407, b"", "text/plain"),
        (503, b"", "text/plain"),
        (200, CONTENT[:-1], "application/gzip"),
        (200, CONTENT + b"more", "application/gzip"),
    ],
)
def test_proxy_with_another_response_is_named_with_status_and_content_type(
    status: int, content: bytes, content_type: str, proxyless: pytest.MonkeyPatch
) -> None:
    with proxy(status, content, content_type) as address:
        proxyless.setenv("http_proxy", address)
        message = unreachable_message()
    assert address in message
    assert f"({status} " in message
    assert content_type in message


def test_proxy_that_stalls_midway_is_named(proxyless: pytest.MonkeyPatch) -> None:
    proxyless.setattr(download, "_TIMEOUT", 0.3)
    with proxy(200, b"", missing=7) as address:
        proxyless.setenv("http_proxy", address)
        assert f"through the proxy {address}" in unreachable_message()


def test_proxy_that_never_responds_times_out(proxyless: pytest.MonkeyPatch) -> None:
    proxyless.setattr(download, "_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        proxyless.setenv("http_proxy", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert "timed out" in unreachable_message()


@pytest.mark.parametrize("address", ["http://", "nonsense://x", "http://[::1", "socks5://127.0.0.1:1"])
def test_invalid_proxy_address_is_reported(address: str, proxyless: pytest.MonkeyPatch) -> None:
    proxyless.setenv("http_proxy", address)
    assert "cannot be reached" in unreachable_message()


def test_missing_network_is_reported_without_mentioning_a_proxy(proxyless: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    proxyless.setattr("urllib3.util.connection.create_connection", fail)
    message = unreachable_message()
    assert "data.invalid cannot be reached (" in message
    assert "connect to a network" in message
    assert "proxy" not in message
