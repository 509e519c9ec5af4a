# SPDX-License-Identifier: Apache-2.0
"""/healthz and /livez: what a proxy tells of itself, for those that do."""

from conformance.sources import INGRESS_RELIABILITY
from plugins.healthchecks import ask_every_proxy
from plugins.requirements import requirement

LEAVES = "ToBeDeletedByClusterAutoscaler"


@requirement(
    "health-check.proxy.healthy",
    must="A proxy that programs what it is told MUST answer 200 at /healthz and at /livez, with what it knows of "
    "itself as JSON.",
    level="extended",
    since="1.28",
    source=INGRESS_RELIABILITY,
    upstream=["Networking should check kube-proxy urls"],
    features=["healthz"],
    needs=["external-client"],
    arrange=lambda world: world.service(endpoints=world.backends(1)),
)
def test_proxy_is_healthy(world):
    for path in ("/healthz", "/livez"):
        answers = ask_every_proxy(world, path)

        answers.must_be_what_the_model_says()
        answers.must_be_json()


@requirement(
    "health-check.proxy.leaving-node",
    must="Once a node is marked to be deleted by the cluster autoscaler, its proxy MUST answer 503 at /healthz, so "
    "that no new connections are sent there, and still 200 at /livez; the proxies of other nodes MUST NOT mind.",
    level="extended",
    since="1.28",
    source=INGRESS_RELIABILITY,
    features=["healthz"],
    needs=["nodes:2", "external-client", "disruptive"],
)
def test_leaving_node_is_not_eligible(world):
    node = world.node_at("second")
    ask_every_proxy(world, "/healthz").must_be_what_the_model_says()

    with world.tainted(node, LEAVES):
        world.settle("converge", also=lambda: ask_every_proxy(world, "/healthz", leaving=node).wrong())

        ask_every_proxy(world, "/healthz", leaving=node).must_be_what_the_model_says()
        ask_every_proxy(world, "/livez", leaving=node).must_be_what_the_model_says()
    world.settle("converge", also=lambda: ask_every_proxy(world, "/healthz").wrong())

    ask_every_proxy(world, "/healthz").must_be_what_the_model_says()
