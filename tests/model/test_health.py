# SPDX-License-Identifier: Apache-2.0
"""What load balancers are told: which nodes hold ready endpoints."""

from typing import Any

import pytest

from dataplane_ref.model import Health, health
from tests.model.cluster import CLUSTER_IP, NODE_IP, cluster, endpoint, endpoint_slice, service

DRAINING: dict[str, Any] = {"ready": False, "serving": True, "terminating": True}


def answers(*endpoints: Any, family: Any = "IPv4", **spec: Any) -> dict[str, Health]:
    """Every node's answer about a load balancer's Service under Local policy."""
    body = service(**{"type": "LoadBalancer", "externalTrafficPolicy": "Local", **spec})
    state = cluster(body, endpoint_slice(*endpoints, family=family))
    return {node: health(state, body, node, family) for node in NODE_IP}


def statuses(found: dict[str, Health]) -> list[int | None]:
    return [found[node].status for node in NODE_IP]


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_nodes_with_ready_endpoints_are_healthy(family: str) -> None:
    found = answers("a1", "a2", "b1", family=family)

    assert statuses(found) == [200, 200, 503]
    assert [found[node].local_endpoints for node in NODE_IP] == [2, 1, 0]
    assert found["node-a"].explain() == "default/web: 2 ready endpoints on node-a\noutcome: HTTP 200"


def test_without_endpoints_no_node_is_healthy() -> None:
    assert statuses(answers()) == [503, 503, 503]


def test_terminating_and_unready_endpoints_do_not_count() -> None:
    found = answers(endpoint("a1", **DRAINING), endpoint("b1", ready=False), "c1")

    assert statuses(found) == [503, 503, 200]


def test_an_endpoint_counts_once_however_many_ports_it_has() -> None:
    ports = [{"name": name, "protocol": "TCP", "port": port} for name, port in (("web", 80), ("tls", 443))]
    body = service(type="LoadBalancer", externalTrafficPolicy="Local", ports=ports)
    targets = [{"name": name, "protocol": "TCP", "port": port} for name, port in (("web", 8080), ("tls", 8081))]
    state = cluster(body, endpoint_slice("a1", ports=targets))

    assert health(state, body, "node-a", "IPv4").local_endpoints == 1


@pytest.mark.parametrize(
    "spec", [{"externalTrafficPolicy": "Cluster"}, {"type": "NodePort"}], ids=["cluster policy", "no balancer"]
)
def test_elsewhere_nothing_is_answered(spec: dict[str, str]) -> None:
    found = answers("a1", **spec)

    assert statuses(found) == [None, None, None]
    assert found["node-a"].explain().endswith("outcome: no answer")


def test_nothing_is_answered_in_a_family_that_the_service_lacks() -> None:
    found = answers("a1", family="IPv6", clusterIPs=[CLUSTER_IP], ipFamilies=["IPv4"])

    assert statuses(found) == [None, None, None]
