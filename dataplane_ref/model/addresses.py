# SPDX-License-Identifier: Apache-2.0
"""IP addresses as the model compares them: one spelling each, a family, and membership in CIDR ranges."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Literal

Protocol = Literal["TCP", "UDP", "SCTP"]
Family = Literal["IPv4", "IPv6"]
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """Where a flow ends after translation: an address in canonical spelling and a port (1 to 65535)."""

    address: str
    port: int

    @property
    def ip(self) -> str:
        """The address under the name that observations use."""
        return self.address

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


def parse(address: str) -> IPv4Address | IPv6Address:
    """The address as a number; ValueError names what is not an IP address."""
    try:
        return IPv6Address(address) if ":" in address else IPv4Address(address)
    except ValueError:
        raise ValueError(f"{address!r} is not an IP address") from None


@lru_cache(maxsize=1 << 16)
def canonical(address: str) -> str:
    """The one spelling of an address (RFC 5952 for IPv6), so that equal addresses are equal strings."""
    return str(parse(address))


def family_of(address: str) -> Family:
    """The family of a numeric address."""
    return "IPv6" if ":" in address else "IPv4"


def version_of(family: Family) -> int:
    """4 or 6, as the standard library numbers the families."""
    return 6 if family == "IPv6" else 4


def of_family(addresses: Iterable[str], family: Family) -> tuple[str, ...]:
    """The addresses of one family, in the order given."""
    return tuple(address for address in addresses if family_of(address) == family)


def networks(cidrs: Iterable[str]) -> tuple[Network, ...]:
    """CIDR strings as networks; host bits and surrounding blanks are tolerated, as the API tolerates them."""
    try:
        return tuple(ip_network(cidr.strip(), strict=False) for cidr in cidrs)
    except ValueError as error:
        raise ValueError(f"not a CIDR: {error}") from None


def within(address: str, ranges: Iterable[Network]) -> bool:
    """Whether the address lies in one of the ranges; ranges of the other family never hold it."""
    number = parse(address)
    return any(number in network for network in ranges)
