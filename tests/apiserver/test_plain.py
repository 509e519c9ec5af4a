# SPDX-License-Identifier: Apache-2.0
"""What is called plain would pass the slow way as it is; what a lab's client writes by the thousand is plain."""

import copy
import json
import random
from typing import Any

import pytest

from clusters.apiserver import shapes
from clusters.apiserver.decoding import WriteOptions, decode_object
from clusters.apiserver.kinds import Resource, builtin_resources
from clusters.apiserver.plain import NUMEROUS, is_plain
from clusters.apiserver.shapes import INT_OR_STRING, Shape
from clusters.measure.services import Shape as Written

RESOURCES = {resource.key: resource for resource in builtin_resources() if resource.key in NUMEROUS}
SERVICES, SLICES = ("", "v1", "services"), ("discovery.k8s.io", "v1", "endpointslices")
CHECKED = {SERVICES: shapes.SERVICE, SLICES: shapes.ENDPOINT_SLICE}
EXAMPLES, DEVIATING, PRESENT = 3_000, 0.03, 0.3
OTHERS: tuple[Any, ...] = (None, True, 1, 1.5, 80.0, "", "x", {}, [], [None], {"a": None}, 2**31, -(2**31) - 1)
SCALARS: dict[Any, tuple[Any, ...]] = {
    str: ("", "a"),
    int: (0, -1, 80, 2**31 - 1, -(2**31)),
    bool: (True, False),
    None: ("a",),
}


def passes_as_it_is(resource: Resource, body: Any) -> bool:
    """Whether the slow way takes it, and has nothing to say or to change."""
    told: list[str] = []
    before = copy.deepcopy(body)
    decode_object(resource, CHECKED[resource.key], "default", body, WriteOptions(warn=told.append))
    body.get("metadata", {}).pop("namespace", None)
    before.get("metadata", {}).pop("namespace", None)
    return not told and bool(body == before)


def body_of(shape: Shape, chooser: random.Random) -> Any:
    """A value of this shape nearly always; now and then another one."""
    if chooser.random() < DEVIATING:
        return chooser.choice(OTHERS)
    if shape == INT_OR_STRING:
        return chooser.choice((80, "http"))
    if isinstance(shape, list):
        return [body_of(shape[0], chooser) for _ in range(chooser.randrange(3))]
    if not isinstance(shape, dict):
        return chooser.choice(SCALARS[shape])
    if "*" in shape:
        return {chooser.choice("ab"): body_of(shape["*"], chooser) for _ in range(chooser.randrange(3))}
    found = {name: body_of(inner, chooser) for name, inner in shape.items() if chooser.random() < PRESENT}
    return found | ({"unknown": 1} if chooser.random() < DEVIATING else {})


@pytest.mark.parametrize("resource", RESOURCES.values(), ids=lambda resource: resource.plural)
def test_what_is_plain_passes_the_slow_way_as_it_is(resource: Resource) -> None:
    shape = merged(shapes.complete(resource.key), CHECKED[resource.key])
    # Decoding looks at these itself.
    shape = {name: inner for name, inner in shape.items() if name not in ("apiVersion", "kind")}
    shape["metadata"] = {name: inner for name, inner in shape["metadata"].items() if name != "namespace"}
    chooser = random.Random(1)
    plain = 0
    for _ in range(EXAMPLES):
        body = body_of(shape, chooser)
        if is_plain(resource.key, CHECKED[resource.key], body):
            plain += 1
            assert passes_as_it_is(resource, body)
    assert EXAMPLES / 10 < plain < EXAMPLES * 9 / 10


def merged(known: Shape, checked: Shape) -> Shape:
    """What is checked of a field where that is more than what is known."""
    if isinstance(known, dict) and isinstance(checked, dict) and "*" not in known:
        return {name: merged(inner, checked.get(name)) for name, inner in known.items()}
    if isinstance(known, list) and isinstance(checked, list):
        return [merged(known[0], checked[0])]
    return known if checked is None else checked


def test_what_clients_of_a_lab_write_is_plain() -> None:
    written = Written(["10.128.0.1", "10.128.0.2"], 2)
    assert is_plain(SERVICES, shapes.SERVICE, json.loads(written.service(7)))
    assert is_plain(SLICES, shapes.ENDPOINT_SLICE, json.loads(written.slice(7)))


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "text",
        {"metadata": None},
        {"metadata": {"name": "a", "labels": {}}},
        {"metadata": {"name": "a", "labels": {"b": None}}},
        {"metadata": {"name": "a", "managedFields": [{"fieldsV1": {"f:spec": None}}]}},
        {"spec": {"ports": [None]}},
        {"spec": {"ports": [{"port": 80.0}]}},
        {"spec": {"ports": [{"port": True}]}},
        {"spec": {"ports": [{"port": 2**31}]}},
        {"spec": {"ports": [{"port": 80, "targetPort": None}]}},
        {"spec": {"ports": [{"port": 80, "tragetPort": 80}]}},
        {"spec": {"clusterIP": 10}},
    ],
)
def test_what_is_wrong_or_would_be_changed_is_not(body: Any) -> None:
    assert not is_plain(SERVICES, shapes.SERVICE, body)


def test_other_kinds_are_not_looked_at() -> None:
    assert not is_plain(("", "v1", "pods"), None, {"metadata": {"name": "a"}})
