# SPDX-License-Identifier: Apache-2.0
"""Whether every message of a queue arrived exactly once, by what its two ends have written down."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

SHOWN = 3


@dataclass(frozen=True, slots=True)
class Account:
    """Messages that were put, those that were got, and what went wrong with which (their names)."""

    put: int
    got: int
    lost: tuple[str, ...]
    twice: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types: numbers."""
        return {"put": self.put, "got": self.got, "lost": len(self.lost), "twice": len(self.twice)}

    def must_be_whole(self) -> None:
        """Raise AssertionError, naming the first messages, where one was lost, or given twice."""
        __tracebackhide__ = True
        assert self.put, "no message was put into the queue, so nothing is proved"
        for what, names in (("lost", self.lost), ("delivered twice", self.twice)):
            shown = ", ".join(names[:SHOWN])
            assert not names, f"{len(names)} of {self.put} messages were {what}: {shown}{' …' * (len(names) > SHOWN)}"


def account(receipts: Iterable[str], left: Iterable[str]) -> Account:
    """`receipts` are lines `put NAME` and `got NAME`; `left` are the messages that the broker still has.

    A message whose putting was never answered may have arrived or not: its request has failed already.
    """
    put: set[str] = set()
    got: Counter[str] = Counter()
    for line in receipts:
        what, _, name = line.partition(" ")
        if what == "put":
            put.add(name)
        elif what == "got":
            got[name] += 1
    return Account(
        put=len(put),
        got=got.total(),
        lost=tuple(sorted(put - got.keys() - set(left))),
        twice=tuple(sorted(name for name, count in got.items() if count > 1)),
    )
