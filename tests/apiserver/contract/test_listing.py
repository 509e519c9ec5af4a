# SPDX-License-Identifier: Apache-2.0
"""Lists: selectors, pages that all show one moment, the past, and other forms of the same."""

import pytest

from tests.apiserver.contract.objects import add, config_map, path, service
from tests.apiserver.contract.servers import MERGE, Standing

CHOSEN_PORT = 30077
"""In the part of the range that is left to people: the server picks there only when the rest is used up."""

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
METADATA = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"


def test_a_list_says_what_it_is_and_of_when(server: Standing, namespace: str) -> None:
    made = add(server, path(namespace), config_map("b"), config_map("a"))
    listed = server.call("GET", path(namespace)).must_be(200)
    assert (listed["kind"], listed["apiVersion"], listed.names) == ("ConfigMapList", "v1", ["a", "b"])
    assert int(listed.metadata["resourceVersion"]) >= int(made[1].metadata["resourceVersion"])


def test_a_list_of_all_namespaces(server: Standing, namespace: str) -> None:
    add(server, path(namespace), config_map("a"))
    everywhere = server.call("GET", "/api/v1/configmaps").must_be(200)["items"]
    assert [one["metadata"]["name"] for one in everywhere if one["metadata"]["namespace"] == namespace] == ["a"]
    query = {"fieldSelector": f"metadata.namespace={namespace}"}
    assert server.call("GET", "/api/v1/configmaps", **query).names == ["a"]


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("color=red", ["a", "c"]),
        ("color==red,size=1", ["a"]),
        ("color!=red", ["b", "d"]),
        ("color in (blue, green)", ["b"]),
        ("color notin (red)", ["b", "d"]),
        ("color", ["a", "b", "c"]),
        ("!color", ["d"]),
        ("color,!size", ["b"]),
        ("size>1", ["c"]),
        ("size<2", ["a"]),
        ("color=", []),
        ("", ["a", "b", "c", "d"]),
    ],
)
def test_label_selectors(server: Standing, namespace: str, selector: str, names: list[str]) -> None:
    for name, labels in (
        ("a", {"color": "red", "size": "1"}),
        ("b", {"color": "blue"}),
        ("c", {"color": "red", "size": "10"}),
        ("d", {}),
    ):
        add(server, path(namespace), config_map(name, labels=labels))
    assert server.call("GET", path(namespace), labelSelector=selector).must_be(200).names == names


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("metadata.name=headless", ["headless"]),
        ("metadata.name!=headless", ["plain", "ported"]),
        ("spec.clusterIP!=None", ["plain", "ported"]),
        ("spec.clusterIP=None", ["headless"]),
        ("spec.type=NodePort,metadata.name=ported", ["ported"]),
        ("spec.type==NodePort,metadata.name=plain", []),
    ],
)
def test_field_selectors_of_services(server: Standing, namespace: str, selector: str, names: list[str]) -> None:
    objects = service("plain"), service("headless", clusterIP="None"), service("ported", type="NodePort")
    add(server, path(namespace, "services"), *objects)
    assert server.call("GET", path(namespace, "services"), fieldSelector=selector).must_be(200).names == names


def test_field_selectors_of_pods_and_nodes(server: Standing, namespace: str) -> None:
    pod = {"spec": {"containers": [{"name": "c", "image": "i"}]}}
    for name in ("p", "q"):
        placed = pod["spec"] | ({"nodeName": "node-x"} if name == "p" else {})
        add(server, path(namespace, "pods"), {"metadata": {"name": name}, "spec": placed})
    for selector, names in (
        ("spec.nodeName=node-x", ["p"]),
        ("spec.nodeName=", ["q"]),
        ("status.phase=Pending", ["p", "q"]),
        ("status.phase!=Pending", []),
        ("spec.hostNetwork=false", ["p", "q"]),
    ):
        assert server.call("GET", path(namespace, "pods"), fieldSelector=selector).must_be(200).names == names
    add(server, "/api/v1/nodes", {"metadata": {"name": namespace}})
    query = {"fieldSelector": f"metadata.name={namespace},spec.unschedulable=false"}
    assert server.call("GET", "/api/v1/nodes", **query).must_be(200).names == [namespace]
    server.call("DELETE", f"/api/v1/nodes/{namespace}").must_be(200)
    server.call("DELETE", path(namespace, "pods"), gracePeriodSeconds="0").must_be(200)


def test_kube_proxy_s_own_list(server: Standing, namespace: str) -> None:
    other = service("other-proxy", labels={"service.kubernetes.io/service-proxy-name": "x"})
    marked = service("marked", labels={"service.kubernetes.io/headless": ""})
    objects = service("seen"), other, marked, service("headless", clusterIP="None")
    add(server, path(namespace, "services"), *objects)
    listed = server.call(
        "GET",
        path(namespace, "services"),
        labelSelector="!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name",
        fieldSelector="spec.clusterIP!=None",
        limit="500",
        resourceVersion="0",
    )
    assert listed.must_be(200).names == ["seen"]


