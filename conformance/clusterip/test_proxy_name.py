# SPDX-License-Identifier: Apache-2.0
"""Services that another proxy serves."""

from conformance.sources import LABELS
from plugins.requirements import requirement

LABEL = "service.kubernetes.io/service-proxy-name"


def ours_and_anothers(world):
    backends = world.backends(2)
    return world.service(endpoints=backends), world.service(endpoints=backends, labels={LABEL: "another-proxy"})


@requirement(
    "clusterip.proxy-name.left-to-the-named-proxy",
    must="A Service labelled service.kubernetes.io/service-proxy-name MUST NOT be served by the default proxy, "
    "while one without the label MUST be.",
    level="core",
    since="1.14",
    source=LABELS + "#service-kubernetes-io-service-proxy-name",
    upstream=["Services should implement service.kubernetes.io/service-proxy-name"],
    arrange=ours_and_anothers,
)
def test_labelled_service_is_left_alone(world, service):
    ours, anothers = service
    anyone = world.everywhere("pod", "node")

    anyone.each_must_reach_exactly(ours.every_cluster_ip(), ours)
    anyone.each_must_stay_within_the_verdict(anothers.every_cluster_ip(), count=4)


@requirement(
    "clusterip.proxy-name.given-away-and-taken-back",
    must="A Service that gets the label service.kubernetes.io/service-proxy-name MUST NOT be served by the default "
    "proxy any more, and MUST be again once the label is gone.",
    level="extended",
    since="1.14",
    source=LABELS + "#service-kubernetes-io-service-proxy-name",
    upstream=["Services should implement service.kubernetes.io/service-proxy-name"],
    arrange=lambda world: world.service(endpoints=world.backends(2)),
    changes=True,
)
def test_service_is_given_away_and_taken_back(world, service):
    anyone = world.everywhere("pod", "node")
    anyone.each_must_stay_within_the_verdict(service.every_cluster_ip(), count=4)

    service.set_label(LABEL, "another-proxy")
    world.settle()
    anyone.each_must_stay_within_the_verdict(service.every_cluster_ip(), count=4)

    service.set_label(LABEL, None)
    world.settle()
    anyone.each_must_reach_exactly(service.every_cluster_ip(), service)
