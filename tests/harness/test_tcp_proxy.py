"""The TCP proxy: each fault on a real connection to a small server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest
from stakesim.faults.tcp_proxy import CUT_AFTER, TcpProxy, WireFault

ANSWER = b"0123456789" * 20


@pytest.fixture(scope="module")
def server_port() -> Iterator[int]:
    """A server that answers each message with `ANSWER`."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection: socket.socket) -> None:
        with suppress(OSError):
            while connection.recv(1000):
                connection.sendall(ANSWER)

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()


def ask(proxy: TcpProxy, times: int = 1, timeout: float = 20) -> bytes:
    """Returns what comes back until the connection ends, or until all answers are there."""
    received = b""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout) as connection:
        for number in range(1, times + 1):
            connection.sendall(b"?")
            while len(received) < number * len(ANSWER):
                data = connection.recv(1000)
                if not data:
                    return received
                received += data
    return received


@pytest.mark.slow
@pytest.mark.parametrize("fault", [None, WireFault.DELAY, WireFault.DRIP])
def test_slow_answers_are_whole(server_port: int, fault: WireFault | None) -> None:
    with closing(TcpProxy(("127.0.0.1", server_port), lambda: fault, delay=0.01)) as proxy:
        assert ask(proxy, times=2) == ANSWER * 2
        assert proxy.counts == ({fault.value: 2} if fault else {})


def test_an_answer_is_cut(server_port: int) -> None:
    with closing(TcpProxy(("127.0.0.1", server_port), lambda: WireFault.CUT)) as proxy:
        assert ask(proxy) == ANSWER[:CUT_AFTER]


def test_a_connection_is_reset(server_port: int) -> None:
    with closing(TcpProxy(("127.0.0.1", server_port), lambda: WireFault.RESET)) as proxy:
        with suppress(ConnectionError):
            assert ask(proxy) == b""
        assert proxy.counts == {WireFault.RESET.value: 1}


def test_a_connection_is_refused(server_port: int) -> None:
    with closing(TcpProxy(("127.0.0.1", server_port), lambda: WireFault.REFUSE)) as proxy:
        with suppress(ConnectionError):
            assert ask(proxy) == b""
        assert proxy.counts == {WireFault.REFUSE.value: 1}


@pytest.mark.slow
def test_nothing_comes_out_of_a_black_hole(server_port: int) -> None:
    with (
        closing(TcpProxy(("127.0.0.1", server_port), lambda: WireFault.BLACK_HOLE)) as proxy,
        pytest.raises(TimeoutError),
    ):
        ask(proxy, timeout=0.2)


def test_idle_connections_are_cut(server_port: int) -> None:
    proxy = TcpProxy(("127.0.0.1", server_port), lambda: None)
    with closing(proxy), socket.create_connection(("127.0.0.1", proxy.port), 20) as connection:
        connection.sendall(b"?")
        assert connection.recv(1000)
        proxy.cut_all()
        with suppress(ConnectionError):
            while connection.recv(1000):
                pass
