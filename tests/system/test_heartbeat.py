"""Heartbeats over loopback, between threads in place of processes."""

import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from fmnist_jax.system.heartbeat import Heartbeat

TIMEOUT = 2.0  # seconds


class EndRecorder:
    """Records what a heartbeat reports about the end of a peer."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.event = threading.Event()

    def __call__(self, message: str) -> None:
        self.messages.append(message)
        self.event.set()


@pytest.fixture
def pair() -> Iterator[tuple[Heartbeat, EndRecorder, Heartbeat, EndRecorder]]:
    first_recorder, second_recorder = EndRecorder(), EndRecorder()
    first, second = Heartbeat(TIMEOUT, first_recorder), Heartbeat(TIMEOUT, second_recorder)
    names, port, password = first.listen()
    accepting = threading.Thread(target=first.accept, args=(1,))
    accepting.start()
    second.connect(names, port, password, 3)
    accepting.join()
    yield first, first_recorder, second, second_recorder
    first.announce_exit()
    second.announce_exit()


def test_live_peers_are_not_reported_after_the_timeout(
    pair: tuple[Heartbeat, EndRecorder, Heartbeat, EndRecorder],
) -> None:
    _, first_recorder, _, second_recorder = pair
    time.sleep(1.5 * TIMEOUT)
    assert first_recorder.messages == second_recorder.messages == []


def test_announced_exit_without_error_is_not_reported(
    pair: tuple[Heartbeat, EndRecorder, Heartbeat, EndRecorder],
) -> None:
    _, first_recorder, second, second_recorder = pair
    second.announce_exit()
    assert not first_recorder.event.wait(0.5)
    assert second_recorder.messages == []


def test_announced_failure_is_reported_with_its_message(
    pair: tuple[Heartbeat, EndRecorder, Heartbeat, EndRecorder],
) -> None:
    _, first_recorder, second, _ = pair
    second.announce_exit("the disk\nis full")
    assert first_recorder.event.wait(TIMEOUT)
    assert first_recorder.messages == ["process 3 has stopped: the disk is full"]


def connect_silent_peer(seconds: float) -> tuple[Heartbeat, EndRecorder, socket.socket]:
    recorder = EndRecorder()
    first = Heartbeat(seconds, recorder)
    _, port, password = first.listen()
    accepting = threading.Thread(target=first.accept, args=(1,))
    accepting.start()
    with socket.create_connection(("127.0.0.1", port)) as stranger:
        stranger.sendall(bytes(20))
    peer = socket.create_connection(("127.0.0.1", port))
    peer.sendall(bytes.fromhex(password) + (1).to_bytes(4))
    accepting.join()
    return first, recorder, peer


def test_silent_peer_is_reported_after_the_timeout_and_not_before() -> None:
    started = time.monotonic()
    first, recorder, peer = connect_silent_peer(2.0)
    assert recorder.event.wait(30.0)
    assert time.monotonic() - started >= 2.0
    assert recorder.messages == ["process 1 has not been heard from for 2 s"]
    first.announce_exit()
    peer.close()


def test_closed_connection_is_reported_at_once() -> None:
    first, recorder, peer = connect_silent_peer(30.0)
    peer.close()
    assert recorder.event.wait(25.0)
    assert recorder.messages[0].startswith("process 1 has gone")
    first.announce_exit()


def test_message_may_arrive_in_parts() -> None:
    first, recorder, peer = connect_silent_peer(5.0)
    for part in (b".\nerr", b"or no ro", b"om\n"):
        peer.sendall(part)
        time.sleep(0.1)
    assert recorder.event.wait(30.0)
    assert recorder.messages == ["process 1 has stopped: no room"]
    first.announce_exit()
    peer.close()


def test_silent_or_disconnecting_stranger_is_ignored() -> None:
    recorder = EndRecorder()
    first = Heartbeat(1.0, recorder)
    _, port, password = first.listen()
    accepting = threading.Thread(target=first.accept, args=(1,))
    accepting.start()
    with socket.create_connection(("127.0.0.1", port)) as resetting:
        resetting.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # so that closing resets
    with socket.create_connection(("127.0.0.1", port)):
        peer = socket.create_connection(("127.0.0.1", port))
        peer.sendall(bytes.fromhex(password) + (1).to_bytes(4))
        accepting.join()
    peer.sendall(b"error found\n")
    assert recorder.event.wait(30.0)
    assert recorder.messages == ["process 1 has stopped: found"]
    first.announce_exit()
    peer.close()


def test_accept_times_out_if_no_peer_connects() -> None:
    first = Heartbeat(0.2, EndRecorder())
    first.listen()
    with pytest.raises(TimeoutError):
        first.accept(1)


def test_connect_raises_if_the_first_process_is_unreachable_by_any_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(OSError, match="refused"):
        Heartbeat(1.0, EndRecorder()).connect(["127.0.0.2", "127.0.0.1"], port, "00" * 16, 1)
    with pytest.raises(OSError, match="no address"):
        Heartbeat(1.0, EndRecorder()).connect([], port, "00" * 16, 1)
