# SPDX-License-Identifier: Apache-2.0
"""What is known of addresses: the map `addresses`, which the node's own and the Services' virtual ones share."""

from collections.abc import Iterable, Mapping

from dataplane_ref.controller.mirror import MapLike, Mirror


class AddressBook:
    """Counts who needs an address, and keeps its flags right. `enum address_flag` in types.h says what they mean."""

    def __init__(self, of: MapLike, flags: Mapping[str, int]) -> None:
        self.mirror = Mirror(of)
        self.node: dict[bytes, int] = {}
        self._on_node = flags["ON_NODE"]
        self._is_cluster_ip, self._is_virtual = flags["IS_CLUSTER_IP"], flags["IS_VIRTUAL"]
        self._cluster_ips: dict[bytes, int] = {}
        self._virtual_ips: dict[bytes, int] = {}

    def move(
        self,
        old_cluster: Iterable[bytes],
        new_cluster: Iterable[bytes],
        old_virtual: Iterable[bytes],
        new_virtual: Iterable[bytes],
    ) -> None:
        """A Service's addresses were the old ones and are the new ones."""
        if old_cluster != new_cluster:
            self._count(self._cluster_ips, new_cluster, 1)
            self._count(self._cluster_ips, old_cluster, -1)
        if old_virtual != new_virtual:
            self._count(self._virtual_ips, new_virtual, 1)
            self._count(self._virtual_ips, old_virtual, -1)

    def set_node(self, addresses: Mapping[bytes, int]) -> set[bytes]:
        """The node's own addresses with their flags; which of them came, went or changed."""
        changed = {each for each, _ in self.node.items() ^ addresses.items()}
        self.node = dict(addresses)
        for each in changed:
            self._settle(each)
        return changed

    def keep_only_wanted(self) -> None:
        """Drop what an earlier process left."""
        self.mirror.keep_only([*self.node, *self._cluster_ips, *self._virtual_ips])

    def _count(self, counts: dict[bytes, int], addresses: Iterable[bytes], by: int) -> None:
        for each in addresses:
            counts[each] = counts.get(each, 0) + by
            if not counts[each]:
                del counts[each]
            self._settle(each)

    def _settle(self, address: bytes) -> None:
        flags = self.node.get(address, 0)
        if address in self._cluster_ips:
            flags |= self._is_cluster_ip | self._is_virtual
        elif address in self._virtual_ips:
            flags |= self._is_virtual
        if flags & self._on_node:
            flags &= ~self._is_virtual
        if flags:
            self.mirror.put(address, flags.to_bytes(4, "little"))
        else:
            self.mirror.drop(address)
