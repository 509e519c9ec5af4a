# SPDX-License-Identifier: Apache-2.0
"""What is filled into a Service or an EndpointSlice, and what is refused (422) with which field named."""

import json
from typing import Any

import pytest

from clusters.apiserver.status import ApiError
from tests.apiserver.conftest import Cluster


def test_defaults_of_a_cluster_ip_service(cluster: Cluster) -> None:
    service = cluster.service("a")
    spec = service["spec"]
    assert spec["type"] == "ClusterIP"
    assert spec["sessionAffinity"] == "None"
    assert spec["internalTrafficPolicy"] == "Cluster"
    assert spec["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
    assert not {"externalTrafficPolicy", "allocateLoadBalancerNodePorts", "sessionAffinityConfig"} & set(spec)
    assert service["status"] == {"loadBalancer": {}}


@pytest.mark.parametrize(
    ("spec", "defaults"),
    [
        ({"sessionAffinity": "ClientIP"}, {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}}),
        ({"type": "NodePort"}, {"externalTrafficPolicy": "Cluster", "internalTrafficPolicy": "Cluster"}),
        ({"type": "LoadBalancer"}, {"externalTrafficPolicy": "Cluster", "allocateLoadBalancerNodePorts": True}),
        ({"externalIPs": ["192.0.2.1"]}, {"externalTrafficPolicy": "Cluster"}),
        ({"internalTrafficPolicy": "Local"}, {"internalTrafficPolicy": "Local"}),
    ],
)
def test_defaults_that_depend_on_other_fields(cluster: Cluster, spec: Any, defaults: Any) -> None:
    created = cluster.service("a", **spec)["spec"]
    assert {key: created[key] for key in defaults} == defaults


