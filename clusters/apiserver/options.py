# SPDX-License-Identifier: Apache-2.0
"""The query parameters of lists and watches, parsed and checked as one value each.

https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions says which combinations mean what;
the ones it rules out are answered with 400 or 422 here, before anything is read.
"""

import base64
import binascii
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import orjson

from clusters.apiserver.selectors import EVERYTHING, Selectors, check_fields, parse_selectors
from clusters.apiserver.status import (
    ApiError,
    FieldError,
    bad_request,
    forbidden_field,
    invalid,
    not_supported,
    required,
    too_long,
)

MATCHES = ("Exact", "NotOlderThan")


@dataclass(frozen=True, slots=True)
class Continue:
    """Where a paginated list goes on: the revision of its first page and the last key it returned."""

    revision: int
    after: str

    def token(self) -> str:
        return base64.urlsafe_b64encode(orjson.dumps([self.revision, self.after])).decode().rstrip("=")

    @staticmethod
    def parse(token: str) -> "Continue":
        """Raises ApiError 400 for a token this server did not issue."""
        try:
            revision, after = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
            return Continue(int(revision), str(after))
        except (binascii.Error, ValueError, TypeError, OverflowError) as problem:
            raise bad_request(f"continue key is not valid: {token!r}") from problem


@dataclass(frozen=True, slots=True)
class ListOptions:
    """What a list asks for. `exact` is the revision it must be of, `at_least` the lowest it may be of."""

    selectors: Selectors = EVERYTHING
    limit: int = 0
    exact: int | None = None
    at_least: int = 0
    proceed: Continue | None = None


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """What a watch asks for.

    `since` is the revision after which events are wanted, None the present state first. `initial` tells whether
    the present state is sent as ADDED events, `mark_initial` whether a bookmark marks its end (WatchList, KEP-3157).
    `timeout` is in seconds, None without one.
    """

    selectors: Selectors = EVERYTHING
    since: int | None = None
    initial: bool = True
    mark_initial: bool = False
    bookmarks: bool = False
    timeout: float | None = None


