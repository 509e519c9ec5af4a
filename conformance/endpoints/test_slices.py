# SPDX-License-Identifier: Apache-2.0
"""Which EndpointSlices count, and how several of one Service add up."""

from conformance.sources import DUAL_STACK, LABELS, REUSED_ADDRESS, SLICES
from plugins.requirements import everywhere, requirement
from plugins.services import Port, other_family
from plugins.slices import Endpoint, Slice


def in_three_slices(world):
    return world.service(slices=[Slice([backend]) for backend in world.backends(3)])


@requirement(
    "endpoints.slices.several-add-up",
    must="A Service MUST lead to the ready endpoints of all its EndpointSlices.",
    level="core",
    since="1.21",
    source=SLICES,
    upstream=[
        "EndpointSlice should support a Service with multiple endpoint IPs specified in multiple EndpointSlices"
    ],
    arrange=in_three_slices,
)
@everywhere(family=["IPv4", "IPv6"])
def test_slices_add_up(world, service, family):
    world.everywhere("pod", "node").each_must_reach_exactly(service.every_cluster_ip(family=family), service)


def with_duplicates(world):
    first, second, third = world.backends(3)
    return world.service(slices=[Slice([first, second]), Slice([second, third]), Slice([first, second])])


@requirement(
    "endpoints.slices.duplicates-do-no-harm",
    must="An endpoint that several EndpointSlices of a Service list MUST be served like any other, "
    "and MUST NOT hide another.",
    level="core",
    since="1.21",
    source=SLICES + "#duplicate-endpoints",
    arrange=with_duplicates,
)
@everywhere(family=["IPv4", "IPv6"])
def test_duplicates_do_no_harm(world, service, family):
    world.everywhere("pod", "node").each_must_reach_exactly(service.every_cluster_ip(family=family), service)


def with_a_slice_of_nobody(world):
    own, stray = world.backends(2)
    return world.service(slices=[Slice([own]), Slice([stray], named=False)]), own


@requirement(
    "endpoints.slices.without-service-name-ignored",
    must="An EndpointSlice without the label kubernetes.io/service-name MUST NOT count for any Service.",
    level="core",
    since="1.21",
    source=SLICES + "#ownership",
    arrange=with_a_slice_of_nobody,
)
@everywhere(family=["IPv4", "IPv6"])
def test_slice_of_nobody_is_ignored(world, service, family):
    named, own = service

    world.everywhere("pod", "node").each_must_reach_exactly(named.every_cluster_ip(family=family), [own])


def with_a_headless_slice(world):
    plain, hidden = world.backends(2)
    labelled = Slice([hidden], labels={"service.kubernetes.io/headless": ""})
    return world.service(slices=[Slice([plain]), labelled]), plain


@requirement(
    "endpoints.slices.headless-label-ignored",
    must="An EndpointSlice labelled service.kubernetes.io/headless MUST be ignored by Service proxies.",
    level="core",
    since="1.21",
    source=LABELS + "#servicekubernetesioheadless",
    upstream=["Services should implement service.kubernetes.io/headless"],
    arrange=with_a_headless_slice,
)
@everywhere(family=["IPv4", "IPv6"])
def test_headless_slice_is_ignored(world, service, family):
    unhidden, plain = service

    world.everywhere("pod", "node").each_must_reach_exactly(unhidden.every_cluster_ip(family=family), [plain])


def with_a_slice_of_the_other_family(world, family):
    own, stray = world.backends(2)
    slices = [Slice([own], families=[family]), Slice([stray], families=[other_family(family)])]
    return world.service(slices=slices, ipFamilyPolicy="SingleStack", ipFamilies=[family]), own


@requirement(
    "endpoints.slices.other-family-ignored",
    must="A Service MUST NOT be served by EndpointSlices whose address type is not one of its IP families.",
    level="core",
    since="1.21",
    source=DUAL_STACK,
    arrange=with_a_slice_of_the_other_family,
)
@everywhere(family=["IPv4", "IPv6"])
def test_slice_of_the_other_family_is_ignored(world, service, family):
    single, own = service

    world.everywhere("pod", "node").each_must_reach_exactly(single.every_cluster_ip(family=family), [own])


