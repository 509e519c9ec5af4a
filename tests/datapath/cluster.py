# SPDX-License-Identifier: Apache-2.0
"""Maps that are dictionaries, API objects in a few words, and a node's datapath made of them."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from dataplane_ref.controller.codec import Codec
from dataplane_ref.controller.netlink import Interface, Interfaces
from dataplane_ref.controller.packed import address, text
from dataplane_ref.controller.resources import NODES, SERVICES, SLICES, watched
from dataplane_ref.controller.settings import Settings
from dataplane_ref.controller.state import NodeDatapath
from dataplane_ref.loader import BpfObject

BPF = BpfObject.open()
CODEC = Codec(BPF)
NODE, ZONE, NODE_IP, NODE_IP6 = "node-a", "zone-1", "192.0.2.1", "2001:db8::1"
ARRAYS = ("config", "members", "endpoints", "cursors", "verdicts")
SIZES = {"frontends": 64, "members": 256, "endpoints": 64, "addresses": 64, "cursors": 32, "source_ranges": 16}
INTERFACES = Interfaces(
    {
        1: Interface(1, "lo", 772, is_loopback=True),
        2: Interface(2, "eth0", 1),
        3: Interface(3, "veth1", 1, "veth", has_far_peer=True),
    },
    frozenset({(2, address(NODE_IP)), (2, address(NODE_IP6)), (1, address("127.0.0.1"))}),
)


class FakeMap:
    """A map of the object's layout. `history` tells all maps' writes in their order."""

    def __init__(self, name: str, size: int, history: list[tuple[str, str, bytes]]) -> None:
        definition = BPF.definitions[name]
        self.name, self.max_entries = name, size
        self.key_size, self.value_size = definition.key_size, definition.value_size
        self.is_array = name in ARRAYS
        self.entries: dict[bytes, bytes] = {}
        self.history = history

    def get(self, key: bytes) -> bytes | None:
        found = self.entries.get(key)
        return bytes(self.value_size) if found is None and self.is_array else found

    def put(self, key: bytes, value: bytes, flags: int = 0) -> None:
        assert (len(key), len(value), flags) == (self.key_size, self.value_size, 0)
        if self.is_array:
            assert int.from_bytes(key, "little") < self.max_entries
        self.entries[key] = value
        assert len(self.entries) <= self.max_entries, f"{self.name} is full"
        self.history.append((self.name, "put", key))

    def put_many(self, keys: bytes, values: bytes, count: int) -> None:
        assert (len(keys), len(values)) == (count * self.key_size, count * self.value_size)
        for place in range(count):
            key = keys[place * self.key_size : (place + 1) * self.key_size]
            self.put(key, values[place * self.value_size : (place + 1) * self.value_size])

    def delete(self, key: bytes) -> bool:
        self.history.append((self.name, "delete", key))
        return self.entries.pop(key, None) is not None

    def delete_many(self, keys: bytes, count: int) -> int:
        assert len(keys) == count * self.key_size
        return sum(self.delete(keys[at : at + self.key_size]) for at in range(0, len(keys), self.key_size))

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        yield from list(self.entries.items())

    def batches(self) -> Iterator[tuple[bytes, bytes, int]]:
        if self.is_array:
            keys = [number.to_bytes(4, "little") for number in range(self.max_entries)]
            yield b"".join(keys), b"".join(self.get(key) or b"" for key in keys), len(keys)
        else:
            yield b"".join(self.entries), b"".join(self.entries.values()), len(self.entries)


class FakeNode:
    """A node's datapath over fake maps; what it says is kept in `said`."""

    def __init__(
        self, sizes: Mapping[str, int] = SIZES, maps: dict[str, FakeMap] | None = None, **settings: Any
    ) -> None:
        self.history: list[tuple[str, str, bytes]] = []
        names = ("devices", "pod_ranges", "config", "verdicts", *SIZES)
        self.maps = maps or {name: FakeMap(name, sizes.get(name, 64), self.history) for name in names}
        self.said: list[str] = []
        given = {"node": NODE, "cluster_cidrs": ("10.0.0.0/8", "fd00::/8")} | settings
        self.datapath = NodeDatapath(self.maps, CODEC, Settings(**given), self.said.append)
        self._resources = {each.name: each for each in watched(NODE)}
        if maps is not None:
            self.datapath.adopt()
            self.history = next(iter(maps.values())).history
            self.history.clear()
        self.datapath.see(INTERFACES)
        self.apply(NODES, node())

    def apply(self, resource: str, *objects: Mapping[str, Any]) -> None:
        """What a watch would tell."""
        for each in objects:
            converted = self._resources[resource].convert(msgspec.Raw(msgspec.json.encode(each)))
            assert converted is not None
            self.datapath.change(resource, *converted)

    def serve(self, service: Mapping[str, Any], *slices: Mapping[str, Any]) -> None:
        self.apply(SERVICES, service)
        self.apply(SLICES, *slices)
        self.datapath.program()

    def remove(self, resource: str, name: str) -> None:
        self.datapath.change(resource, ("default", name), None)
        self.datapath.program()

    def frontend(self, ip: str, port: int = 80, protocol: int = 6) -> dict[str, Any] | None:
        """What is in `frontends`; `ip` may be `4` or `6` for a node port of that family."""
        packed = bytes(16) if ip in ("4", "6") else address(ip)
        family = int(ip) if ip in ("4", "6") else 6 if ":" in ip else 4
        key = CODEC.frontend_key.pack(packed, port.to_bytes(2, "big"), protocol, family)
        value = self.maps["frontends"].entries.get(key)
        return None if value is None else CODEC.layouts["frontend"].unpack(value)

    def numbers(self, ip: str, port: int = 80, which: str = "cluster", protocol: int = 6) -> list[int]:
        """The numbers of endpoints in a frontend's set, in the set's order."""
        found = self.frontend(ip, port, protocol)
        assert found is not None, f"there is no frontend {ip} {port}"
        places = range(found[which]["first"], found[which]["first"] + found[which]["count"])
        members = self.maps["members"]
        return [int.from_bytes(members.entries[place.to_bytes(4, "little")], "little") for place in places]

    def endpoint(self, number: int) -> dict[str, Any]:
        return CODEC.layouts["endpoint"].unpack(self.maps["endpoints"].entries[number.to_bytes(4, "little")])

    def addresses(self, ip: str, port: int = 80, which: str = "cluster", protocol: int = 6) -> list[str]:
        """The addresses of a frontend's set, in the set's order."""
        return [self.address_of(number) for number in self.numbers(ip, port, which, protocol)]

    def address_of(self, number: int) -> str:
        value = self.maps["endpoints"].entries[number.to_bytes(4, "little")]
        return text(value[:16])

    def flags(self, number: int) -> set[str]:
        given = self.endpoint(number)["flags"]
        return {name for name, bit in CODEC.endpoint_flag.items() if given & bit}

    def address_flags(self, ip: str) -> set[str]:
        given = int.from_bytes(self.maps["addresses"].entries.get(address(ip), b""), "little")
        return {name for name, bit in CODEC.address_flag.items() if given & bit}

    def frontend_flags(self, ip: str, port: int = 80) -> set[str]:
        found = self.frontend(ip, port)
        assert found is not None
        return {name for name, bit in CODEC.frontend_flag.items() if found["flags"] & bit}


