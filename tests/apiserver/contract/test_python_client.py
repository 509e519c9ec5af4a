# SPDX-License-Identifier: Apache-2.0
"""The official Python client: its typed API, watches, an informer made of them, and the dynamic client."""

from typing import Any

import pytest
from kubernetes import client, dynamic, watch
from kubernetes.client.exceptions import ApiException

from tests.apiserver.contract.informer import Informer
from tests.apiserver.contract.objects import definition, gadget
from tests.apiserver.contract.objects import service as plain_service
from tests.apiserver.contract.servers import Standing


def service(name: str, **spec: Any) -> Any:
    ports = [client.V1ServicePort(port=80)]
    return client.V1Service(
        metadata=client.V1ObjectMeta(name=name), spec=client.V1ServiceSpec(**({"ports": ports} | spec))
    )


def test_the_life_of_a_service(core: Any, namespace: str) -> None:
    created = core.create_namespaced_service(namespace, service("a", type="NodePort"))
    assert created.spec.cluster_ip.startswith("10.96.")
    assert 30000 <= created.spec.ports[0].node_port <= 32767
    created.spec.session_affinity = "ClientIP"
    replaced = core.replace_namespaced_service("a", namespace, created)
    assert replaced.spec.session_affinity_config.client_ip.timeout_seconds == 10800
    patch = {"metadata": {"labels": {"x": "y"}}, "spec": {"ports": [{"port": 80, "name": "web"}]}}
    patched = core.patch_namespaced_service("a", namespace, patch)
    assert (patched.metadata.labels, patched.spec.ports[0].name) == ({"x": "y"}, "web")
    assert core.read_namespaced_service("a", namespace).metadata.uid == created.metadata.uid
    assert [s.metadata.name for s in core.list_namespaced_service(namespace).items] == ["a"]
    assert core.delete_namespaced_service("a", namespace).metadata.name == "a"
    with pytest.raises(ApiException) as error:
        core.read_namespaced_service("a", namespace)
    assert (error.value.status, error.value.reason) == (404, "Not Found")


def test_a_load_balancer_status_set_by_hand(core: Any, namespace: str) -> None:
    core.create_namespaced_service(namespace, service("a", type="LoadBalancer"))
    body = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}
    patched = core.patch_namespaced_service_status("a", namespace, body)
    assert patched.status.load_balancer.ingress[0].ip_mode == "VIP"


def test_the_life_of_an_endpoint_slice(discovery: Any, namespace: str) -> None:
    endpoint = client.V1Endpoint(
        addresses=["10.1.0.1"], conditions=client.V1EndpointConditions(ready=True), node_name="node-a"
    )
    obj = client.V1EndpointSlice(
        metadata=client.V1ObjectMeta(name="a", labels={"kubernetes.io/service-name": "a"}),
        address_type="IPv4",
        endpoints=[endpoint],
        ports=[client.DiscoveryV1EndpointPort(port=8080)],
    )
    created = discovery.create_namespaced_endpoint_slice(namespace, obj)
    assert (created.ports[0].name, created.ports[0].protocol) == ("", "TCP")
    created.endpoints[0].conditions.ready = False
    assert discovery.replace_namespaced_endpoint_slice("a", namespace, created).metadata.generation == 2
    selected = discovery.list_endpoint_slice_for_all_namespaces(
        label_selector="kubernetes.io/service-name=a", field_selector=f"metadata.namespace={namespace}"
    )
    assert [one.metadata.name for one in selected.items] == ["a"]
    assert discovery.delete_namespaced_endpoint_slice("a", namespace)["status"] == "Success"


def test_nodes_and_namespaces(core: Any, namespace: str) -> None:
    name = f"node-{namespace}"
    node = client.V1Node(metadata=client.V1ObjectMeta(name=name), spec=client.V1NodeSpec(pod_cidr="10.1.0.0/24"))
    assert core.create_node(node).spec.pod_cidrs == ["10.1.0.0/24"]
    address = {"type": "InternalIP", "address": "192.0.2.9"}
    assert (
        core.patch_node_status(name, {"status": {"addresses": [address]}}).status.addresses[0].address == "192.0.2.9"
    )
    assert core.delete_node(name)["status"] == "Success"
    labelled = core.patch_namespace(namespace, {"metadata": {"labels": {"x": "y"}}})
    assert labelled.metadata.labels == {"x": "y", "kubernetes.io/metadata.name": namespace}
    assert labelled.status.phase == "Active"


def test_errors_reach_the_client(core: Any, namespace: str) -> None:
    with pytest.raises(ApiException) as error:
        core.create_namespaced_service(namespace, service("a", ports=[client.V1ServicePort(port=70000)]))
    assert error.value.status == 422
    core.create_namespaced_service(namespace, service("a"))
    with pytest.raises(ApiException) as error:
        core.create_namespaced_service(namespace, service("a"))
    assert error.value.status == 409


def test_pages(core: Any, namespace: str) -> None:
    for i in range(5):
        core.create_namespaced_service(namespace, service(f"s{i}"))
    first = core.list_namespaced_service(namespace, limit=3)
    second = core.list_namespaced_service(namespace, limit=3, _continue=first.metadata._continue)
    assert [s.metadata.name for s in first.items + second.items] == [f"s{i}" for i in range(5)]
    assert not second.metadata._continue


