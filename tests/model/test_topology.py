# SPDX-License-Identifier: Apache-2.0
"""Topology hints: all or nothing, nodes before zones, and never down to no endpoint."""

from dataclasses import replace
from typing import Any

import pytest

from dataplane_ref.model import ClusterState, Flow, verdict
from tests.model.cluster import (
    CLUSTER_IP,
    NODE_IP,
    NODE_PORT,
    NODES,
    OUTSIDE,
    at,
    cluster,
    endpoint,
    endpoint_slice,
    from_pod,
    service,
)

BY_ZONE = {"zones": ["zone-1"]}, {"zones": ["zone-1"]}, {"zones": ["zone-2"]}
BY_NODE = {"nodes": ["node-a"]}, {"nodes": ["node-b"]}, {"nodes": ["node-b"]}
DRAINING = {"ready": False, "serving": True, "terminating": True}


def hinted(*hints: dict[str, Any], extra: tuple[dict[str, Any], ...] = (), **spec: Any) -> ClusterState:
    """A Service with endpoints a1, b1 and c1, hinted in this order."""
    items = [endpoint(pod, **hint) for pod, hint in zip(("a1", "b1", "c1"), hints, strict=True)]
    return cluster(service(**spec), endpoint_slice(*items, *extra))


def answering(state: ClusterState, client: str) -> set[str]:
    """The pods that may answer a client pod at the ClusterIP."""
    answers = verdict(state, Flow(from_pod(client), "TCP", CLUSTER_IP, 80)).answers
    return {pod for pod in ("a1", "a2", "b1", "c1", "c2") if at(pod) in answers}


@pytest.mark.parametrize(
    ("says", "hints", "expected"),
    [
        ("no hints", ({}, {}, {}), {"a2": {"a1", "b1", "c1"}}),
        ("zone hints", BY_ZONE, {"a2": {"a1", "b1"}, "b2": {"a1", "b1"}, "c2": {"c1"}}),
        ("one missing zone hint", (*BY_ZONE[:2], {}), {"a2": {"a1", "b1", "c1"}, "c2": {"a1", "b1", "c1"}}),
        ("an empty hint is no hint", (*BY_ZONE[:2], {"zones": []}), {"a2": {"a1", "b1", "c1"}}),
        ("no hint for this zone", ({"zones": ["zone-1"]},) * 3, {"c2": {"a1", "b1", "c1"}}),
        ("several zones in one hint", ({"zones": ["zone-1", "zone-2"]}, *BY_ZONE[1:]), {"c2": {"a1", "c1"}}),
        ("node hints", BY_NODE, {"a2": {"a1"}, "b2": {"b1", "c1"}}),
        ("no node hint for this node", BY_NODE, {"c2": {"a1", "b1", "c1"}}),
        ("one missing node hint", (BY_NODE[0], {}, BY_NODE[2]), {"a2": {"a1", "b1", "c1"}}),
        (
            "node hints come first",
            tuple({**node, **zone} for node, zone in zip(BY_NODE, BY_ZONE, strict=True)),
            {"a2": {"a1"}, "b2": {"b1", "c1"}, "c2": {"c1"}},
        ),
        (
            "zone hints where one node hint is missing",
            ({**BY_NODE[0], **BY_ZONE[0]}, BY_ZONE[1], {**BY_NODE[2], **BY_ZONE[2]}),
            {"a2": {"a1", "b1"}, "c2": {"c1"}},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_hints(says: str, hints: tuple[dict[str, Any], ...], expected: dict[str, set[str]]) -> None:
    state = hinted(*hints)

    assert {client: answering(state, client) for client in expected} == expected, says


def test_hints_need_no_annotation_and_work_for_node_ports_too() -> None:
    state = hinted(*BY_ZONE)

    answers = verdict(state, Flow(OUTSIDE, "TCP", NODE_IP["node-c"], NODE_PORT)).answers

    assert set(answers) == {at("c1")}


def test_unready_endpoints_neither_need_hints_nor_lend_them() -> None:
    state = hinted(*BY_ZONE, extra=(endpoint("c2", ready=False),))
    unready_in_zone = hinted(*({"zones": ["zone-1"]},) * 3, extra=(endpoint("c2", ready=False, zones=["zone-2"]),))

    assert answering(state, "c2") == {"c1"}
    assert answering(unready_in_zone, "c2") == {"a1", "b1", "c1"}


def test_the_terminating_fallback_ignores_hints() -> None:
    state = hinted(*({**DRAINING, **hint} for hint in BY_ZONE))

    assert answering(state, "c2") == {"a1", "b1", "c1"}


def test_local_policy_ignores_hints() -> None:
    state = hinted(*({"zones": ["zone-2"]},) * 3, internalTrafficPolicy="Local")

    assert answering(state, "a2") == {"a1"}


def test_a_node_without_a_zone_ignores_zone_hints() -> None:
    state = hinted(*BY_ZONE)
    zoneless = replace(state, nodes=(replace(NODES[0], zone=None), *NODES[1:]))

    assert answering(zoneless, "a2") == {"a1", "b1", "c1"}


def test_the_reason_names_the_hint_that_decided() -> None:
    flow = Flow(from_pod("a2"), "TCP", CLUSTER_IP, 80)

    assert "hinted for zone zone-1" in verdict(hinted(*BY_ZONE), flow).reason
    assert "hinted for node-a" in verdict(hinted(*BY_NODE), flow).reason
