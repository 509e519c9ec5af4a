# SPDX-License-Identifier: Apache-2.0
"""From a decoded body to an object that the API computes with, or the sentence why it is none."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from clusters.apiserver import shapes
from clusters.apiserver.kinds import Resource
from clusters.apiserver.status import ApiError, JsonObject, bad_request


class UnknownFieldsError(ApiError):
    """400: strict decoding met fields that the kind does not have."""

    def __init__(self, resource: Resource, paths: list[str]) -> None:
        self.paths = paths
        problem = "strict decoding error: " + ", ".join(f'unknown field "{path}"' for path in paths)
        version, kind = resource.api_version, resource.kind
        told = f'{kind} in version "{version}" cannot be handled as a {kind}: {problem}'
        super().__init__(400, "BadRequest", told)


class MisplacedError(ApiError):
    """400: the object says that it belongs into another namespace."""

    def __init__(self, given: str, namespace: str) -> None:
        told = "the namespace of the provided object ({}) does not match the namespace sent on the request ({})"
        super().__init__(400, "BadRequest", told.format(given, namespace))


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """How an object is written.

    `manager` is who writes, for field ownership. `strict` refuses fields that the kind does not have; otherwise they
    are dropped, and `warn` is called with the path of each. `many`: it is one of thousands, written at once.
    """

    dry_run: bool = False
    manager: str = "unknown"
    strict: bool = False
    warn: Callable[[str], None] = lambda _: None
    many: bool = False


PLAIN_WRITE = WriteOptions()
ONE_OF_MANY = WriteOptions(many=True)


def decode_object(
    resource: Resource, shape: shapes.Shape, namespace: str, body: Any, options: WriteOptions
) -> JsonObject:
    """A body as an object of `resource` with settled apiVersion, kind and namespace, metadata first.

    ApiError 400 where it is none; UnknownFieldsError, a kind of it, where `options` say to be strict.
    """
    if body is None:
        body = {}  # in Go, null leaves an object as it was: empty
    if not isinstance(body, dict):
        raise bad_request("the body of the request must be a JSON object")
    version, kind = body.get("apiVersion") or resource.api_version, body.get("kind") or resource.kind
    if version != resource.api_version:
        raise bad_request(
            f"the API version in the data ({version}) does not match the expected API version "
            f"({resource.api_version})"
        )
    if kind != resource.kind:
        raise bad_request(f'{kind} in version "{version}" cannot be handled as a {resource.kind}')
    if not (options.many and _is_plain(resource, shape, body)):
        _mend(resource, shape, body, options)
    metadata = body.get("metadata") or {}
    given = metadata.get("namespace") or namespace
    if given != namespace:
        raise MisplacedError(given, namespace)
    if namespace:
        metadata["namespace"] = namespace
    else:
        metadata.pop("namespace", None)
    settled = {"apiVersion": version, "kind": kind, "metadata": metadata}
    return settled | {key: value for key, value in body.items() if key not in settled}


def _is_plain(resource: Resource, shape: shapes.Shape, body: JsonObject) -> bool:
    # It takes its time to be imported, which those who write one object at a time would wait for.
    from clusters.apiserver.plain import is_plain

    return is_plain(resource.key, shape, body)


def _mend(resource: Resource, shape: shapes.Shape, body: JsonObject, options: WriteOptions) -> None:
    """Drop what means nothing, and what the kind does not have; refuse other types."""
    if resource.builtin:
        _drop_nulls(body)
        _drop_empty(body.get("metadata"))
    shapes.check_metadata(body)
    shapes.check(shape, body)
    if unknown := shapes.drop_unknown(resource.key, body):
        if options.strict:
            raise UnknownFieldsError(resource, unknown)
        for path in unknown:
            options.warn(f'unknown field "{path}"')


def _drop_empty(metadata: Any) -> None:
    if isinstance(metadata, dict):
        for name in shapes.NEVER_EMPTY:
            if name in metadata and metadata[name] in ({}, []):
                del metadata[name]


def _drop_nulls(value: Any) -> None:
    """In a typed object null means absent."""
    inside = value
    if type(value) is dict:
        if None in value.values():
            for key in [key for key, inner in value.items() if inner is None]:
                del value[key]
        inside = value.values()
    for inner in inside:
        if type(inner) is dict or type(inner) is list:
            _drop_nulls(inner)
