# SPDX-License-Identifier: Apache-2.0
"""One loaded datapath for many tests: emptied in between, and packets come in by an interface that one may name."""

import socket
import struct
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from dataplane_ref.controller.crc import crc_tables
from tests.datapath.network import PODS, UPLINK
from tests.datapath.node import NODE4, NODE6, PODS4, PODS6, Node, as_address, as_prefix

STATE = ("flows", "affinities", "fragments")
SECOND4 = "172.19.0.10"
CONTEXT_BYTES = 192  # of struct __sk_buff, as far as a run needs it
MARK_AT, IFINDEX_AT = 8, 40  # offsets in it (linux/bpf.h)


@dataclass(frozen=True)
class Sent:
    """What a program did with a packet: its action, the packet and its mark afterwards."""

    action: int
    packet: bytes
    mark: int


class Bench(Node):
    """A node with two interfaces, to outside and to its pods; `reset` makes it as it was in the beginning."""

    @cached_property
    def interfaces(self) -> dict[str, int]:
        """By name, of the network that was entered first."""
        return {name: index for index, name in socket.if_nameindex()}

    def reset(self) -> None:
        for name in (*STATE, "frontends", "source_ranges", "pod_ranges", "addresses", "devices"):
            self.empty(name)
        for name in ("endpoint_states", "cursors", "endpoints"):
            kept = self.loaded.maps[name]
            for number in range(max(self.endpoints, self.ports) + 2):
                kept.put(struct.pack("=I", number), bytes(kept.value_bytes))
        self.loaded.maps["crc_tables"].put(bytes(4), _crc_tables())
        counters = self.loaded.maps["counters"]
        for number in range(self.object.enums["counter"]["COUNTERS"]):
            counters.put(struct.pack("=I", number), bytes(counters.value_bytes))
        self.endpoints = self.members = self.ports = 0
        self.configure()
        for cidr in (PODS4, PODS6):
            bits, address = as_prefix(cidr)
            self.put("pod_ranges", "pod_range_key", {"prefix_length": bits, "address": address}, b"\1")
        for own in (NODE4, SECOND4, NODE6):
            self.know(own, "ON_NODE", "SERVES_NODE_PORTS")
        for name, flag in ((UPLINK, "UPLINK"), (PODS, "TOWARDS_PODS")):
            value = self.flags("device_flag", flag).to_bytes(4, "little")
            self.loaded.maps["devices"].put(self.interfaces[name].to_bytes(4, "little"), value)

    def empty(self, name: str) -> None:
        """Remove all entries of a hash table."""
        entries = self.loaded.maps[name]
        keys = list(entries.keys())
        entries.delete_many(b"".join(keys), len(keys))

    def send(self, packet: bytes, *, by: str = UPLINK, out: bool = False, mark: int = 0) -> Sent:
        """A frame that comes in by an interface, or that one of the node's processes sends `out` by it."""
        ctx = bytearray(CONTEXT_BYTES)
        struct.pack_into("=I", ctx, MARK_AT, mark)
        struct.pack_into("=I", ctx, IFINDEX_AT, self.interfaces[by])
        program = self.loaded.programs["plumbline_egress" if out else "plumbline_ingress"]
        result = program.run(packet, ctx=bytes(ctx))
        return Sent(result.retval, result.data, struct.unpack_from("=I", result.ctx, MARK_AT)[0])

    @property
    def counted(self) -> dict[str, int]:
        """All counters that are not zero."""
        names = [name for name in self.object.enums["counter"] if name != "COUNTERS"]
        return {name: number for name in names if (number := self.counter(name))}

    def entries(self, name: str, key: str, value: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Keys and values of a map, by the layouts of both."""
        layouts = self.object.layouts
        return [
            (layouts[key].unpack(one), layouts[value].unpack(other)) for one, other in self.loaded.maps[name].items()
        ]

    @property
    def flows(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        return self.entries("flows", "tuple", "flow")

    def expire(self, name: str = "flows", *, at: int = 1) -> None:
        """Let the time of all entries end `at` that moment (by the datapath's clock)."""
        layout = self.object.layouts[{"flows": "flow", "affinities": "affinity", "fragments": "fragment"}[name]]
        offset = layout.fields["expires"].offset
        for key, value in list(self.loaded.maps[name].items()):
            self.loaded.maps[name].put(key, value[:offset] + at.to_bytes(8, "little") + value[offset + 8 :])

    def age(self, ns: int) -> None:
        """Let all flows have been refreshed so much earlier."""
        field = self.object.layouts["flow"].fields["refreshed"]
        for key, value in list(self.loaded.maps["flows"].items()):
            before = int.from_bytes(value[field.offset : field.offset + 8], "little") - ns
            changed = value[: field.offset] + before.to_bytes(8, "little") + value[field.offset + 8 :]
            self.loaded.maps["flows"].put(key, changed)

    def active(self, endpoint: int) -> int:
        """How many flows count as active at an endpoint."""
        raw = self.loaded.maps["endpoint_states"].get(endpoint.to_bytes(4, "little")) or b""
        return int(self.object.layouts["endpoint_state"].unpack(raw)["active"])

    def restrict(self, ranges: int, *cidrs: str) -> None:
        """Write a set of source ranges."""
        for cidr in cidrs:
            bits, address = as_prefix(cidr)
            key = {"prefix_length": 32 + bits, "set": ranges, "address": address}
            self.put("source_ranges", "range_key", key, b"\1")


@cache
def _crc_tables() -> bytes:
    return crc_tables()


def text_of(address: dict[str, bytes] | bytes) -> str:
    """An address as types.h has it, as text."""
    import ipaddress

    words = address["words"] if isinstance(address, dict) else address
    number = ipaddress.IPv6Address(words)
    return str(number.ipv4_mapped or number)


__all__ = ["Bench", "Sent", "as_address", "text_of"]