def test_a_watch_sees_what_other_clients_do(core: Any, namespace: str) -> None:
    seen = []
    watching = watch.Watch()  # type: ignore[no-untyped-call]
    core.create_namespaced_service(namespace, service("a"))
    for event in watching.stream(core.list_namespaced_service, namespace, timeout_seconds=30):  # type: ignore[no-untyped-call]
        seen.append((event["type"], event["object"].metadata.name))
        if len(seen) == 1:
            core.create_namespaced_service(namespace, service("b"))
        elif len(seen) == 2:
            core.delete_namespaced_service("a", namespace)
        else:
            watching.stop()  # type: ignore[no-untyped-call]
    assert seen == [("ADDED", "a"), ("ADDED", "b"), ("DELETED", "a")]


def test_an_informer_follows(core: Any, namespace: str) -> None:
    core.create_namespaced_config_map(namespace, {"metadata": {"name": "before"}})
    informer = Informer(core.list_namespaced_config_map, namespace)
    informer.list()
    assert set(informer.cache) == {"before"}
    core.create_namespaced_config_map(namespace, {"metadata": {"name": "a"}, "data": {"x": "1"}})
    core.patch_namespaced_config_map("a", namespace, {"data": {"x": "2"}})
    core.delete_namespaced_config_map("before", namespace)
    informer.follow(until=lambda cache: "before" not in cache)
    assert {name: one.data for name, one in informer.cache.items()} == {"a": {"x": "2"}}
    assert informer.lists == 1


def test_an_informer_lists_again_after_410(server: Standing, connection: client.ApiClient, namespace: str) -> None:
    group = f"{namespace}.example.org"
    server.define(definition(group))
    gadgets = client.CustomObjectsApi(connection)
    place = (group, "v1", namespace, "gadgets")
    informer = Informer(gadgets.list_namespaced_custom_object, *place)
    informer.list()
    gadgets.create_namespaced_custom_object(*place, gadget(group, "a"))
    informer.version = "1"  # as if it had slept for as long as the server remembers
    informer.follow(until=lambda cache: "a" in cache)
    assert informer.lists == 2
    gadgets.create_namespaced_custom_object(*place, gadget(group, "b"))
    informer.follow(until=lambda cache: "b" in cache)
    assert (set(informer.cache), informer.lists) == ({"a", "b"}, 2)


def test_deletion_preconditions_and_dry_run(core: Any, namespace: str) -> None:
    made = core.create_namespaced_config_map(namespace, {"metadata": {"generateName": "some-"}})
    name = made.metadata.name
    wrong = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid="another"))
    with pytest.raises(ApiException) as error:
        core.delete_namespaced_config_map(name, namespace, body=wrong)
    assert (error.value.status, error.value.reason) == (409, "Conflict")
    core.delete_namespaced_config_map(name, namespace, dry_run="All")
    assert core.read_namespaced_config_map(name, namespace).metadata.uid == made.metadata.uid
    assert core.delete_collection_namespaced_config_map(namespace).status in (None, "Success")
    assert core.list_namespaced_config_map(namespace).items == []


def test_an_event_and_a_lease(connection: client.ApiClient, namespace: str) -> None:
    lease = {"metadata": {"name": "l"}, "spec": {"holderIdentity": "me", "leaseDurationSeconds": 9}}
    coordination: Any = client.CoordinationV1Api(connection)
    made = coordination.create_namespaced_lease(namespace, lease)
    assert (made.spec.holder_identity, made.spec.lease_duration_seconds) == ("me", 9)
    event = {
        "metadata": {"name": "e"},
        "eventTime": "2026-01-01T00:00:00.000001Z",
        "action": "Testing",
        "reason": "Testing",
        "type": "Normal",
        "reportingController": "example.org/x",
        "reportingInstance": "x",
        "regarding": {"kind": "Namespace", "name": namespace, "namespace": namespace},
    }
    events: Any = client.EventsV1Api(connection)
    assert events.create_namespaced_event(namespace, event).regarding.name == namespace


def test_the_dynamic_client_and_built_in_resources(connection: client.ApiClient, namespace: str) -> None:
    found = dynamic.DynamicClient(connection)  # type: ignore[no-untyped-call]
    services = found.resources.get(api_version="v1", kind="Service")
    created = services.create(body=plain_service("a"), namespace=namespace)
    assert created.spec.clusterIP
    applied = services.server_side_apply(
        body=plain_service("a", labels={"x": "y"}),
        name="a",
        namespace=namespace,
        field_manager="me",
        force_conflicts=True,
    )
    assert applied.metadata.labels.x == "y"
    with pytest.raises(dynamic.exceptions.NotFoundError):
        services.get(name="absent", namespace=namespace)
    for event in services.watch(namespace=namespace, timeout=30):
        assert (event["type"], event["object"].metadata.name) == ("ADDED", "a")
        break
    assert services.delete(name="a", namespace=namespace).metadata.name == "a"


def test_the_dynamic_client_and_custom_resources(
    connection: client.ApiClient, server: Standing, namespace: str
) -> None:
    group = f"{namespace}.example.org"
    server.define(definition(group))
    found = dynamic.DynamicClient(connection)  # type: ignore[no-untyped-call]
    gadgets = found.resources.get(api_version=f"{group}/v1", kind="Gadget")
    gadgets.create(body=gadget(group, "g", spec={"size": 1}), namespace=namespace)
    patched = gadgets.patch(
        name="g", namespace=namespace, body={"spec": {"size": 2}}, content_type="application/merge-patch+json"
    )
    assert patched.spec.size == 2
    assert [one.metadata.name for one in gadgets.get(namespace=namespace).items] == ["g"]
    assert gadgets.delete(name="g", namespace=namespace).status == "Success"
