# SPDX-License-Identifier: Apache-2.0
"""What the controller watches, and how each object becomes what it keeps."""

from collections.abc import Iterable

from msgspec import Raw

from dataplane_ref.controller.objects import SELECTOR, node_decoder, service_decoder, slice_decoder
from dataplane_ref.controller.slices import compact
from dataplane_ref.controller.watch import Converted, Resource

SERVICES, SLICES, NODES = "services", "endpointslices", "nodes"


def watched(node: str) -> Iterable[Resource]:
    """Services and slices that a proxy on this node serves, and the node itself."""

    def convert_slice(raw: Raw) -> Converted | None:
        found = slice_decoder.decode(raw)
        metadata = found.metadata
        labels = metadata.labels
        if labels is None or not labels.service or labels.hides:
            return (metadata.namespace, metadata.name), None
        return (metadata.namespace, metadata.name), (labels.service, compact(found, node))

    selectors = (("labelSelector", SELECTOR),)
    return (
        Resource(SERVICES, "/api/v1/services", selectors, _convert_service),
        Resource(SLICES, "/apis/discovery.k8s.io/v1/endpointslices", selectors, convert_slice),
        Resource(NODES, "/api/v1/nodes", (("fieldSelector", f"metadata.name={node}"),), _convert_node),
    )


def _convert_service(raw: Raw) -> Converted:
    found = service_decoder.decode(raw)
    return (found.metadata.namespace, found.metadata.name), found


def _convert_node(raw: Raw) -> Converted:
    found = node_decoder.decode(raw)
    return found.metadata.name, found
