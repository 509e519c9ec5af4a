# SPDX-License-Identifier: Apache-2.0
"""Flows over time: what may happen to the next packet after the cluster has changed; a row of the table per test."""

from typing import Any

import pytest

from dataplane_ref.model import Affinity, ClusterState, Flow, Past, first_packet, next_packet, verdict
from dataplane_ref.model.continuity import after_change, past_after_change
from tests.model.cluster import CLUSTER_IP, at, cluster, endpoint, endpoint_slice, from_pod, service

STICKY: dict[str, Any] = {"sessionAffinity": "ClientIP", "internalTrafficPolicy": "Cluster"}
DATAGRAMS = pytest.mark.parametrize("protocol", ["UDP", "SCTP"])
DRAINING: dict[str, Any] = {"ready": False, "serving": True, "terminating": True}


def state(*endpoints: Any, protocol: str = "TCP", **spec: Any) -> ClusterState:
    """default/web with one port, and these endpoints."""
    ports = [{"name": "", "protocol": protocol, "port": 8080}]
    given = service(ports=[{"protocol": protocol, "port": 80, "targetPort": 8080}], type="ClusterIP", **spec)
    return cluster(given, endpoint_slice(*endpoints, ports=ports))


def flow(protocol: Any = "TCP") -> Flow:
    return Flow(from_pod("a1"), protocol, CLUSTER_IP, 80)


@pytest.mark.parametrize("opens", [False, True])
def test_an_answered_connection_stays_whatever_becomes_of_its_endpoint(opens: bool) -> None:
    past = Past(at("b1"), answered=True)
    for now in (state("b1", "c1"), state("c1"), state(), cluster()):
        assert set(next_packet(now, flow(), past, opens=opens).answers) == {at("b1")}


def test_an_attempt_that_was_never_answered_may_try_somebody_else() -> None:
    past = Past(at("b1"))

    assert set(next_packet(state("b1", "c1"), flow(), past, opens=True).answers) == {at("b1")}
    assert set(next_packet(state("c1"), flow(), past, opens=True).answers) == {at("b1"), at("c1")}
    assert set(next_packet(state("c1"), flow(), past).answers) == {at("b1")}


def test_after_the_end_a_syn_is_as_new_and_the_rest_goes_on() -> None:
    past = Past(at("b1"), answered=True, ended=True)

    assert next_packet(state("c1"), flow(), past, opens=True) == verdict(state("c1"), flow())
    assert set(next_packet(state("c1"), flow(), past).answers) == {at("b1")}


@DATAGRAMS
@pytest.mark.parametrize("now", ["b1", endpoint("b1", **DRAINING)], ids=["ready", "draining"])
def test_datagrams_stay_with_an_endpoint_that_serves(protocol: str, now: Any) -> None:
    found = next_packet(state(now, "c1", protocol=protocol), flow(protocol), Past(at("b1")))

    assert set(found.answers) == {at("b1")}


@DATAGRAMS
def test_datagrams_leave_an_endpoint_that_is_gone(protocol: str) -> None:
    past = Past(at("b1"), answered=True)

    moved = next_packet(state("c1", protocol=protocol), flow(protocol), past)
    refused = next_packet(state(endpoint("b1", ready=False), protocol=protocol), flow(protocol), past)
    gone = next_packet(cluster(), flow(protocol), past)

    assert set(moved.answers) == {at("c1")}
    assert refused.outcomes == {"refused"}
    assert not refused.answers
    assert gone.service is None


@DATAGRAMS
def test_datagrams_may_leave_an_endpoint_that_was_gone_in_between(protocol: str) -> None:
    past = past_after_change(state("c1", protocol=protocol), flow(protocol), Past(at("b1")))

    assert past.is_broken
    found = next_packet(state("b1", "c1", protocol=protocol), flow(protocol), past)
    assert set(found.answers) == {at("b1"), at("c1")}


@DATAGRAMS
def test_policies_and_topology_are_for_new_flows(protocol: str) -> None:
    local = state("a2", "b1", protocol=protocol, internalTrafficPolicy="Local")

    assert set(verdict(local, flow(protocol)).answers) == {at("a2")}
    assert set(next_packet(local, flow(protocol), Past(at("b1"))).answers) == {at("b1")}


def test_affinity_narrows_a_new_flow_while_its_endpoint_is_allowed() -> None:
    now, known = state("b1", "c1", **STICKY), Affinity(at("b1"))

    assert set(first_packet(now, flow(), known).answers) == {at("b1")}
    assert first_packet(now, flow()) == verdict(now, flow())
    assert set(first_packet(state("c1", **STICKY), flow(), known).answers) == {at("c1")}
    assert set(first_packet(state("b1", "c1"), flow(), known).answers) == {at("b1"), at("c1")}


def test_affinity_after_a_break_is_no_promise() -> None:
    now, known = state("b1", "c1", **STICKY), Affinity(at("b1"))

    assert after_change(now, flow(), known) == known
    for between in (state("c1", **STICKY), state("b1", "c1")):
        broken = after_change(between, flow(), known)
        assert not broken.is_firm
        assert set(first_packet(now, flow(), broken).answers) == {at("b1"), at("c1")}
