# SPDX-License-Identifier: Apache-2.0
"""Services, EndpointSlices and Nodes with only the fields that a datapath needs, and how they are decoded.

Fields are those of https://kubernetes.io/docs/reference/kubernetes-api/; every other one is skipped. None of these
types can be part of a reference cycle, so that the garbage collector never looks at them (`gc=False`).
"""

from typing import Final

from msgspec import Raw, Struct, field
from msgspec.json import Decoder

PROXY_NAME: Final = "service.kubernetes.io/service-proxy-name"
HEADLESS: Final = "service.kubernetes.io/headless"
# What another proxy shall serve, and what no proxy shall: only that the label is there counts, not its value.
SELECTOR: Final = f"!{HEADLESS},!{PROXY_NAME}"


class Labels(Struct, gc=False):
    """The labels that change what is done with an object."""

    service: str = field(name="kubernetes.io/service-name", default="")
    proxy_name: str | None = field(name=PROXY_NAME, default=None)
    headless: str | None = field(name=HEADLESS, default=None)
    zone: str | None = field(name="topology.kubernetes.io/zone", default=None)

    @property
    def hides(self) -> bool:
        """Whether the object is none of ours."""
        return self.proxy_name is not None or self.headless is not None


class Annotations(Struct, gc=False):
    """Ours, on a Service: how its endpoints are chosen."""

    scheduler: str | None = field(name="plumbline.dev/scheduler", default=None)
    weights: str | None = field(name="plumbline.dev/weights", default=None)


class Metadata(Struct, gc=False):
    """Who an object is."""

    name: str
    namespace: str = ""
    resourceVersion: str = ""  # noqa: N815 - the API's name
    creationTimestamp: str | None = None  # noqa: N815
    deletionTimestamp: str | None = None  # noqa: N815
    labels: Labels | None = None
    annotations: Annotations | None = None


class ServicePort(Struct, gc=False, rename="camel"):
    """One port of a Service."""

    port: int
    name: str | None = None
    protocol: str | None = None
    node_port: int | None = None


class ClientIP(Struct, gc=False, rename="camel"):
    """How long affinity lasts after the last new connection, in seconds."""

    timeout_seconds: int | None = None


class AffinityConfig(Struct, gc=False):
    """spec.sessionAffinityConfig."""

    client_ip: ClientIP | None = field(name="clientIP", default=None)


class ServiceSpec(Struct, gc=False, rename="camel"):
    """spec of a Service."""

    type: str = "ClusterIP"
    cluster_ip: str | None = field(name="clusterIP", default=None)
    cluster_ips: tuple[str, ...] | None = field(name="clusterIPs", default=None)
    ports: tuple[ServicePort, ...] | None = None
    external_ips: tuple[str, ...] | None = field(name="externalIPs", default=None)
    load_balancer_source_ranges: tuple[str, ...] | None = None
    external_traffic_policy: str | None = None
    internal_traffic_policy: str | None = None
    session_affinity: str | None = None
    session_affinity_config: AffinityConfig | None = None
    health_check_node_port: int | None = None


class Ingress(Struct, gc=False, rename="camel"):
    """One entry point of a load balancer."""

    ip: str | None = None
    ip_mode: str | None = None


class LoadBalancer(Struct, gc=False):
    """status.loadBalancer."""

    ingress: tuple[Ingress, ...] | None = None


class ServiceStatus(Struct, gc=False, rename="camel"):
    """status of a Service."""

    load_balancer: LoadBalancer | None = None


class Service(Struct, gc=False):
    """A Service."""

    metadata: Metadata
    spec: ServiceSpec
    status: ServiceStatus | None = None


class Conditions(Struct, gc=False):
    """What is known of an endpoint's readiness; what is absent has the defaults of the API."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Named(Struct, gc=False):
    """A zone or a node, by name."""

    name: str


class Hints(Struct, gc=False, rename="camel"):
    """Where an endpoint shall be used."""

    for_zones: tuple[Named, ...] | None = None
    for_nodes: tuple[Named, ...] | None = None


class Endpoint(Struct, gc=False, rename="camel"):
    """One endpoint of a slice."""

    addresses: tuple[str, ...]
    conditions: Conditions | None = None
    node_name: str | None = None
    hints: Hints | None = None


class SlicePort(Struct, gc=False):
    """One port of a slice: the same at all its endpoints."""

    name: str | None = None
    protocol: str | None = None
    port: int | None = None


class EndpointSlice(Struct, gc=False, rename="camel"):
    """An EndpointSlice of discovery.k8s.io/v1."""

    metadata: Metadata
    address_type: str
    ports: tuple[SlicePort, ...] | None = None
    endpoints: tuple[Endpoint, ...] | None = None


class NodeAddress(Struct, gc=False):
    """An address that the API knows a node by."""

    type: str
    address: str


class Taint(Struct, gc=False):
    """What keeps pods off a node."""

    key: str = ""


class NodeSpec(Struct, gc=False):
    """spec of a Node."""

    taints: tuple[Taint, ...] | None = None

    pod_cidr: str | None = field(name="podCIDR", default=None)
    pod_cidrs: tuple[str, ...] | None = field(name="podCIDRs", default=None)


class NodeStatus(Struct, gc=False):
    """status of a Node."""

    addresses: tuple[NodeAddress, ...] | None = None


class Node(Struct, gc=False):
    """A Node."""

    metadata: Metadata
    spec: NodeSpec | None = None
    status: NodeStatus | None = None


class ListMetadata(Struct):
    """Where a watch goes on after a list."""

    resourceVersion: str = ""  # noqa: N815


class ObjectList(Struct):
    """A list of any kind. Its objects are decoded one by one, so that a broken one does not take the others along."""

    metadata: ListMetadata
    items: list[Raw] | None = None


class Event(Struct):
    """One line of a watch."""

    type: str
    object: Raw


class Bookmark(Struct):
    """What a BOOKMARK carries."""

    metadata: ListMetadata


class Status(Struct):
    """What an ERROR carries."""

    code: int = 0
    reason: str = ""
    message: str = ""


Kept = Service | EndpointSlice | Node

service_decoder: Final = Decoder(Service)
slice_decoder: Final = Decoder(EndpointSlice)
node_decoder: Final = Decoder(Node)
list_decoder: Final = Decoder(ObjectList)
event_decoder: Final = Decoder(Event)
bookmark_decoder: Final = Decoder(Bookmark)
status_decoder: Final = Decoder(Status)