def test_a_status_given_at_creation_is_dropped(cluster: Cluster) -> None:
    status = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}
    wanted = {"metadata": {"name": "a"}, "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}, "status": status}
    assert cluster.create("services", wanted)["status"] == {"loadBalancer": {}}


@pytest.mark.parametrize(
    ("spec", "field", "told"),
    [
        ({"ports": []}, "spec.ports", "Required value"),
        ({"ports": [{"port": 0}]}, "spec.ports[0].port", "must be between 1 and 65535, inclusive"),
        ({"ports": [{"port": 65536}]}, "spec.ports[0].port", "must be between 1 and 65535, inclusive"),
        ({"ports": [{"port": 1, "targetPort": 70000}]}, "spec.ports[0].targetPort", "between 1 and 65535"),
        ({"ports": [{"port": 1, "targetPort": "no port"}]}, "spec.ports[0].targetPort", "port name"),
        ({"ports": [{"port": 1, "protocol": "ICMP"}]}, "spec.ports[0].protocol", '"SCTP", "TCP", "UDP"'),
        ({"ports": [{"port": 1}, {"port": 2, "name": "b"}]}, "spec.ports[0].name", "Required value"),
        ({"ports": [{"port": p, "name": "a"} for p in (1, 2)]}, "spec.ports[1].name", 'Duplicate value: "a"'),
        ({"ports": [{"port": 1, "name": n} for n in "ab"]}, "spec.ports[1]", "Duplicate value"),
        ({"ports": [{"port": 1, "nodePort": 30000}]}, "spec.ports[0].nodePort", "may not be used when"),
        ({"type": "Mesh"}, "spec.type", "Unsupported value"),
        ({"type": "ExternalName", "ports": []}, "spec.externalName", "Required value"),
        ({"type": "NodePort", "clusterIP": "None"}, "spec.clusterIPs[0]", "may not be set to 'None'"),
        ({"sessionAffinity": "Cookie"}, "spec.sessionAffinity", '"ClientIP", "None"'),
        (
            {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}}},
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
            "must be greater than 0",
        ),
        ({"externalTrafficPolicy": "Local"}, "spec.externalTrafficPolicy", "externally-accessible"),
        ({"type": "NodePort", "externalTrafficPolicy": "Near"}, "spec.externalTrafficPolicy", "Unsupported"),
        ({"internalTrafficPolicy": "Near"}, "spec.internalTrafficPolicy", "Unsupported"),
        ({"externalIPs": ["127.0.0.1"]}, "spec.externalIPs[0]", "loopback"),
        ({"externalIPs": ["nonsense"]}, "spec.externalIPs[0]", "valid IP address"),
        ({"type": "LoadBalancer", "loadBalancerSourceRanges": ["x"]}, "spec.loadBalancerSourceRanges[0]", "CIDR"),
        ({"loadBalancerSourceRanges": ["10.0.0.0/8"]}, "spec.loadBalancerSourceRanges", "LoadBalancer"),
        ({"loadBalancerClass": "example.com/x"}, "spec.loadBalancerClass", "LoadBalancer"),
        ({"type": "LoadBalancer", "healthCheckNodePort": 30001}, "spec.healthCheckNodePort", "may only be set when"),
        ({"clusterIP": "x", "clusterIPs": ["x"]}, "spec.clusterIPs[0]", "valid IP address"),
        ({"clusterIPs": ["10.96.0.9"]}, "spec.clusterIPs", "first value must match"),
        ({"ipFamilies": ["IPv4", "IPv4"]}, "spec.ipFamilies[1]", "Duplicate value"),
        ({"ipFamilies": ["IPv5"]}, "spec.ipFamilies[0]", "Unsupported"),
        ({"ipFamilies": ["IPv4", "IPv6"]}, "spec.ipFamilyPolicy", "multiple IP families"),
        ({"ipFamilies": ["IPv6"], "clusterIP": "10.96.0.9"}, "spec.clusterIPs[0]", "expected an IPv6"),
        ({"trafficDistribution": "Far"}, "spec.trafficDistribution", "Unsupported"),
    ],
)
def test_invalid_services(cluster: Cluster, spec: Any, field: str, told: str) -> None:
    with pytest.raises(ApiError) as error:
        cluster.service("a", **spec)
    assert (error.value.code, error.value.reason) == (422, "Invalid")
    assert error.value.message.startswith('Service "a" is invalid: ')
    assert error.value.details is not None
    causes = {cause["field"]: cause["message"] for cause in error.value.details["causes"]}
    assert told in causes.get(field, ""), causes


@pytest.mark.parametrize("name", ["1a", "a.b", "A", "a-", "x" * 64])
def test_service_names_are_dns_labels(cluster: Cluster, name: str) -> None:
    with pytest.raises(ApiError, match=r"metadata\.name: Invalid value"):
        cluster.service(name)


def test_headless_services_need_no_ports(cluster: Cluster) -> None:
    assert cluster.service("a", clusterIP="None", ports=[])["spec"]["ports"] == []


@pytest.mark.parametrize("spec", [{"ports": "80"}, {"ports": [{"port": "80"}]}, {"type": 1}, {"ports": [None]}, []])
def test_wrong_json_types_are_a_bad_request(cluster: Cluster, spec: Any) -> None:
    with pytest.raises(ApiError) as error:
        cluster.create("services", {"metadata": {"name": "a"}, "spec": spec})
    assert (error.value.code, error.value.reason) == (400, "BadRequest")


def ingress(cluster: Cluster, *ingresses: dict[str, Any]) -> dict[str, Any]:
    body = {"metadata": {"name": "a"}, "status": {"loadBalancer": {"ingress": list(ingresses)}}}
    answered = cluster.api.replace(cluster.resource("services"), "default", "a", body, status=True)
    decoded: dict[str, Any] = json.loads(answered)
    return decoded


def test_a_load_balancer_status_is_written_by_hand(cluster: Cluster) -> None:
    spec = cluster.service("a", type="LoadBalancer")["spec"]
    written = ingress(cluster, {"ip": "192.0.2.1"}, {"hostname": "lb.example.com"})
    assert written["status"]["loadBalancer"]["ingress"][0] == {"ip": "192.0.2.1", "ipMode": "VIP"}
    assert written["spec"] == spec
    assert cluster.update("a", type="ClusterIP")["status"] == {"loadBalancer": {}}


