# SPDX-License-Identifier: Apache-2.0
"""What another node costs: an endpoint on the client's own node, and one on another, through the same Service."""

import pytest

from conformance.sources import HOP
from plugins.requirements import requirement
from plugins.scale.hop import NETWORKS, measure, two_nodes


@pytest.mark.scale(at="fewest")
@requirement(
    "scale.hop.penalty",
    must="Requests, connections and bytes to an endpoint on the same node and on another MUST be measured, with "
    "routes and a VXLAN between nodes, with offloads and without.",
    level="record",
    since="1.0",
    source=HOP,
)
def test_hop(bench, services):
    bench.at(services)

    for network in NETWORKS:
        with two_nodes(bench, network) as hop:
            measure(bench, hop, network)
