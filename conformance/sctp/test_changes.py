# SPDX-License-Identifier: Apache-2.0
"""SCTP: endpoints that come and go."""

from contextlib import ExitStack

from conformance.sources import SCTP_ENTRIES_STAY, SLICES
from plugins.requirements import requirement
from plugins.services import Port

SCTP = (Port(80, 8080, "SCTP"),)


def one_behind_a_node_port(world):
    return world.service(kind="NodePort", endpoints=world.backends(1), ports=SCTP)


@requirement(
    "sctp.endpoints.replaced",
    must="Once an endpoint has left a Service, new associations MUST reach all that are there now, and no other.",
    level="extended",
    since="1.20",
    source=SLICES,
    features=["sctp"],
    needs=["sctp", "external-client"],
    arrange=one_behind_a_node_port,
    changes=True,
)
def test_new_associations_reach_the_endpoints_of_now(world, service):
    world.everywhere("pod", "node").each_must_reach_exactly(service.every_cluster_ip(), service)

    service.set_endpoints(world.backends(3)[1:])
    world.settle()

    world.everywhere("pod", "node").each_must_reach_exactly(service.every_cluster_ip(), service)
    world.everywhere("outside").each_must_reach_exactly(service.every_node_port(world.nodes[0]), service)


def one_endpoint(world):
    return world.service(endpoints=world.backends(1), ports=SCTP)


@requirement(
    "sctp.endpoints.same-port-after-the-endpoint-left",
    must="A client whose endpoint has left the Service MUST reach another with a new association, from the same "
    "source port too.",
    level="extended",
    since="1.20",
    source=SCTP_ENTRIES_STAY,
    features=["sctp"],
    needs=["sctp"],
    arrange=one_endpoint,
    changes=True,
)
def test_same_source_port_after_the_endpoint_left(world, service):
    anyone = world.everywhere("pod", "node")
    _, second = world.backends(2)
    dialled = [(prober, target) for prober in anyone.probers for target in service.every_cluster_ip()]

    with ExitStack() as until_changed:
        firsts = [until_changed.enter_context(prober.hold(*target)).first for prober, target in dialled]
        service.set_endpoints([second])
        world.settle()

    for (prober, target), seen in zip(dialled, firsts, strict=True):
        prober.open(*target, source_port=seen.src.port).must_reach_exactly({second.name})


@requirement(
    "sctp.endpoints.association-after-its-endpoint-left",
    should="An association whose endpoint has left the Service SHOULD go on there, or be ended at once by an ABORT, "
    "and SHOULD NOT be left in silence.",
    level="record",
    since="1.20",
    source=SCTP_ENTRIES_STAY,
    features=["sctp"],
    needs=["sctp"],
    arrange=one_endpoint,
    changes=True,
)
def test_association_after_its_endpoint_left(world, service):
    first, second = world.backends(2)

    with ExitStack() as until_asked:
        held = []
        for prober in world.everywhere("pod", "node").probers:
            for target in service.every_cluster_ip():
                held.append(until_asked.enter_context(prober.hold(*target)))
                prober.judged(*target, [held[-1].first]).must_reach_exactly({first.name})
        service.set_endpoints([second])
        world.settle()
        for association in held:
            seen = association.exchange()
            assert seen.outcome in ("reply", "reset"), f"{seen.outcome} from {seen.src} to {seen.dst}"
