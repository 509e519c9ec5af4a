# SPDX-License-Identifier: Apache-2.0
"""What pytest's process tells locust's, and what they call things. Both import it: nothing of either here."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self

VARIABLE = "PLUMBLINE_LOAD"
"""The environment variable that holds an `Order`."""
TELL_SECONDS = 0.5
"""So often workers tell their master, and it tells pytest: what is known may be twice as old."""

HTTP_KEEPALIVE = "HTTP keepalive"
HTTP_NEW = "HTTP new connection"
TCP_LINE = "TCP line"
UDP_DATAGRAM = "UDP datagram"
QUEUE_PUT = "queue put"
QUEUE_MESSAGE = "queue message"

CLASSES: Mapping[str, str] = {
    HTTP_KEEPALIVE: "HttpKeepalive",
    HTTP_NEW: "HttpNew",
    TCP_LINE: "TcpLine",
    UDP_DATAGRAM: "UdpDatagram",
    QUEUE_PUT: "Producer",
    QUEUE_MESSAGE: "Consumer",
}
"""The user classes of users.py, by what their requests are called."""

CONNECTIONS = (HTTP_KEEPALIVE, HTTP_NEW, TCP_LINE)
DATAGRAMS = (UDP_DATAGRAM,)
REQUESTS = (*CONNECTIONS, *DATAGRAMS)
QUEUE = (QUEUE_PUT, QUEUE_MESSAGE)


@dataclass(frozen=True, slots=True)
class Order:
    """Whom to put load on, and how much.

    `users` are how many there are of each kind. Each waits for its answer before it asks again (a closed loop), and
    asks at most `pace` times a second; 0: as often as it can. `deadline` is when a silent connection has failed, and
    `datagram_deadline` a datagram, in seconds. `receipts` is a file to which the queue's users write the names of
    messages: `put NAME` and `got NAME`, a line each.
    """

    ip: str
    users: Mapping[str, int]
    http_port: int
    line_port: int
    queue_port: int
    receipts: str
    pace: float = 0.0
    deadline: float = 5.0
    datagram_deadline: float = 1.0

    def dumps(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> Self:
        return cls(**json.loads(text))
