# SPDX-License-Identifier: Apache-2.0
"""The words both sides share: the line a client sends a backend, its answer, and the agent's rows of results.

A request is `?TOKEN REPLY_PADDING FILLER` and an answer `!TOKEN BACKEND CLIENT_IP CLIENT_PORT LOCAL_IP
LOCAL_PORT EXCHANGE RECEIVED FILLER`, one ASCII line each (one datagram over UDP). The token is the client's
and comes back unchanged; EXCHANGE counts the requests of this TCP connection or SCTP association from 1 (0 over
UDP); RECEIVED is the request's size in bytes, its newline included. An answer never looks like a request, so two
backends cannot talk to each other for ever.

    >>> parse_answer(b"!t1 web 10.0.0.9 4242 10.0.1.2 8080 1 6\\n").backend
    'web'
"""

from typing import NamedTuple

PROTOCOL_VERSION = 1
MAX_LINE = 4 << 20
MAX_DATAGRAM = 65507

# The errno of a flow that ended in a timeout although answers came: none of them carried its token and size.
STRAY_ANSWER = "EBADMSG"


class RequestError(Exception):
    """The caller asked the agent for something that cannot be done; one sentence."""


class Answer(NamedTuple):
    """What a backend says about one request."""

    token: str
    backend: str
    client_ip: str
    client_port: int
    local_ip: str
    local_port: int
    exchange: int
    received: int


class Result(NamedTuple):
    """One flow as the agent reports it; sent as a JSON array, so the order of the fields is the format.

    `icmp` is [type, code, sender]; times are seconds since the flow's first packet.
    """

    outcome: str
    errno: str | None = None
    icmp: tuple[int, int, str] | None = None
    backend: str | None = None
    served_ip: str | None = None
    served_port: int | None = None
    client_ip: str | None = None
    client_port: int | None = None
    reply_ip: str | None = None
    reply_port: int | None = None
    src_ip: str | None = None
    src_port: int | None = None
    t_connect: float | None = None
    t_first_byte: float | None = None
    exchange: int | None = None


def request_line(token: str, reply_padding: int = 0, size: int = 0) -> bytes:
    """A request; `size` is the least number of bytes it shall have, `reply_padding` the filler asked back."""
    line = f"?{token} {reply_padding}"
    if len(line) + 1 < size:
        line += " " + "x" * (size - len(line) - 2)
    return (line + "\n").encode("ascii")


def parse_request(line: bytes) -> tuple[str, int] | None:
    """Token and reply padding of a request, or None when the line is not one."""
    if line[:1] != b"?":
        return None
    words = line[1:].split(None, 2)
    if not words:
        return None
    padding = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
    return words[0].decode("ascii", "replace"), min(padding, MAX_LINE)


def answer_line(
    token: str, identity: str, exchange: int, received: int, padding: int = 0, limit: int = MAX_LINE
) -> bytes:
    """An answer of at most `limit` bytes.

    `identity` is `BACKEND CLIENT_IP CLIENT_PORT LOCAL_IP LOCAL_PORT`, which a connection computes once.
    """
    line = f"!{token} {identity} {exchange} {received}"
    if padding:
        line += " " + "x" * min(padding, limit - len(line) - 2)
    return (line + "\n").encode("ascii", "replace")


def parse_answer(line: bytes) -> Answer | None:
    """The answer in a line, or None when it is none."""
    if line[:1] != b"!":
        return None
    try:
        words = line[1:].decode("ascii").split(None, 8)
        token, backend, client_ip, client_port, local_ip, local_port, exchange, received = words[:8]
        return Answer(
            token,
            backend,
            client_ip,
            int(client_port),
            local_ip,
            int(local_port),
            int(exchange),
            int(received),
        )
    except ValueError:
        return None
