# SPDX-License-Identifier: Apache-2.0
"""Bodies in Kubernetes' protobuf encoding, for the few kinds that kubectl's `create` commands send that way.

`kubectl create namespace`, `service`, `configmap`, `secret` and `serviceaccount`, and `kubectl expose`, offer no
other encoding. Answers stay JSON, which their readers take as well. The envelope is four magic bytes and a `Unknown`
(https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding), field numbers are those of the
generated.proto files in k8s.io/api and k8s.io/apimachinery. Go's encoder writes empty strings and zeros that JSON
leaves out, so they are dropped, except where the Go type tells them from absent ones (`?`).
"""

import base64
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from clusters.apiserver.status import ApiError, JsonObject, bad_request, unsupported_media_type

MAGIC = b"k8s\0"

Field: TypeAlias = tuple[str, str]
"""A JSON name and a type: a scalar, `?` for a pointer to one, `*` before what is repeated, `map:` to strings or
bytes, or the name of a message."""

MESSAGES: Mapping[str, Mapping[int, Field]] = {
    "Unknown": {1: ("typeMeta", "TypeMeta"), 2: ("raw", "raw"), 3: ("contentEncoding", "string")},
    "TypeMeta": {1: ("apiVersion", "string"), 2: ("kind", "string")},
    "ObjectMeta": {
        1: ("name", "string"),
        2: ("generateName", "string"),
        3: ("namespace", "string"),
        5: ("uid", "string"),
        6: ("resourceVersion", "string"),
        7: ("generation", "int"),
        8: ("creationTimestamp", "time"),
        9: ("deletionTimestamp", "time"),
        10: ("deletionGracePeriodSeconds", "int?"),
        11: ("labels", "map:string"),
        12: ("annotations", "map:string"),
        13: ("ownerReferences", "*OwnerReference"),
        14: ("finalizers", "*string"),
    },
    "OwnerReference": {
        1: ("kind", "string"),
        3: ("name", "string"),
        4: ("uid", "string"),
        5: ("apiVersion", "string"),
        6: ("controller", "bool?"),
        7: ("blockOwnerDeletion", "bool?"),
    },
    "Namespace": {1: ("metadata", "ObjectMeta")},
    "ConfigMap": {
        1: ("metadata", "ObjectMeta"),
        2: ("data", "map:string"),
        3: ("binaryData", "map:bytes"),
        4: ("immutable", "bool?"),
    },
    "Secret": {
        1: ("metadata", "ObjectMeta"),
        2: ("data", "map:bytes"),
        3: ("type", "string"),
        4: ("stringData", "map:string"),
        5: ("immutable", "bool?"),
    },
    "ServiceAccount": {1: ("metadata", "ObjectMeta")},
    "Service": {1: ("metadata", "ObjectMeta"), 2: ("spec", "ServiceSpec")},
    "ServiceSpec": {
        1: ("ports", "*ServicePort"),
        2: ("selector", "map:string"),
        3: ("clusterIP", "string"),
        4: ("type", "string"),
        5: ("externalIPs", "*string"),
        7: ("sessionAffinity", "string"),
        8: ("loadBalancerIP", "string"),
        9: ("loadBalancerSourceRanges", "*string"),
        10: ("externalName", "string"),
        11: ("externalTrafficPolicy", "string"),
        12: ("healthCheckNodePort", "int"),
        13: ("publishNotReadyAddresses", "bool"),
        14: ("sessionAffinityConfig", "SessionAffinityConfig"),
        17: ("ipFamilyPolicy", "string"),
        18: ("clusterIPs", "*string"),
        19: ("ipFamilies", "*string"),
        20: ("allocateLoadBalancerNodePorts", "bool?"),
        21: ("loadBalancerClass", "string?"),
        22: ("internalTrafficPolicy", "string"),
        23: ("trafficDistribution", "string?"),
    },
    "ServicePort": {
        1: ("name", "string"),
        2: ("protocol", "string"),
        3: ("port", "int"),
        4: ("targetPort", "IntOrString"),
        5: ("nodePort", "int"),
        6: ("appProtocol", "string?"),
    },
    "SessionAffinityConfig": {1: ("clientIP", "ClientIPConfig")},
    "ClientIPConfig": {1: ("timeoutSeconds", "int?")},
    "IntOrString": {1: ("type", "int"), 2: ("intVal", "int"), 3: ("strVal", "string")},
    "Time": {1: ("seconds", "int")},
    "Entry": {1: ("key", "string"), 2: ("value", "raw")},
}
KINDS = frozenset({("v1", kind) for kind in ("Namespace", "ConfigMap", "Secret", "ServiceAccount", "Service")})


@dataclass(frozen=True, slots=True)
class Wire:
    """One field as it is on the wire: its number, and a number or bytes."""

    number: int
    value: int | bytes


def decode_protobuf(body: bytes) -> JsonObject:
    """The object in a body. ApiError 415 for a kind that is not understood, 400 for bytes that are none."""
    if not body.startswith(MAGIC):
        raise bad_request("the body is not in Kubernetes' protobuf encoding: it does not begin with k8s\\0")
    try:
        envelope = _message("Unknown", body[len(MAGIC) :])
        head = envelope["typeMeta"]
        kind = (head.get("apiVersion", ""), head.get("kind", ""))
        if kind not in KINDS or envelope.get("contentEncoding"):
            raise _not_understood()
        return {"apiVersion": kind[0], "kind": kind[1], **_message(kind[1], envelope.get("raw", b""))}
    except (IndexError, KeyError, ValueError, TypeError, AttributeError) as problem:
        raise bad_request("the body is not in Kubernetes' protobuf encoding") from problem


def _not_understood() -> ApiError:
    return unsupported_media_type(["application/json"])


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _fields(data: bytes) -> Iterator[Wire]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        match key & 7:
            case 0:
                number, at = _varint(data, at)
                yield Wire(key >> 3, number)
            case 2:
                length, at = _varint(data, at)
                if at + length > len(data):
                    raise ValueError("a field is longer than its message")
                yield Wire(key >> 3, data[at : at + length])
                at += length
            case 1 | 5:
                at += 8 if key & 7 == 1 else 4
            case other:
                raise ValueError(f"wire type {other}")


def _message(name: str, data: bytes) -> JsonObject:
    found: JsonObject = {}
    for wire in _fields(data):
        known = MESSAGES[name].get(wire.number)
        if known is None:
            continue
        field, kind = known
        if kind.startswith("*"):
            found.setdefault(field, []).append(_value(kind[1:], wire.value))
        elif kind.startswith("map:"):
            entry = _message("Entry", _bytes(wire.value))
            value = entry.get("value", b"")
            found.setdefault(field, {})[entry.get("key", "")] = (
                value.decode() if kind == "map:string" else base64.b64encode(value).decode()
            )
        else:
            value = _value(kind.removesuffix("?"), wire.value)
            if value not in ("", 0, None) or kind.endswith("?"):
                found[field] = value
    return found


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise TypeError("bytes are needed here")
    return value


def _value(kind: str, value: int | bytes) -> Any:
    match kind:
        case "string":
            return _bytes(value).decode()
        case "raw":
            return _bytes(value)
        case "int":
            # Negative numbers are written as 64 bits in two's complement.
            number = int(value)
            return number - (1 << 64) if number >> 63 else number
        case "bool":
            return bool(value)
        case "time":
            seconds = _message("Time", _bytes(value)).get("seconds")
            return None if seconds is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
        case "IntOrString":
            union = _message(kind, _bytes(value))
            return union.get("strVal", "") if union.get("type") else union.get("intVal", 0)
    return _message(kind, _bytes(value))
