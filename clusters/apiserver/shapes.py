# SPDX-License-Identifier: Apache-2.0
"""JSON types of the fields this server computes with, checked before it does.

A real server decodes into Go structs and answers 400 to a string where a number belongs. Only the listed fields are
checked; of kinds whose shape is complete (`COMPLETE`) unknown fields are dropped, as upstream drops them, and told to
whoever asked; others are stored as they come.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from clusters.apiserver.status import JsonObject, bad_request

Shape = Any
"""`str`, `int`, `bool`, `[shape]` for a list, `{"field": shape}` for an object, `{"*": shape}` for a map, and
`INT_OR_STRING`, None for anything. Absent fields are always allowed."""

INT_OR_STRING = (int, str)

METADATA: dict[str, Shape] = {
    "name": str,
    "generateName": str,
    "namespace": str,
    "uid": str,
    "resourceVersion": str,
    "creationTimestamp": str,
    "deletionTimestamp": str,
    "deletionGracePeriodSeconds": int,
    "generation": int,
    "selfLink": str,
    "labels": {"*": str},
    "annotations": {"*": str},
    "finalizers": [str],
    "ownerReferences": [
        {
            "apiVersion": str,
            "kind": str,
            "name": str,
            "uid": str,
            "controller": bool,
            "blockOwnerDeletion": bool,
        }
    ],
    "managedFields": [
        {
            "manager": str,
            "operation": str,
            "apiVersion": str,
            "time": str,
            "fieldsType": str,
            "fieldsV1": None,
            "subresource": str,
        }
    ],
}

CONDITIONS: Shape = [
    {
        "type": str,
        "status": str,
        "reason": str,
        "message": str,
        "lastTransitionTime": str,
        "observedGeneration": int,
    }
]

SERVICE: dict[str, Shape] = {
    "spec": {
        "type": str,
        "selector": {"*": str},
        "clusterIP": str,
        "clusterIPs": [str],
        "ipFamilies": [str],
        "ipFamilyPolicy": str,
        "ports": [
            {
                "name": str,
                "protocol": str,
                "appProtocol": str,
                "port": int,
                "targetPort": INT_OR_STRING,
                "nodePort": int,
            }
        ],
        "externalIPs": [str],
        "externalName": str,
        "externalTrafficPolicy": str,
        "internalTrafficPolicy": str,
        "healthCheckNodePort": int,
        "sessionAffinity": str,
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": int}},
        "loadBalancerIP": str,
        "loadBalancerClass": str,
        "loadBalancerSourceRanges": [str],
        "allocateLoadBalancerNodePorts": bool,
        "publishNotReadyAddresses": bool,
        "trafficDistribution": str,
    },
    "status": {
        "loadBalancer": {
            "ingress": [
                {
                    "ip": str,
                    "hostname": str,
                    "ipMode": str,
                    "ports": [{"port": int, "protocol": str, "error": str}],
                }
            ]
        },
        "conditions": CONDITIONS,
    },
}

ENDPOINT_SLICE: dict[str, Shape] = {
    "addressType": str,
    "ports": [{"name": str, "protocol": str, "port": int, "appProtocol": str}],
    "endpoints": [
        {
            "addresses": [str],
            "conditions": {"ready": bool, "serving": bool, "terminating": bool},
            "hostname": str,
            "nodeName": str,
            "zone": str,
            "hints": {"forZones": [{"name": str}], "forNodes": [{"name": str}]},
            "deprecatedTopology": {"*": str},
            "targetRef": {
                "kind": str,
                "namespace": str,
                "name": str,
                "uid": str,
                "apiVersion": str,
                "resourceVersion": str,
                "fieldPath": str,
            },
        }
    ],
}

ENDPOINTS: dict[str, Shape] = {
    "subsets": [
        {
            "addresses": [{"ip": str}],
            "notReadyAddresses": [{"ip": str}],
            "ports": [{"name": str, "protocol": str, "port": int}],
        }
    ]
}

NODE: dict[str, Shape] = {"spec": {"podCIDR": str, "podCIDRs": [str]}}

SERVICE_CIDR: dict[str, Shape] = {"spec": {"cidrs": [str]}}

CUSTOM_RESOURCE_DEFINITION: dict[str, Shape] = {
    "spec": {
        "group": str,
        "scope": str,
        "names": {"plural": str, "kind": str, "shortNames": [str]},
        "versions": [{"name": str, "served": bool, "storage": bool, "subresources": {}}],
    }
}

SHAPES: Mapping[tuple[str, str, str], dict[str, Shape]] = {
    ("", "v1", "services"): SERVICE,
    ("", "v1", "endpoints"): ENDPOINTS,
    ("", "v1", "nodes"): NODE,
    ("discovery.k8s.io", "v1", "endpointslices"): ENDPOINT_SLICE,
    ("networking.k8s.io", "v1", "servicecidrs"): SERVICE_CIDR,
    ("apiextensions.k8s.io", "v1", "customresourcedefinitions"): CUSTOM_RESOURCE_DEFINITION,
}

COMPLETE: Mapping[tuple[str, str, str], dict[str, Shape]] = {
    key: {"apiVersion": str, "kind": str, "metadata": METADATA, **SHAPES[key]}
    for key in (("", "v1", "services"), ("discovery.k8s.io", "v1", "endpointslices"))
}
"""The kinds whose every field (of release 1.37) is known here."""


def of(key: tuple[str, str, str]) -> dict[str, Shape]:
    """The known fields of a resource besides apiVersion, kind and metadata."""
    return SHAPES.get(key, {})


def drop_unknown(key: tuple[str, str, str], obj: JsonObject) -> list[str]:
    """Take fields that a complete shape does not have out of `obj`; returns their paths."""
    shape = COMPLETE.get(key)
    return list(_drop_unknown(shape, obj, "")) if shape is not None else []


def _drop_unknown(shape: Shape, value: Any, path: str) -> Iterator[str]:
    if type(shape) is list:
        if type(value) is list and type(shape[0]) is dict:
            for i, inner in enumerate(value):
                yield from _drop_unknown(shape[0], inner, f"{path}[{i}]")
        return
    if type(value) is not dict or "*" in shape:
        return
    for name in [name for name in value if name not in shape]:
        del value[name]
        yield f"{path}.{name}" if path else name
    for name, inner in value.items():
        if type(shape[name]) is dict or type(shape[name]) is list:
            yield from _drop_unknown(shape[name], inner, f"{path}.{name}" if path else name)


def check_metadata(obj: JsonObject) -> None:
    """Raise ApiError 400 unless `metadata` (absent is an empty object) has the types of ObjectMeta."""
    check({"metadata": METADATA}, obj)


def check(shape: Shape, value: Any, path: str = "") -> None:
    """Raise ApiError 400 unless `value` has `shape`; None stands for an absent field."""
    if value is None or shape is None:
        return
    if type(shape) is dict:
        _check_fields(shape, value, path)
    elif type(shape) is list:
        if type(value) is not list:
            raise _mismatch(path, "a list")
        for i, inner in enumerate(value):
            if inner is None:
                raise _mismatch(f"{path}[{i}]", "present")
            check(shape[0], inner, f"{path}[{i}]")
    elif shape is INT_OR_STRING:
        if type(value) not in INT_OR_STRING:
            raise _mismatch(path, "a number or a string")
    elif type(value) is not shape:
        raise _mismatch(path, {str: "a string", int: "an integer", bool: "true or false"}[shape])


def _check_fields(shape: dict[str, Shape], value: Any, path: str) -> None:
    if type(value) is not dict:
        raise _mismatch(path, "an object")
    everything = shape.get("*")
    for name, inner in value.items():
        wanted = everything or shape.get(name)
        # Most values are plain and right; they need no call and no path.
        if wanted is not None and type(inner) is not wanted:
            check(wanted, inner, f"{path}.{name}" if path else name)


def _mismatch(path: str, wanted: str) -> Exception:
    return bad_request(f"the object cannot be decoded: {path or 'the body'} must be {wanted}")
