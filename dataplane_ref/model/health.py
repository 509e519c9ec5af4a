# SPDX-License-Identifier: Apache-2.0
"""What a load balancer's health check must be told about a Service on a node (`spec.healthCheckNodePort`).

Sources: the Service API reference (`healthCheckNodePort`: "determine if a given node holds endpoints"),
https://kubernetes.io/docs/tutorials/services/source-ip/#source-ip-for-services-with-type-loadbalancer, and KEP-1669:
terminating endpoints do not count, so that a node that drains is taken out while it still serves.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dataplane_ref.model.addresses import Family
from dataplane_ref.model.frontends import cluster_ips, service_ports
from dataplane_ref.model.state import ClusterState

OK, UNAVAILABLE = 200, 503


@dataclass(frozen=True, slots=True)
class Health:
    """What a node's health check node port answers: an HTTP status, or None where nothing must answer.

    `local_endpoints` is how many ready endpoints of the Service the node holds, each address counted once.
    """

    service: str
    status: int | None
    local_endpoints: int
    reason: str

    def explain(self) -> str:
        """The answer in words, for the message of a failure."""
        answer = f"HTTP {self.status}" if self.status else "no answer"
        return f"{self.service}: {self.reason}\noutcome: {answer}"


def health(state: ClusterState, service: Mapping[str, Any], node: str, family: Family) -> Health:
    """The health check of a Service (its API object) on a node, at the node's address of a family."""
    metadata, spec = service["metadata"], service["spec"]
    name = f"{metadata.get('namespace') or 'default'}/{metadata['name']}"
    if spec.get("type") != "LoadBalancer" or spec.get("externalTrafficPolicy") != "Local":
        return Health(name, None, 0, "only load balancers under Local policy have a health check node port")
    if family not in cluster_ips(service):
        return Health(name, None, 0, f"the Service has no {family}")
    local = {
        record.endpoint.address
        for port, _ in service_ports(service)
        for record in state.endpoints(port, family)
        if record.ready and node in record.nodes
    }
    status = OK if local else UNAVAILABLE
    return Health(name, status, len(local), f"{len(local)} ready endpoints on {node}")
