# SPDX-License-Identifier: Apache-2.0
"""What is asked of both servers. A case is a function; each of its steps is one answer to compare."""

import json
import time
from collections.abc import Callable
from typing import Any

from tests.control_plane.objects import (
    APPLY,
    CONFIG_MAPS,
    JSON_PATCH,
    MERGE,
    NAMESPACES,
    NODES,
    SERVICES,
    STRATEGIC,
    service,
)
from tests.control_plane.recording import Recorder
from tests.control_plane.service_cases import (
    changed_services,
    endpoint_slices,
    refused_services,
    service_addresses,
    service_status,
    services,
)

Case = Callable[[Recorder], None]
SERVED_SECONDS = 20.0


def writing(api: Recorder) -> None:
    """What holds for every kind, tried on ConfigMaps and Services."""
    api.call("generateName", "POST", CONFIG_MAPS, {"metadata": {"generateName": "g-", "name": "fixed"}})
    api.call("", "DELETE", f"{CONFIG_MAPS}/fixed")
    made = api.call("create", "POST", CONFIG_MAPS, {"metadata": {"name": "c"}, "data": {"a": "1"}}).body
    api.call("create again", "POST", CONFIG_MAPS, {"metadata": {"name": "c"}})
    api.call("dry run", "POST", CONFIG_MAPS, {"metadata": {"name": "dry"}}, dryRun="All")
    api.call("dry run leaves nothing", "GET", f"{CONFIG_MAPS}/dry")
    api.call("dry run of nonsense", "POST", CONFIG_MAPS, {"metadata": {"name": "dry"}}, dryRun="Some")
    api.call("no name", "POST", CONFIG_MAPS, {"metadata": {}})
    api.call("bad name", "POST", CONFIG_MAPS, {"metadata": {"name": "Not_A_Name"}})
    api.call("bad label", "POST", CONFIG_MAPS, {"metadata": {"name": "x", "labels": {"a b": "c"}}})
    api.call("wrong kind", "POST", CONFIG_MAPS, {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "x"}})
    api.call("wrong namespace", "POST", CONFIG_MAPS, {"metadata": {"name": "x", "namespace": "other"}})
    api.call("namespace that is not there", "POST", f"{NAMESPACES}/absent/configmaps", {"metadata": {"name": "x"}})
    api.call("resourceVersion in a create", "POST", CONFIG_MAPS, {"metadata": {"name": "x", "resourceVersion": "1"}})
    api.call("no JSON", "POST", CONFIG_MAPS, b"{")
    api.call("JSON, but no object", "POST", CONFIG_MAPS, [])
    api.call("unknown content type", "POST", CONFIG_MAPS, b"x", content_type="text/plain")
    unknown = {"metadata": {"name": "strict"}, "noSuchField": 1}
    api.call("unknown field, strict", "POST", CONFIG_MAPS, unknown, fieldValidation="Strict")
    unknown_spec = service("strict", noSuchField=1)
    api.call("unknown field of a Service, strict", "POST", SERVICES, unknown_spec, fieldValidation="Strict")
    for path in (f"{CONFIG_MAPS}/strict", f"{SERVICES}/strict"):
        api.call("", "DELETE", path)
    made["data"] = {"a": "2"}
    api.call("replace", "PUT", f"{CONFIG_MAPS}/c", made)
    api.call("replace, overtaken", "PUT", f"{CONFIG_MAPS}/c", made)
    made["metadata"]["resourceVersion"] = ""
    made["metadata"]["uid"] = "00000000-0000-0000-0000-000000000000"
    api.call("replace, another uid", "PUT", f"{CONFIG_MAPS}/c", made)
    api.call("merge patch", "PATCH", f"{CONFIG_MAPS}/c", {"data": {"a": None, "b": "3"}}, content_type=MERGE)
    api.call("strategic patch", "PATCH", f"{CONFIG_MAPS}/c", {"data": {"$patch": "replace", "c": "4"}},
             content_type=STRATEGIC)  # fmt: skip
    add = [{"op": "add", "path": "/data/d", "value": "5"}]
    api.call("JSON patch", "PATCH", f"{CONFIG_MAPS}/c", add, content_type=JSON_PATCH)
    test = [{"op": "test", "path": "/data/d", "value": "6"}]
    api.call("JSON patch, test fails", "PATCH", f"{CONFIG_MAPS}/c", test, content_type=JSON_PATCH)
    api.call("JSON patch of nonsense", "PATCH", f"{CONFIG_MAPS}/c", {"op": "add"}, content_type=JSON_PATCH)
    api.call("patch of nonsense", "PATCH", f"{CONFIG_MAPS}/c", [], content_type=MERGE)
    api.call("patch with no type", "PATCH", f"{CONFIG_MAPS}/c", {}, content_type="application/json")
    api.call("patch of what is not there", "PATCH", f"{CONFIG_MAPS}/absent", {}, content_type=MERGE)
    api.call("patch, overtaken", "PATCH", f"{CONFIG_MAPS}/c", {"metadata": {"resourceVersion": "1"}},
             content_type=MERGE)  # fmt: skip
    ports = {"spec": {"ports": [{"port": 80, "name": "eighty"}, {"port": 81, "name": "other"}]}}
    api.call("", "POST", SERVICES, service("merged"))
    api.call("strategic patch merges ports", "PATCH", f"{SERVICES}/merged", ports, content_type=STRATEGIC)
    gone = {"spec": {"ports": [{"$patch": "delete", "port": 80}]}}
    api.call("strategic patch removes a port", "PATCH", f"{SERVICES}/merged", gone, content_type=STRATEGIC)
    api.call("", "DELETE", f"{SERVICES}/merged")
    api.call("unchanged", "PATCH", f"{CONFIG_MAPS}/c", {"data": {"d": "5"}}, content_type=MERGE)
    unknown_directive = {"data": {"$patch": "nonsense"}}
    api.call("unknown directive", "PATCH", f"{CONFIG_MAPS}/c", unknown_directive, content_type=STRATEGIC)
    api.call("nothing at all", "POST", CONFIG_MAPS, b"null")
    api.call("field twice, strict", "POST", CONFIG_MAPS, b'{"metadata":{"name":"t","name":"t"}}',
             fieldValidation="Strict")  # fmt: skip
    api.call("", "DELETE", f"{CONFIG_MAPS}/t")
    api.call("several wrong fields", "POST", SERVICES, service("Upper", type="Nonsense", sessionAffinity="Cookie"))