def node(**labels: str) -> dict[str, Any]:
    return {
        "metadata": {"name": NODE, "labels": {"topology.kubernetes.io/zone": ZONE} | labels},
        "spec": {"podCIDRs": ["10.1.0.0/24", "fd00:1::/64"]},
        "status": {"addresses": [{"type": "InternalIP", "address": each} for each in (NODE_IP, NODE_IP6)]},
    }


def service(name: str = "web", *, ips: tuple[str, ...] = ("10.96.0.1",), **spec: Any) -> dict[str, Any]:
    """A Service; `annotations`, `labels` and `ingress` go where they belong, all else into its spec."""
    metadata = {
        "name": name,
        "namespace": "default",
        "creationTimestamp": spec.pop("created", "2026-01-01T00:00:00Z"),
    }
    metadata |= {key: spec.pop(key) for key in ("annotations", "labels") if key in spec}
    ingress = spec.pop("ingress", [])
    spec = {"type": "ClusterIP", "clusterIP": ips[0], "clusterIPs": list(ips), "ports": [{"port": 80}]} | spec
    return {"metadata": metadata, "spec": spec, "status": {"loadBalancer": {"ingress": ingress}}}


def endpoint(ip: str, node: str = "node-b", **more: Any) -> dict[str, Any]:
    """An endpoint; conditions and hints (`zones`, `nodes`) by name."""
    conditions = {key: more.pop(key) for key in ("ready", "serving", "terminating") if key in more}
    hints = {
        f"for{key.title()}": [{"name": each} for each in more.pop(key)] for key in ("zones", "nodes") if key in more
    }
    return (
        {"addresses": [ip], "nodeName": node, "conditions": conditions} | ({"hints": hints} if hints else {}) | more
    )


def endpoint_slice(
    *endpoints: dict[str, Any] | str, name: str = "web-1", of: str = "web", **more: Any
) -> dict[str, Any]:
    """A slice of port 8080, whose endpoints may be given by their addresses."""
    listed = [endpoint(each) if isinstance(each, str) else each for each in endpoints]
    is_ipv6 = any(":" in each["addresses"][0] for each in listed)
    labels = {"kubernetes.io/service-name": of} | more.pop("labels", {})
    return {
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "addressType": "IPv6" if is_ipv6 else "IPv4",
        "ports": [{"port": 8080}],
        "endpoints": listed,
    } | more
