# SPDX-License-Identifier: Apache-2.0
"""A store as a new cluster has it: default namespaces, the ServiceCIDR `kubernetes`, every strategy in place."""

from collections.abc import Sequence
from dataclasses import dataclass

from clusters.apiserver.allocators import Pool, address_span, family_of, port_span
from clusters.apiserver.api import Api, utc_now
from clusters.apiserver.endpointslices import EndpointSlices
from clusters.apiserver.kinds import Registry, Resource
from clusters.apiserver.services import Services
from clusters.apiserver.store import HISTORY, Store
from clusters.apiserver.strategies import (
    PROTECTED_NAMESPACES,
    ConfigMaps,
    CustomResourceDefinitions,
    Endpoints,
    Namespaces,
    Nodes,
    Pods,
    ServiceCidrs,
    Strategy,
)
from clusters.observation import Family


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """What a cluster's administrator decides.

    Service CIDRs (the first names the default family), node ports (first and last), events kept per resource.
    """

    service_cidrs: Sequence[str] = ("10.96.0.0/16", "fd00:10:96::/112")
    node_ports: tuple[int, int] = (30000, 32767)
    history: int = HISTORY

    def __post_init__(self) -> None:
        """Raises ValueError with a sentence that says which value is wrong."""
        families = [family_of(cidr) for cidr in self.service_cidrs]
        if not families or len(families) != len(set(families)):
            raise ValueError("service CIDRs must be one IPv4 range, one IPv6 range, or one of each")
        for cidr in self.service_cidrs:
            address_span(cidr)
        first, last = self.node_ports
        if not 1 <= first <= last <= 65535:
            raise ValueError(f"{first}-{last} is not a range of ports")
        if self.history < 1:
            raise ValueError("the history must keep at least one event")


def new_cluster(config: ClusterConfig | None = None) -> Api:
    """The API of an empty cluster. There is no `kubernetes` Service."""
    config = config or ClusterConfig()
    store, registry = Store(config.history), Registry()
    addresses: dict[Family, Pool] = {"IPv4": Pool(), "IPv6": Pool()}
    ports = Pool()
    ports.add(port_span(*config.node_ports))
    strategies: dict[tuple[str, str, str], Strategy] = {}
    api = Api(store, registry, strategies)
    strategies |= {
        ("", "v1", "namespaces"): Namespaces(),
        ("", "v1", "nodes"): Nodes(),
        ("", "v1", "pods"): Pods(),
        ("", "v1", "configmaps"): ConfigMaps(),
        ("", "v1", "endpoints"): Endpoints(),
        ("", "v1", "services"): Services(addresses, family_of(config.service_cidrs[0]), ports),
        ("discovery.k8s.io", "v1", "endpointslices"): EndpointSlices(),
        ("networking.k8s.io", "v1", "servicecidrs"): ServiceCidrs(addresses, utc_now),
        ("apiextensions.k8s.io", "v1", "customresourcedefinitions"): CustomResourceDefinitions(
            registry, store.begin, api.clear, utc_now
        ),
    }
    for name in PROTECTED_NAMESPACES:
        api.create(_find(registry, "", "namespaces"), "", {"metadata": {"name": name}})
    kubernetes = {"metadata": {"name": "kubernetes"}, "spec": {"cidrs": list(config.service_cidrs)}}
    api.create(_find(registry, "networking.k8s.io", "servicecidrs"), "", kubernetes)
    return api


def _find(registry: Registry, group: str, plural: str) -> Resource:
    found = registry.find(group, "v1", plural)
    assert found is not None
    return found