def applying(api: Recorder) -> None:
    """Server-side apply."""
    path = f"{CONFIG_MAPS}/applied"
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"a": "1"}}
    api.call("without a manager", "PATCH", path, body, content_type=APPLY)
    api.call("create", "PATCH", path, body, content_type=APPLY, fieldManager="one")
    body["data"] = {"a": "2"}
    api.call("conflict", "PATCH", path, body, content_type=APPLY, fieldManager="two")
    api.call("by force", "PATCH", path, body, content_type=APPLY, fieldManager="two", force="true")
    body["data"] = {}
    api.call("removal", "PATCH", path, body, content_type=APPLY, fieldManager="two")
    api.call("", "DELETE", path)


def deleting(api: Recorder) -> None:
    def make(name: str, **metadata: Any) -> dict[str, Any]:
        made: dict[str, Any] = api.call("", "POST", CONFIG_MAPS, {"metadata": {"name": name, **metadata}}).body
        return made

    make("d")
    wrong = {"preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}}
    api.call("wrong uid", "DELETE", f"{CONFIG_MAPS}/d", wrong)
    api.call("dry run", "DELETE", f"{CONFIG_MAPS}/d", dryRun="All")
    api.call("delete", "DELETE", f"{CONFIG_MAPS}/d", {"propagationPolicy": "Background"})
    api.call("get", "GET", f"{CONFIG_MAPS}/d")
    make("f", finalizers=["example.org/wait"])
    api.call("with a finalizer", "DELETE", f"{CONFIG_MAPS}/f")
    api.call("still there", "GET", f"{CONFIG_MAPS}/f")
    none = {"metadata": {"finalizers": None}}
    api.call("finalizer removed", "PATCH", f"{CONFIG_MAPS}/f", none, content_type=MERGE)
    api.call("gone", "GET", f"{CONFIG_MAPS}/f")
    make("owned", ownerReferences=[{"apiVersion": "v1", "kind": "Pod", "name": "absent", "uid": "1"}])
    api.call("owner reference kept", "GET", f"{CONFIG_MAPS}/owned")
    for name in ("m-1", "m-2"):
        make(name, labels={"set": "m"})
    api.call("collection", "DELETE", CONFIG_MAPS, labelSelector="set=m")
    api.call("collection is gone", "GET", CONFIG_MAPS, labelSelector="set=m")
    api.call("protected namespace", "DELETE", f"{NAMESPACES}/kube-system")
    api.call("", "POST", NAMESPACES, {"metadata": {"name": "going"}})
    api.call("namespace", "DELETE", f"{NAMESPACES}/going")
    api.call("another kind of options", "DELETE", CONFIG_MAPS, {"kind": "Nonsense"})


def reading(api: Recorder) -> None:
    for name, color in (("r-1", "red"), ("r-2", "blue"), ("r-3", "red")):
        api.call("", "POST", CONFIG_MAPS, {"metadata": {"name": name, "labels": {"color": color, "set": "r"}}})
    api.call("list", "GET", CONFIG_MAPS, labelSelector="set=r")
    for selector in (
        "color=red,set=r",
        "color in (blue,green)",
        "color!=red,set=r",
        "!color,set",
        "color notin (red),set",
        "color==",
        "=",
        "color in",
    ):
        api.call(f"labels {selector}", "GET", CONFIG_MAPS, labelSelector=selector)
    for selector in ("metadata.name=r-1", "metadata.name!=r-1,metadata.namespace=default", "data.a=1", "x"):
        api.call(f"fields {selector}", "GET", CONFIG_MAPS, fieldSelector=selector, labelSelector="set=r")
    first = api.call("first page", "GET", CONFIG_MAPS, labelSelector="set=r", limit="2").body
    api.note("first page goes on", bool(first["metadata"].get("continue")))
    token = first["metadata"].get("continue", "")
    api.call("second page", "GET", CONFIG_MAPS, labelSelector="set=r", limit="2", continue_=token)
    api.call("page of nonsense", "GET", CONFIG_MAPS, limit="2", continue_="nonsense")
    api.call("", "POST", SERVICES, service("headless", clusterIP="None"))
    api.call("", "POST", SERVICES, service("headed"))
    answer = api.call("", "GET", SERVICES, fieldSelector="spec.clusterIP!=None")
    api.note("fields of a Service", [one["metadata"]["name"] for one in answer["items"]])
    for name in ("headless", "headed"):
        api.call("", "DELETE", f"{SERVICES}/{name}")
    api.call("fields of a Service, type", "GET", SERVICES, fieldSelector="spec.type=LoadBalancer")
    api.call("version too high", "GET", CONFIG_MAPS, resourceVersion="999999999", resourceVersionMatch="Exact")
    api.call("version of nonsense", "GET", CONFIG_MAPS, resourceVersion="nonsense")
    api.call("match without version", "GET", CONFIG_MAPS, resourceVersionMatch="Exact")
    api.call("not there", "GET", f"{CONFIG_MAPS}/absent")
    api.call("no such resource", "GET", "/api/v1/namespaces/default/nonsense")
    api.call("no such group", "GET", "/apis/nonsense.example.org/v1/things")
    api.call("no such path", "GET", "/nonsense")
    api.call("not allowed", "POST", f"{CONFIG_MAPS}/r-1", {})
    api.call("wrong token", "GET", CONFIG_MAPS, headers={"Authorization": "Bearer nonsense"})
    api.call("no token", "GET", CONFIG_MAPS, headers={"Authorization": ""})
    table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    api.call("", "POST", SERVICES, service("shown"))
    answer = api.call("", "GET", f"{SERVICES}/shown", headers={"Accept": table})
    api.note(
        "table", {"kind": answer["kind"], "columns": [c["name"] for c in answer.body.get("columnDefinitions", ())]}
    )
    api.call("", "DELETE", f"{SERVICES}/shown")


def watching(api: Recorder) -> None:
    version = api.call("", "GET", CONFIG_MAPS)["metadata"]["resourceVersion"]
    api.call("", "POST", CONFIG_MAPS, {"metadata": {"name": "w", "labels": {"in": "yes"}}})
    api.call("", "PATCH", f"{CONFIG_MAPS}/w", {"metadata": {"labels": {"in": "no"}}}, content_type=MERGE)
    api.call("", "DELETE", f"{CONFIG_MAPS}/w")
    api.watch("from a version", CONFIG_MAPS, 3, resourceVersion=version)
    api.watch("leaving a selector", CONFIG_MAPS, 2, resourceVersion=version, labelSelector="in=yes")
    first = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    api.watch("watch list", CONFIG_MAPS, 4, labelSelector="set=r", **first)
    api.watch("watch list without a match", CONFIG_MAPS, 1, sendInitialEvents="true")
    api.watch("from a version of nonsense", CONFIG_MAPS, 1, resourceVersion="nonsense")
    api.watch("from a version not reached", CONFIG_MAPS, 1, resourceVersion="999999999", timeoutSeconds="1")


def nodes(api: Recorder) -> None:
    api.call("create", "POST", NODES, {"metadata": {"name": "n"}, "spec": {"podCIDR": "10.9.0.0/24"},
             "status": {"addresses": [{"type": "InternalIP", "address": "172.18.9.9"}]}})  # fmt: skip
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    api.call("status", "PATCH", f"{NODES}/n/status", ready, content_type=STRATEGIC)
    api.call("pod CIDR changed", "PATCH", f"{NODES}/n", {"spec": {"podCIDR": "10.8.0.0/24"}}, content_type=MERGE)
    api.call("label", "PATCH", f"{NODES}/n", {"metadata": {"labels": {"zone": "a"}}}, content_type=MERGE)
    api.call("delete", "DELETE", f"{NODES}/n")


def other_kinds(api: Recorder) -> None:
    api.call("namespace", "POST", NAMESPACES, {"metadata": {"name": "made"}})
    names = [one["metadata"]["name"] for one in api.call("", "GET", SERVICES)["items"]]
    api.note("services of a new cluster", names)
    api.call("namespace default", "GET", f"{NAMESPACES}/default")
    api.call("service CIDR", "GET", "/apis/networking.k8s.io/v1/servicecidrs/kubernetes")
    api.call("pod without containers", "POST", "/api/v1/namespaces/made/pods", {"metadata": {"name": "none"}})
    untimely = {"metadata": {"name": "u"}, "spec": {"renewTime": "tomorrow"}}
    api.call("time of nonsense", "POST", "/apis/coordination.k8s.io/v1/namespaces/default/leases", untimely)
    api.call("logs of a pod", "GET", "/api/v1/namespaces/made/pods/absent/log")
    api.call(
        "eviction of a pod", "POST", "/api/v1/namespaces/made/pods/absent/eviction", {"metadata": {"name": "absent"}}
    )
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    answer = api.call("", "POST", "/api/v1/namespaces/made/pods", pod)
    api.note("pod", {"status": answer.status, "phase": answer["status"].get("phase")})
    status = {"status": {"phase": "Running", "podIPs": [{"ip": "10.244.0.3"}]}}
    answer = api.call("", "PATCH", "/api/v1/namespaces/made/pods/p/status", status, content_type=MERGE)
    api.note("pod status", {"status": answer.status, "podIP": answer["status"].get("podIP")})
    event = {"metadata": {"name": "e"}, "eventTime": "2026-01-01T00:00:00.000000Z", "action": "a", "reason": "r",
             "type": "Normal", "reportingController": "example.org/x", "reportingInstance": "i",
             "regarding": {"kind": "Node", "name": "n"}}  # fmt: skip
    answer = api.call("", "POST", "/apis/events.k8s.io/v1/namespaces/default/events", event)
    api.note("event", {"status": answer.status})
    lease = {"metadata": {"name": "l"}, "spec": {"holderIdentity": "me", "leaseDurationSeconds": 9}}
    api.call("lease", "POST", "/apis/coordination.k8s.io/v1/namespaces/default/leases", lease)


def custom_resources(api: Recorder) -> None:
    names = {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema, "subresources": {"status": {}}}
    definition = {
        "metadata": {"name": "things.example.org"},
        "spec": {"group": "example.org", "scope": "Namespaced", "names": names, "versions": [version]},
    }
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    answer = api.call("", "POST", definitions, definition)
    api.note("definition", {"status": answer.status})
    things = "/apis/example.org/v1/namespaces/default/things"
    thing = {"apiVersion": "example.org/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": {"a": 1}}
    end = time.monotonic() + SERVED_SECONDS
    while True:  # a real server serves it once its own watch has seen the definition
        answer = api.call("", "POST", things, {**thing, "status": {"b": 2}})
        if answer.status == 201 or time.monotonic() > end:
            break
    api.note("object", answer.body)
    api.call("status", "PATCH", f"{things}/t/status", {"status": {"b": 3}}, content_type=MERGE)
    api.call("strategic patch", "PATCH", f"{things}/t", {"spec": {"a": 2}}, content_type=STRATEGIC)
    api.call("list", "GET", things)
    api.call("without a definition", "GET", "/apis/example.net/v1/namespaces/default/others")
    other = {"apiVersion": "example.net/v1", "kind": "Other", "metadata": {"name": "o"}}
    api.call("created without a definition", "POST", "/apis/example.net/v1/namespaces/default/others", other)


def describing(api: Recorder) -> None:
    """Discovery, health and OpenAPI; only what clients rely on is compared."""
    for path in ("/healthz", "/livez", "/readyz"):
        api.call(path, "GET", path)
    answer = api.call("", "GET", "/version")
    api.note("/version", {name: bool(answer.body.get(name)) for name in ("major", "minor", "gitVersion", "platform")})
    core = api.call("", "GET", "/api/v1").body["resources"]
    slices = api.call("", "GET", "/apis/discovery.k8s.io/v1").body["resources"]
    for wanted, listed in (("services", core), ("nodes", core), ("namespaces", core), ("endpointslices", slices)):
        for resource in listed:
            if resource["name"] == wanted:
                shown = {name: value for name, value in resource.items() if name != "storageVersionHash"}
                api.note(f"resource {wanted}", {**shown, "verbs": " ".join(sorted(shown["verbs"]))})
    answer = api.call("", "GET", "/openapi/v3")
    paths = json.loads(answer.body) if isinstance(answer.body, str) else answer.body  # a real server calls it text
    api.note("OpenAPI v3 of v1", "api/v1" in paths["paths"])


CASES: tuple[Case, ...] = (
    services,
    refused_services,
    changed_services,
    service_addresses,
    service_status,
    endpoint_slices,
    writing,
    applying,
    deleting,
    reading,
    watching,
    nodes,
    other_kinds,
    custom_resources,
    describing,
)
