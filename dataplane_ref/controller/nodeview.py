# SPDX-License-Identifier: Apache-2.0
"""The maps that are about the node rather than about Services: `config`, `devices` and `pod_ranges`."""

from collections.abc import Mapping

from msgspec import structs

from dataplane_ref.controller import clock, devices
from dataplane_ref.controller.codec import Codec
from dataplane_ref.controller.mirror import MapLike, Mirror
from dataplane_ref.controller.netlink import Interfaces
from dataplane_ref.controller.objects import Node
from dataplane_ref.controller.packed import NO_ADDRESS, address, family_of, network
from dataplane_ref.controller.settings import Settings

KINDS = ("InternalIP", "ExternalIP")
AUTOSCALER_TAINT = "ToBeDeletedByClusterAutoscaler"


def node_ips(node: Node | None) -> dict[int, bytes]:
    """The address that a node is known by, for each family: its first InternalIP, else its first ExternalIP."""
    found: dict[int, bytes] = {}
    listed = (node.status.addresses or ()) if node is not None and node.status is not None else ()
    for kind in KINDS:
        for each in listed:
            if each.type == kind:
                try:
                    packed = address(each.address)
                except ValueError:
                    continue
                found.setdefault(family_of(packed), packed)
    return found


def pod_cidrs(node: Node | None) -> tuple[str, ...]:
    """The ranges that the node's pods get their addresses from."""
    spec = node.spec if node is not None else None
    if spec is None:
        return ()
    return spec.pod_cidrs or ((spec.pod_cidr,) if spec.pod_cidr else ())


def is_eligible(node: Node | None) -> bool:
    """Whether load balancers should send here: the node is not about to go."""
    if node is None:
        return True
    taints = node.spec.taints or () if node.spec is not None else ()
    return not node.metadata.deletionTimestamp and all(each.key != AUTOSCALER_TAINT for each in taints)


class NodeMaps:
    """Writes them, each only where it changes."""

    def __init__(self, maps: Mapping[str, MapLike], codec: Codec, settings: Settings) -> None:
        self.devices = Mirror(maps["devices"])
        self.pod_ranges = Mirror(maps["pod_ranges"])
        self._config, self._verdicts = maps["config"], maps["verdicts"].max_entries
        self._codec, self._settings = codec, settings
        self._written = b""
        self.epoch = 1

    def adopt(self) -> None:
        """Take over what an earlier process left, and go on from its epoch."""
        self.devices.adopt()
        self.pod_ranges.adopt()
        before = self._config.get(bytes(4))
        if before is not None:
            epoch = self._codec.layouts["config"].unpack(before)["epoch"]
            self.epoch = (int(str(epoch)) + 1) & 0xFFFFFFFF

    def way_changed(self) -> None:
        """What flows remember of the way is void."""
        self.epoch = (self.epoch + 1) & 0xFFFFFFFF

    def write(self, node: Node | None, seen: Interfaces) -> int:
        """Bring the maps to this node and these interfaces; how many entries were written."""
        own = node_ips(node)
        ranges = self._pod_ranges(node)
        flags = devices.device_flags(seen, own.values(), self._settings, self._codec.device_flag)
        wanted = {index.to_bytes(4, "little"): value.to_bytes(4, "little") for index, value in flags.items()}
        keys = {self._codec.pod_range_key.pack(bits, base): b"\1" for _, base, bits in ranges}
        for mirror, entries in ((self.devices, wanted), (self.pod_ranges, keys)):
            for key, value in entries.items():
                mirror.put(key, value)
            mirror.keep_only(entries)
        written = self.devices.write() + self.pod_ranges.write()
        written += self._write_config(own, {family for family, _, _ in ranges}, seen)
        return written + self.devices.remove() + self.pod_ranges.remove()

    def _pod_ranges(self, node: Node | None) -> list[tuple[int, bytes, int]]:
        """Family, first address and length of what the local detector takes for pods."""
        if self._settings.detects_by_interface:
            return []
        by_node = self._settings.detect_local == "NodeCIDR"
        given = pod_cidrs(node) if by_node else self._settings.cluster_cidrs
        return [(6 if ":" in each else 4, *network(each)) for each in given]

    def _write_config(self, own: Mapping[int, bytes], detected: set[int], seen: Interfaces) -> int:
        settings, names = self._settings, self._codec.config_flag
        by_interface = settings.detects_by_interface
        wanted = {
            "MASQUERADE_ALL": settings.masquerade_all,
            "DETECT_BY_INTERFACE": by_interface,
            "DETECTS_IPV4": by_interface or 4 in detected,
            "DETECTS_IPV6": by_interface or 6 in detected,
            "LOCALHOST_NODE_PORTS": devices.serves_on_loopback(settings),
            "STRAIGHT": settings.straight,
            **dict.fromkeys(settings.more_flags, True),
        }
        value = self._codec.layouts["config"].pack(
            node_ipv4=own.get(4, NO_ADDRESS),
            node_ipv6=own.get(6, NO_ADDRESS),
            flags=sum(names[name] for name, is_set in wanted.items() if is_set),
            mark=settings.mark,
            loopback=next((index for index, link in seen.links.items() if link.is_loopback), 1),
            epoch=self.epoch,
            masquerade_first=settings.masquerade_ports[0],
            masquerade_last=settings.masquerade_ports[1],
            verdicts=self._verdicts,
            tick_ns=clock.tick_ns(),
            **structs.asdict(settings.timeouts),
        )
        if value == self._written:
            return 0
        self._config.put(bytes(4), value)
        self._written = value
        return 1
