# SPDX-License-Identifier: Apache-2.0
"""What is asked of both servers about Services and EndpointSlices: fields, changes, addresses, status."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.control_plane.objects import MERGE, SERVICES, SLICES, endpoint_slice, service
from tests.control_plane.recording import Recorder

# Valid ones first: name of the step → spec.
VALID: Mapping[str, dict[str, Any]] = {
    "least": {},
    "dual stack": {"ipFamilyPolicy": "RequireDualStack"},
    "prefer dual stack, IPv6 first": {"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6", "IPv4"]},
    "single stack IPv6": {"ipFamilies": ["IPv6"]},
    "headless": {"clusterIP": "None"},
    "headless with a selector": {"clusterIP": "None", "selector": {"a": "b"}},
    "external name": {"type": "ExternalName", "externalName": "example.org", "ports": []},
    "external name with a port": {"type": "ExternalName", "externalName": "example.org."},
    "node port": {"type": "NodePort"},
    "chosen node port": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30123}]},
    "same node port, two protocols": {
        "type": "NodePort",
        "ports": [
            {"name": "t", "port": 53, "nodePort": 30053},
            {"name": "u", "port": 53, "nodePort": 30053, "protocol": "UDP"},
        ],
    },
    "load balancer": {"type": "LoadBalancer"},
    "load balancer of a class, no node ports": {
        "type": "LoadBalancer",
        "loadBalancerClass": "example.org/none",
        "allocateLoadBalancerNodePorts": False,
    },
    "load balancer with source ranges": {"type": "LoadBalancer", "loadBalancerSourceRanges": ["192.0.2.0/24"]},
    "external traffic policy Local": {"type": "LoadBalancer", "externalTrafficPolicy": "Local"},
    "node port, policy Local": {"type": "NodePort", "externalTrafficPolicy": "Local"},
    "internal traffic policy Local": {"internalTrafficPolicy": "Local"},
    "affinity": {"sessionAffinity": "ClientIP"},
    "affinity, short": {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}},
    "external IPs": {"externalIPs": ["192.0.2.9", "2001:db8::9"]},
    "chosen address": {"clusterIP": "10.96.200.200"},
    "several ports": {
        "ports": [
            {"name": "a", "port": 80, "targetPort": "web"},
            {"name": "b", "port": 80, "protocol": "UDP", "targetPort": 81},
            {"name": "c", "port": 90, "protocol": "SCTP", "appProtocol": "example.org/x"},
        ]
    },
    "traffic distribution": {"trafficDistribution": "PreferClose"},
    "traffic distribution, same node": {"trafficDistribution": "PreferSameNode"},
    "publish not ready": {"publishNotReadyAddresses": True},
    "unknown spec field": {"noSuchField": 1},
}
INVALID: Mapping[str, dict[str, Any]] = {
    "no ports": {"ports": []},
    "two ports without names": {"ports": [{"port": 1}, {"port": 2}]},
    "port twice": {"ports": [{"name": "a", "port": 1}, {"name": "b", "port": 1}]},
    "name twice": {"ports": [{"name": "a", "port": 1}, {"name": "a", "port": 2}]},
    "port 0": {"ports": [{"port": 0}]},
    "port 65536": {"ports": [{"port": 65536}]},
    "port name": {"ports": [{"name": "Upper", "port": 1}]},
    "target port name": {"ports": [{"port": 1, "targetPort": "much-too-long-a-name"}]},
    "protocol": {"ports": [{"port": 1, "protocol": "ICMP"}]},
    "type": {"type": "Nonsense"},
    "headless node port": {"type": "NodePort", "clusterIP": "None"},
    "node port of a ClusterIP": {"ports": [{"port": 1, "nodePort": 30001}]},
    "node port out of range": {"type": "NodePort", "ports": [{"port": 1, "nodePort": 80}]},
    "node port twice": {
        "type": "NodePort",
        "ports": [{"name": "a", "port": 1, "nodePort": 30444}, {"name": "b", "port": 2, "nodePort": 30444}],
    },
    "external name missing": {"type": "ExternalName", "ports": []},
    "external name wrong": {"type": "ExternalName", "externalName": "no_name", "ports": []},
    "address out of range": {"clusterIP": "10.1.2.3"},
    "address of nonsense": {"clusterIP": "nonsense"},
    "addresses differ": {"clusterIP": "10.96.1.1", "clusterIPs": ["10.96.1.2"]},
    "two addresses of one family": {
        "ipFamilyPolicy": "RequireDualStack",
        "clusterIPs": ["10.96.1.1", "10.96.1.2"],
    },
    "family twice": {"ipFamilies": ["IPv4", "IPv4"], "ipFamilyPolicy": "RequireDualStack"},
    "family unknown": {"ipFamilies": ["IPv5"]},
    "family policy unknown": {"ipFamilyPolicy": "Both"},
    "affinity unknown": {"sessionAffinity": "Cookie"},
    "affinity for ever": {
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}},
    },
    "affinity for no time": {
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}},
    },
    "external policy of a ClusterIP": {"externalTrafficPolicy": "Local"},
    "external policy unknown": {"type": "NodePort", "externalTrafficPolicy": "Remote"},
    "internal policy unknown": {"internalTrafficPolicy": "Remote"},
    "health port without need": {"type": "NodePort", "healthCheckNodePort": 30555},
    "source ranges of a ClusterIP": {"loadBalancerSourceRanges": ["192.0.2.0/24"]},
    "source range wrong": {"type": "LoadBalancer", "loadBalancerSourceRanges": ["192.0.2.0/33"]},
    "class of a ClusterIP": {"loadBalancerClass": "example.org/x"},
    "external IP wrong": {"externalIPs": ["nowhere"]},
    "external IP loopback": {"externalIPs": ["127.0.0.1"]},
    "traffic distribution unknown": {"trafficDistribution": "PreferMoon"},
    "wrong type of a field": {"ports": "eighty"},
}


def services(api: Recorder) -> None:
    for number, (step, spec) in enumerate(VALID.items()):
        api.call(step, "POST", SERVICES, service(f"valid-{number}", **spec))
        api.call("", "DELETE", f"{SERVICES}/valid-{number}")


def refused_services(api: Recorder) -> None:
    for step, spec in INVALID.items():
        api.call(step, "POST", SERVICES, service("refused", **spec))
        api.call("", "DELETE", f"{SERVICES}/refused")


def changed_services(api: Recorder) -> None:
    changes: Sequence[tuple[str, dict[str, Any], dict[str, Any]]] = (
        ("to node port", {}, {"type": "NodePort"}),
        ("to ClusterIP", {"type": "NodePort"}, {"type": "ClusterIP"}),
        ("to headless", {}, {"clusterIP": "None", "clusterIPs": ["None"]}),
        ("to external name", {}, {"type": "ExternalName", "externalName": "example.org"}),
        ("to load balancer, Local", {}, {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}),
        ("from load balancer", {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}, {"type": "ClusterIP"}),
        ("to dual stack", {}, {"ipFamilyPolicy": "PreferDualStack"}),
        ("to single stack", {"ipFamilyPolicy": "PreferDualStack"}, {"ipFamilyPolicy": "SingleStack"}),
        ("another address", {}, {"clusterIP": "10.96.3.3", "clusterIPs": ["10.96.3.3"]}),
        ("another port", {"type": "NodePort"}, {"ports": [{"port": 81}]}),
        ("affinity on", {}, {"sessionAffinity": "ClientIP"}),
        ("affinity off", {"sessionAffinity": "ClientIP"}, {"sessionAffinity": "None"}),
        ("another class", {"type": "LoadBalancer", "loadBalancerClass": "a/b"}, {"loadBalancerClass": "a/c"}),
    )
    for number, (step, before, after) in enumerate(changes):
        name = f"changed-{number}"
        made = api.call("", "POST", SERVICES, service(name, **before)).body
        api.call(f"{step} by merge patch", "PATCH", f"{SERVICES}/{name}", {"spec": after}, content_type=MERGE)
        api.call("", "DELETE", f"{SERVICES}/{name}")
        made = api.call("", "POST", SERVICES, service(f"{name}-put", **before)).body
        made["spec"] = {**made["spec"], **after}
        api.call(f"{step} by PUT", "PUT", f"{SERVICES}/{name}-put", made)
        api.call("", "DELETE", f"{SERVICES}/{name}-put")


def service_addresses(api: Recorder) -> None:
    first = api.call("", "POST", SERVICES, service("holder", type="NodePort")).body["spec"]
    port = first["ports"][0]["nodePort"]
    api.call("address taken", "POST", SERVICES, service("taker", clusterIP=first["clusterIP"]))
    taken = service("taker", type="NodePort", ports=[{"port": 1, "nodePort": port}])
    api.call("node port taken", "POST", SERVICES, taken)
    api.call("delete", "DELETE", f"{SERVICES}/holder")
    api.call("address free again", "POST", SERVICES, service("taker", clusterIP=first["clusterIP"]))
    taken["metadata"]["name"] = "taker-2"
    api.call("node port free again", "POST", SERVICES, taken)
    for name in ("taker", "taker-2"):
        api.call("", "DELETE", f"{SERVICES}/{name}")


def service_status(api: Recorder) -> None:
    api.call("", "POST", SERVICES, service("lb", type="LoadBalancer", loadBalancerClass="example.org/none"))
    path = f"{SERVICES}/lb/status"
    for step, ingress in (
        ("address", [{"ip": "192.0.2.1"}]),
        ("VIP", [{"ip": "192.0.2.1", "ipMode": "VIP"}]),
        ("Proxy", [{"ip": "192.0.2.1", "ipMode": "Proxy"}]),
        ("mode without address", [{"hostname": "example.org", "ipMode": "VIP"}]),
        ("mode unknown", [{"ip": "192.0.2.1", "ipMode": "Tunnel"}]),
        ("no address", [{"ip": "nowhere"}]),
        ("both", [{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}, {"hostname": "example.org"}]),
        ("none", []),
    ):
        api.call(step, "PATCH", path, {"status": {"loadBalancer": {"ingress": ingress}}}, content_type=MERGE)
    api.call("get", "GET", path)
    through = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}}
    api.call("not through the object", "PATCH", f"{SERVICES}/lb", through, content_type=MERGE)
    api.call("spec not through status", "PATCH", path, {"spec": {"type": "ClusterIP"}}, content_type=MERGE)
    api.call("", "PATCH", path, {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}, content_type=MERGE)
    api.call("cleared with the type", "PATCH", f"{SERVICES}/lb", {"spec": {"type": "ClusterIP",
             "loadBalancerClass": None}}, content_type=MERGE)  # fmt: skip
    api.call("", "DELETE", f"{SERVICES}/lb")


SLICE_FIELDS: Mapping[str, dict[str, Any]] = {
    "least": {},
    "nothing in it": {"ports": None, "endpoints": []},
    "conditions": {
        "endpoints": [
            {"addresses": ["10.244.0.9"], "conditions": {"ready": False, "serving": True, "terminating": True}}
        ]
    },
    "hints": {
        "endpoints": [
            {
                "addresses": ["10.244.0.9"],
                "zone": "a",
                "nodeName": "node-a",
                "hints": {"forZones": [{"name": "a"}], "forNodes": [{"name": "node-a"}]},
            }
        ]
    },
    "target": {
        "endpoints": [
            {"addresses": ["10.244.0.9"], "targetRef": {"kind": "Pod", "name": "p", "namespace": "default"}}
        ]
    },
    "IPv6": {"addressType": "IPv6", "endpoints": [{"addresses": ["fd00::9"]}]},
    "FQDN": {"addressType": "FQDN", "endpoints": [{"addresses": ["example.org"]}]},
    "two addresses": {"endpoints": [{"addresses": ["10.244.0.9", "10.244.0.10"]}]},
    "address in two endpoints": {"endpoints": [{"addresses": ["10.244.0.9"]}, {"addresses": ["10.244.0.9"]}]},
    "port without number": {"ports": [{"name": "x"}]},
    "no address type": {"addressType": None},
    "address type unknown": {"addressType": "IPv5"},
    "no addresses": {"endpoints": [{"addresses": []}]},
    "wrong family": {"endpoints": [{"addresses": ["fd00::9"]}]},
    "address of nonsense": {"endpoints": [{"addresses": ["nonsense"]}]},
    "address with zeros": {"endpoints": [{"addresses": ["10.244.000.9"]}]},
    "loopback": {"endpoints": [{"addresses": ["127.0.0.1"]}]},
    "link local": {"endpoints": [{"addresses": ["169.254.0.1"]}]},
    "multicast": {"endpoints": [{"addresses": ["224.0.0.1"]}]},
    "node name": {"endpoints": [{"addresses": ["10.244.0.9"], "nodeName": "Not A Node"}]},
    "hint twice": {
        "endpoints": [{"addresses": ["10.244.0.9"], "hints": {"forZones": [{"name": "a"}, {"name": "a"}]}}]
    },
    "port twice": {"ports": [{"port": 1}, {"port": 2}]},
    "port 0": {"ports": [{"port": 0}]},
    "protocol": {"ports": [{"port": 1, "protocol": "ICMP"}]},
}


def endpoint_slices(api: Recorder) -> None:
    for number, (step, fields) in enumerate(SLICE_FIELDS.items()):
        api.call(step, "POST", SLICES, endpoint_slice(f"slice-{number}", **fields))
        api.call("", "DELETE", f"{SLICES}/slice-{number}")
    made = api.call("", "POST", SLICES, endpoint_slice("changed")).body
    made["endpoints"] = [{"addresses": ["10.244.0.10"], "conditions": {"ready": True}}]
    api.call("PUT", "PUT", f"{SLICES}/changed", made)
    made = {**endpoint_slice("changed"), "endpoints": []}
    api.call("PUT without resourceVersion", "PUT", f"{SLICES}/changed", made)
    other = endpoint_slice("changed", addressType="IPv6", endpoints=[])
    api.call("address type is immutable", "PUT", f"{SLICES}/changed", other)
    api.call("PUT of what is not there", "PUT", f"{SLICES}/absent", endpoint_slice("absent"))
    api.call("PUT under another name", "PUT", f"{SLICES}/changed", endpoint_slice("other"))
    api.call("delete", "DELETE", f"{SLICES}/changed")
    api.call("delete again", "DELETE", f"{SLICES}/changed")
