"""Heartbeats between processes: if one falls silent, or says why it ends, the others notice within seconds.

The first process listens, every other one connects to it, and both sides send a line per second. Collectives alone
would wait for a dead peer: on a GPU for ever, and on a CPU too if a process is stopped or its machine is gone.
"""

import contextlib
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence

_INTERVAL = 1.0  # seconds between signs of life
_HANDSHAKE_TIMEOUT = 2.0  # seconds that a peer has to say who it is, which it does as soon as it has connected
_PASSWORD_BYTES = 16
_ALIVE, _LEAVING, _FAILED = b".", b"bye", b"error "

OnEnd = Callable[[str], None]
"""Called in a thread of its own, with a few words on what has become of a peer."""


class Heartbeat:
    """The connections of one process to its peers."""

    def __init__(self, seconds: float, on_end: OnEnd) -> None:
        """Takes the seconds of silence after which a peer counts as gone, and the callback that is told."""
        self._seconds = seconds
        self._on_end = on_end
        self._peers: list[socket.socket] = []
        self._closing = threading.Event()
        self._password = secrets.token_bytes(_PASSWORD_BYTES)  # so that no stranger is taken for a peer

    def listen(self) -> tuple[list[str], int, str]:
        """Opens a port for `accept`; returns names by which this machine may be reached, the port, and a password."""
        family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
        dual = family == socket.AF_INET6
        self._server = socket.create_server(("", 0), family=family, dualstack_ipv6=dual, backlog=4096)
        return _own_addresses(), int(self._server.getsockname()[1]), self._password.hex()

    def accept(self, peers: int) -> None:
        """Waits for this many peers to connect to the port.

        Raises:
          OSError: the next one does not, within the seconds of silence.
        """
        deadline = time.monotonic() + self._seconds
        with self._server:
            while len(self._peers) < peers:
                self._server.settimeout(max(deadline - time.monotonic(), 0.01))
                peer, _ = self._server.accept()
                number = self._handshake(peer)
                if number is None:
                    peer.close()
                    continue
                self._watch(peer, f"process {number}")
                deadline = time.monotonic() + self._seconds

    def _handshake(self, peer: socket.socket) -> int | None:
        """The number of a peer that knows the password; None for a stranger, who may say nothing, or hang up."""
        # Short, so that peers waiting behind it see no silence.
        peer.settimeout(min(_HANDSHAKE_TIMEOUT, self._seconds / 4))
        try:
            greeting = peer.recv(_PASSWORD_BYTES + 4, socket.MSG_WAITALL)
        except OSError:
            return None
        known = len(greeting) == _PASSWORD_BYTES + 4 and greeting.startswith(self._password)
        return int.from_bytes(greeting[_PASSWORD_BYTES:]) if known else None

    def connect(self, names: Sequence[str], port: int, password: str, number: int) -> None:
        """Connects to the first process.

        Args:
          names: those of its machine; the first that answers is used.
          port: as its `listen` returned it.
          password: likewise.
          number: of this process.

        Raises:
          OSError: it cannot be reached.
        """
        problem: OSError = OSError("it has no address")
        for name in names:
            try:
                peer = socket.create_connection((name, port), timeout=self._seconds / len(names))
                peer.sendall(bytes.fromhex(password) + number.to_bytes(4))
            except OSError as error:
                problem = error
            else:
                return self._watch(peer, "process 0")
        raise problem

    def announce_exit(self, failure: str | None = None) -> None:
        """Tells the peers that this process ends, and why if it has failed; from now on, their ends are ignored."""
        self._closing.set()
        line = _LEAVING if failure is None else _FAILED + " ".join(failure.split()).encode()
        for peer in self._peers:
            with contextlib.suppress(OSError):
                peer.sendall(line + b"\n")
                peer.shutdown(socket.SHUT_WR)

    def _watch(self, peer: socket.socket, name: str) -> None:
        peer.settimeout(self._seconds)
        self._peers.append(peer)
        for task in (self._send, self._receive):
            threading.Thread(target=task, args=(peer, name), name=f"heartbeat of {name}", daemon=True).start()

    def _receive(self, peer: socket.socket, name: str) -> None:
        with peer:
            end = self._wait_for_end(peer, name)
        if end is not None and not self._closing.is_set():
            self._on_end(end)

    def _send(self, peer: socket.socket, _: str) -> None:
        with contextlib.suppress(OSError):  # which the receiving side notices
            while not self._closing.wait(_INTERVAL):
                peer.sendall(_ALIVE + b"\n")

    def _wait_for_end(self, peer: socket.socket, name: str) -> str | None:
        """Waits for a peer to end; returns None if it has said goodbye, else what has become of it."""
        received = b""
        while True:
            started = time.monotonic()
            try:
                part = peer.recv(4096)
            except TimeoutError:
                # A process that was stopped itself (SIGSTOP) has to listen again before it may blame others.
                if time.monotonic() - started > 2 * self._seconds:
                    continue
                return f"{name} has not been heard from for {self._seconds:g} s"
            except OSError as error:
                return f"{name} has gone ({error.strerror})"
            if not part:
                return f"{name} has gone"
            *lines, received = (received + part).split(b"\n")
            if _LEAVING in lines:
                return None
            for line in lines:
                if line.startswith(_FAILED):
                    return f"{name} has stopped: {line[len(_FAILED) :].decode(errors='replace')}"


def _own_addresses() -> list[str]:
    """The addresses that other machines may reach this one by; its name alone may be that of a loopback (127.0.1.1)."""
    names = []
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # no machine's (RFC 5737); nothing is sent, but a route is chosen
        names.append(probe.getsockname()[0])
    with contextlib.suppress(OSError):
        names.append(socket.gethostbyname(socket.gethostname()))
    return list(dict.fromkeys([*names, socket.gethostname(), "127.0.0.1"]))
