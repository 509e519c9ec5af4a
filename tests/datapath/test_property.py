# SPDX-License-Identifier: Apache-2.0
"""Model against datapath: what was found, as fixed examples, and some hundred generated ones (`make property`)."""

from collections.abc import Iterator
from typing import Any

import pytest

from dataplane_ref.model import ClusterState, Endpoint, Flow, ProxyConfig
from tests.datapath.bench import Bench
from tests.datapath.compare import Answer, ask
from tests.datapath.generate import Question, deciding
from tests.datapath.network import Network
from tests.datapath.property import Histogram, main, run
from tests.model.cluster import (
    CLUSTER_IP,
    DETECT,
    NODE_IP6,
    NODE_PORT,
    NODES,
    OUTSIDE,
    at,
    endpoint,
    endpoint_slice,
    from_node,
    from_pod,
    service,
)


@pytest.fixture(scope="module")
def strange_network(network: Network) -> Iterator[Network]:
    """A network that owns no node's address, because the node under test changes."""
    assert network
    strange = Network(own=("192.0.2.1/24", "2001:db8:192::1/64"))
    yield strange
    strange.close()


@pytest.fixture(scope="module")
def any_node(strange_network: Network) -> Iterator[Bench]:
    with strange_network.entered(), Bench(sizes={"flows": 256, "affinities": 256}) as bench:
        yield bench


def answered(
    bench: Bench, flow: Flow, *objects: Any, node: str | None = None, config: ProxyConfig = DETECT
) -> Answer:
    """Both answers to one flow; they must not differ."""
    services = [one for one in objects if one["kind"] == "Service"]
    slices = [one for one in objects if one["kind"] == "EndpointSlice"]
    state = ClusterState.from_objects(NODES, services, slices, config)
    answer = ask(bench, Question(state, flow, node or deciding(state, flow)))
    assert answer
    assert answer.differences == ()
    return answer


def test_an_endpoint_that_terminates_and_does_not_say_whether_it_serves_does(any_node: Bench) -> None:
    """ "A nil value should be interpreted as true" (EndpointConditions); the controller took it for what ready is."""
    draining = endpoint_slice(endpoint("b1", ready=False, terminating=True))

    answer = answered(any_node, Flow(from_pod("a1"), "TCP", CLUSTER_IP, 80), service(), draining)

    assert answer.decision.endpoint == at("b1")


def test_a_pod_that_dials_another_nodes_port_under_local_policy_may_be_dropped(any_node: Bench) -> None:
    """Its own pod is the only endpoint, and not on that node. The model wanted an answer from there."""
    only = endpoint_slice("b1", family="IPv6")
    flow = Flow(from_pod("b1"), "TCP", NODE_IP6["node-a"], NODE_PORT)

    answer = answered(any_node, flow, service(externalTrafficPolicy="Local"), only)

    assert answer.decision.reason == "DROPPED_EXTERNAL_LOCAL"
    assert answer.model.outcomes == {"reply", "timeout"}


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
@pytest.mark.parametrize("entry", [from_pod("a1"), from_node("node-a"), OUTSIDE], ids=["pod", "process", "outside"])
def test_both_choose_from_the_same_set(any_node: Bench, family: str, entry: Any) -> None:
    slices = [endpoint_slice("a1", "b1", "node-c", family=family)]
    spec = service()["spec"]
    flow = Flow(entry, "TCP", spec["clusterIPs"][family == "IPv6"], 80, via="node-a")

    answer = answered(any_node, flow, service(), *slices)

    assert (
        answer.decision.allowed
        == set(answer.model.answers)
        == {at(one, family=family) for one in ("a1", "b1", "node-c")}
    )


def test_a_difference_is_found(any_node: Bench) -> None:
    """The datapath is shown another cluster than the model is asked about."""
    one, other = (
        ClusterState.from_objects(NODES, [service()], [endpoint_slice(pod)], DETECT) for pod in ("b1", "c1")
    )
    flow = Flow(from_pod("a1"), "TCP", CLUSTER_IP, 80)
    question = Question(one, flow, "node-a")
    assert one.frontends.vips
    object.__setattr__(question.state, "_records", dict(other._records))
    assert other.endpoints(next(iter(other.frontends.by_vip.values()))[0].port, "IPv4")
    question.state._records.update(other._records)

    answer = ask(any_node, question)

    assert answer
    assert any("may choose" in difference for difference in answer.differences)
    assert Endpoint("10.244.2.2", 8080) in answer.model.answers


def test_generated_clusters_and_flows(any_node: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    histogram = run(any_node, 250, start=7)

    with capsys.disabled():
        print(f"\n{histogram.report()}")
    assert len(histogram.rare(0.001)) < 5  # too few to expect every kind


def test_a_kind_of_case_that_is_rare_is_named() -> None:
    histogram = Histogram(examples=1000)
    histogram.cases["hairpin"] = 10
    histogram.cases["affinity"] = 9

    assert "affinity" in histogram.rare()
    assert "hairpin" not in histogram.rare()


def test_a_count_that_makes_no_sense(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--examples", "0"])
    assert "--examples must be at least 1, not 0" in capsys.readouterr().err
