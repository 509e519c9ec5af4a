# SPDX-License-Identifier: Apache-2.0
"""Scouts: what pods no test uses see of everything arranged, for proxies that do not sync in ordered batches."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from clusters.agent.client import ProbeRequest
from clusters.api import Node, Vantage
from clusters.kube import Object
from clusters.observation import Address, Family, Protocol
from plugins.flows import problems_of
from plugins.services import HEADLESS, Frontend, family_of

if TYPE_CHECKING:
    from plugins.world import World


def disallowed(world: "World", timeout: float) -> dict[str, str]:
    """One look from every node at every frontend that exists or has just gone.

    Returns what the model forbids: Service name → one sentence.
    """
    places = [
        (node.scout.vantage, frontend, protocol)
        for node in world.nodes
        for service in (*world.mirror.services.values(), *world.mirror.former)
        for frontend, protocol in _frontends(service, node, world.families)
    ]
    requests = [_request(*place) for place in places]
    seen = world.cluster.probe(requests, timeout=timeout, concurrency=512)
    return {
        frontend.service: f"{vantage.node} {frontend}/{protocol}: {problems[0]}"
        for (vantage, frontend, protocol), observation in zip(places, seen, strict=True)
        if (problems := problems_of(observation, world.modelled(vantage, frontend, protocol)))
    }


def _frontends(service: Object, node: Node, families: tuple[Family, ...]) -> Iterator[tuple[Frontend, Protocol]]:
    spec, name = service["spec"], service["metadata"]["name"]
    ingress = service["status"]["loadBalancer"].get("ingress") or ()
    virtual = [
        *(("ClusterIP", ip) for ip in spec.get("clusterIPs") or () if ip != HEADLESS),
        *(("ExternalIP", ip) for ip in spec.get("externalIPs") or ()),
        *(("LoadBalancer", item["ip"]) for item in ingress if "ip" in item),
    ]
    for port in spec["ports"]:
        dialled = [(kind, ip, port["port"]) for kind, ip in virtual]
        if "nodePort" in port:
            dialled += [("NodePort", ip, port["nodePort"]) for ip in node.addresses.values()]
        for kind, ip, number in dialled:
            if family_of(ip) in families:
                yield Frontend(name, kind, ip, number, family_of(ip), 0), port["protocol"]


def _request(vantage: Vantage, frontend: Frontend, protocol: Protocol) -> ProbeRequest:
    return ProbeRequest(
        vantage=vantage.name,
        node=vantage.node,
        netns=vantage.place,
        frontend=str(frontend),
        protocol=protocol,
        dst=Address(frontend.ip, frontend.port),
    )