PORTS = [Port(80, "web", "TCP"), Port(80, "dns", "UDP"), Port(443, "tls", "TCP")]


def other_numbers_on_each(world):
    first, second = world.backends(2)
    return world.service(
        ports=PORTS,
        slices=[
            Slice([first], targets={"tcp-80": 8080, "udp-80": 8081, "tcp-443": 8082}),
            Slice([second], targets={"tcp-80": 8081, "udp-80": 8082, "tcp-443": 8080}),
        ],
    )


@requirement(
    "endpoints.slices.target-port-of-each-slice",
    must="A port of a Service MUST lead to each endpoint at the number that its own EndpointSlice gives that port.",
    level="core",
    since="1.21",
    source=SLICES,
    upstream=["Services should support named targetPorts that resolve to different ports on different endpoints"],
    arrange=other_numbers_on_each,
)
@everywhere(family=["IPv4", "IPv6"])
def test_each_endpoint_at_its_own_port(world, service, family):
    anyone = world.everywhere("pod", "node")

    for flows in anyone.open_each(service.every_cluster_ip(family=family)):
        flows.must_reach_exactly(service.ready_backends).must_reach_all_that_is_allowed()
        assert len({seen.served_at.port for seen in flows}) == 2


def ports_in_slices_of_their_own(world):
    web, tls = world.backends(2)
    service = world.service(
        ports=[Port(80, 8080, "TCP"), Port(443, 8081, "TCP")],
        slices=[Slice([web], targets={"tcp-80": 8080}), Slice([tls], targets={"tcp-443": 8081})],
    )
    return service, {80: web, 443: tls}


@requirement(
    "endpoints.slices.ports-in-slices-of-their-own",
    must="A port of a Service MUST lead only to endpoints of EndpointSlices that have that port.",
    level="core",
    since="1.21",
    source=SLICES,
    upstream=[
        "EndpointSlice should support a Service with multiple ports specified in multiple EndpointSlices",
        "EndpointSlice should support a Service with multiple endpoint IPs specified in multiple EndpointSlices",
        "Services should serve multiport endpoints from pods",
        "EndpointSliceMirroring should mirror a custom Endpoint with multiple subsets and same IP address",
    ],
    arrange=ports_in_slices_of_their_own,
)
@everywhere(family=["IPv4", "IPv6"])
def test_each_port_has_its_own_slices(world, service, family):
    split, backends = service
    for port, backend in backends.items():
        target = (split.cluster_ip(family, port), "TCP")

        world.everywhere("pod", "node").each_must_reach_exactly([target], [backend])


def one_address_at_two_ports(world):
    pod, host = world.backends(1)[0], world.node_at("first").host_backend
    ports = [dict.fromkeys(("tcp-80", "udp-80"), number) for number in (8080, 8081)]
    return world.service(slices=[Slice([pod, host], targets=targets) for targets in ports])


@requirement(
    "endpoints.slices.one-address-at-two-ports",
    must="An address that two EndpointSlices give different numbers for the same port of a Service MUST be reached "
    "at both: they are two endpoints.",
    level="extended",
    since="1.21",
    source=SLICES,
    arrange=one_address_at_two_ports,
)
@everywhere(family=["IPv4", "IPv6"])
def test_one_address_at_two_ports(world, service, family):
    targets = service.every_cluster_ip(family=family)

    for flows in world.everywhere("pod", "node").open_each(targets):
        flows.must_reach_all_that_is_allowed()
        assert len({seen.served_at for seen in flows}) == 4, "two addresses at two ports"


def with_a_slice_of_names(world):
    """The names look like addresses, which a name may."""
    own, stray = world.backends(2)
    return world.service(slices=[Slice([own]), Slice([stray], families=["IPv4"], address_type="FQDN")]), own


@requirement(
    "endpoints.slices.names-are-not-addresses",
    must="EndpointSlices of address type FQDN MUST be ignored by Service proxies.",
    level="extended",
    since="1.21",
    source=SLICES + "#address-types",
    arrange=with_a_slice_of_names,
)
def test_slice_of_names_is_ignored(world, service):
    with_names, own = service

    world.everywhere("pod", "node").each_must_reach_exactly(with_names.every_cluster_ip(), [own])


