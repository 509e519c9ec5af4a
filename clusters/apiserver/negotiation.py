# SPDX-License-Identifier: Apache-2.0
"""In which form a client wants an answer: what its `Accept` header says, in the order it says it.

kubectl asks for a `Table` (https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables)
and for aggregated discovery, metadata clients for `PartialObjectMetadata`; everything can also be had as plain JSON.
Nothing is encoded in protobuf, which clients that prefer it always offer to do without.
"""

from collections.abc import Collection
from functools import lru_cache
from typing import Literal, TypeAlias

from clusters.apiserver.status import not_acceptable

Form: TypeAlias = Literal["json", "table", "metadata", "discovery"]

_PLAIN_TYPES = ("application/json", "application/*", "*/*")
_FORMS: dict[tuple[str, str, str], Form] = {
    ("Table", "meta.k8s.io", "v1"): "table",
    ("PartialObjectMetadata", "meta.k8s.io", "v1"): "metadata",
    ("PartialObjectMetadataList", "meta.k8s.io", "v1"): "metadata",
    ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2"): "discovery",
}
CONTENT_TYPES: dict[Form, str] = {
    "json": "application/json",
    "table": "application/json",
    "metadata": "application/json",
    "discovery": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
}
"""What a client is told it got; one that asked for aggregated discovery looks here whether it did."""


@lru_cache(maxsize=256)
def acceptable_forms(accept: str) -> tuple[Form, ...]:
    """The forms an Accept header names, first wish first; an empty header takes anything. Weights are not read."""
    found: list[Form] = []
    for wish in accept.split(",") if accept.strip() else ["*/*"]:
        media_type, *pairs = (part.strip() for part in wish.split(";"))
        parameters = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        if media_type not in _PLAIN_TYPES:
            continue
        if "as" not in parameters:
            found.append("json")
        elif form := _FORMS.get((parameters["as"], parameters.get("g", ""), parameters.get("v", ""))):
            found.append(form)
    return tuple(found)


def choose(accept: str, offered: Collection[Form]) -> Form:
    """The first form that the client accepts and the answer can take. Raises ApiError 406 where there is none."""
    for form in acceptable_forms(accept):
        if form in offered:
            return form
    raise not_acceptable()
