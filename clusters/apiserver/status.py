# SPDX-License-Identifier: Apache-2.0
"""Failures as the Kubernetes API words them: `Status` objects with a code, a reason and per-field causes.

Clients decide by `code` and `reason`, people read `message`; the shape of both follows the API conventions
(https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md#response-status-kind).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson

JsonObject: TypeAlias = dict[str, Any]


class ApiError(Exception):
    """A request answered with a `Status` of kind Failure: HTTP `code`, machine-readable `reason`, `message`."""

    def __init__(self, code: int, reason: str, message: str, details: JsonObject | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details

    def status(self, list_metadata: JsonObject | None = None) -> JsonObject:
        """The Status object; `list_metadata` is where an expired list puts its new continue token."""
        body: JsonObject = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": list_metadata or {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        }
        if self.details:
            body["details"] = self.details
        body["code"] = self.code
        return body


@dataclass(frozen=True, slots=True)
class FieldError:
    """One invalid field: a dotted path, the CamelCase cause reason and the text after the path."""

    field: str
    reason: str
    text: str

    def __str__(self) -> str:
        return f"{self.field}: {self.text}"

    def cause(self) -> JsonObject:
        return {"reason": self.reason, "message": self.text, "field": self.field}


def _show(value: object) -> str:
    return orjson.dumps(value).decode()


def required(field: str, detail: str = "") -> FieldError:
    return FieldError(field, "FieldValueRequired", "Required value" + (f": {detail}" if detail else ""))


def invalid_value(field: str, value: object, detail: str) -> FieldError:
    return FieldError(field, "FieldValueInvalid", f"Invalid value: {_show(value)}: {detail}")


def not_supported(field: str, value: object, supported: Sequence[str]) -> FieldError:
    choices = ", ".join(f'"{choice}"' for choice in sorted(supported))
    return FieldError(
        field, "FieldValueNotSupported", f"Unsupported value: {_show(value)}: supported values: {choices}"
    )


def duplicate(field: str, value: object) -> FieldError:
    return FieldError(field, "FieldValueDuplicate", f"Duplicate value: {_show(value)}")


def forbidden_field(field: str, detail: str) -> FieldError:
    return FieldError(field, "FieldValueForbidden", f"Forbidden: {detail}")


def too_many(field: str, count: int, limit: int) -> FieldError:
    return FieldError(field, "FieldValueTooMany", f"Too many: {count}: must have at most {limit} items")


def too_long(field: str, limit: int) -> FieldError:
    return FieldError(field, "FieldValueTooLong", f"Too long: may not be more than {limit} bytes")


class InvalidError(ApiError):
    """422 for fields that break rules; made by `invalid`."""

    def __init__(self, message: str, details: JsonObject, errors: Sequence[FieldError]) -> None:
        super().__init__(422, "Invalid", message, details)
        self.errors = errors


def invalid(kind: str, group: str, name: str, errors: Sequence[FieldError]) -> InvalidError:
    """422: the object was understood and breaks rules; every broken field is a cause."""
    told = str(errors[0]) if len(errors) == 1 else "[" + ", ".join(map(str, errors)) + "]"
    shown_kind = f"{kind}.{group}" if group else kind
    details: JsonObject = {"name": name, "group": group, "kind": kind, "causes": [e.cause() for e in errors]}
    return InvalidError(f'{shown_kind} "{name}" is invalid: {told}', _without_empty(details), errors)


def not_found(plural: str, group: str, name: str) -> ApiError:
    message = f'{_qualified(plural, group)} "{name}" not found'
    return ApiError(404, "NotFound", message, _details(plural, group, name))


def no_such_path() -> ApiError:
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(plural: str, group: str, name: str) -> ApiError:
    message = f'{_qualified(plural, group)} "{name}" already exists'
    return ApiError(409, "AlreadyExists", message, _details(plural, group, name))


def conflict(plural: str, group: str, name: str, why: str) -> ApiError:
    message = f'Operation cannot be fulfilled on {_qualified(plural, group)} "{name}": {why}'
    return ApiError(409, "Conflict", message, _details(plural, group, name))


def forbidden(plural: str, group: str, name: str, why: str) -> ApiError:
    message = f'{_qualified(plural, group)} "{name}" is forbidden: {why}'
    return ApiError(403, "Forbidden", message, _details(plural, group, name))


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def method_not_allowed() -> ApiError:
    message = "the server does not allow this method on the requested resource"
    return ApiError(405, "MethodNotAllowed", message, {})


def unsupported_media_type(accepted: Sequence[str]) -> ApiError:
    message = "the body of the request was in an unknown format - accepted media types include: "
    return ApiError(415, "UnsupportedMediaType", message + ", ".join(accepted))


def not_acceptable() -> ApiError:
    message = "only the following media types are accepted: application/json, application/json;stream=watch"
    return ApiError(406, "NotAcceptable", message)


def expired(message: str) -> ApiError:
    """410: the history asked for is gone; a client lists again (Reason Expired)."""
    return ApiError(410, "Expired", message)


def too_large_resource_version(asked: int, current: int) -> ApiError:
    """504: a revision this store has not reached, as after a restart; clients then list afresh."""
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    details: JsonObject = {"causes": [cause], "retryAfterSeconds": 1}
    return ApiError(504, "Timeout", f"Too large resource version: {asked}, current: {current}", details)


def unauthorized() -> ApiError:
    return ApiError(401, "Unauthorized", "Unauthorized")


def internal_error(message: str) -> ApiError:
    details: JsonObject = {"causes": [{"message": message}]}
    return ApiError(500, "InternalError", f"Internal error occurred: {message}", details)


def success(plural: str, group: str, name: str, uid: str) -> JsonObject:
    """The Status a delete answers with where the API does not return the object itself."""
    details = _details(plural, group, name)
    details["uid"] = uid
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def _qualified(plural: str, group: str) -> str:
    return f"{plural}.{group}" if group else plural


def _details(plural: str, group: str, name: str) -> JsonObject:
    return _without_empty({"name": name, "group": group, "kind": plural})


def _without_empty(details: JsonObject) -> JsonObject:
    return {key: value for key, value in details.items() if value}
