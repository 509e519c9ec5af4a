# SPDX-License-Identifier: Apache-2.0
"""Keys and values of the maps as bytes, by the layouts that the loader reads from the object's BTF."""

from collections.abc import Mapping
from struct import Struct
from typing import Protocol


class LayoutLike(Protocol):
    """What is used of the loader's Layout."""

    size: int

    def pack(self, **values: object) -> bytes: ...
    def unpack(self, data: bytes, offset: int = 0) -> dict[str, object]: ...
    def struct(self, *paths: str) -> Struct: ...


class ObjectLike(Protocol):
    """What is used of the loader's BpfObject."""

    @property
    def layouts(self) -> Mapping[str, LayoutLike]: ...
    @property
    def enums(self) -> Mapping[str, Mapping[str, int]]: ...


class Codec:
    """Packers for the hot path, and the numbers behind the names in types.h.

    `frontend` packs service_port, kind, scheduler, flags, affinity_seconds, source_ranges, and first and count of the
    sets `cluster` and `local`; `endpoint` packs address, port (as bytes), flags, service_port, generation and weight,
    and begins with the 18 bytes by which endpoints are known here.
    """

    def __init__(self, object_: ObjectLike) -> None:
        layouts, enums = object_.layouts, object_.enums
        self.layouts = layouts
        self.kind = enums["frontend_kind"]
        self.frontend_flag = enums["frontend_flag"]
        self.endpoint_flag = enums["endpoint_flag"]
        self.address_flag = enums["address_flag"]
        self.device_flag = enums["device_flag"]
        self.config_flag = enums["config_flag"]
        self.scheduler = enums["scheduler"]
        self.counter = enums["counter"]
        self.frontend_key = layouts["frontend_key"].struct("address", "port", "protocol", "family")
        self.frontend = layouts["frontend"].struct(
            "service_port", "kind", "scheduler", "flags", "affinity_seconds", "source_ranges",
            "cluster.first", "cluster.count", "local.first", "local.count",
        )  # fmt: skip
        self.endpoint = layouts["endpoint"].struct("address", "port", "flags", "service_port", "generation", "weight")
        self.range_key = layouts["range_key"].struct("prefix_length", "set", "address")
        self.pod_range_key = layouts["pod_range_key"].struct("prefix_length", "address")

    def endpoint_tail(self, flags: int, service_port: int, generation: int, weight: int) -> bytes:
        """What follows an endpoint's address and port."""
        return self.endpoint.pack(b"", b"", flags, service_port, generation, weight)[18:]
