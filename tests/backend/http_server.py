"""An HTTP server on a real socket, as `stakesim serve` runs it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from app.api.http_protocol import LimitedH11Protocol


class Server:
    """uvicorn in a thread, as `stakesim serve` runs it."""

    def __init__(self, app: Any) -> None:
        config = uvicorn.Config(app, http=LimitedH11Protocol, ws="none", log_config=None, port=0)
        self._server = uvicorn.Server(config)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.address: tuple[str, int] = self._listener.getsockname()
        self.url = f"http://127.0.0.1:{self.address[1]}"
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]})

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(30)

    @contextmanager
    def connected(self, data: bytes = b"") -> Iterator[socket.socket]:
        with socket.create_connection(self.address, 30) as connection:
            connection.sendall(data)
            yield connection

    def answer_to(self, data: bytes) -> bytes:
        """Returns all that the server sends until it closes the connection."""
        try:
            with self.connected(data) as connection:
                return rest_of(connection)
        except ConnectionError:  # closed before the data were sent
            return b""


def rest_of(connection: socket.socket) -> bytes:
    answer = b""
    try:
        while part := connection.recv(65536):
            answer += part
    except ConnectionResetError:
        return answer
    return answer
