# SPDX-License-Identifier: Apache-2.0
"""The ways in which a dataplane can be false: each lie is one broken behaviour of the fake, by name.

A lie bends one of three things: the API objects the dataplane believes in, the endpoints it chooses from, or
the observation that comes of it. The sentinel is told the truth, so that settling works, unless the lie is about
settling itself.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from clusters.observation import Address, FlowOutcome, Observation
from dataplane_ref.model import Endpoint

Object = dict[str, Any]
Key = tuple[str, str]
LABEL = "service.kubernetes.io/service-proxy-name"
HEADLESS_LABEL = "service.kubernetes.io/headless"
SERVICE_NAME = "kubernetes.io/service-name"


@dataclass(frozen=True, slots=True)
class Objects:
    """What a dataplane has been told so far: the objects that exist, the last version of each deleted one, all
    endpoints that slices of a name have ever had, and what Services that exist were before they were changed."""

    services: Sequence[Object]
    slices: Sequence[Object]
    deleted_services: Sequence[Object] = ()
    deleted_slices: Sequence[Object] = ()
    ever: Mapping[Key, Sequence[Object]] = field(default_factory=dict)
    former_services: Sequence[Object] = ()


def key_of(obj: Object) -> Key:
    """An object's namespace and name."""
    return obj["metadata"]["namespace"], obj["metadata"]["name"]


def _as_is(objects: Objects) -> Objects:
    return objects


