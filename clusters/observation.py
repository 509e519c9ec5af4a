# SPDX-License-Identifier: Apache-2.0
"""What happened to one flow: the record every probe returns and every verdict is compared with."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Literal

Protocol = Literal["TCP", "UDP", "SCTP"]
Family = Literal["IPv4", "IPv6"]


class FlowOutcome(StrEnum):
    """How a flow ended, as its client saw it.

    `refused` is ECONNREFUSED (a TCP RST to the SYN, or ICMP port unreachable), `unreachable` any other ICMP
    destination-unreachable or local routing error, `reset` an RST after the handshake, `timeout` silence.
    """

    REPLY = "reply"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    RESET = "reset"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class Icmp:
    """An ICMP or ICMPv6 error a client's socket received: its type, its code and who sent it."""

    type: int
    code: int
    sender: str


@dataclass(frozen=True, slots=True)
class Address:
    """One end of a flow: a numeric IP address and a port (1 to 65535)."""

    ip: str
    port: int

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


@dataclass(frozen=True, slots=True)
class Observation:
    """One flow, from the client's first packet to its end.

    Times are seconds since the first packet left; `errno` is a symbolic name (`ECONNREFUSED`). `backend` is the
    name of the backend that answered, `served_at` the address it was reached at (after translation),
    `client_seen` the client's address as that backend saw it, `reply_src` the address the reply came from.
    """

    vantage: str
    node: str | None
    frontend: str
    protocol: Protocol
    family: Family
    src: Address | None
    dst: Address
    outcome: FlowOutcome
    errno: str | None = None
    icmp: Icmp | None = None
    backend: str | None = None
    served_at: Address | None = None
    client_seen: Address | None = None
    reply_src: Address | None = None
    t_connect: float | None = None
    t_first_byte: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The observation as plain JSON types, for `requirements.jsonl`."""
        return {**asdict(self), "outcome": str(self.outcome.value)}