def parse_list(query: Mapping[str, str], selectable: Collection[str] | None = None) -> ListOptions:
    """Raises ApiError 400 or 422 for parameters that make no sense. `selectable`: see `selectors.check_fields`."""
    revision, match = query.get("resourceVersion", ""), query.get("resourceVersionMatch", "")
    proceed = query.get("continue", "")
    errors: list[FieldError] = []
    if query.get("sendInitialEvents"):
        errors.append(forbidden_field("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    if match:
        errors += _match_errors(match, revision, proceed)
    _refuse(errors)
    selectors = chosen(query, selectable)
    limit = max(_number(query, "limit"), 0)
    _number(query, "timeoutSeconds")
    if proceed:
        if revision and revision != "0":
            raise bad_request("specifying resource version is not allowed when using continue")
        return ListOptions(selectors, limit, proceed=Continue.parse(proceed))
    number = _revision(revision)
    if revision == "0":
        # Documented: served from memory, in one piece.
        return ListOptions(selectors)
    if match == "Exact" or (number and limit and not match):
        return ListOptions(selectors, limit, exact=number)
    return ListOptions(selectors, limit, at_least=number)


def _match_errors(match: str, revision: str, proceed: str) -> list[FieldError]:
    field = "resourceVersionMatch"
    if not revision:
        return [forbidden_field(field, f"{field} is forbidden unless resourceVersion is provided")]
    if proceed:
        return [forbidden_field(field, f"{field} is forbidden when continue is provided")]
    if match not in MATCHES:
        return [not_supported(field, match, MATCHES)]
    if match == "Exact" and revision == "0":
        return [forbidden_field(field, f'{field} "exact" is forbidden for resourceVersion "0"')]
    return []


def parse_watch(query: Mapping[str, str], selectable: Collection[str] | None = None) -> WatchOptions:
    """Raises ApiError 400 or 422 for parameters that make no sense. `selectable`: see `selectors.check_fields`."""
    revision, match = query.get("resourceVersion", ""), query.get("resourceVersionMatch", "")
    wants_initial = query.get("sendInitialEvents")
    field = "resourceVersionMatch"
    errors: list[FieldError] = []
    if wants_initial is not None and match != "NotOlderThan":
        errors.append(forbidden_field(field, f"sendInitialEvents requires setting {field} to NotOlderThan"))
    elif wants_initial is None and match:
        why = f"{field} is forbidden for watch unless sendInitialEvents is provided"
        errors.append(forbidden_field(field, why))
    if query.get("continue"):
        errors.append(forbidden_field("continue", "continue is forbidden for watch"))
    _refuse(errors)
    number = _revision(revision)
    _number(query, "limit")
    initial = _flag(query, "sendInitialEvents") if wants_initial is not None else number == 0
    seconds = max(_number(query, "timeoutSeconds"), 0)
    return WatchOptions(
        selectors=chosen(query, selectable),
        since=number or None,
        initial=initial,
        mark_initial=initial and wants_initial is not None,
        bookmarks=_flag(query, "allowWatchBookmarks"),
        timeout=float(seconds) if seconds else None,
    )


def wants_watch(query: Mapping[str, str]) -> bool:
    return _flag(query, "watch")


FIELD_VALIDATION = ("", "Ignore", "Strict", "Warn")


@dataclass(frozen=True, slots=True)
class WriteQuery:
    """What the query of a write says: dry run, who writes ("" if it does not), validation of fields, force."""

    dry_run: bool = False
    manager: str = ""
    validation: str = ""
    force: bool = False


_PLAIN_QUERY = WriteQuery()


def parse_write(query: Mapping[str, str], kind: str, *, applies: bool = False) -> WriteQuery:
    """Raises ApiError 422 for values that make no sense. `kind` is the options' own: CreateOptions and so on."""
    if not query and not applies:
        return _PLAIN_QUERY
    manager, validation = query.get("fieldManager", ""), query.get("fieldValidation", "")
    errors: list[FieldError] = []
    if "force" in query and kind == "PatchOptions" and not applies:
        errors.append(forbidden_field("force", "may not be specified for non-apply patch"))
    if applies and not manager:
        errors.append(required("fieldManager", "is required for apply patch"))
    if len(manager) > 128:
        errors.append(too_long("fieldManager", 128))
    if validation not in FIELD_VALIDATION:
        errors.append(not_supported("fieldValidation", validation, FIELD_VALIDATION))
    if errors:
        raise invalid(kind, "meta.k8s.io", "", errors)
    return WriteQuery(wants_dry_run(query), manager, validation, _flag(query, "force"))


def wants_dry_run(query: Mapping[str, str], options: Mapping[str, object] | None = None) -> bool:
    """`dryRun=All`, in the query or in DeleteOptions; any other value is ApiError 422."""
    given: list[object] = [query["dryRun"]] if query.get("dryRun") else []
    listed = (options or {}).get("dryRun")
    given += listed if isinstance(listed, list) else []
    wrong = [value for value in given if value != "All"]
    if wrong:
        _refuse([not_supported("dryRun", wrong[0], ["All"])])
    return bool(given)


def chosen(query: Mapping[str, str], selectable: Collection[str] | None = None) -> Selectors:
    """The selectors of a query. Raises ApiError 400 for text that is none, and for fields that cannot be selected."""
    labels, fields = query.get("labelSelector", ""), query.get("fieldSelector", "")
    if not labels and not fields:
        return EVERYTHING
    selectors = parse_selectors(labels, fields)
    check_fields(selectors, selectable)
    return selectors


def _flag(query: Mapping[str, str], name: str) -> bool:
    """As Go reads booleans from a query: anything but "false" and "0", the empty value included, is true."""
    value = query.get(name)
    return value is not None and value.lower() not in ("false", "0")


def _number(query: Mapping[str, str], name: str) -> int:
    text = query.get(name, "")
    if not re.fullmatch(r"-?[0-9]{1,18}|", text):
        raise bad_request(f"the query parameter {name} must be a whole number, not {text!r}")
    return int(text or 0)


def _revision(text: str) -> int:
    if not re.fullmatch(r"[0-9]{0,19}", text):
        raise bad_request(f"invalid resource version: {text!r} is not that of an object or a list")
    return int(text or 0)


def _refuse(errors: list[FieldError]) -> None:
    if errors:
        raise _options_error(errors)


def _options_error(errors: list[FieldError]) -> ApiError:
    return invalid("ListOptions", "meta.k8s.io", "", errors)
