# SPDX-License-Identifier: Apache-2.0
"""kubectl, as people use it to look: every output form, selectors, watches, describe, explain, api-resources."""

import json

import pytest

from tests.apiserver.contract.conftest import Kubectl
from tests.apiserver.contract.objects import add, config_map, endpoint_slice, path, service, slices
from tests.apiserver.contract.servers import MERGE, Standing


@pytest.fixture
def services(server: Standing, kubectl: Kubectl) -> str:
    """A namespace with two Services."""
    one = service("one", labels={"x": "1"}, selector={"app": "web"})
    add(server, path(kubectl.namespace, "services"), one, service("two", clusterIP="None"))
    return kubectl.namespace


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


@pytest.mark.usefixtures("services")
def test_get_as_people_read_it(kubectl: Kubectl) -> None:
    head, one, two = rows(kubectl("get", "services").out)
    assert head == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]
    assert (one[0], one[1], one[3], one[4]) == ("one", "ClusterIP", "<none>", "80/TCP")
    assert two[2] == "None"
    head, one, _ = rows(kubectl("get", "svc", "-owide").out)
    assert (head[-1], one[-1]) == ("SELECTOR", "app=web")
    assert rows(kubectl("get", "services", "--no-headers", "-oname").out) == [["service/one"], ["service/two"]]
    labelled = rows(kubectl("get", "services", "--show-labels", "one").out)
    assert (labelled[0][-1], labelled[1][-1]) == ("LABELS", "x=1")


@pytest.mark.usefixtures("services")
def test_get_as_programs_read_it(kubectl: Kubectl) -> None:
    listed = kubectl("get", "services", "-ojson").json()
    assert (listed["kind"], [one["metadata"]["name"] for one in listed["items"]]) == ("List", ["one", "two"])
    assert {(one["kind"], one["apiVersion"]) for one in listed["items"]} == {("Service", "v1")}
    assert "\n  name: one\n" in kubectl("get", "service", "one", "-oyaml").out
    assert kubectl("get", "services", "-ojsonpath={.items[*].metadata.name}").out == "one two"
    custom = kubectl("get", "services", "-ocustom-columns=N:.metadata.name,IP:.spec.clusterIP").out
    assert rows(custom)[2] == ["two", "None"]
    assert kubectl("get", "services", "--sort-by=.spec.clusterIP", "-oname").out.count("service/") == 2


@pytest.mark.usefixtures("services")
@pytest.mark.parametrize(
    ("flags", "found"),
    [
        (("--selector=x=1",), ["service/one"]),
        (("--selector=x notin (1)",), ["service/two"]),
        (("--field-selector=metadata.name=two",), ["service/two"]),
        (("--field-selector=spec.clusterIP!=None",), ["service/one"]),
        (("--chunk-size=1",), ["service/one", "service/two"]),
        (("one", "two"), ["service/one", "service/two"]),
    ],
    ids=str,
)
def test_get_of_a_selection(kubectl: Kubectl, flags: tuple[str, ...], found: list[str]) -> None:
    assert kubectl("get", "services", "-oname", *flags).out.split() == found


def test_get_of_what_is_not_there(kubectl: Kubectl) -> None:
    none = kubectl("get", "services")
    assert (none.out, none.err) == ("", f"No resources found in {kubectl.namespace} namespace.\n")
    missing = kubectl.try_("get", "service", "absent")
    assert (missing.status, missing.err) == (1, 'Error from server (NotFound): services "absent" not found\n')
    unknown = kubectl.try_("get", "nonsense")
    assert (unknown.status, unknown.err) == (1, 'error: the server doesn\'t have a resource type "nonsense"\n')


