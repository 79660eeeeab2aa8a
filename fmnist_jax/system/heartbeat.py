"""Signs of life between processes: who falls silent, or says why it ends, is noticed by the others within seconds.

The first process listens, each other one connects to it, and both sides send a line a second. Collectives alone would
wait for a dead peer: on a GPU for ever, and where a process is stopped or its machine has gone, on a CPU too.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable

_INTERVAL = 1.0  # seconds between signs of life
_ALIVE, _LEAVING, _FAILED = b".", b"bye", b"error "

OnEnd = Callable[[str], None]
"""Is told in a few words what has become of a peer, in a thread of its own."""


class Heartbeat:
    """The connections of one process to its peers."""

    def __init__(self, seconds: float, on_end: OnEnd) -> None:
        """Takes the silence after which a peer counts as gone, and who is told."""
        self._seconds = seconds
        self._on_end = on_end
        self._peers: list[socket.socket] = []
        self._closing = threading.Event()

    def listen(self) -> int:
        """Opens a port for `accept`, and returns it."""
        self._server = socket.create_server(("", 0))
        return int(self._server.getsockname()[1])

    def accept(self, peers: int) -> None:
        """Waits for so many peers to connect to the port.

        Raises:
          OSError: they do not, within the seconds of silence.
        """
        self._server.settimeout(self._seconds)
        with self._server:
            for _ in range(peers):
                peer, _ = self._server.accept()
                peer.settimeout(self._seconds)
                self._watch(peer, f"process {int.from_bytes(peer.recv(4, socket.MSG_WAITALL))}")

    def connect(self, host: str, port: int, number: int) -> None:
        """Connects to the first process.

        Args:
          host: its address.
          port: what its `listen` returned.
          number: of this process.

        Raises:
          OSError: it cannot be reached.
        """
        peer = socket.create_connection((host, port), timeout=self._seconds)
        peer.sendall(number.to_bytes(4))
        self._watch(peer, "process 0")

    def say_goodbye(self, failure: str | None = None) -> None:
        """Tells the peers that this process ends, and why if it has failed; from now on none of them is missed."""
        self._closing.set()
        line = _LEAVING if failure is None else _FAILED + " ".join(failure.split()).encode()
        for peer in self._peers:
            with contextlib.suppress(OSError):
                peer.sendall(line + b"\n")
                peer.shutdown(socket.SHUT_WR)

    def _watch(self, peer: socket.socket, name: str) -> None:
        self._peers.append(peer)
        for task in (self._send, self._receive):
            threading.Thread(target=task, args=(peer, name), name=f"heartbeat of {name}", daemon=True).start()

    def _send(self, peer: socket.socket, _: str) -> None:
        with contextlib.suppress(OSError):  # which the receiving side notices
            while not self._closing.wait(_INTERVAL):
                peer.sendall(_ALIVE + b"\n")

    def _receive(self, peer: socket.socket, name: str) -> None:
        received = b""
        while True:
            asked = time.monotonic()
            try:
                part = peer.recv(4096)
            except TimeoutError:
                # A process that was stopped itself (SIGSTOP) has to listen again before it may blame others.
                if time.monotonic() - asked > 2 * self._seconds:
                    continue
                return self._ended(f"{name} has not been heard of for {self._seconds:g} s")
            except OSError as error:
                return self._ended(f"{name} has gone ({error.strerror})")
            if not part:
                return self._ended(f"{name} has gone")
            *lines, received = (received + part).split(b"\n")
            if _LEAVING in lines:
                return None
            for line in lines:
                if line.startswith(_FAILED):
                    return self._ended(f"{name} has stopped: {line[len(_FAILED) :].decode(errors='replace')}")

    def _ended(self, what: str) -> None:
        if not self._closing.is_set():
            self._on_end(what)
