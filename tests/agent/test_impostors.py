# SPDX-License-Identifier: Apache-2.0
"""Answers that are not the answer: a lying server on loopback, played by the test itself. Needs no privilege."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from clusters.agent.client import AgentClient, ProbeRequest
from clusters.agent.launch import agent_process
from clusters.observation import Address, FlowOutcome

Liar = Callable[[str, int], list[str]]


@pytest.fixture(scope="module")
def prober() -> Iterator[AgentClient]:
    with agent_process() as agent:
        yield agent


@contextmanager
def lying_server(answers: Liar) -> Iterator[Address]:
    """A UDP server that answers one datagram with what `answers(token, size)` says."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(10)

        def serve() -> None:
            data, client = sock.recvfrom(65535)
            for answer in answers(data[1:].split()[0].decode(), len(data)):
                sock.sendto(answer.encode(), client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Address("127.0.0.1", sock.getsockname()[1])
        finally:
            thread.join()


def answer(token: str, size: int) -> str:
    return f"!{token} liar 127.0.0.1 1 127.0.0.1 2 0 {size}\n"


def request(dst: Address) -> ProbeRequest:
    return ProbeRequest("host", None, None, "direct", "UDP", dst)


@pytest.mark.parametrize(
    "lie",
    [
        lambda token, size: [answer(token + "0", size)],
        lambda token, size: [answer(token, size - 1)],
        lambda token, size: [f"hello {token} {size}"],
        lambda token, size: [
            "!\n",
            f"!{token} {size}",
            "\udcff".encode("utf-8", "surrogateescape").decode("latin-1"),
        ],
    ],
    ids=["another token", "another size", "no answer at all", "broken answers"],
)
def test_a_wrong_answer_is_not_the_reply(prober: AgentClient, lie: Liar) -> None:
    with lying_server(lie) as dst:
        (seen,) = prober.probe([request(dst)], 0.1)
    assert (seen.outcome, seen.errno, seen.backend) == (FlowOutcome.TIMEOUT, "EBADMSG", None)


def test_the_right_answer_after_a_wrong_one_is_the_reply(prober: AgentClient) -> None:
    with lying_server(lambda token, size: [answer("x" + token, size), answer(token, size)]) as dst:
        (seen,) = prober.probe([request(dst)])
    assert (seen.outcome, seen.errno, seen.backend) == (FlowOutcome.REPLY, None, "liar")


def test_a_server_that_hangs_up_is_a_reset_without_errno(prober: AgentClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(1000)

        thread = threading.Thread(target=serve)
        thread.start()
        dst = Address("127.0.0.1", listener.getsockname()[1])
        (seen,) = prober.probe([ProbeRequest("host", None, None, "direct", "TCP", dst)])
        thread.join()
    assert (seen.outcome, seen.errno) == (FlowOutcome.RESET, None)
