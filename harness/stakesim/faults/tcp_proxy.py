"""A TCP proxy in front of a node or a database, which spoils connections in ways that only real sockets show."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

CHUNK = 65_536
"""Bytes that are passed on at once."""
DRIP_BYTES, DRIP_PAUSE_S = 16, 0.02
"""Bytes of a dripping answer that come at once, and the seconds between them."""
CUT_AFTER = 40
"""Bytes of an answer after which the connection is cut."""
_RESET = struct.pack("ii", 1, 0)
"""As SO_LINGER: closing the socket sends a reset."""


class WireFault(Enum):
    """What happens to a connection. The value is the name of the fault.

    Attributes:
        DELAY: An answer comes late.
        DRIP: An answer comes a few bytes at a time.
        CUT: The connection ends in the middle of an answer.
        RESET: The connection is reset when a message of the client arrives.
        BLACK_HOLE: Messages of the client arrive, and nothing comes back any more.
        REFUSE: A new connection is closed at once; one that is open is reset.
    """

    DELAY = "answers delayed"
    DRIP = "answers drip"
    CUT = "cut in the middle of an answer"
    RESET = "connection reset on the wire"
    BLACK_HOLE = "black hole"
    REFUSE = "connection refused on the wire"


@dataclass
class _Connection:
    """A connection, and the fault of its next answer."""

    fault: WireFault | None


class TcpProxy:
    """Passes connections on to an address. Each new connection, and each further message on it, may get a fault.

    Args:
        server: Host and port of the server behind the proxy, or the path of its Unix socket.
        draw: Returns the next fault, or None.
        delay: Seconds by which answers are delayed.

    Attributes:
        server: Where new connections are passed on to.
        port: Port of the proxy, on 127.0.0.1.
        counts: How often each fault happened, by name.
    """

    def __init__(self, server: tuple[str, int] | str, draw: Callable[[], WireFault | None], delay: float = 0.2) -> None:
        self.server, self._draw, self._delay = server, draw, delay
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.counts: Counter[str] = Counter()
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, name="tcp-proxy", daemon=True).start()

    def close(self) -> None:
        """Stops listening, and ends all connections."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut_all()

    def cut_all(self) -> None:
        """Ends all connections, as a proxy does that closes idle ones."""
        for each in list(self._open):
            self._end(each)

    def _accept(self) -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        connection = _Connection(self._next_fault())
        if connection.fault is WireFault.REFUSE:
            client.close()
            return
        try:
            server = self._connect()
        except OSError:
            client.close()
            return
        self._open |= {client, server}
        threading.Thread(target=self._pass_questions, args=(client, server, connection), daemon=True).start()
        self._pass_answers(server, client, connection)

    def _next_fault(self) -> WireFault | None:
        fault = self._draw()
        if fault:
            self.counts[fault.value] += 1
        return fault

    def _connect(self) -> socket.socket:
        if not isinstance(self.server, str):
            return socket.create_connection(self.server)
        server = socket.socket(socket.AF_UNIX)
        server.connect(self.server)
        return server

    def _pass_questions(self, client: socket.socket, server: socket.socket, connection: _Connection) -> None:
        """Passes the client's bytes on. Each message but the first may bring another fault."""
        first = True
        with suppress(OSError):
            while data := client.recv(CHUNK):
                if not first and connection.fault is None:
                    connection.fault = self._next_fault()
                first = False
                if connection.fault in (WireFault.RESET, WireFault.REFUSE):
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    break
                server.sendall(data)
        self._end(client)
        self._end(server)

    def _pass_answers(self, server: socket.socket, client: socket.socket, connection: _Connection) -> None:
        with suppress(OSError):
            while data := server.recv(CHUNK):
                fault = connection.fault
                if fault is WireFault.BLACK_HOLE:
                    continue
                connection.fault = None  # before the client has the answer, and sends the next message
                self._send(client, data, fault)
                if fault is WireFault.CUT:
                    break
        self._end(server)
        self._end(client)

    def _send(self, target: socket.socket, data: bytes, fault: WireFault | None) -> None:
        match fault:
            case WireFault.DELAY:
                time.sleep(self._delay)
                target.sendall(data)
            case WireFault.DRIP:
                for start in range(0, len(data), DRIP_BYTES):
                    target.sendall(data[start : start + DRIP_BYTES])
                    time.sleep(DRIP_PAUSE_S)
            case WireFault.CUT:
                target.sendall(data[:CUT_AFTER])
            case _:
                target.sendall(data)

    def _end(self, each: socket.socket) -> None:
        self._open.discard(each)
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