def test_pages_show_one_moment(server: Standing, namespace: str) -> None:
    add(server, path(namespace), *map(config_map, "abcdef"))
    first = server.call("GET", path(namespace), limit="2").must_be(200)
    assert first.metadata["remainingItemCount"] == 4
    server.call("DELETE", path(namespace, name="d")).must_be(200)
    server.call("PATCH", path(namespace, name="e"), {"data": {"x": "later"}}, MERGE).must_be(200)
    add(server, path(namespace), config_map("cc"))
    pages = [first]
    while token := pages[-1].metadata.get("continue"):
        pages.append(server.call("GET", path(namespace), limit="3", continue_=token).must_be(200))
    assert [page.names for page in pages] == [["a", "b"], ["c", "d", "e"], ["f"]]
    assert {page.metadata["resourceVersion"] for page in pages} == {first.metadata["resourceVersion"]}
    assert "data" not in pages[1]["items"][2]


def test_pages_of_a_selection(server: Standing, namespace: str) -> None:
    for name in "abcdef":
        add(server, path(namespace), config_map(name, labels={"odd": str(name in "ace").lower()}))
    first = server.call("GET", path(namespace), limit="2", labelSelector="odd=true").must_be(200)
    assert first.names == ["a", "c"]
    assert "remainingItemCount" not in first.metadata
    query = {"limit": "2", "labelSelector": "odd=true", "continue": first.metadata["continue"]}
    second = server.call("GET", path(namespace), **query).must_be(200)
    assert (second.names, second.metadata.get("continue", "")) == (["e"], "")


def test_a_token_goes_with_no_version(server: Standing, namespace: str) -> None:
    add(server, path(namespace), *map(config_map, "abc"))
    token = server.call("GET", path(namespace), limit="1").metadata["continue"]
    query = {"continue": token, "resourceVersion": "1"}
    server.call("GET", path(namespace), **query).must_be_refused(400, "BadRequest")
    query = {"continue": token, "resourceVersion": "1", "resourceVersionMatch": "Exact"}
    server.call("GET", path(namespace), **query).must_be_refused(422, "Invalid")


def test_the_past_can_be_listed(server: Standing, namespace: str) -> None:
    (made,) = add(server, path(namespace), config_map("a", {"x": "1"}))
    server.call("PATCH", path(namespace, name="a"), {"data": {"x": "2"}}, MERGE).must_be(200)
    add(server, path(namespace), config_map("b"))
    then = {"resourceVersion": made.metadata["resourceVersion"], "resourceVersionMatch": "Exact"}
    listed = server.call("GET", path(namespace), **then).must_be(200)
    assert (listed.names, listed["items"][0]["data"]) == (["a"], {"x": "1"})
    assert listed.metadata["resourceVersion"] == then["resourceVersion"]
    later = server.call("GET", path(namespace), **(then | {"resourceVersionMatch": "NotOlderThan"})).must_be(200)
    assert int(later.metadata["resourceVersion"]) >= int(then["resourceVersion"])


def test_a_limit_of_nothing_is_none(server: Standing, namespace: str) -> None:
    add(server, path(namespace), *map(config_map, "abc"))
    for limit in ("0", "-1"):
        assert server.call("GET", path(namespace), limit=limit).must_be(200).names == ["a", "b", "c"]


def test_tables(server: Standing, namespace: str) -> None:
    add(
        server,
        path(namespace, "services"),
        service("a", type="NodePort", ports=[{"port": 80, "nodePort": CHOSEN_PORT}]),
    )
    table = server.call("GET", path(namespace, "services"), headers={"Accept": TABLE}).must_be(200)
    columns = [column["name"] for column in table["columnDefinitions"]]
    assert columns == ["Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "Selector"]
    (row,) = table["rows"]
    cells = dict(zip(columns, row["cells"], strict=True))
    assert (cells["Name"], cells["Type"], cells["Port(s)"]) == ("a", "NodePort", f"80:{CHOSEN_PORT}/TCP")
    assert (row["object"]["kind"], row["object"]["metadata"]["name"]) == ("PartialObjectMetadata", "a")
    bare = server.call("GET", path(namespace, "services"), headers={"Accept": TABLE}, includeObject="None")
    assert bare["rows"][0].get("object") is None
    server.call("DELETE", path(namespace, "services", "a")).must_be(200)


def test_metadata_alone(server: Standing, namespace: str) -> None:
    add(server, path(namespace), config_map("a", {"x": "1"}, labels={"l": "m"}))
    listed = server.call("GET", path(namespace), headers={"Accept": METADATA_LIST}).must_be(200)
    assert listed["kind"] == "PartialObjectMetadataList"
    (item,) = listed["items"]
    assert (item["metadata"]["labels"], "data" in item) == ({"l": "m"}, False)
    one = server.call("GET", path(namespace, name="a"), headers={"Accept": METADATA}).must_be(200)
    assert (one["kind"], one["apiVersion"]) == ("PartialObjectMetadata", "meta.k8s.io/v1")