def _all(endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
    return endpoints


def _truth(seen: Observation) -> Observation:
    return seen


@dataclass(frozen=True, slots=True)
class Lie:
    """What it means in words, and what it bends."""

    meaning: str
    believe: Callable[[Objects], Objects] = _as_is
    choose: Callable[[Sequence[Endpoint]], Sequence[Endpoint]] = _all
    tell: Callable[[Observation], Observation] = _truth


def _silent(seen: Observation) -> Observation:
    return replace(
        seen,
        outcome=FlowOutcome.TIMEOUT,
        errno=None,
        icmp=None,
        backend=None,
        served_at=None,
        client_seen=None,
        reply_src=None,
    )


def _drops(seen: Observation) -> Observation:
    return _silent(seen) if seen.outcome is FlowOutcome.REFUSED else seen


def _resets(seen: Observation) -> Observation:
    return replace(seen, icmp=None) if seen.outcome is FlowOutcome.REFUSED else seen


def _wrong_client(seen: Observation) -> Observation:
    """Every endpoint sees the endpoint's own address: nobody could mistake that for the client's."""
    if seen.client_seen is None or seen.served_at is None:
        return seen
    return replace(seen, client_seen=Address(seen.served_at.ip, seen.client_seen.port))


def _wrong_source(seen: Observation) -> Observation:
    return replace(seen, reply_src=seen.served_at) if seen.outcome is FlowOutcome.REPLY else seen


def _one_family(seen: Observation) -> Observation:
    return _silent(seen) if seen.family == "IPv6" else seen


def _one_port(objects: Objects) -> Objects:
    """All ports of a slice lead to the first one's target."""
    slices = [
        {**one, "ports": [{**port, "port": one["ports"][0]["port"]} for port in one["ports"]]}
        for one in objects.slices
    ]
    return replace(objects, slices=slices)


def _ignores_readiness(objects: Objects) -> Objects:
    slices = [
        {**one, "endpoints": [{**endpoint, "conditions": {"ready": True}} for endpoint in one["endpoints"]]}
        for one in objects.slices
    ]
    return replace(objects, slices=slices)


def _ignores_proxy_name(objects: Objects) -> Objects:
    """Slices carry the Service's labels, so the label that names another proxy goes from both."""
    return replace(
        objects, services=_without_label(objects.services, LABEL), slices=_without_label(objects.slices, LABEL)
    )


def _without_label(objects: Sequence[Object], label: str) -> list[Object]:
    stripped = []
    for one in objects:
        metadata = one["metadata"]
        labels = {name: value for name, value in (metadata.get("labels") or {}).items() if name != label}
        stripped.append({**one, "metadata": {**metadata, "labels": labels}})
    return stripped


def _keeps_deleted(objects: Objects) -> Objects:
    return replace(
        objects,
        services=[*objects.services, *objects.deleted_services],
        slices=[*objects.slices, *objects.deleted_slices],
    )


def _keeps_endpoints(objects: Objects) -> Objects:
    return replace(objects, slices=[{**one, "endpoints": objects.ever[key_of(one)]} for one in objects.slices])


def _no_localhost(seen: Observation) -> Observation:
    return _silent(seen) if seen.dst.ip == "127.0.0.1" else seen


def _keeps_former(objects: Objects) -> Objects:
    return replace(objects, services=[*objects.services, *objects.former_services])


def _with_spec(**fields: Any) -> Callable[[Objects], Objects]:
    """Every Service has these in its spec."""

    def believe(objects: Objects) -> Objects:
        return replace(objects, services=[{**one, "spec": {**one["spec"], **fields}} for one in objects.services])

    return believe


def _with_ingress(change: Callable[[Object], Sequence[Object]]) -> Callable[[Objects], Objects]:
    """Every item of a load balancer's status becomes others."""

    def believe(objects: Objects) -> Objects:
        services = []
        for one in objects.services:
            items = (one.get("status") or {}).get("loadBalancer", {}).get("ingress") or ()
            ingress = [other for item in items for other in change(item)]
            services.append({**one, "status": {"loadBalancer": {"ingress": ingress}}})
        return replace(objects, services=services)

    return believe


def _proxies_headless(objects: Objects) -> Objects:
    """A headless Service is served at its first endpoint's addresses, and no slice is hidden."""
    slices = _without_label(objects.slices, HEADLESS_LABEL)
    services = []
    for one in objects.services:
        if one["spec"].get("clusterIP") == "None":
            addresses = [
                endpoint["addresses"][0]
                for listed in slices
                if listed["metadata"]["labels"].get(SERVICE_NAME) == one["metadata"]["name"]
                for endpoint in listed["endpoints"][:1]
            ]
            one = {**one, "spec": {**one["spec"], "clusterIP": addresses[0], "clusterIPs": addresses}}  # noqa: PLW2901
        services.append(one)
    return replace(objects, services=services, slices=slices)


def _ignores_owner(objects: Objects) -> Objects:
    """A slice belongs to the Service whose name its own name begins with."""
    slices = [
        {
            **one,
            "metadata": {
                **one["metadata"],
                "labels": {
                    **one["metadata"]["labels"],
                    SERVICE_NAME: "-".join(one["metadata"]["name"].split("-")[:2]),
                },
            },
        }
        if one["metadata"]["name"].startswith("svc-")
        else one
        for one in objects.slices
    ]
    return replace(objects, slices=slices)


def _confuses_families(objects: Objects) -> Objects:
    """A slice counts in both families, whatever its addresses."""
    slices = [{**one, "addressType": family} for one in objects.slices for family in ("IPv4", "IPv6")]
    return replace(objects, slices=slices)


def _first_slice_only(objects: Objects) -> Objects:
    """Of each Service's slices only the first of each family counts."""
    first: dict[tuple[str, str, str], Object] = {}
    for one in objects.slices:
        owner = one["metadata"]["labels"].get(SERVICE_NAME, "")
        first.setdefault((one["metadata"]["namespace"], owner, one["addressType"]), one)
    return replace(objects, slices=list(first.values()))


def _ignores_terminating(objects: Objects) -> Objects:
    """What terminates serves nobody any more."""
    slices = [
        {
            **one,
            "endpoints": [item for item in one["endpoints"] if not (item.get("conditions") or {}).get("terminating")],
        }
        for one in objects.slices
    ]
    return replace(objects, slices=slices)


LIES = {
    "silent": Lie("never answers anything", tell=_silent),
    "drops": Lie("drops where it should refuse", tell=_drops),
    "resets": Lie("refuses without an ICMP error", tell=_resets),
    "skips-one": Lie(
        "never chooses the last of several endpoints",
        choose=lambda endpoints: endpoints[:-1] if len(endpoints) > 1 else endpoints,
    ),
    "wrong-client": Lie("hides the client behind an address that is nobody's here", tell=_wrong_client),
    "wrong-source": Lie("lets the endpoint's own address show in the reply", tell=_wrong_source),
    "one-family": Lie("answers no IPv6", tell=_one_family),
    "one-port": Lie("leads every port to the first port's target", believe=_one_port),
    "ignores-readiness": Lie("uses endpoints that are not ready", believe=_ignores_readiness),
    "ignores-proxy-name": Lie("serves Services that another proxy should serve", believe=_ignores_proxy_name),
    "keeps-endpoints": Lie("goes on using removed endpoints", believe=_keeps_endpoints),
    "keeps-former": Lie("goes on serving frontends that a Service has no longer", believe=_keeps_former),
    "ignores-load-balancers": Lie("answers for no load balancer's IP", believe=_with_ingress(lambda _: ())),
    "ignores-ip-mode": Lie(
        "answers for IPs of load balancers that want to be asked themselves",
        believe=_with_ingress(lambda item: [{**item, "ipMode": "VIP"}]),
    ),
    "ignores-source-ranges": Lie("lets everybody in", believe=_with_spec(loadBalancerSourceRanges=[])),
    "ignores-external-ips": Lie("answers for no external IP", believe=_with_spec(externalIPs=[])),
    "ignores-external-policy": Lie(
        "sends what comes from outside to any node", believe=_with_spec(externalTrafficPolicy="Cluster")
    ),
    "ignores-internal-policy": Lie(
        "sends what comes from inside to any node", believe=_with_spec(internalTrafficPolicy="Cluster")
    ),
    "no-affinity": Lie("knows no session affinity", believe=_with_spec(sessionAffinity="None")),
    "proxies-headless": Lie("serves headless Services, and headless slices", believe=_proxies_headless),
    "ignores-owner": Lie("takes slices for a Service's that do not name it", believe=_ignores_owner),
    "confuses-families": Lie("serves one family with the other's endpoints", believe=_confuses_families),
    "first-slice-only": Lie("reads only the first slice of a Service", believe=_first_slice_only),
    "ignores-terminating": Lie("lets nobody be served by what terminates", believe=_ignores_terminating),
    "keeps-deleted": Lie("goes on serving deleted Services", believe=_keeps_deleted),
    "no-localhost": Lie("has no node ports on loopback, whatever its configuration", tell=_no_localhost),
    # What these do is about time or the proxy's configuration, and stands in fake_cluster.py and fake_proxy.py.
    "config-ignored": Lie("is restarted, and goes by its default configuration as before"),
    "config-sticks": Lie("goes by the first configuration it was restarted with, whatever comes later"),
    "passes-invalid": Lie("lets a segment outside a connection's window reach the client untranslated"),
    "firewalled": Lie("leaves what it translated to the node's firewall"),
    "unwatched": Lie("never notices that its rules are gone"),
    "inflexible": Lie("cannot be configured, and says so"),
    "rejects-config": Lie("dies of any configuration but its default"),
    # What these do stands in fake_cluster.py and fake_flows.py: it is about what came before.
    "restless-flows": Lie("chooses an endpoint anew for every packet of a UDP flow"),
    "cuts-connections": Lie("resets established connections whenever something changes"),
    "one-client": Lie("takes all clients for one, under session affinity"),
    "eternal-affinity": Lie("never forgets a client"),
    "short-affinity": Lie("forgets a client after half of the time"),
    "affinity-from-first": Lie("forgets a client some time after its first connection, however many came later"),
    # What these do stands in fake_cluster.py: health checks are not flows, and the rest is about time.
    "stays-eligible": Lie("never tells that its node is to go"),
    "always-healthy": Lie("tells load balancers that every node has endpoints"),
    "stale-flows": Lie("a UDP flow never leaves the endpoint it once had"),
    "frozen": Lie("follows no change made after its start, the sentinel's included"),
    "never-settles": Lie("follows every change but the sentinel's"),
    "never-ready": Lie("does not even answer the first sentinel"),
    "dies": Lie("has died when it is looked at in the first transition"),
    "dies-between": Lie("has died, after the first batch has settled, before the second test ends"),
    "crashes": Lie("takes the whole process with it at the first probe of a transition"),
    "stalls": Lie("answers nothing from the second settle on, and says so in a fifo"),
}
