# SPDX-License-Identifier: Apache-2.0
"""The server under load answers, says who it is, and ends as a well-behaved pod does."""

import socket
from collections.abc import Iterator

import pytest

from clusters.agent.wire import parse_answer
from clusters.measure.broker import Broker
from clusters.measure.served import HTTP_PORT, LINE_PORT, QUEUE_PORT
from tests.load.served import NAME, PATIENCE, Served, http_answer, served

GET = b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def server() -> Iterator[Served]:
    with served() as running:
        yield running


def test_a_connection_is_kept_as_long_as_the_client_wants_it(server: Served) -> None:
    with server.connect(HTTP_PORT) as sock:
        for _ in range(3):
            sock.sendall(GET)
            headers, body = http_answer(sock)
            assert (headers["status"], body) == ("200", f"{NAME} /1\n")
            assert "connection" not in headers
        sock.sendall(GET.replace(b"Host: x", b"Connection: close"))
        assert http_answer(sock)[0]["connection"] == "close"
        assert sock.recv(1) == b""


def test_requests_that_come_together_or_in_pieces_are_answered_in_order(server: Served) -> None:
    with server.connect(HTTP_PORT) as sock:
        sock.sendall(GET + GET.replace(b"/1", b"/2")[:-3])
        assert http_answer(sock)[1] == f"{NAME} /1\n"
        sock.sendall(GET[-3:])
        assert http_answer(sock)[1] == f"{NAME} /2\n"


def test_anything_but_get_is_refused(server: Served) -> None:
    with server.connect(HTTP_PORT) as sock:
        sock.sendall(GET.replace(b"GET", b"PUT"))
        assert http_answer(sock)[0]["status"] == "501"
        assert sock.recv(1) == b""


@pytest.mark.parametrize("port", [HTTP_PORT, LINE_PORT, QUEUE_PORT])
def test_a_probe_of_the_agents_is_answered_at_every_port(server: Served, port: int) -> None:
    with server.connect(port) as sock:
        sock.sendall(b"?token 10\n")
        with sock.makefile("rb") as file:
            answer = parse_answer(file.readline())
        assert answer is not None
        assert (answer.token, answer.backend, answer.local_ip, answer.local_port) == ("token", NAME, server.ip, port)
        assert (answer.client_port, answer.exchange, answer.received) == (sock.getsockname()[1], 1, 10)


def test_a_line_connection_ends_with_its_answer(server: Served) -> None:
    with server.connect(LINE_PORT) as sock:
        sock.sendall(b"?1 0\n")
        assert sock.makefile("rb").read().startswith(b"!1 ")


def test_a_datagram_is_answered(server: Served) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        sock.connect((server.ip, LINE_PORT))
        sock.send(b"?1 0")
        answer = parse_answer(sock.recv(4096))
        assert answer is not None
        assert (answer.backend, answer.received) == (NAME, 4)


def test_what_has_been_answered_is_told(server: Served) -> None:
    server.get("/1")
    with server.connect(LINE_PORT) as sock:
        sock.sendall(b"?1 0\n")
        sock.makefile("rb").read()
    state = server.state()
    assert (state["name"], state["answered"]) == (NAME, {"http": 1, "tcp": 1, "udp": 0})


def test_a_message_goes_through_the_queue(server: Served) -> None:
    with server.connect(QUEUE_PORT) as producer, server.connect(QUEUE_PORT) as consumer:
        producer.sendall(b"PUT a 1.5\n")
        assert producer.recv(100) == b"OK\n"
        consumer.sendall(b"GET\n")
        assert consumer.recv(100) == b"MSG a 1.5\n"
        assert server.state()["queue"]["left"] == ["a"]
        consumer.sendall(b"ACK a\n")
        assert consumer.recv(100) == b"OK\n"
        assert server.state()["queue"] == {"put": 1, "acknowledged": 1, "given_again": 0, "left": []}
        consumer.sendall(b"GET\n")
        assert consumer.recv(100) == b"NONE\n"


def test_a_full_queue_says_so(server: Served) -> None:
    with server.connect(QUEUE_PORT) as producer:
        for number in range(Broker().room):
            producer.sendall(b"PUT %d\n" % number)
            assert producer.recv(100) == b"OK\n"
        producer.sendall(b"PUT one-more\n")
        assert producer.recv(100) == b"FULL\n"
        assert server.state()["queue"]["put"] == Broker().room


def test_a_drained_server_ends_each_connection_with_an_answer_and_takes_new_ones(server: Served) -> None:
    with server.connect(HTTP_PORT) as kept:
        kept.sendall(GET)
        http_answer(kept)
        server.drain()
        assert server.state()["draining"]
        kept.sendall(GET)
        assert http_answer(kept)[0]["connection"] == "close"
        assert kept.recv(1) == b""
    assert server.get("/1")[1] == f"{NAME} /1\n"


def test_a_stopped_server_ends_with_its_last_connection(server: Served) -> None:
    with server.connect(HTTP_PORT) as kept:
        kept.sendall(GET)
        http_answer(kept)
        server.drain()
        server.stop()
        _await_refusal(server)
        assert server.process.poll() is None
        kept.sendall(GET)
        assert http_answer(kept)[0]["connection"] == "close"
        assert server.process.wait(PATIENCE) == 0


def test_a_stopped_server_without_connections_ends_at_once(server: Served) -> None:
    server.stop()
    assert server.process.wait(PATIENCE) == 0


def test_an_address_that_is_not_ours_is_one_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    from clusters.measure import served as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["served", "--name=x", "--ip=192.0.2.1"])
        assert module.main() == 1
    assert capfd.readouterr().err.startswith("clusters.measure.served: ")


def _await_refusal(server: Served) -> None:
    """It has heard that it is to stop when nobody listens any more; who was waiting to be accepted then is reset."""
    while True:
        try:
            server.connect(HTTP_PORT).close()
        except ConnectionRefusedError:
            return
        except ConnectionResetError:
            continue
