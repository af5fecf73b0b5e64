"""The proxy that spoils connections does what tests rely on."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator

import pytest

from e2e.faults import FaultProxy


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(65536):
            self.request.sendall(data)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A reset is what the test wants."""


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    with Server(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with FaultProxy("127.0.0.1", server.server_address[1]) as made:
            yield made
        server.shutdown()


def connect(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=10)


def answer(connection: socket.socket, text: bytes = b"ping") -> bytes:
    connection.sendall(text)
    return connection.recv(65536)


def silent(connection: socket.socket) -> bool:
    connection.settimeout(0.1)
    try:
        return answer(connection) == b"" and False
    except TimeoutError:
        return True


def test_what_is_open_goes_silent_and_stays_open_while_new_connections_work(proxy: FaultProxy) -> None:
    with connect(proxy) as old:
        assert answer(old) == b"ping"
        assert proxy.silence() == 1
        assert silent(old)
        with connect(proxy) as new:
            assert answer(new) == b"ping"
            assert proxy.open == 2


def test_new_connections_can_be_silent_or_refused(proxy: FaultProxy) -> None:
    proxy.block = True
    with connect(proxy) as one:
        assert silent(one)
    proxy.heal()
    proxy.refuse = True
    # the reset may come while connect() has not yet returned, too
    with pytest.raises(ConnectionError), connect(proxy) as one:
        answer(one)
        answer(one)


def test_what_is_open_can_be_reset_and_cut(proxy: FaultProxy) -> None:
    with connect(proxy) as one:
        assert answer(one) == b"ping"
        proxy.reset()
        with pytest.raises(ConnectionError):
            answer(one)
            answer(one)
    with connect(proxy) as one:
        assert answer(one) == b"ping"
        proxy.truncate(2)
        assert answer(one) == b"pi"
        assert one.recv(10) == b""


def test_of_a_half_open_one_the_client_notices_nothing(proxy: FaultProxy) -> None:
    with connect(proxy) as one:
        assert answer(one) == b"ping"
        proxy.half_open()
        assert silent(one)
