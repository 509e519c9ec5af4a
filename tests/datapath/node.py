# SPDX-License-Identifier: Apache-2.0
"""The datapath without a network: its maps filled by hand, and packets run through its programs one at a time."""

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from dataplane_ref.controller import clock
from dataplane_ref.loader import BpfObject
from dataplane_ref.loader.object import Loaded
from dataplane_ref.loader.programs import RunResult

NODE4, NODE6 = "172.18.0.10", "fd00:172:18::10"
PODS4, PODS6 = "10.244.0.0/16", "fd00:10:244::/48"
MARK = 1 << 29
# The interface that a run without a context sees: lo of this process's namespace.
RUN_IFINDEX = 1
PASS, DROP, REDIRECT, NEXT = 0, 2, 7, 0xFFFFFFFF
NUMBERS = {"TCP": socket.IPPROTO_TCP, "UDP": socket.IPPROTO_UDP, "SCTP": socket.IPPROTO_SCTP}
SECOND = 1_000_000_000


def as_address(text: str) -> dict[str, bytes]:
    """An address as types.h has it: IPv4 mapped into IPv6."""
    number = ipaddress.ip_address(text)
    return {"words": (bytes(10) + b"\xff\xff" + number.packed) if number.version == 4 else number.packed}


def as_prefix(cidr: str) -> tuple[int, dict[str, bytes]]:
    """A range's prefix length over mapped addresses, and its first address."""
    network = ipaddress.ip_network(cidr)
    return network.prefixlen + (96 if network.version == 4 else 0), as_address(str(network.network_address))


@dataclass
class Node:
    """A node's datapath. `settings` are fields of struct config that differ from the defaults."""

    settings: dict[str, Any] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    loaded: Loaded = field(init=False)
    endpoints: int = 0
    members: int = 0
    ports: int = 0

    def __enter__(self) -> Self:
        self.object = BpfObject.open()
        self.loaded = self.object.load(sizes=self.sizes)
        self.configure()
        for cidr in (PODS4, PODS6):
            bits, address = as_prefix(cidr)
            self.put("pod_ranges", "pod_range_key", {"prefix_length": bits, "address": address}, b"\1")
        for own in (NODE4, NODE6):
            self.know(own, "ON_NODE", "SERVES_NODE_PORTS")
        return self

    def __exit__(self, *_: object) -> None:
        self.loaded.close()

    def flags(self, enum: str, *names: str) -> int:
        return sum(self.object.enums[enum][name] for name in names)

    def configure(self, *flags: str, **settings: Any) -> None:
        """Write the one config: detectors for both families and `flags`."""
        values: dict[str, Any] = {
            "node_ipv4": as_address(NODE4),
            "node_ipv6": as_address(NODE6),
            "mark": MARK,
            "loopback": RUN_IFINDEX,
            "epoch": 1,
            "masquerade_first": 61000,
            "masquerade_last": 65535,
            "verdicts": 1,
            "tick_ns": clock.tick_ns(),
            "tcp_established_ns": 3600 * SECOND,
            "tcp_opening_ns": 60 * SECOND,
            "tcp_closing_ns": 60 * SECOND,
            "tcp_closed_ns": 10 * SECOND,
            "udp_ns": 30 * SECOND,
            "udp_stream_ns": 180 * SECOND,
        }
        values |= self.settings | settings
        values["flags"] = self.flags("config_flag", "DETECTS_IPV4", "DETECTS_IPV6", "RECORD_VERDICTS", *flags)
        self.loaded.maps["config"].put(bytes(4), self.object.layouts["config"].pack(**values))

    def put(self, name: str, key_layout: str, key: dict[str, Any], value: bytes) -> None:
        self.loaded.maps[name].put(self.object.layouts[key_layout].pack(**key), value)

    def know(self, address: str, *flags: str) -> None:
        """What `addresses` says of an address."""
        key = as_address(address)["words"]
        self.loaded.maps["addresses"].put(key, self.flags("address_flag", *flags).to_bytes(4, "little"))

    def device(self, *flags: str) -> None:
        """What `devices` says of the interface that runs come in by."""
        value = self.flags("device_flag", *flags).to_bytes(4, "little")
        self.loaded.maps["devices"].put(RUN_IFINDEX.to_bytes(4, "little"), value)

    def endpoint(self, address: str, port: int, *flags: str, generation: int = 1, number: int | None = None) -> int:
        """Write an endpoint that serves and is in both sets, unless `flags` say otherwise; returns its number."""
        if number is None:
            number, self.endpoints = self.endpoints, self.endpoints + 1
        shown = flags or ("SERVING", "IN_CLUSTER", "IN_LOCAL")
        value = self.object.layouts["endpoint"].pack(
            address=as_address(address),
            port=port,
            flags=self.flags("endpoint_flag", *shown),
            generation=generation,
            weight=1,
        )
        self.loaded.maps["endpoints"].put(number.to_bytes(4, "little"), value)
        return number

    def set_of(self, numbers: Sequence[int]) -> dict[str, int]:
        """An extent of `members` with these endpoints."""
        first, self.members = self.members, self.members + len(numbers)
        for place, number in enumerate(numbers, start=first):
            self.loaded.maps["members"].put(place.to_bytes(4, "little"), number.to_bytes(4, "little"))
        return {"first": first, "count": len(numbers)}

    def frontend(
        self,
        address: str | None,
        port: int,
        protocol: str = "TCP",
        *,
        cluster: Sequence[int] = (),
        local: Sequence[int] | None = None,
        kind: str = "CLUSTER_IP",
        flags: Sequence[str] = (),
        scheduler: str = "RANDOM",
        family: int | None = None,
        **fields: int,
    ) -> None:
        """A frontend at an address (None: a node port of `family`), with the endpoints of its two sets."""
        self.ports += 1
        if address is None:
            where, version = {"words": bytes(16)}, family or 4
        else:
            where, version = as_address(address), ipaddress.ip_address(address).version
        key = {"address": where, "port": port, "protocol": NUMBERS[protocol], "family": version}
        value = self.object.layouts["frontend"].pack(
            service_port=self.ports,
            kind=self.flags("frontend_kind", kind),
            scheduler=self.flags("scheduler", scheduler),
            flags=self.flags("frontend_flag", *flags),
            cluster=self.set_of(cluster),
            local=self.set_of(cluster if local is None else local),
            **fields,
        )
        self.put("frontends", "frontend_key", key, value)

    def comes_in(self, packet: bytes) -> RunResult:
        """A frame from a pod or another machine."""
        return self.loaded.programs["plumbline_ingress"].run(packet)

    def goes_out(self, packet: bytes) -> RunResult:
        """A frame of one of the node's own processes."""
        return self.loaded.programs["plumbline_egress"].run(packet)

    @property
    def now(self) -> int:
        """What the datapath's clock shows, in nanoseconds."""
        return clock.now(self.loaded.programs["plumbline_collect"])

    @property
    def verdict(self) -> dict[str, Any]:
        """The last decision, its enums by name."""
        raw = self.object.layouts["verdict"].unpack(self.loaded.maps["verdicts"].get(bytes(4)) or b"")
        for name, enum in (("outcome", "outcome"), ("source", "source_rule"), ("egress", "egress")):
            raw[name] = next(word for word, value in self.object.enums[enum].items() if value == raw[name])
        return raw

    def counter(self, name: str) -> int:
        """How often something has happened."""
        index = self.object.enums["counter"][name]
        value = self.loaded.maps["counters"].get(index.to_bytes(4, "little")) or b""
        return sum(int.from_bytes(value[at : at + 8], "little") for at in range(0, len(value), 8))
