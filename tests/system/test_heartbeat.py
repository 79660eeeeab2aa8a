"""Signs of life over loopback, between threads that stand for processes."""

import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from fmnist_jax.system.heartbeat import Heartbeat

SILENCE = 2.0  # seconds


class Told:
    """Keeps what a heartbeat says of a peer's end."""

    def __init__(self) -> None:
        self.ends: list[str] = []
        self.event = threading.Event()

    def __call__(self, what: str) -> None:
        self.ends.append(what)
        self.event.set()


@pytest.fixture
def pair() -> Iterator[tuple[Heartbeat, Told, Heartbeat, Told]]:
    of_first, of_second = Told(), Told()
    first, second = Heartbeat(SILENCE, of_first), Heartbeat(SILENCE, of_second)
    names, port, password = first.listen()
    accepting = threading.Thread(target=first.accept, args=(1,))
    accepting.start()
    second.connect(names, port, password, 3)
    accepting.join()
    yield first, of_first, second, of_second
    first.announce_exit()
    second.announce_exit()


def test_who_lives_longer_than_the_silence_is_not_missed(pair: tuple[Heartbeat, Told, Heartbeat, Told]) -> None:
    _, of_first, _, of_second = pair
    time.sleep(1.5 * SILENCE)
    assert of_first.ends == of_second.ends == []


def test_a_goodbye_is_no_end(pair: tuple[Heartbeat, Told, Heartbeat, Told]) -> None:
    _, of_first, second, of_second = pair
    second.announce_exit()
    assert not of_first.event.wait(0.5)
    assert of_second.ends == []


def test_a_failure_is_told_in_its_own_words(pair: tuple[Heartbeat, Told, Heartbeat, Told]) -> None:
    _, of_first, second, _ = pair
    second.announce_exit("the disk\nis full")
    assert of_first.event.wait(SILENCE)
    assert of_first.ends == ["process 3 has stopped: the disk is full"]


def peer_without_a_heart(seconds: float) -> tuple[Heartbeat, Told, socket.socket]:
    told = Told()
    first = Heartbeat(seconds, told)
    _, port, password = first.listen()
    accepting = threading.Thread(target=first.accept, args=(1,))
    accepting.start()
    with socket.create_connection(("127.0.0.1", port)) as stranger:
        stranger.sendall(bytes(20))
    peer = socket.create_connection(("127.0.0.1", port))
    peer.sendall(bytes.fromhex(password) + (1).to_bytes(4))
    accepting.join()
    return first, told, peer


def test_who_falls_silent_is_missed_after_the_silence_and_not_before() -> None:
    first, told, peer = peer_without_a_heart(1.0)
    assert not told.event.wait(0.7)
    assert told.event.wait(1.0)
    assert told.ends == ["process 1 has not been heard from for 1 s"]
    first.announce_exit()
    peer.close()


def test_a_connection_that_breaks_is_noticed_at_once() -> None:
    first, told, peer = peer_without_a_heart(30.0)
    peer.close()
    assert told.event.wait(2.0)
    assert told.ends[0].startswith("process 1 has gone")
    first.announce_exit()


def test_a_line_may_come_in_parts() -> None:
    first, told, peer = peer_without_a_heart(5.0)
    for part in (b".\nerr", b"or no ro", b"om\n"):
        peer.sendall(part)
        time.sleep(0.1)
    assert told.event.wait(1.0)
    assert told.ends == ["process 1 has stopped: no room"]
    first.announce_exit()
    peer.close()


def test_a_stranger_who_says_nothing_or_hangs_up_does_no_harm() -> None:
    told = Told()
    first = Heartbeat(1.0, told)
    _, port, password = first.listen()
    accepting = threading.Thread(target=first.accept, args=(1,))
    accepting.start()
    with socket.create_connection(("127.0.0.1", port)) as rude:
        rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # so that it resets
    with socket.create_connection(("127.0.0.1", port)):
        peer = socket.create_connection(("127.0.0.1", port))
        peer.sendall(bytes.fromhex(password) + (1).to_bytes(4))
        accepting.join()
    peer.sendall(b"error found\n")
    assert told.event.wait(1.0)
    assert told.ends == ["process 1 has stopped: found"]
    first.announce_exit()
    peer.close()


def test_peers_that_do_not_come_are_not_waited_for_for_ever() -> None:
    first = Heartbeat(0.2, Told())
    first.listen()
    with pytest.raises(TimeoutError):
        first.accept(1)


def test_a_first_process_that_cannot_be_reached_is_an_error_after_every_name_was_tried() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(OSError, match="refused"):
        Heartbeat(1.0, Told()).connect(["127.0.0.2", "127.0.0.1"], port, "00" * 16, 1)
    with pytest.raises(OSError, match="no address"):
        Heartbeat(1.0, Told()).connect([], port, "00" * 16, 1)
