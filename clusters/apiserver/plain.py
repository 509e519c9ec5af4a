# SPDX-License-Identifier: Apache-2.0
"""A quick yes for objects that need no decoding: known fields of the right types only, nothing null, nothing empty.

`decoding` looks at an object several times, and can say what is wrong with it, or mend it. Of thousands of Services
that a client of a lab writes at once nearly all are as they should be, and one look from C tells. Whatever it does
not say yes to is looked at in the other way, which it is stricter than, never more lenient.
"""

from types import GenericAlias
from typing import Annotated, Any

import msgspec

from clusters.apiserver import shapes
from clusters.apiserver.shapes import MOST, Shape

NUMEROUS = frozenset({("", "v1", "services"), ("discovery.k8s.io", "v1", "endpointslices")})
"""Kinds that there are thousands of."""
_types: dict[tuple[str, str, str], Any] = {}


def is_plain(key: tuple[str, str, str], shape: Shape, body: Any) -> bool:
    """Whether `decoding` would find nothing in a body to refuse, to drop or to warn of; False where nobody knows.

    `shape` is what the kind's strategy checks, always the same.
    """
    if key not in NUMEROUS:
        return False
    if key not in _types:
        _types[key] = _type(shapes.complete(key), shape)
    try:
        msgspec.convert(body, _types[key])
    except msgspec.ValidationError:
        return False
    return True


def _type(known: Shape, checked: Shape) -> Any:
    """What msgspec is to look for: what is known of a field and, where there is more, what is checked of it.

    None for a field of which nothing is known: what it holds might be null.
    """
    if checked == shapes.INT_OR_STRING:
        return int | str
    if isinstance(known, list):
        inner = _type(known[0], checked[0] if isinstance(checked, list) else None)
        return None if inner is None else GenericAlias(list, (inner,))
    if not isinstance(known, dict):
        whole = known if checked is None else checked
        return Annotated[int, msgspec.Meta(ge=-MOST, lt=MOST)] if whole is int else whole
    inside = checked if isinstance(checked, dict) else {}
    if "*" in known:
        inner = _type(known["*"], inside.get("*"))
        return None if inner is None else GenericAlias(dict, (str, inner))
    return _struct(known, inside)


def _struct(known: dict[str, Shape], checked: dict[str, Shape]) -> Any:
    """A type with these fields and no others; what it has no field for is not plain."""
    fields = []
    for name, shape in known.items():
        found = _type(shape, checked.get(name))
        if found is not None:
            is_filled = known is shapes.METADATA and name in shapes.NEVER_EMPTY
            told = Annotated[found, msgspec.Meta(min_length=1)] if is_filled else found
            fields.append((name, told, msgspec.UNSET))
    return msgspec.defstruct("Plain", fields, forbid_unknown_fields=True, gc=False)
