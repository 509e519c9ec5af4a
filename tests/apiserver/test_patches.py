# SPDX-License-Identifier: Apache-2.0
"""The patch languages, on the examples of their standards and on Services."""

from typing import Any

import pytest

from clusters.apiserver.patches import json_patch, merge_patch, strategic_merge_patch
from clusters.apiserver.status import ApiError


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        # RFC 7386, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch(target: Any, patch: Any, result: Any) -> None:
    assert merge_patch(target, patch) == result


@pytest.mark.parametrize(
    ("target", "operation", "result"),
    [
        # RFC 6902, appendix A
        ({"foo": "bar"}, {"op": "add", "path": "/baz", "value": "qux"}, {"foo": "bar", "baz": "qux"}),
        ({"foo": ["bar", "baz"]}, {"op": "add", "path": "/foo/1", "value": "qux"}, {"foo": ["bar", "qux", "baz"]}),
        ({"foo": ["bar"]}, {"op": "add", "path": "/foo/-", "value": "x"}, {"foo": ["bar", "x"]}),
        ({"baz": "qux", "foo": "bar"}, {"op": "remove", "path": "/baz"}, {"foo": "bar"}),
        ({"foo": ["a", "b"]}, {"op": "remove", "path": "/foo/0"}, {"foo": ["b"]}),
        ({"foo": "bar"}, {"op": "replace", "path": "/foo", "value": 1}, {"foo": 1}),
        ({"a": {"b": 1}, "c": {}}, {"op": "move", "from": "/a/b", "path": "/c/d"}, {"a": {}, "c": {"d": 1}}),
        ({"a": [1]}, {"op": "copy", "from": "/a", "path": "/b"}, {"a": [1], "b": [1]}),
        ({"a/b": 1}, {"op": "test", "path": "/a~1b", "value": 1}, {"a/b": 1}),
    ],
)
def test_json_patch(target: Any, operation: Any, result: Any) -> None:
    assert json_patch(target, [operation]) == result


@pytest.mark.parametrize(
    ("operations", "code"),
    [
        ({"op": "add"}, 400),
        ([{"op": "add", "path": "a", "value": 1}], 422),
        ([{"op": "add", "path": "/a"}], 422),
        ([{"op": "sing", "path": "/a"}], 422),
        ([{"op": "test", "path": "/a", "value": 2}], 422),
        ([{"op": "remove", "path": "/missing"}], 422),
        ([{"op": "replace", "path": "/list/7", "value": 1}], 422),
        ([{"op": "add", "path": "/missing/deep", "value": 1}], 422),
    ],
)
def test_json_patches_that_do_not_apply(operations: Any, code: int) -> None:
    with pytest.raises(ApiError) as error:
        json_patch({"a": 1, "list": []}, operations)
    assert error.value.code == code


def ports(*numbers: int, **more: Any) -> dict[str, Any]:
    return {"spec": {"ports": [{"port": number} | more for number in numbers]}}


def test_strategic_merge_knows_service_ports_by_their_number() -> None:
    service = {"spec": {"type": "NodePort", "ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]}}
    patched = strategic_merge_patch(service, ports(81, targetPort=9000), "Service")
    assert patched["spec"]["type"] == "NodePort"
    assert patched["spec"]["ports"] == [{"port": 80, "name": "a"}, {"port": 81, "name": "b", "targetPort": 9000}]
    assert strategic_merge_patch(service, ports(82), "Service")["spec"]["ports"][2] == {"port": 82}
    assert len(service["spec"]["ports"]) == 2, "the patched object must not be changed in place"


def test_strategic_merge_tells_protocols_of_one_port_apart() -> None:
    service = {"spec": {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}}
    patched = strategic_merge_patch(service, ports(53, protocol="TCP", nodePort=30053), "Service")
    assert [port.get("nodePort") for port in patched["spec"]["ports"]] == [None, 30053]


def test_strategic_merge_deletes_elements_and_fields() -> None:
    service = {"metadata": {"labels": {"a": "b"}}} | ports(80, 81)
    patch = {"metadata": {"labels": None}} | ports(80, **{"$patch": "delete"})
    assert strategic_merge_patch(service, patch, "Service") == {"metadata": {}} | ports(81)


def test_strategic_merge_replaces_a_list_when_told() -> None:
    patch = {"spec": {"ports": [{"port": 9}, {"$patch": "replace"}]}}
    assert strategic_merge_patch(ports(80, 81), patch, "Service") == ports(9)


def test_strategic_merge_orders_elements() -> None:
    patch = {"spec": {"$setElementOrder/ports": [{"port": 82}, {"port": 80}], "ports": [{"port": 82}]}}
    assert strategic_merge_patch(ports(80, 81), patch, "Service") == ports(82, 80, 81)


def test_strategic_merge_unites_primitive_sets() -> None:
    node = {"metadata": {"finalizers": ["a", "b"]}}
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"]}}
    assert strategic_merge_patch(node, patch, "Node") == {"metadata": {"finalizers": ["b", "c"]}}


def test_strategic_merge_replaces_lists_without_a_merge_key() -> None:
    service = {"spec": {"externalIPs": ["192.0.2.1"]}}
    patch = {"spec": {"externalIPs": ["192.0.2.2"]}}
    assert strategic_merge_patch(service, patch, "Service") == patch


def test_strategic_merge_needs_the_merge_key() -> None:
    with pytest.raises(ApiError) as error:
        strategic_merge_patch(ports(80), {"spec": {"ports": [{"name": "x"}]}}, "Service")
    assert error.value.code == 400
