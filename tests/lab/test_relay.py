# SPDX-License-Identifier: Apache-2.0
"""The relay: every byte, both ways, each end's end, and a server that is not there."""

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from clusters.lab.supervised import REPOSITORY

SECONDS = 10.0
MUCH = b"0123456789abcdef" * (1 << 20)  # 16 MiB: far more than all socket buffers between the two


@contextmanager
def relayed(to: tuple[str, int]) -> Iterator[tuple[str, int]]:
    """A relay process in front of `to`; the address of its listener."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [sys.executable, "-S", "-m", "clusters.lab.relay", f"--to={to[0]}:{to[1]}"]
        command.append(f"--listen-fd={listener.fileno()}")
        process = subprocess.Popen(command, pass_fds=[listener.fileno()], cwd=REPOSITORY)
        try:
            yield listener.getsockname()
        finally:
            process.kill()
            process.wait()


@contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[tuple[str, int]]:
    """A server that gives each connection, in turn, to `answer`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(SECONDS)
                    answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(SECONDS)


def everything(connection: socket.socket) -> bytes:
    """All bytes until the other end says that there are no more."""
    chunks = []
    while chunk := connection.recv(1 << 16):
        chunks.append(chunk)
    return b"".join(chunks)


def test_much_goes_both_ways_and_ends_travel_apart() -> None:
    """The answer begins when the request has ended, so one direction must close while the other lives."""

    def swap(connection: socket.socket) -> None:
        connection.sendall(everything(connection)[::-1])

    with serving(swap) as server, relayed(server) as address, socket.create_connection(address, SECONDS) as client:
        client.sendall(MUCH)
        client.shutdown(socket.SHUT_WR)
        assert everything(client) == MUCH[::-1]


def test_a_slow_reader_loses_nothing() -> None:
    """The server writes everything before the client reads a byte: the relay has to hold back."""
    sent = threading.Event()

    def pour(connection: socket.socket) -> None:
        connection.sendall(MUCH)
        sent.set()

    with serving(pour) as server, relayed(server) as address, socket.create_connection(address, SECONDS) as client:
        assert not sent.wait(0.2)  # 16 MiB fit nowhere on the way
        assert everything(client) == MUCH
        assert sent.is_set()


def test_many_connections_at_once_are_kept_apart() -> None:
    """One server thread answers them one after the other; none may see another's bytes."""

    def echo(connection: socket.socket) -> None:
        connection.sendall(everything(connection))

    with serving(echo) as server, relayed(server) as address:
        clients = [socket.create_connection(address, SECONDS) for _ in range(100)]
        for number, client in enumerate(clients):
            client.sendall(f"client {number}".encode())
            client.shutdown(socket.SHUT_WR)
        for number, client in enumerate(clients):
            with client:
                assert everything(client) == f"client {number}".encode()


def test_without_a_server_the_connection_ends_and_the_relay_lives() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        free = nobody.getsockname()
    with relayed(free) as address:
        for _ in range(3):
            with socket.create_connection(address, SECONDS) as client:
                assert client.recv(1) == b""


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_broken_end_breaks_the_other(side: str) -> None:
    """A reset of one end is an end for the other, and no business of later connections."""
    told = threading.Event()
    reset = b"\1\0\0\0\0\0\0\0"  # struct linger: on, 0 s; close() sends RST

    def answer(connection: socket.socket) -> None:
        connection.recv(1)
        if side == "server":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            connection.close()
        else:
            assert connection.recv(1) == b""
            told.set()

    with serving(answer) as server, relayed(server) as address:
        for _ in range(2):
            told.clear()
            with socket.create_connection(address, SECONDS) as client:
                client.sendall(b"x")
                if side == "server":
                    assert client.recv(1) == b""
                    continue
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            assert told.wait(SECONDS)
