# SPDX-License-Identifier: Apache-2.0
"""Lists: a join of cached bytes, whole or in pages that all show the same moment."""

from bisect import bisect_right

import orjson

from clusters.apiserver.kinds import Resource
from clusters.apiserver.options import Continue, ListOptions
from clusters.apiserver.status import ApiError, JsonObject, expired, too_large_resource_version
from clusters.apiserver.store import HistoryGoneError, Selection, Store, Stored


def list_body(store: Store, resource: Resource, namespace: str | None, options: ListOptions) -> bytes:
    """The encoded list. ApiError 410 where its revision is forgotten, 504 where it is not reached yet."""
    shelf = store.shelf(resource)
    selection = Selection(namespace, options.selectors)
    revision, after = store.revision, ""
    wanted = options.exact
    if options.proceed is not None:
        wanted, after = options.proceed.revision, options.proceed.after
    if max(wanted or 0, options.at_least) > store.revision:
        raise too_large_resource_version(max(wanted or 0, options.at_least), store.revision)
    if wanted is None:
        chosen = list(shelf.select(selection))
    else:
        revision = wanted
        try:
            snapshot = None if wanted == store.revision else shelf.snapshot(wanted)
        except HistoryGoneError as gone:
            raise _expired_list(options, gone) from gone
        chosen = list(shelf.select(selection, snapshot))
    if after:
        chosen = chosen[bisect_right(chosen, after, key=lambda stored: stored.key) :]
    rest = 0
    if options.limit and len(chosen) > options.limit:
        rest = len(chosen) - options.limit
        chosen = chosen[: options.limit]
    metadata: JsonObject = {"resourceVersion": str(revision)}
    if rest:
        metadata["continue"] = Continue(revision, chosen[-1].key).token()
        if not options.selectors:
            metadata["remainingItemCount"] = rest
    return encode_list(resource, metadata, chosen)


def encode_list(resource: Resource, metadata: JsonObject, items: list[Stored]) -> bytes:
    """Items as a list of their kind; each keeps its own apiVersion and kind."""
    head = orjson.dumps({"kind": resource.list_kind, "apiVersion": resource.api_version, "metadata": metadata})
    return b"".join((head[:-1], b',"items":[', b",".join([stored.raw for stored in items]), b"]}"))


def _expired_list(options: ListOptions, gone: HistoryGoneError) -> ApiError:
    if options.proceed is None:
        return expired(f"The resourceVersion for the provided list is too old: {gone}")
    return expired(
        "The provided continue parameter is too old to display a consistent list result. "
        "Start a new list without the continue parameter."
    )
