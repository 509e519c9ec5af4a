# SPDX-License-Identifier: Apache-2.0
"""What an API server answers to a list: many Services and their EndpointSlices, as bytes."""

import json
from collections.abc import Iterable, Sequence

from clusters.measure.services import SERVICE_PORT as PORT
from clusters.measure.services import cluster_ip

NODES = 1_000
CREATED = "2026-11-01T00:00:00Z"


def services(count: int, target_port: int) -> bytes:
    """A ServiceList: ClusterIP Services with a port each."""
    listed = [{"name": "http", "protocol": "TCP", "port": PORT, "targetPort": target_port}]
    items = (
        _object(f"s-{number}", "Service", f'"labels":{{"app":"app-{number}"}}')
        + f'"spec":{{"type":"ClusterIP","clusterIP":"{cluster_ip(number)}","clusterIPs":["{cluster_ip(number)}"],'
        f'"ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","internalTrafficPolicy":"Cluster",'
        f'"selector":{{"app":"app-{number}"}},"sessionAffinity":"None","ports":{json.dumps(listed)}}},'
        '"status":{"loadBalancer":{}}}'
        for number in range(count)
    )
    return _list("v1", "Service", items)


def slices(count: int, target_port: int, addresses: Sequence[str], each: int) -> bytes:
    """An EndpointSliceList: one slice for each Service, with `each` of the addresses in turn, on other nodes."""
    listed = json.dumps([{"name": "http", "protocol": "TCP", "port": target_port}])
    endpoints = [
        f'{{"addresses":["{address}"],"conditions":{{"ready":true,"serving":true,"terminating":false}},'
        f'"nodeName":"other-{place % NODES}","targetRef":{{"kind":"Pod","namespace":"default","name":"pod-{place}",'
        f'"uid":"00000000-0000-4000-8000-{place:012d}"}}}}'
        for place, address in enumerate(addresses)
    ]
    endpoints += endpoints[:each]
    items = (
        _object(
            f"s-{number}-abcde",
            "EndpointSlice",
            f'"generateName":"s-{number}-","labels":{{"kubernetes.io/service-name":"s-{number}",'
            '"endpointslice.kubernetes.io/managed-by":"endpointslice-controller.k8s.io"},'
            f'"ownerReferences":[{{"apiVersion":"v1","kind":"Service","name":"s-{number}",'
            f'"uid":"00000000-0000-4000-9000-{number:012d}","controller":true,"blockOwnerDeletion":true}}]',
        )
        + f'"addressType":"IPv4","ports":{listed},'
        f'"endpoints":[{",".join(endpoints[number * each % len(addresses) :][:each])}]}}'
        for number in range(count)
    )
    return _list("discovery.k8s.io/v1", "EndpointSlice", items)


def node(name: str, addresses: Sequence[str], pod_cidrs: Sequence[str]) -> bytes:
    """A NodeList of one."""
    one = {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {"podCIDR": pod_cidrs[0], "podCIDRs": list(pod_cidrs)},
        "status": {"addresses": [{"type": "InternalIP", "address": each} for each in addresses]},
    }
    return _list("v1", "Node", [json.dumps(one)])


def _object(name: str, kind: str, more: str) -> str:
    """An object's beginning, up to what follows its metadata."""
    serial = sum(name.encode())
    return (
        f'{{"kind":"{kind}","metadata":{{"name":"{name}","namespace":"default",{more},'
        f'"uid":"00000000-0000-4000-a000-{serial:012d}","resourceVersion":"{serial}",'
        f'"creationTimestamp":"{CREATED}"}},'
    )


def _list(api_version: str, kind: str, items: Iterable[str]) -> bytes:
    head = f'{{"kind":"{kind}List","apiVersion":"{api_version}","metadata":{{"resourceVersion":"1"}},"items":['
    return (head + ",".join(items) + "]}").encode()