@pytest.mark.parametrize(
    "wrong", [{"ip": "x"}, {"hostname": "h", "ipMode": "VIP"}, {"ip": "192.0.2.1", "ipMode": ""}]
)
def test_invalid_load_balancer_status(cluster: Cluster, wrong: dict[str, Any]) -> None:
    cluster.service("a", type="LoadBalancer")
    with pytest.raises(ApiError) as error:
        ingress(cluster, wrong)
    assert error.value.code == 422


def test_only_load_balancers_have_an_ingress(cluster: Cluster) -> None:
    cluster.service("a")
    with pytest.raises(ApiError, match=r"status\.loadBalancer\.ingress: Forbidden"):
        ingress(cluster, {"ip": "192.0.2.1"})


def endpoint_slice(**fields: Any) -> dict[str, Any]:
    return {"metadata": {"name": "a"}, "addressType": "IPv4", "endpoints": []} | fields


def test_endpoint_slice_defaults(cluster: Cluster) -> None:
    created = cluster.create("endpointslices", endpoint_slice(ports=[{"port": 80}]))
    assert created["ports"] == [{"port": 80, "name": "", "protocol": "TCP"}]
    assert created["metadata"]["generation"] == 1


def endpoint(*addresses: str, **more: Any) -> dict[str, Any]:
    return {"endpoints": [{"addresses": list(addresses)} | more]}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"addressType": ""}, "addressType"),
        ({"addressType": "IPX"}, "addressType"),
        (endpoint(), "endpoints[0].addresses"),
        (endpoint("fd00::1"), "endpoints[0].addresses[0]"),
        (endpoint("nonsense"), "endpoints[0].addresses[0]"),
        (endpoint("127.0.0.1"), "endpoints[0].addresses[0]"),
        (endpoint("169.254.1.1"), "endpoints[0].addresses[0]"),
        (endpoint("224.0.0.5"), "endpoints[0].addresses[0]"),
        (endpoint(*["10.0.0.1"] * 101), "endpoints[0].addresses"),
        ({"endpoints": [{"addresses": ["10.0.0.1"]}] * 1001}, "endpoints"),
        (endpoint("10.0.0.1", nodeName="Node A"), "endpoints[0].nodeName"),
        (endpoint("10.0.0.1", hints={"forZones": [{"name": "a"}] * 2}), "endpoints[0].hints.forZones[1].name"),
        ({"ports": [{"port": 1, "protocol": "X"}]}, "ports[0].protocol"),
        ({"ports": [{"port": 1}, {"port": 2}]}, "ports[1].name"),
        ({"addressType": "IPv6"} | endpoint("10.0.0.1"), "endpoints[0].addresses[0]"),
        ({"addressType": "IPv6"} | endpoint("fe80::1"), "endpoints[0].addresses[0]"),
        ({"addressType": "IPv6"} | endpoint("ff02::1"), "endpoints[0].addresses[0]"),
    ],
)
def test_invalid_endpoint_slices(cluster: Cluster, fields: Any, field: str) -> None:
    with pytest.raises(ApiError) as error:
        cluster.create("endpointslices", endpoint_slice(**fields))
    assert error.value.code == 422
    assert error.value.message.startswith('EndpointSlice.discovery.k8s.io "a" is invalid: ')
    assert error.value.details is not None
    assert error.value.details["causes"][0]["field"] == field


def test_the_address_type_is_immutable(cluster: Cluster) -> None:
    cluster.create("endpointslices", endpoint_slice())
    resource = cluster.resource("endpointslices", "discovery.k8s.io")
    with pytest.raises(ApiError, match=r"addressType: .*field is immutable"):
        cluster.api.replace(resource, "default", "a", endpoint_slice(addressType="IPv6"))
