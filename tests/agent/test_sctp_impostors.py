# SPDX-License-Identifier: Apache-2.0
"""SCTP packets that are no answers, from a peer that the test plays itself, and what a backend ignores."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clusters.agent import sctp
from clusters.agent.client import AgentClient, BackendSpec, ProbeRequest
from clusters.agent.crc32c import crc32c
from clusters.agent.sctp_socket import IPPROTO_SCTP, kernel_speaks_sctp
from clusters.agent.wire import answer_line
from clusters.observation import Address, FlowOutcome
from tests.agent.conftest import SCTP_PORT, World

PORT = 7099
COOKIE = b"a cookie"
OWN_TAG, OWN_TSN = 4711, 1000
# What the peer says to a packet: packets with the ports that they come from and go to.
Peer = Callable[[sctp.Packet], list[bytes]]


@contextmanager
def peer(answers: Peer) -> Iterator[None]:
    """Somebody on loopback who answers what comes to a port."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, IPPROTO_SCTP) as sock:
        sock.settimeout(0.02)
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                try:
                    packet = sctp.decode(sock.recv(65535)[20:])
                except TimeoutError:
                    continue
                if packet is not None and packet.dport == PORT:
                    for answer in answers(packet):
                        sock.sendto(answer, ("127.0.0.1", 0))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def honest(packet: sctp.Packet, *, tag: int | None = None, sport: int = PORT, cookie: bytes = COOKIE) -> list[bytes]:
    """What a backend would say; or with another tag, from another port, with another cookie."""
    first = packet.chunks[0]
    if first.kind == sctp.INIT:
        wanted = sctp.parse_init(first.value)
        assert wanted is not None
        chunks = sctp.init(sctp.INIT_ACK, OWN_TAG, OWN_TSN, cookie)
        return [sctp.encode(sport, packet.sport, wanted.tag if tag is None else tag, chunks)]
    return []


def seen(agent: AgentClient, answers: Peer, timeout: float = 0.15) -> tuple[FlowOutcome, str | None]:
    with peer(answers):
        (flow,) = agent.probe(
            [ProbeRequest("host", None, None, "direct", "SCTP", Address("127.0.0.1", PORT))], timeout
        )
    return flow.outcome, flow.errno


def broken(packets: list[bytes]) -> list[bytes]:
    return [packet[:8] + bytes([packet[8] ^ 1]) + packet[9:] for packet in packets]


@pytest.mark.parametrize(
    "lie",
    [
        lambda packet: broken(honest(packet)),
        lambda packet: honest(packet, tag=1),
        lambda packet: honest(packet, sport=PORT + 1),
        lambda packet: honest(packet, cookie=b""),
        lambda packet: [sctp.encode(PORT, packet.sport, 1, sctp.chunk(sctp.ABORT))],
        lambda packet: [sctp.encode(PORT, packet.sport, 0, sctp.chunk(sctp.ABORT, flags=sctp.REFLECTED))],
        lambda packet: [one[:-4] for one in honest(packet)],
    ],
    ids=[
        "a wrong checksum",
        "a wrong tag",
        "another port",
        "no cookie",
        "a blind ABORT",
        "one reflected",
        "cut short",
    ],
)
def test_a_wrong_packet_is_no_answer(agent: AgentClient, lie: Peer) -> None:
    assert seen(agent, lie) == (FlowOutcome.TIMEOUT, "EBADMSG")


def test_silence_is_something_else(agent: AgentClient) -> None:
    assert seen(agent, lambda _: []) == (FlowOutcome.TIMEOUT, None)


@pytest.mark.parametrize("spoilt", [False, True], ids=["right", "wrong checksum"])
def test_an_answer_counts_if_its_checksum_is_right(agent: AgentClient, world: World, spoilt: bool) -> None:
    assert world
    tags = {}

    def answers(packet: sctp.Packet) -> list[bytes]:
        if packet.chunks[0].kind != sctp.COOKIE_ECHO:
            wanted = sctp.parse_init(packet.chunks[0].value)
            tags[packet.sport] = wanted.tag if wanted is not None else 0
            return honest(packet)
        assert (packet.tag, packet.chunks[0].value) == (OWN_TAG, COOKIE)
        message = sctp.parse_data(packet.chunks[1])
        assert message is not None
        token = message.data[1:].split()[0].decode()
        line = answer_line(token, "liar 127.0.0.1 1 127.0.0.1 2", 1, len(message.data))
        chunks = sctp.chunk(sctp.COOKIE_ACK) + sctp.data(OWN_TSN, 0, line)
        packets = [sctp.encode(PORT, packet.sport, tags[packet.sport], chunks)]
        return broken(packets) if spoilt else packets

    expected = (FlowOutcome.TIMEOUT, "EBADMSG") if spoilt else (FlowOutcome.REPLY, None)
    assert seen(agent, answers) == expected


