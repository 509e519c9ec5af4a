# SPDX-License-Identifier: Apache-2.0
"""Request bodies: what they are written in, and DELETE's options."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import orjson

from clusters.apiserver.api import DeleteOptions
from clusters.apiserver.options import wants_dry_run
from clusters.apiserver.status import (
    FieldError,
    bad_request,
    invalid,
    invalid_value,
    not_supported,
    unsupported_media_type,
)

JSON = "application/json"
PROTOBUF = "application/vnd.kubernetes.protobuf"
YAML_DEPTH = 200
PROPAGATION_POLICIES = ("Background", "Foreground", "Orphan")


def decode(content_type: str | None, body: bytes) -> Any:
    """A body in JSON, or in protobuf. ApiError 415 where it is in another language, 400 where it cannot be read."""
    if content_type == PROTOBUF:
        from clusters.apiserver.protobuf import decode_protobuf

        return decode_protobuf(body)
    if content_type is not None and content_type != JSON:
        raise unsupported_media_type([JSON])
    return decode_json(body)


def decode_json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as problem:
        raise bad_request(f"the body of the request is not JSON: {problem}") from problem


def decode_yaml(body: bytes) -> Any:
    """A YAML body. What the usual clients send as YAML is JSON, for which no YAML parser is needed."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    import yaml

    try:
        depth = 0
        for event in yaml.parse(body, _plain_loader()):
            # A few hundred bytes of aliases to aliases stand for more than fits into memory.
            if isinstance(event, yaml.AliasEvent):
                raise bad_request("error decoding YAML: aliases are not taken")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > YAML_DEPTH:
                raise bad_request("error decoding YAML: it is nested too deeply")
        decoded = yaml.load(body, _plain_loader())  # noqa: S506 - a safe loader's child
        return orjson.loads(json.dumps(decoded, allow_nan=False))
    except (yaml.YAMLError, TypeError, ValueError, RecursionError) as problem:
        # A key that is no text, a number beyond all bounds, a binary value: what JSON has no word for.
        raise bad_request(f"error decoding YAML: {' '.join(str(problem).split())}") from problem


@cache
def _plain_loader() -> Any:
    """The safe loader without timestamps: in JSON, and so in the API, a date is text."""
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    resolvers = {
        first: [(tag, pattern) for tag, pattern in known if tag != "tag:yaml.org,2002:timestamp"]
        for first, known in base.yaml_implicit_resolvers.items()
    }
    return type("PlainLoader", (base,), {"yaml_implicit_resolvers": resolvers})


def delete_options(query: Mapping[str, str], body: Any) -> DeleteOptions:
    """From the query and the body, which wins where both speak. ApiError 400 or 422 for what makes no sense.

    A grace period and a propagation policy are checked and otherwise ignored: nothing runs that would need the
    time, and there is no garbage collector.
    """
    if not isinstance(body, dict):
        raise bad_request("delete options must be a JSON object")
    if body.get("kind", "DeleteOptions") != "DeleteOptions":
        raise bad_request(f"the body of a delete is of kind DeleteOptions, not {body['kind']!r}")
    preconditions = {} if body.get("preconditions") is None else body["preconditions"]
    if not isinstance(preconditions, dict):
        raise bad_request("preconditions must be a JSON object")
    if errors := _delete_errors(query, body):
        raise invalid("DeleteOptions", "meta.k8s.io", "", errors)
    return DeleteOptions(
        uid=str(preconditions.get("uid") or ""),
        resource_version=str(preconditions.get("resourceVersion") or ""),
        dry_run=wants_dry_run(query, body),
    )


def _delete_errors(query: Mapping[str, str], body: Mapping[str, Any]) -> list[FieldError]:
    errors: list[FieldError] = []
    policy = body.get("propagationPolicy") or query.get("propagationPolicy")
    if policy and policy not in PROPAGATION_POLICIES:
        errors.append(not_supported("propagationPolicy", policy, (*PROPAGATION_POLICIES, "nil")))
    if policy and body.get("orphanDependents") is not None:
        why = "orphanDependents and deletionPropagation cannot be both set"
        errors.append(invalid_value("propagationPolicy", policy, why))
    grace = body.get("gracePeriodSeconds")
    if grace is not None and type(grace) is not int:
        raise bad_request("gracePeriodSeconds must be an integer")
    return errors
