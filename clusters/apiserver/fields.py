# SPDX-License-Identifier: Apache-2.0
"""The fields that built-in kinds have, from `fields.json` (see `tests/apiserver/fields.py`, which writes it).

A type is a JSON object from field to what the field holds: `string`, `integer`, `number`, `boolean`, `any`, the name
of another type, `[…]` for a list of them, `{…}` for a map to them.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import orjson

DATA = Path(__file__).with_name("fields.json")

Types: TypeAlias = Mapping[str, Mapping[str, str]]

_PLAIN: Mapping[str, Any] = {"string": str, "integer": int, "number": None, "boolean": bool, "any": None}


@cache
def _data() -> tuple[Mapping[str, str], Types]:
    read = orjson.loads(DATA.read_bytes())
    return read["resources"], read["types"]


def type_of(key: tuple[str, str, str]) -> str | None:
    """The name of a resource's type, None where it is not built in."""
    return _data()[0].get("/".join(key))


def types() -> Types:
    """Every type by name."""
    return _data()[1]


@cache
def shape_of(key: tuple[str, str, str]) -> Any:
    """A resource's fields as a `shapes.Shape`, without those of its metadata; None where it is not built in."""
    name = type_of(key)
    return None if name is None else _shape(name)


@cache
def _shape(told: str) -> Any:
    if told in _PLAIN:
        return _PLAIN[told]
    if told.startswith("["):
        return [_shape(told[1:-1])]
    if told.startswith("{"):
        return {"*": _shape(told[1:-1])}
    return {name: _shape(inner) for name, inner in types()[told].items()}