def where_an_address_had_another_pod(world):
    backend, other = world.backends(2)
    alive = Endpoint(backend, serving=True, terminating=False, pod="pod-new")
    ghost = Endpoint(backend, ready=False, serving=False, terminating=True, pod="pod-old")
    shapes = [[[alive, ghost]], [[ghost, alive]], [[alive], [ghost]], [[ghost], [alive]]]
    return [world.service(slices=[*map(Slice, shape), Slice([other])]) for shape in shapes]


@requirement(
    "endpoints.slices.reused-address",
    must="A ready endpoint MUST be served although a terminating one, of the pod that had its address before, is "
    "still listed in the same EndpointSlice or in another, and MUST still be once that one is gone.",
    level="extended",
    since="1.21",
    source=REUSED_ADDRESS,
    arrange=where_an_address_had_another_pod,
    changes=True,
)
def test_reused_address_is_served(world, service):
    targets = [target for one in service for target in one.every_cluster_ip()]
    world.everywhere("pod").each_must_reach_exactly(targets, world.backends(2))

    for one in service:
        slices = [Slice([living for living in each.endpoints if not living.terminating]) for each in one.slices]
        one.set_slices(*slices)
    world.settle()

    world.everywhere("pod").each_must_reach_exactly(targets, world.backends(2))


def two_slices_and_none(world):
    return world.service(slices=[Slice([backend]) for backend in world.backends(2)]), world.service()


@requirement(
    "endpoints.slices.given-to-another-service",
    must="When the label kubernetes.io/service-name of an EndpointSlice comes to name another Service, its endpoints "
    "MUST be used for that one and no longer for the first.",
    level="extended",
    since="1.21",
    source=SLICES + "#ownership",
    arrange=two_slices_and_none,
    changes=True,
)
def test_slice_is_given_to_another_service(world, service):
    giver, taker = service
    stays, goes = world.backends(2)
    anyone = world.everywhere("pod", "node")
    anyone.each_must_reach_exactly(giver.every_cluster_ip(), [stays, goes])

    giver.set_slices(Slice([stays]), Slice([goes], of=taker.name))
    world.settle()

    anyone.each_must_reach_exactly(giver.every_cluster_ip(), [stays])
    anyone.each_must_reach_exactly(taker.every_cluster_ip(), [goes])


@requirement(
    "endpoints.slices.endpoint-moves",
    must="An endpoint that moves from one EndpointSlice of a Service to another MUST be served throughout: "
    "in the first, in both, and in the second.",
    level="core",
    since="1.21",
    source=SLICES + "#duplicate-endpoints",
)
def test_moving_endpoint_is_served(world):
    stays, moves = (Endpoint(backend) for backend in world.backends(2))
    service = world.service(slices=[Slice([stays, moves]), Slice([])])
    for slices in ([[stays, moves], []], [[stays, moves], [moves]], [[stays], [moves]]):
        service.set_slices(*(Slice(endpoints) for endpoints in slices))
        world.settle()

        world.everywhere("pod", "node").each_must_reach_exactly(service.every_cluster_ip(), service)


def in_two_slices_that_overlap(world):
    first, second, third = world.backends(3)
    return world.service(slices=[Slice([first, second]), Slice([second, third])])


@requirement(
    "endpoints.slices.one-deleted",
    must="When one of a Service's EndpointSlices is deleted, its endpoints MUST NOT be used any more unless another "
    "lists them, and those of the others MUST be.",
    level="core",
    since="1.21",
    source=SLICES,
    upstream=[
        "EndpointSlice should support a Service with multiple endpoint IPs specified in multiple EndpointSlices"
    ],
    arrange=in_two_slices_that_overlap,
    changes=True,
)
def test_deleted_slice_takes_its_endpoints_along(world, service):
    first, second, _ = world.backends(3)
    world.everywhere("pod", "node").each_must_stay_within_the_verdict(service.every_cluster_ip(), count=4)

    service.set_slices(Slice([first, second]))
    world.settle()

    world.everywhere("pod", "node").each_must_reach_exactly(service.every_cluster_ip(), [first, second])
