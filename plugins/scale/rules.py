# SPDX-License-Identifier: Apache-2.0
"""One rule changed by the kernel's own means, without a proxy: what no update can be quicker than.

Beside it stands what the tool takes to change nothing: for a program its start, for a map the same in an empty one.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from dataplane_ref.loader.create import create
from dataplane_ref.loader.maps import Definition, Map
from plugins.scale.bench import Bench
from plugins.world import UnfitError

BARE = "one bare rule"
# To an address of documentation (RFC 5737), so that it is nobody's.
_IPTABLES = ("-t", "nat", "{}", "OUTPUT", "-d", "203.0.113.9", "-j", "RETURN")
_ELEMENT = "{ 203.0.113.9 . tcp . 9 : drop }"
# How a mode's tool adds a rule, and removes it again.
COMMANDS: Mapping[str, tuple[Sequence[str], Sequence[str]]] = {
    "iptables": (
        ["iptables", "-w", *(word.format("-A") for word in _IPTABLES)],
        ["iptables", "-w", *(word.format("-D") for word in _IPTABLES)],
    ),
    "nftables": (
        ["nft", "add", "element", "ip", "kube-proxy", "service-ips", _ELEMENT],
        ["nft", "delete", "element", "ip", "kube-proxy", "service-ips", _ELEMENT],
    ),
    "ipvs": (
        ["ipvsadm", "-A", "-t", "203.0.113.9:9", "-s", "rr"],
        ["ipvsadm", "-D", "-t", "203.0.113.9:9"],
    ),
}
HASH, KEY, VALUE, UPDATES = 1, 16, 64, 200


@dataclass(frozen=True, slots=True)
class Tool:
    """Seconds of one change, and of what changes nothing; what the latter is called."""

    change: Callable[[], float]
    nothing: Callable[[], float]
    nothing_is: str


@contextmanager
def tool(bench: Bench) -> Iterator[Tool]:
    """The mode's own. Raises UnfitError where nobody knows one."""
    mode = bench.run.proxy.mode
    if mode == "ebpf":
        with _hash(bench.services) as full, _hash(1) as empty:
            yield Tool(lambda: _updated(full), lambda: _updated(empty), "an update of an empty map")
    elif mode in COMMANDS:
        add, remove = COMMANDS[mode]

        def change() -> float:
            seconds = _timed(bench, add)
            _timed(bench, remove)
            return seconds

        yield Tool(change, lambda: _timed(bench, ["true"]), "a command that does nothing")
    else:
        raise UnfitError(f"mode {mode} has no tool of its own that would change a rule")


def _timed(bench: Bench, command: Sequence[str]) -> float:
    began = time.monotonic()
    done = bench.lab.supervisor.run(command, node=bench.node.name)
    seconds = time.monotonic() - began
    if done.status != 0:
        raise UnfitError(f"{command[0]} could not change a rule: {done.err.strip()}")
    return seconds


@contextmanager
def _hash(entries: int) -> Iterator[Map]:
    """A map with so many entries, and room for one more."""
    definition = Definition("bare", HASH, KEY, VALUE, entries + 1, 0)
    filled = Map(create(definition, 0), definition)
    try:
        filled.put_many(b"".join(_key(number) for number in range(entries)), bytes(VALUE * entries), entries)
        yield filled
    finally:
        filled.close()


def _updated(one: Map) -> float:
    """Seconds of one update, the median of many."""
    key, value, found = _key(one.max_entries), bytes(VALUE), []
    for _ in range(UPDATES):
        began = time.perf_counter()
        one.put(key, value)
        found.append(time.perf_counter() - began)
        one.delete(key)
    return statistics.median(found)


def _key(number: int) -> bytes:
    return number.to_bytes(KEY, "little")