def test_get_of_the_other_printed_kinds(server: Standing, kubectl: Kubectl) -> None:
    add(server, slices(kubectl.namespace), endpoint_slice("s"))
    head, row = rows(kubectl("get", "endpointslices").out)
    assert head == ["NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS", "AGE"]
    assert row[:4] == ["s", "IPv4", "8080", "10.244.0.9"]
    name = f"node-{kubectl.namespace}"
    ready = {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1.37.1"}}
    add(server, "/api/v1/nodes", {"metadata": {"name": name}, "status": ready})
    head, row = rows(kubectl("get", "node", name).out)
    assert (head, row[:2], row[4]) == (["NAME", "STATUS", "ROLES", "AGE", "VERSION"], [name, "Ready"], "v1.37.1")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
    add(server, path(kubectl.namespace, "pods"), pod | {"spec": {"containers": [{"name": "c", "image": "i"}]}})
    head, row = rows(kubectl("get", "pods").out)
    assert (head, row[:4]) == (["NAME", "READY", "STATUS", "RESTARTS", "AGE"], ["p", "0/1", "Pending", "0"])
    kubectl("delete", "pod", "p", "--force")
    kubectl("delete", "node", name)


def test_get_and_watch(server: Standing, kubectl: Kubectl) -> None:
    add(server, path(kubectl.namespace, "services"), service("a"))
    with kubectl.start("get", "services", "--watch", "--no-headers", "--output-watch-events") as process:
        assert process.stdout is not None
        lines = iter(process.stdout)
        try:
            assert next(lines).split()[:2] == ["ADDED", "a"]
            add(server, path(kubectl.namespace, "services"), service("b"))
            assert next(lines).split()[:2] == ["ADDED", "b"]
            patch = {"spec": {"type": "NodePort"}}
            server.call("PATCH", path(kubectl.namespace, "services", "a"), patch, MERGE).must_be(200)
            assert next(lines).split()[:3] == ["MODIFIED", "a", "NodePort"]
            server.call("DELETE", path(kubectl.namespace, "services", "a")).must_be(200)
            assert next(lines).split()[:2] == ["DELETED", "a"]
        finally:
            process.kill()


def test_get_and_watch_as_json(server: Standing, kubectl: Kubectl) -> None:
    add(server, path(kubectl.namespace), config_map("a"))
    with kubectl.start("get", "configmaps", "--watch", "-ojson") as process:
        assert process.stdout is not None
        lines = iter(process.stdout)
        try:
            assert any('"name": "a"' in line for line in lines)
            add(server, path(kubectl.namespace), config_map("b"))
            assert any('"name": "b"' in line for line in lines)
        finally:
            process.kill()


def test_describe(server: Standing, kubectl: Kubectl) -> None:
    add(server, path(kubectl.namespace, "services"), service("a", selector={"app": "web"}))
    slice_of_a = endpoint_slice("a-1") | {"ports": [{"port": 8080, "name": "", "protocol": "TCP"}]}
    slice_of_a["metadata"]["labels"] = {"kubernetes.io/service-name": "a"}
    add(server, slices(kubectl.namespace), slice_of_a)
    told = kubectl("describe", "service", "a").out
    assert "Selector:" in told
    assert "app=web" in told
    assert "10.244.0.9:8080" in told


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("service.spec.trafficDistribution", "FIELD: trafficDistribution <string>"),
        ("service.spec.ports", "FIELD: ports <[]"),
        ("endpointslice", "addressType"),
        ("pod.spec.containers.image", "FIELD: image <string>"),
        ("configmap.data", "FIELD: data <map[string]string>"),
    ],
)
def test_explain(kubectl: Kubectl, what: str, told: str) -> None:
    assert told in kubectl("explain", what).out


def test_explain_of_a_field_that_is_not_there(kubectl: Kubectl) -> None:
    refused = kubectl.try_("explain", "service.spec.noSuchField")
    assert (refused.status, 'field "noSuchField" does not exist' in refused.err) == (1, True)


def test_api_resources_and_versions(kubectl: Kubectl) -> None:
    known = {row[0]: row for row in rows(kubectl("api-resources", "--no-headers").out)}
    assert known["services"] == ["services", "svc", "v1", "true", "Service"]
    assert known["endpointslices"] == ["endpointslices", "discovery.k8s.io/v1", "true", "EndpointSlice"]
    assert known["nodes"] == ["nodes", "no", "v1", "false", "Node"]
    versions = kubectl("api-versions").out.split()
    assert {"v1", "discovery.k8s.io/v1", "networking.k8s.io/v1", "apiextensions.k8s.io/v1"} <= set(versions)


def test_version_and_raw(kubectl: Kubectl) -> None:
    told = json.loads(kubectl("version", "-ojson").out)
    assert told["serverVersion"]["minor"] == told["clientVersion"]["minor"] == "37"
    assert kubectl("get", "--raw", "/readyz").out == "ok"
    assert json.loads(kubectl("get", "--raw", path(kubectl.namespace)).out)["kind"] == "ConfigMapList"


def test_a_long_list_in_chunks(server: Standing, kubectl: Kubectl) -> None:
    add(server, path(kubectl.namespace), *(config_map(f"c-{i:02}") for i in range(25)))
    names = kubectl("get", "configmaps", "--chunk-size=10", "-oname").out.split()
    assert names == [f"configmap/c-{i:02}" for i in range(25)]


def test_a_wrong_token(kubectl: Kubectl) -> None:
    refused = kubectl.try_("--token=wrong", "get", "services")
    assert refused.status == 1
    assert "You must be logged in to the server" in refused.err
