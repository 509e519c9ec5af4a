# SPDX-License-Identifier: Apache-2.0
"""Cluster addresses and node ports: who has which, and which comes next.

A pool moves forward through its spans and comes back to a released number only after a whole round. A test that
deletes a Service therefore does not hand its address to the next one while stale connection-tracking entries, or a
proxy's delayed clean-up, still speak of it. Given the same requests it makes the same choices.

As upstream, the lowest part of a span is handed out only when the rest is used up, so that numbers a user picks by
hand rarely collide (KEP-3070 for addresses, KEP-3668 for node ports).
"""

import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from clusters.apiserver.names import parsed_address
from clusters.observation import Family


class PoolError(Exception):
    """A number could not be had; the text says why in the API's words."""


class Transaction:
    """What one request reserved, kept when it succeeds and undone when it fails or was only a dry run."""

    def __init__(self, *, dry_run: bool = False) -> None:
        self._dry_run = dry_run
        self._on_commit: list[Callable[[], None]] = []
        self._on_rollback: list[Callable[[], None]] = []

    def on_commit(self, action: Callable[[], None]) -> None:
        self._on_commit.append(action)

    def on_rollback(self, action: Callable[[], None]) -> None:
        self._on_rollback.append(action)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        undo = self._dry_run or kind is not None
        for action in reversed(self._on_rollback) if undo else self._on_commit:
            action()


@dataclass(slots=True)
class Span:
    """The numbers `first` to `last`, of which the lowest `manual` are left to people who pick by hand."""

    first: int
    last: int
    manual: int
    label: str
    cursor: int = 0
    """The offset in the automatic part at which the next search begins."""

    def __contains__(self, number: int) -> bool:
        return self.first <= number <= self.last

    def candidates(self) -> Iterator[int]:
        """Every number once, in the order in which they are to be tried."""
        start = self.first + self.manual
        size = self.last - start + 1
        for step in range(size):
            yield start + (self.cursor + step) % size
        yield from range(self.first, start)

    def passed(self, number: int) -> None:
        """`number` was handed out: the next search begins behind it."""
        start = self.first + self.manual
        if number >= start:
            self.cursor = (number + 1 - start) % (self.last - start + 1)


class Pool:
    """A set of numbers that each have at most one holder."""

    def __init__(self) -> None:
        self._spans: list[Span] = []
        self._taken: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._spans)

    def add(self, span: Span) -> None:
        self._spans.append(span)

    def drop(self, label: str) -> None:
        """Stop offering the span called `label`; what is held from it stays held."""
        self._spans = [span for span in self._spans if span.label != label]

    def take(self, number: int, transaction: Transaction, what: str) -> None:
        """Reserve `number`; raises PoolError if it is held or outside every span (`what`: "IP" or "port")."""
        if not any(number in span for span in self._spans):
            labels = ", ".join(span.label for span in self._spans)
            raise PoolError(f"provided {what} is not in the valid range. The range of valid {what}s is {labels}")
        if number in self._taken:
            raise PoolError(f"provided {what} is already allocated")
        self._hold(number, transaction)

    def take_next(self, transaction: Transaction) -> int:
        """Reserve the next free number; raises PoolError when there is none."""
        for span in self._spans:
            for number in span.candidates():
                if number not in self._taken:
                    span.passed(number)
                    self._hold(number, transaction)
                    return number
        raise PoolError("range is full")

    def release(self, number: int, transaction: Transaction) -> None:
        """Give `number` back once the transaction commits."""
        transaction.on_commit(lambda: self._taken.discard(number))

    def _hold(self, number: int, transaction: Transaction) -> None:
        self._taken.add(number)
        transaction.on_rollback(lambda: self._taken.discard(number))


def port_span(first: int, last: int) -> Span:
    """Node ports `first` to `last`, both included."""
    size = last - first + 1
    manual = min(max(16, size // 32), 128) if size > 16 else 0
    return Span(first, last, manual, f"{first}-{last}")


def address_span(cidr: str) -> Span:
    """The usable addresses of a Service CIDR: not its first and, for IPv4, not its last. Raises ValueError."""
    network = ipaddress.ip_network(cidr)
    first, last = int(network.network_address) + 1, int(network.broadcast_address)
    if network.version == 4:
        last -= 1
    if last < first:
        raise ValueError(f"{cidr} holds no usable address")
    size = last - first + 1
    manual = min(max(16, size // 16), 256) if size > 16 else 0
    return Span(first, last, manual, cidr)


def family_of(address: str) -> Family:
    """The IP family of an address or CIDR in text form."""
    return "IPv6" if ":" in address else "IPv4"


def address_number(address: str) -> int:
    """The number of an address; raises ValueError for text that is none."""
    found = parsed_address(address)
    if found is None:
        raise ValueError(f"{address!r} is no address")
    return int(found)


def address_text(number: int, family: Family) -> str:
    """The canonical text of an address."""
    return str(ipaddress.IPv4Address(number) if family == "IPv4" else ipaddress.IPv6Address(number))
