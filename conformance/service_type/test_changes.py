# SPDX-License-Identifier: Apache-2.0
"""Services that change their type."""

from conformance.arrangements import two_behind_a_node_port
from conformance.sources import SERVICE
from plugins.requirements import requirement
from plugins.services import BALANCER_CLASS


def every_node_port(world, service):
    return [target for node in world.nodes for target in service.every_node_port(node)]


@requirement(
    "service-type.to-external-name.falls-silent",
    must="A Service that becomes an ExternalName MUST NOT be served any more at the ClusterIP and node ports it had.",
    level="core",
    since="1.0",
    source=SERVICE + "#externalname",
    upstream=[
        "Services should be able to change the type from ClusterIP to ExternalName",
        "Services should be able to change the type from NodePort to ExternalName",
    ],
    arrange=two_behind_a_node_port,
    changes=True,
)
def test_service_becomes_an_external_name(world, service):
    anyone = world.everywhere("pod", "node")
    ways_in = [*service.every_cluster_ip(), *every_node_port(world, service)]
    anyone.each_must_stay_within_the_verdict(ways_in, count=4)

    service.change(type="ExternalName", externalName="elsewhere.example")
    world.settle()

    anyone.each_must_stay_within_the_verdict(ways_in, count=4)


def an_external_name(world):
    return world.service(kind="ExternalName", externalName="elsewhere.example", endpoints=world.backends(2))


@requirement(
    "service-type.from-external-name.is-served",
    must="An ExternalName Service that gets a ClusterIP and node ports MUST be served there.",
    level="core",
    since="1.0",
    source=SERVICE + "#publishing-services-service-types",
    upstream=[
        "Services should be able to change the type from ExternalName to ClusterIP",
        "Services should be able to change the type from ExternalName to NodePort",
    ],
    arrange=an_external_name,
    changes=True,
)
def test_external_name_becomes_a_service(world, service):
    service.change(type="NodePort", externalName=None, ipFamilyPolicy="PreferDualStack")
    world.settle()

    world.everywhere("pod", "node").each_must_reach_exactly(service.every_cluster_ip(), service)
    world.everywhere("outside").each_must_reach_exactly(every_node_port(world, service), service)


@requirement(
    "service-type.nodeport-to-clusterip.node-port-is-closed",
    must="A NodePort Service that becomes a ClusterIP Service MUST NOT be served at its node port any more, "
    "and MUST go on being served at its ClusterIP.",
    level="core",
    since="1.0",
    source=SERVICE + "#publishing-services-service-types",
    upstream=["LoadBalancers should be able to change the type and ports of a TCP service"],
    needs=["external-client"],
    arrange=two_behind_a_node_port,
    changes=True,
)
def test_node_port_is_given_up(world, service):
    inside, anyone = world.everywhere("pod", "node"), world.everywhere("pod", "node", "outside")
    node_ports = every_node_port(world, service)
    anyone.each_must_stay_within_the_verdict(node_ports, count=4)

    service.change(type="ClusterIP")
    world.settle()

    inside.each_must_reach_exactly(service.every_cluster_ip(), service)
    anyone.each_must_stay_within_the_verdict(node_ports, count=4)


@requirement(
    "service-type.clusterip-to-load-balancer.every-frontend-is-served",
    must="A ClusterIP Service that becomes a load balancer's MUST be served at its old ClusterIP, at node ports "
    "and at the load balancer's IP.",
    level="core",
    since="1.0",
    source=SERVICE + "#publishing-services-service-types",
    upstream=[
        "LoadBalancers should be able to change the type and ports of a TCP service",
        (
            "Services should be able to update service type to NodePort listening on same port number "
            "but different protocols"
        ),
    ],
    needs=["external-client", "lb-route"],
    arrange=lambda world: world.service(endpoints=world.backends(2)),
    changes=True,
)
def test_service_becomes_a_load_balancer(world, service):
    inside, outside = world.everywhere("pod", "node"), world.everywhere("outside")
    inside.each_must_stay_within_the_verdict(service.every_cluster_ip(), count=4)
    cluster_ips = service.every_cluster_ip()

    service.change(type="LoadBalancer", loadBalancerClass=BALANCER_CLASS)
    service.set_ingress(*({"ip": ip} for ip in world.virtual_ips()))
    world.settle()

    inside.each_must_reach_exactly(cluster_ips, service)
    outside.each_must_reach_exactly([*every_node_port(world, service), *service.every_load_balancer_ip()], service)


@requirement(
    "service-type.nodeport-to-load-balancer.node-port-stays",
    must="A NodePort Service that becomes a load balancer's MUST be served at the load balancer's IP, "
    "and MUST go on being served at the node port and the ClusterIP it had.",
    level="extended",
    since="1.0",
    source=SERVICE + "#publishing-services-service-types",
    upstream=[
        "LoadBalancers should be able to change the type and ports of a TCP service",
        "LoadBalancers should be able to change the type and ports of a UDP service",
    ],
    needs=["external-client", "lb-route"],
    arrange=two_behind_a_node_port,
    changes=True,
)
def test_node_port_stays_with_a_load_balancer(world, service):
    inside, outside = world.everywhere("pod", "node"), world.everywhere("outside")
    node_ports, cluster_ips = every_node_port(world, service), service.every_cluster_ip()
    outside.each_must_stay_within_the_verdict(node_ports, count=4)

    service.change(type="LoadBalancer", loadBalancerClass=BALANCER_CLASS)
    service.set_ingress(*({"ip": ip} for ip in world.virtual_ips()))
    world.settle()

    inside.each_must_stay_within_the_verdict(cluster_ips, count=4)
    outside.each_must_reach_exactly([*node_ports, *service.every_load_balancer_ip()], service)


def balanced(world):
    return world.service(kind="LoadBalancer", endpoints=world.backends(2), ingress=world.virtual_ips())


@requirement(
    "service-type.load-balancer-to-clusterip.only-the-cluster-ip-stays",
    must="A load balancer's Service that becomes a ClusterIP Service MUST NOT be served at the load balancer's IP "
    "and at its node ports any more, and MUST go on being served at its ClusterIP.",
    level="extended",
    since="1.0",
    source=SERVICE + "#publishing-services-service-types",
    upstream=[
        "LoadBalancers should be able to change the type and ports of a TCP service",
        "LoadBalancers should be able to change the type and ports of a UDP service",
    ],
    needs=["external-client", "lb-route"],
    arrange=balanced,
    changes=True,
)
def test_load_balancer_is_given_up(world, service):
    inside, anyone = world.everywhere("pod", "node"), world.everywhere("pod", "node", "outside")
    given_up = [*every_node_port(world, service), *service.every_load_balancer_ip()]
    anyone.each_must_stay_within_the_verdict(given_up, count=4)

    service.change(type="ClusterIP")
    world.settle()

    inside.each_must_reach_exactly(service.every_cluster_ip(), service)
    anyone.each_must_stay_within_the_verdict(given_up, count=4)