def test_an_abort_with_the_right_tag_refuses(agent: AgentClient) -> None:
    def answers(packet: sctp.Packet) -> list[bytes]:
        wanted = sctp.parse_init(packet.chunks[0].value)
        return [sctp.encode(PORT, packet.sport, wanted.tag, sctp.chunk(sctp.ABORT))] if wanted else []

    assert seen(agent, answers) == (FlowOutcome.REFUSED, "ECONNREFUSED")


def to_web(world: World, packet: bytes) -> bytes:
    """An IPv4 packet from the client to the backend; the kernel fills in its checksum."""
    ends = socket.inet_aton(world.client_ip) + socket.inet_aton(world.ip)
    return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(packet), 1, 0, 64, IPPROTO_SCTP, 0) + ends + packet


def init(tag: int = 0) -> bytes:
    return sctp.encode(23700, SCTP_PORT, tag, sctp.init(sctp.INIT, 77, 1))


@pytest.mark.parametrize(
    "packet",
    [
        broken([init()])[0],
        init()[:-4],
        init(tag=5),
        sctp.encode(23700, SCTP_PORT, 5, sctp.chunk(sctp.COOKIE_ECHO, bytes(24))),
        sctp.encode(23700, SCTP_PORT, 5, sctp.chunk(sctp.COOKIE_ECHO, b"short")),
    ],
    ids=["a wrong checksum", "cut short", "INIT with a tag", "somebody's cookie", "no cookie of ours"],
)
def test_a_backend_counts_what_comes_wrong_and_is_silent(
    server: AgentClient, agent: AgentClient, world: World, packet: bytes
) -> None:
    before = server.strays(["web"])["web", SCTP_PORT], server.counts(["web"])["web", "SCTP", SCTP_PORT]
    with agent.capture(world.client) as capture:
        agent.inject(world.client, to_web(world, packet))
        after = server.strays(["web"])["web", SCTP_PORT], server.counts(["web"])["web", "SCTP", SCTP_PORT]
    assert after == (before[0] + 1, before[1])
    assert [one.direction for one in capture.packets] == ["outgoing"]


def test_a_packet_with_a_wrong_tag_changes_nothing(server: AgentClient, agent: AgentClient, world: World) -> None:
    server.serve([BackendSpec("guarded", world.server, sctp=[7033])])
    with agent.hold(world.request("SCTP", port=7033, sport=23701)) as held:
        for blind in (sctp.chunk(sctp.ABORT), sctp.chunk(sctp.ABORT, flags=sctp.REFLECTED), sctp.shutdown(1)):
            agent.inject(world.client, to_web(world, sctp.encode(23701, 7033, 5, blind)))
        assert server.strays(["guarded"]) == {("guarded", 7033): 3}
        assert held.exchange().outcome is FlowOutcome.REPLY
    server.unserve(["guarded"])


def test_chunks_that_are_none_make_no_packet() -> None:
    def with_checksum(body: bytes) -> bytes:
        head = struct.pack("!HHI", 1, 2, 3)
        return head + struct.pack("<I", crc32c(head + bytes(4) + body)) + body

    assert sctp.decode(with_checksum(sctp.chunk(sctp.SHUTDOWN_ACK))) is not None
    for body in (b"", b"\0\0\0", b"\0\0\0\3", b"\0\0\0\5", b"\0\0\0\4\0"):
        assert sctp.decode(with_checksum(body)) is None
    assert sctp.parse_init(bytes(16)) is None
    assert sctp.parse_init(struct.pack("!IIHHIHH", 1, 0, 1, 1, 0, 7, 2)) is None
    assert sctp.parse_sack(b"") is None


def test_numbers_go_round() -> None:
    assert sctp.after(0xFFFFFFFF) == 0
    assert sctp.after(0, -1) == 0xFFFFFFFF
    assert sctp.is_after(0, 0xFFFFFFFF)
    assert not sctp.is_after(0xFFFFFFFF, 0)
    assert not sctp.is_after(7, 7)


def test_the_kernels_own_sctp_is_noticed(tmp_path: Path) -> None:
    assert not kernel_speaks_sctp(tmp_path)
    (tmp_path / "net" / "sctp").mkdir(parents=True)
    assert kernel_speaks_sctp(tmp_path)
