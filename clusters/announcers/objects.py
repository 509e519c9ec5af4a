# SPDX-License-Identifier: Apache-2.0
"""What MetalLB's speakers find in the API: its kinds, a pool of addresses, that they are announced, and themselves.

MetalLB's controller is not there: it would hand out addresses and write them into the status of Services, which tests
do themselves. https://metallb.io/apis/, https://metallb.io/configuration/
"""

import time
from collections.abc import Iterable

from clusters.errors import PlumblineError
from clusters.kube import NAMESPACES, ApiError, KubeClient, Object, Resource
from clusters.proxies.base import Place

NAMESPACE = "metallb-system"
GROUP, VERSION = "metallb.io", "v1beta1"
SPEAKER = {"app": "metallb", "component": "speaker"}
PODS = Resource("v1", "pods", "Pod")
CRDS = Resource("apiextensions.k8s.io/v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False)
POOLS = Resource(f"{GROUP}/{VERSION}", "ipaddresspools", "IPAddressPool")
ADVERTISEMENTS = Resource(f"{GROUP}/{VERSION}", "l2advertisements", "L2Advertisement")
# Plural, kind and versions, of which the last is the one that is stored.
KINDS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("bfdprofiles", "BFDProfile", (VERSION,)),
    ("bgpadvertisements", "BGPAdvertisement", (VERSION,)),
    ("bgppeers", "BGPPeer", (VERSION, "v1beta2")),
    ("communities", "Community", (VERSION,)),
    ("configurationstates", "ConfigurationState", (VERSION,)),
    ("ipaddresspools", "IPAddressPool", (VERSION,)),
    ("l2advertisements", "L2Advertisement", (VERSION,)),
    ("servicebgpstatuses", "ServiceBGPStatus", (VERSION,)),
    ("servicel2statuses", "ServiceL2Status", (VERSION,)),
)
# A real kube-apiserver serves a new kind after some tenths of a second.
SERVED_DEADLINE, POLL_INTERVAL = 30.0, 0.05


def definition(plural: str, kind: str, versions: Iterable[str]) -> Object:
    """A CustomResourceDefinition that lets objects hold anything: what they mean is MetalLB's business."""
    names = tuple(versions)
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"},
            "versions": [
                {
                    "name": name,
                    "served": True,
                    "storage": name == names[-1],
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": {"status": {}},
                }
                for name in names
            ],
        },
    }


def write_objects(kube: KubeClient, places: Iterable[Place], ranges: Iterable[str]) -> None:
    """All of them, once their kinds are served. Raises PlumblineError where they never are."""
    kube.create(NAMESPACES, {"metadata": {"name": NAMESPACE}})
    for plural, kind, versions in KINDS:
        kube.create(CRDS, definition(plural, kind, versions))
    for plural, kind, versions in KINDS:
        for version in versions:
            _await_served(kube, Resource(f"{GROUP}/{version}", plural, kind))
    for place in places:
        # The speakers find each other by these.
        pod = kube.create(PODS, _pod(place))
        status = {"phase": "Running", "podIP": place.ipv4, "podIPs": [{"ip": ip} for ip in (place.ipv4, place.ipv6)]}
        kube.patch(PODS, pod["metadata"]["name"], {"status": status}, NAMESPACE, "status")
    metadata = {"name": "announced", "namespace": NAMESPACE}
    kube.create(POOLS, {"metadata": metadata, "spec": {"addresses": list(ranges), "autoAssign": False}})
    kube.create(ADVERTISEMENTS, {"metadata": metadata, "spec": {"ipAddressPools": ["announced"]}})


def pod_name(node: str) -> str:
    """The name of the pod that stands for a node's speaker."""
    return f"speaker-{node}"


def _pod(place: Place) -> Object:
    container = {"name": "speaker", "image": "quay.io/metallb/speaker"}
    return {
        "metadata": {"name": pod_name(place.name), "namespace": NAMESPACE, "labels": SPEAKER},
        "spec": {"nodeName": place.name, "hostNetwork": True, "containers": [container]},
    }


def _await_served(kube: KubeClient, kind: Resource) -> None:
    end = time.monotonic() + SERVED_DEADLINE
    while True:
        try:
            kube.list(kind, NAMESPACE)
        except ApiError as error:
            if time.monotonic() > end:
                raise PlumblineError(f"the API server does not serve {kind.plural}.{GROUP}: {error}") from None
            time.sleep(POLL_INTERVAL)
        else:
            return
