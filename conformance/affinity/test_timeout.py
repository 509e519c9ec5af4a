# SPDX-License-Identifier: Apache-2.0
"""Session affinity ClientIP over time: a client is remembered for so long after its last new connection.

Six endpoints and a dozen clients at each frontend: by chance all of them return to where they were once in 6^12.
"""

from conformance.affinity.test_client_ip import SOURCE
from conformance.sources import SERVICE_API
from plugins.requirements import requirement

# Long enough to be idle for most of it and back in time, on a busy machine too.
TIMEOUT, MOST_OF_IT = 4, 2.2
SHORT, LONG_OVER = 1, 2.2
NEEDS = ["external-client"]


def remembers_for(seconds):
    return {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}}}


def two_services(world, seconds):
    """One to be dialled at its ClusterIP, one at a node port: whether a Service's frontends share clients is open."""
    return [
        world.service(kind=kind, endpoints=world.backends(6), **remembers_for(seconds))
        for kind in ("ClusterIP", "NodePort")
    ]


def clients_of(world, services):
    inside, exposed = services
    return [
        *world.crowd("pod", "node").lines(inside.every_cluster_ip()),
        *world.crowd("outside", "pod", "node").lines(exposed.every_node_port(world.node_at("first"))),
    ]


@requirement(
    "affinity.timeout.not-before",
    must="A client MUST stay with its endpoint until `timeoutSeconds` have passed since its last new connection.",
    level="extended",
    since="1.7",
    source=SOURCE,
    upstream=[
        "Services should have session affinity timeout work for service with type clusterIP",
        "Services should have session affinity timeout work for NodePort service",
    ],
    needs=NEEDS,
    arrange=lambda world: two_services(world, TIMEOUT),
)
def test_clients_are_remembered_until_the_timeout(world, service):
    pins = world.pin(clients_of(world, service))
    world.idle(MOST_OF_IT)

    pins.must_hold(within=TIMEOUT)


@requirement(
    "affinity.timeout.each-connection-counts",
    must="Each new connection of a client MUST begin its `timeoutSeconds` anew.",
    level="extended",
    since="1.7",
    source=SERVICE_API,
    needs=NEEDS,
    arrange=lambda world: two_services(world, TIMEOUT),
)
def test_each_connection_begins_the_time_anew(world, service):
    pins = world.pin(clients_of(world, service))
    for _ in range(2):
        world.idle(MOST_OF_IT)
        pins.must_hold(within=TIMEOUT)


@requirement(
    "affinity.timeout.forgotten-after",
    must="Once `timeoutSeconds` have passed without a new connection of a client, its next one MUST be as free as "
    "the first to reach any endpoint.",
    level="extended",
    since="1.7",
    source=SOURCE,
    upstream=[
        "Services should have session affinity timeout work for service with type clusterIP",
        "Services should have session affinity timeout work for NodePort service",
    ],
    needs=NEEDS,
    arrange=lambda world: two_services(world, SHORT),
)
def test_clients_are_forgotten_after_the_timeout(world, service):
    pins = world.pin(clients_of(world, service))
    world.idle(LONG_OVER)

    pins.must_let_go()


@requirement(
    "affinity.timeout.changed",
    must="A changed `timeoutSeconds` MUST hold for connections from then on.",
    level="extended",
    since="1.7",
    source=SOURCE,
    needs=NEEDS,
)
def test_a_changed_timeout_holds(world):
    services = two_services(world, SHORT)
    world.settle()
    for service in services:
        service.change(**remembers_for(3600))
    world.settle()

    pins = world.pin(clients_of(world, services))
    world.idle(LONG_OVER)
    pins.must_hold()
