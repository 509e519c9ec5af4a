# SPDX-License-Identifier: Apache-2.0
"""JSON types of the fields this server computes with, checked before it does.

A real server decodes into Go structs and answers 400 to a string where a number belongs. Only the listed fields are
checked; of built-in kinds every field is known (`fields`), and unknown ones are dropped, as upstream drops them, and
told to whoever asked. Custom resources are stored as they come.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

from clusters.apiserver import fields
from clusters.apiserver.status import JsonObject, bad_request

Shape = Any
"""`str`, `int`, `bool`, `[shape]` for a list, `{"field": shape}` for an object, `{"*": shape}` for a map, and
`INT_OR_STRING`, None for anything. Absent fields are always allowed."""

INT_OR_STRING = (int, str)
MOST = 2**31
"""Integers of the API that are looked at here have 32 bits."""

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

NEVER_EMPTY = ("labels", "annotations", "finalizers", "ownerReferences")
"""Typed metadata has none of these that is empty; managedFields it has, where they mean something."""

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

CONFIG_MAP: dict[str, Shape] = {"data": {"*": str}, "binaryData": {"*": str}, "immutable": bool}

NODE: dict[str, Shape] = {"spec": {"podCIDR": str, "podCIDRs": [str]}}

SERVICE_CIDR: dict[str, Shape] = {"spec": {"cidrs": [str]}}

CUSTOM_RESOURCE_DEFINITION: dict[str, Shape] = {
    "spec": {
        "group": str,
        "scope": str,
        "names": {"plural": str, "kind": str, "shortNames": [str], "categories": [str]},
        "versions": [
            {
                "name": str,
                "served": bool,
                "storage": bool,
                "subresources": {},
                "selectableFields": [{"jsonPath": str}],
            }
        ],
    }
}


@cache
def complete(key: tuple[str, str, str]) -> Shape:
    """Every field of a built-in resource, metadata included; None for others."""
    shape = fields.shape_of(key)
    return None if shape is None else {**shape, "metadata": METADATA}


def drop_unknown(key: tuple[str, str, str], obj: JsonObject) -> list[str]:
    """Take fields that a built-in kind does not have out of `obj`; returns their paths.

    Raises ApiError 400 for something else where a list or an object belongs.
    """
    shape = complete(key)
    return [] if shape is None or _is_known(shape, obj) else list(_drop_unknown(shape, obj, ""))


def _is_known(shape: Shape, value: Any) -> bool:
    """Whether `_drop_unknown` has nothing to do or to say: almost always, so this is the fast way to know."""
    if type(value) is list:
        return type(shape) is list and all(_is_known(shape[0], inner) for inner in value)
    if type(value) is not dict:
        return value is None or not (type(shape) is dict or type(shape) is list)
    if type(shape) is not dict or "*" in shape:
        return shape is None or type(shape) is dict
    if not value.keys() <= shape.keys():
        return False
    for name, inner in value.items():
        wanted = shape[name]
        if (type(wanted) is dict or type(wanted) is list) and not _is_known(wanted, inner):
            return False
    return True


def _drop_unknown(shape: Shape, value: Any, path: str) -> Iterator[str]:
    if value is None:
        return
    if type(shape) is list:
        if type(value) is not list:
            raise _mismatch(path, "a list")
        if type(shape[0]) is dict:
            for i, inner in enumerate(value):
                yield from _drop_unknown(shape[0], inner, f"{path}[{i}]")
        return
    if type(value) is not dict:
        raise _mismatch(path, "an object")
    if "*" in shape:
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
    elif type(value) is not shape or (shape is int and not -MOST <= value < MOST):
        raise _mismatch(path, {str: "a string", int: "an integer of 32 bits", bool: "true or false"}[shape])


def _check_fields(shape: dict[str, Shape], value: Any, path: str) -> None:
    if type(value) is not dict:
        raise _mismatch(path, "an object")
    everything = shape.get("*")
    for name, inner in value.items():
        wanted = everything or shape.get(name)
        # Most values are plain and right; they need no call and no path.
        if wanted is None or (type(inner) is wanted and (wanted is not int or -MOST <= inner < MOST)):
            continue
        check(wanted, inner, f"{path}.{name}" if path else name)


def _mismatch(path: str, wanted: str) -> Exception:
    return bad_request(f"the object cannot be decoded: {path or 'the body'} must be {wanted}")
