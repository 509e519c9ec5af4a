# SPDX-License-Identifier: Apache-2.0
"""Label selectors and field selectors, as lists and watches take them.

Labels: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#api (equality, sets, existence).
Fields: https://kubernetes.io/docs/concepts/overview/working-with-objects/field-selectors/; real servers accept a
few fields per resource (`check_fields`). A field that is absent compares as the empty string, a flag as false.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from clusters.apiserver.status import ApiError, JsonObject, bad_request

Operator: TypeAlias = Literal["=", "!=", "in", "notin", "exists", "!exists", ">", "<"]

LONGEST = 63
"""The most characters of a label's name, and of its value."""

_KEY = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9.]*[A-Za-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?"
_LABEL_TERM = re.compile(
    rf"\s*(?:!\s*(?P<absent>{_KEY})"
    rf"|(?P<set_key>{_KEY})\s+(?P<set_op>in|notin)\s*\((?P<values>[^()]*)\)"
    rf"|(?P<key>{_KEY})\s*(?:(?P<op>==|!=|=|>|<)\s*(?P<value>{_VALUE}))?)\s*(?:,|$)"
)
_WHOLE_VALUE = re.compile(_VALUE)
_FIELD_TERM = re.compile(r"\s*(?P<path>[^=!,\s]+)\s*(?P<op>==|!=|=)(?P<value>(?:\\.|[^,\\])*)(?:,|$)")


@dataclass(frozen=True, slots=True)
class LabelTerm:
    """One requirement on one label key."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "exists":
                return value is not None
            case "!exists":
                return value is None
            case "=" | "in":
                return value is not None and value in self.values
            case "!=" | "notin":
                # Documented: these also select objects without the key.
                return value is None or value not in self.values
            case ">" | "<":
                return value is not None and self._compares(value)

    def _compares(self, value: str) -> bool:
        (bound,) = self.values
        try:
            return int(value) > int(bound) if self.operator == ">" else int(value) < int(bound)
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class FieldTerm:
    """One requirement on the text form of one field."""

    path: str
    value: str
    equal: bool

    def matches(self, lookup: Callable[[str], str]) -> bool:
        return (lookup(self.path) == self.value) is self.equal


@dataclass(frozen=True, slots=True)
class Selectors:
    """The conjunction a request asks for; hashable, so that equal requests can share one stream."""

    labels: tuple[LabelTerm, ...] = ()
    fields: tuple[FieldTerm, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.labels or self.fields)

    def match(self, labels: Mapping[str, str], lookup: Callable[[str], str]) -> bool:
        """Whether an object with these labels, whose fields `lookup` reads as text, is selected."""
        return all(term.matches(labels) for term in self.labels) and all(term.matches(lookup) for term in self.fields)


EVERYTHING = Selectors()


def parse_selectors(labels: str, fields: str) -> Selectors:
    """The two query parameters, parsed; raises ApiError 400 for text that is neither."""
    return Selectors(parse_labels(labels), parse_fields(fields))


def parse_labels(text: str) -> tuple[LabelTerm, ...]:
    """`app=web,tier in (a,b),!canary` and the like; empty text selects everything."""
    terms: list[LabelTerm] = []
    position = 0
    while text[position:].strip():
        found = _LABEL_TERM.match(text, position)
        if found is None or (found.end() == len(text) and text.endswith(",")):
            raise _unparsable("labelSelector", text)
        position = found.end()
        terms.append(_label_term(found, text))
        if any(len(value) > LONGEST for value in (terms[-1].key.rpartition("/")[2], *terms[-1].values)):
            raise _unparsable("labelSelector", text)
    return tuple(terms)


def _label_term(found: re.Match[str], text: str) -> LabelTerm:
    if found["absent"]:
        return LabelTerm(found["absent"], "!exists")
    if found["set_key"]:
        values = frozenset(value.strip() for value in found["values"].split(","))
        if not all(_WHOLE_VALUE.fullmatch(value) for value in values):
            raise _unparsable("labelSelector", text)
        return LabelTerm(found["set_key"], found["set_op"], values)  # type: ignore[arg-type]
    if found["op"] is None:
        return LabelTerm(found["key"], "exists")
    operator: Operator = "=" if found["op"] == "==" else found["op"]  # type: ignore[assignment]
    if operator in (">", "<") and not found["value"].isdigit():
        raise _unparsable("labelSelector", text)
    return LabelTerm(found["key"], operator, frozenset([found["value"]]))


def parse_fields(text: str) -> tuple[FieldTerm, ...]:
    """`metadata.name=a,spec.clusterIP!=None`; `\\,` `\\=` and `\\\\` stand for themselves in a value."""
    terms: list[FieldTerm] = []
    position = 0
    while text[position:].strip():
        found = _FIELD_TERM.match(text, position)
        if found is None:
            raise _unparsable("fieldSelector", text)
        position = found.end()
        value = re.sub(r"\\(.)", r"\1", found["value"])
        terms.append(FieldTerm(found["path"], value, equal=found["op"] != "!="))
    return tuple(terms)


ALWAYS_SELECTABLE = ("metadata.name", "metadata.namespace")


def check_fields(selectors: Selectors, selectable: Collection[str] | None) -> None:
    """Raise ApiError 400 where a field selector names a field that is not `selectable` (None: all are)."""
    for term in selectors.fields:
        if selectable is not None and term.path not in ALWAYS_SELECTABLE and term.path not in selectable:
            known = ", ".join(f'"{path}"' for path in (*ALWAYS_SELECTABLE, *selectable))
            raise bad_request(f'"{term.path}" is not a known field selector: only {known}')


_FLAGS = ("spec.hostNetwork", "spec.unschedulable")


def field_text(obj: JsonObject, path: str) -> str:
    """The field at a dotted path as selectors compare it: absent, null, lists and objects are the empty string."""
    value: object = obj
    for step in path.split("."):
        if not isinstance(value, dict):
            break
        value = value.get(step)
    else:
        return _text(value, path)
    return _text(None, path)


def _text(value: object, path: str) -> str:
    if path in _FLAGS:
        value = bool(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (str, int, float)) else ""


def _unparsable(parameter: str, text: str) -> ApiError:
    return bad_request(f"unable to parse {parameter} {text!r}")
