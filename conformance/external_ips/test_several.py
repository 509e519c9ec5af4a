# SPDX-License-Identifier: Apache-2.0
"""`externalIPs`: several of a Service, and several Services at one."""

from conformance.sources import SERVICE
from plugins.requirements import requirement

SOURCE = SERVICE + "#external-ips"


def at_several(world):
    addresses = [ip for node in ("first", "second") for ip in world.virtual_ips(through=node)]
    return world.service(endpoints=world.backends(2), externalIPs=addresses)


@requirement(
    "external-ips.several.every-one",
    must="Each of a Service's several external IPs MUST lead to every ready endpoint.",
    level="extended",
    since="1.0",
    source=SOURCE,
    needs=["nodes:2", "external-client", "lb-route"],
    arrange=at_several,
)
def test_every_external_ip_answers(world, service):
    anyone = world.everywhere("pod", "node", "outside")

    anyone.each_must_reach_exactly(service.every_external_ip(), service)


def two_at_one_ip(world):
    addresses = world.virtual_ips()
    return (
        world.service(endpoints=world.backends(2), externalIPs=addresses),
        world.service(endpoints=world.backends(4)[2:], port=443, externalIPs=addresses),
    )


@requirement(
    "external-ips.shared.other-service-stays",
    must="Of two Services with different ports at one external IP each MUST be served at its own port, "
    "and one MUST go on being served when the other is deleted.",
    level="extended",
    since="1.0",
    source=SOURCE,
    needs=["external-client", "lb-route"],
    arrange=two_at_one_ip,
    changes=True,
)
def test_shared_external_ip_outlives_one_service(world, service):
    anyone = world.everywhere("pod", "node", "outside")
    doomed, other = service
    gone = doomed.every_external_ip()
    anyone.each_must_stay_within_the_verdict([*gone, *other.every_external_ip()], count=4)

    doomed.delete()
    world.settle()

    anyone.each_must_stay_within_the_verdict([*gone, *other.every_external_ip()], count=4)
