# SPDX-License-Identifier: Apache-2.0
"""Services by their number, from 0: how each is called, its ClusterIP, and its objects as the API takes them.

All of them are IPv4, with one port and one EndpointSlice, in a namespace of their own.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from clusters.measure.traffic import PORT, Target

NAMESPACE = "scale"
SERVICE_PORT = 80
SERVICES = f"/api/v1/namespaces/{NAMESPACE}/services"
SLICES = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"
# Behind those that the API server gives out itself at first: the sentinel has one of them.
_FIRST = IPv4Address("10.96.4.0")
_IN_THE_FIRST_RANGE = 60_000
# A ServiceCIDR of its own, for those that the lab's range has no place for.
MORE = "10.97.0.0/16"
_FIRST_OF_MORE = IPv4Address("10.97.1.0")
# Of the embedded API server: lists of objects, and how large they may be.
CREATE = "/plumbline/create"
MOST_AT_ONCE, MOST_BYTES = 1_000, 2_000_000
MOST_SERVICES = _IN_THE_FIRST_RANGE + 60_000


def cluster_ip(number: int) -> str:
    """Of the Service with this number. Raises ValueError for one that there is no address for."""
    if not 0 <= number < MOST_SERVICES:
        raise ValueError(f"there are ClusterIPs for {MOST_SERVICES:,} Services, and {number} is none of them")
    if number < _IN_THE_FIRST_RANGE:
        return str(_FIRST + number)
    return str(_FIRST_OF_MORE + (number - _IN_THE_FIRST_RANGE))


def number_of(ip: str) -> int | None:
    """Of the Service with this ClusterIP; None where it is none of these."""
    address = int(IPv4Address(ip))
    if 0 <= (number := address - int(_FIRST)) < _IN_THE_FIRST_RANGE:
        return number
    number = address - int(_FIRST_OF_MORE) + _IN_THE_FIRST_RANGE
    return number if _IN_THE_FIRST_RANGE <= number < MOST_SERVICES else None


def target(number: int) -> Target:
    """Where it is dialled."""
    return cluster_ip(number), SERVICE_PORT


def needs_more(services: int) -> bool:
    """Whether so many need the ServiceCIDR `MORE`."""
    return services > _IN_THE_FIRST_RANGE


def name(number: int) -> str:
    return f"s-{number}"


def slice_name(number: int) -> str:
    return f"s-{number}-abcde"


@dataclass(frozen=True, slots=True)
class Shape:
    """What all Services of a run have in common: the addresses of endpoints, how many each has, and their port."""

    addresses: Sequence[str]
    each: int
    port: int = PORT

    def endpoints(self, number: int) -> Sequence[str]:
        """The endpoints of a Service: as far as the addresses go, no two Services share one."""
        start = number * self.each
        return [self.addresses[(start + place) % len(self.addresses)] for place in range(self.each)]

    def service(self, number: int) -> bytes:
        """The Service, for a POST to `SERVICES`."""
        ip = cluster_ip(number)
        return (
            f'{{"apiVersion":"v1","kind":"Service","metadata":{{"name":"{name(number)}"}},"spec":{{'
            f'"clusterIP":"{ip}","clusterIPs":["{ip}"],"ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack",'
            f'"ports":[{{"name":"http","port":{SERVICE_PORT},"targetPort":{self.port},"protocol":"TCP"}}]}}}}'
        ).encode()

    def slice(self, number: int, addresses: Sequence[str] | None = None) -> bytes:
        """Its EndpointSlice, for a POST to `SLICES`; with other endpoints where `addresses` are given."""
        chosen = self.endpoints(number) if addresses is None else addresses
        return (
            f'{{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{{"name":"{slice_name(number)}",'
            f'"labels":{{"kubernetes.io/service-name":"{name(number)}",'
            '"endpointslice.kubernetes.io/managed-by":"plumbline"}},"addressType":"IPv4",'
            f'"ports":[{{"name":"http","port":{self.port},"protocol":"TCP"}}],'
            f'"endpoints":[{_endpoints(chosen)}]}}'
        ).encode()

    def lists(self, first: int, last: int) -> Iterator[tuple[str, bytes]]:
        """The same as few requests to the lab's own API server, each small enough for it (see its `create`)."""
        each = max(1, min(MOST_AT_ONCE, MOST_BYTES // len(self.slice(first))))
        for start in range(first, last, each):
            numbers = range(start, min(start + each, last))
            for path, made in ((SERVICES, self.service), (SLICES, self.slice)):
                yield f"{CREATE}{path}", b"[" + b",".join(made(number) for number in numbers) + b"]"

    def objects(self, first: int, last: int) -> Iterator[tuple[str, bytes]]:
        """Path and body of what has to be POSTed for the Services from `first` to before `last`."""
        for number in range(first, last):
            yield SERVICES, self.service(number)
            yield SLICES, self.slice(number)


def new_endpoints(addresses: Sequence[str]) -> dict[str, object]:
    """A merge patch that gives a slice these endpoints and no others."""
    found: dict[str, object] = json.loads(f'{{"endpoints":[{_endpoints(addresses)}]}}')
    return found


def _endpoints(addresses: Sequence[str]) -> str:
    return ",".join(f'{{"addresses":["{address}"],"conditions":{{"ready":true}}}}' for address in addresses)
