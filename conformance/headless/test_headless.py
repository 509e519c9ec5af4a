# SPDX-License-Identifier: Apache-2.0
"""Headless Services and ExternalName: names in DNS, and nothing for a proxy to do."""

from conformance.sources import SERVICE
from plugins.requirements import everywhere, requirement
from plugins.services import HEADLESS


def without_cluster_ip(world):
    return world.service(endpoints=world.backends(2), clusterIP=HEADLESS)


@requirement(
    "headless.never-proxied",
    must="An endpoint of a headless Service MUST be reached by its own address and target port, without balancing, "
    "and MUST NOT answer at the Service's port.",
    level="core",
    since="1.0",
    source=SERVICE + "#headless-services",
    upstream=["DNS should provide DNS for services"],
    arrange=without_cluster_ip,
)
@everywhere(family=["IPv4", "IPv6"])
def test_headless_service_is_not_proxied(world, service, family):
    anyone = world.everywhere("pod", "node")
    for endpoint in service.endpoints:
        at_its_own = service.at_endpoint(endpoint, family)
        at_the_services = service.at("Headless", endpoint.backend.addresses[family])

        anyone.each_must_reach_exactly(at_its_own, [endpoint.backend])
        anyone.each_must_stay_within_the_verdict(at_the_services, count=4)


def with_external_ips(world):
    proxied = world.service(endpoints=world.backends(2), externalIPs=world.virtual_ips())
    headless = world.service(endpoints=world.backends(2), clusterIP=HEADLESS, externalIPs=world.virtual_ips())
    named = world.service(
        kind="ExternalName",
        externalName="elsewhere.example",
        endpoints=world.backends(2),
        externalIPs=world.virtual_ips(),
    )
    return proxied, (headless, named)


@requirement(
    "headless.external-ips.not-answered",
    must="External IPs of a headless Service, or of one of type ExternalName, MUST NOT be answered, "
    "while those of a Service with a ClusterIP MUST be.",
    level="extended",
    since="1.0",
    source=SERVICE + "#headless-services",
    arrange=with_external_ips,
)
@everywhere(family=["IPv4", "IPv6"])
def test_external_ips_without_a_cluster_ip_are_not_answered(world, service, family):
    proxied, unproxied = service
    anyone = world.everywhere("pod", "node")

    anyone.each_must_reach_exactly(proxied.every_external_ip(family=family), proxied)
    for one in unproxied:
        anyone.each_must_stay_within_the_verdict(one.every_external_ip(family=family), count=4)
