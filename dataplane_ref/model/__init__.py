# SPDX-License-Identifier: Apache-2.0
"""The model: what the Kubernetes API says must happen to a flow. Pure Python, written from the documentation.
 Read in this order: `state` (what is known), `frontends` (what can be dialled), `endpoints` (who may answer),
`source` (whom they see), `decide` (all of it together: the verdict), `continuity` (flows over time), `judge`
(compared with what happened), and `health` (what load balancers are told).
"""

from dataplane_ref.model.addresses import Endpoint
from dataplane_ref.model.continuity import Affinity, Past, first_packet, next_packet, past_after_change
from dataplane_ref.model.decide import verdict
from dataplane_ref.model.flow import Entry, Flow, FromNode, FromOutside, FromPod
from dataplane_ref.model.health import Health, health
from dataplane_ref.model.judge import judge
from dataplane_ref.model.source import SourceRule
from dataplane_ref.model.state import ClusterState, NodeView, ProxyConfig
from dataplane_ref.model.verdict import IcmpExpectation, Verdict

__all__ = [
    "Affinity",
    "ClusterState",
    "Endpoint",
    "Entry",
    "Flow",
    "FromNode",
    "FromOutside",
    "FromPod",
    "Health",
    "IcmpExpectation",
    "NodeView",
    "Past",
    "ProxyConfig",
    "SourceRule",
    "Verdict",
    "first_packet",
    "health",
    "judge",
    "next_packet",
    "past_after_change",
    "verdict",
]
