# SPDX-License-Identifier: Apache-2.0
"""kubectl, as people use it to write: create, apply, patch, label, replace, delete, and what it says of refusals."""

from typing import Any

import pytest

from tests.apiserver.contract.conftest import Kubectl
from tests.apiserver.contract.objects import add, config_map, definition, gadget, path, service
from tests.apiserver.contract.servers import MERGE, Standing


def test_create_and_delete(server: Standing, kubectl: Kubectl) -> None:
    assert kubectl("create", "-f-", manifest=service("a")).out == "service/a created\n"
    again = kubectl.try_("create", "-f-", manifest=service("a"))
    assert again.status == 1
    assert "(AlreadyExists)" in again.err
    assert kubectl("delete", "service", "a").out.startswith('service "a" deleted')
    server.call("GET", path(kubectl.namespace, "services", "a")).must_be_refused(404, "NotFound")
    missing = kubectl.try_("delete", "service", "a")
    assert (missing.status, '(NotFound): services "a" not found' in missing.err) == (1, True)
    kubectl("delete", "service", "a", "--ignore-not-found")


def test_create_of_what_is_easily_named(server: Standing, kubectl: Kubectl) -> None:
    """kubectl writes these objects itself: secrets and namespaces as well as Services."""
    kubectl("create", "configmap", "a", "--from-literal=x=1")
    kubectl("create", "secret", "generic", "s", "--from-literal=x=1")
    kubectl("create", "service", "nodeport", "n", "--tcp=80:8080")
    kubectl("create", "namespace", f"{kubectl.namespace}-more")
    assert server.call("GET", path(kubectl.namespace, name="a"))["data"] == {"x": "1"}
    assert server.call("GET", path(kubectl.namespace, "services", "n"))["spec"]["selector"] == {"app": "n"}
    kubectl("delete", "service", "n")


@pytest.mark.parametrize("kind", ["service", "pod", "configmap"])
def test_an_unknown_field_is_a_validation_error(server: Standing, kubectl: Kubectl, kind: str) -> None:
    manifests: dict[str, dict[str, Any]] = {
        "service": service("a", noSuchField=1),
        "pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"noSuchField": 1}},
        "configmap": config_map("a") | {"noSuchField": 1},
    }
    for verb in ("create", "apply"):
        refused = kubectl.try_(verb, "-f-", manifest=manifests[kind])
        assert refused.status == 1
        assert "strict decoding error: unknown field" in refused.err
        assert "noSuchField" in refused.err
    assert server.call("GET", path(kubectl.namespace, f"{kind}s", "a")).status == 404


def test_unknown_fields_can_be_let_pass(kubectl: Kubectl) -> None:
    warned = kubectl("create", "-f-", "--validate=warn", manifest=service("a", noSuchField=1))
    assert 'Warning: unknown field "spec.noSuchField"' in warned.err
    silent = kubectl("create", "-f-", "--validate=ignore", manifest=service("b", noSuchField=1))
    assert silent.err == ""


def test_apply_creates_changes_and_leaves_alone(server: Standing, kubectl: Kubectl) -> None:
    first = service("a", ports=[{"name": "one", "port": 1}, {"name": "two", "port": 2}])
    assert kubectl("apply", "-f-", manifest=first).out == "service/a created\n"
    assert kubectl("apply", "-f-", manifest=first).out == "service/a unchanged\n"
    server.call("PATCH", path(kubectl.namespace, "services", "a"), {"metadata": {"labels": {"x": "y"}}}, MERGE)
    second = service("a", ports=[{"name": "one", "port": 1}], sessionAffinity="ClientIP")
    assert kubectl("apply", "-f-", manifest=second).out == "service/a configured\n"
    found = server.call("GET", path(kubectl.namespace, "services", "a"))
    assert [port["name"] for port in found["spec"]["ports"]] == ["one"]
    assert found["spec"]["sessionAffinity"] == "ClientIP"
    assert found.metadata["labels"] == {"x": "y"}


def test_apply_on_the_server_and_its_conflict(server: Standing, kubectl: Kubectl) -> None:
    apply = ("apply", "--server-side", "-f-")
    assert kubectl(*apply, manifest=config_map("a", {"x": "1"})).out == "configmap/a serverside-applied\n"
    refused = kubectl.try_(*apply, "--field-manager=other", manifest=config_map("a", {"x": "2"}))
    assert refused.status == 1
    assert 'Apply failed with 1 conflict: conflict with "kubectl": .data.x' in refused.err
    kubectl(*apply, "--field-manager=other", "--force-conflicts", manifest=config_map("a", {"x": "2"}))
    assert server.call("GET", path(kubectl.namespace, name="a"))["data"] == {"x": "2"}


def test_apply_moves_from_the_client_to_the_server(kubectl: Kubectl) -> None:
    kubectl("apply", "-f-", manifest=config_map("a", {"x": "1"}))
    kubectl("apply", "--server-side", "-f-", manifest=config_map("a", {"x": "1"}))


def test_diff(kubectl: Kubectl) -> None:
    kubectl("apply", "-f-", manifest=config_map("a", {"x": "1"}))
    same = kubectl.try_("diff", "-f-", manifest=config_map("a", {"x": "1"}))
    assert (same.status, same.out) == (0, "")
    for flags in ((), ("--server-side",)):
        differs = kubectl.try_("diff", *flags, "-f-", manifest=config_map("a", {"z": "2"}))
        assert differs.status == 1, differs.err
        assert '\n+  z: "2"' in differs.out


def test_dry_runs(server: Standing, kubectl: Kubectl) -> None:
    told = kubectl("create", "--dry-run=server", "-f-", "-ojson", manifest=service("a")).json()
    assert told["spec"]["clusterIP"]
    assert kubectl("apply", "--dry-run=server", "-f-", manifest=service("a")).out.endswith("(server dry run)\n")
    assert server.call("GET", path(kubectl.namespace, "services", "a")).status == 404


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        ("strategic", '{"spec":{"ports":[{"port":80,"name":"web"}]}}'),
        ("merge", '{"spec":{"ports":[{"port":80,"name":"web"}]}}'),
        ("json", '[{"op":"add","path":"/spec/ports/0/name","value":"web"}]'),
    ],
)
def test_patch(server: Standing, kubectl: Kubectl, kind: str, patch: str) -> None:
    add(server, path(kubectl.namespace, "services"), service("a"))
    done = kubectl("patch", "service", "a", f"--type={kind}", f"--patch={patch}")
    assert done.out == "service/a patched\n"
    assert server.call("GET", path(kubectl.namespace, "services", "a"))["spec"]["ports"][0]["name"] == "web"
    assert kubectl("patch", "service", "a", f"--type={kind}", f"--patch={patch}").out.startswith("service/a patched")


def test_patch_of_a_status(server: Standing, kubectl: Kubectl) -> None:
    add(server, path(kubectl.namespace, "services"), service("a", type="LoadBalancer"))
    patch = '{"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.1"}]}}}'
    kubectl("patch", "service", "a", "--subresource=status", "--type=merge", f"--patch={patch}")
    found = server.call("GET", path(kubectl.namespace, "services", "a"))
    assert found["status"]["loadBalancer"]["ingress"][0]["ip"] == "192.0.2.1"


def test_replace(server: Standing, kubectl: Kubectl) -> None:
    (made,) = add(server, path(kubectl.namespace), config_map("a", {"x": "1"}))
    changed = made.body | {"data": {"x": "2"}}
    assert kubectl("replace", "-f-", manifest=changed).out == "configmap/a replaced\n"
    overtaken = kubectl.try_("replace", "-f-", manifest=changed)
    assert overtaken.status == 1
    assert "the object has been modified" in overtaken.err
    kubectl("replace", "--force", "-f-", manifest=config_map("a", {"x": "3"}))
    found = server.call("GET", path(kubectl.namespace, name="a"))
    assert (found["data"], found.metadata["uid"] != made.metadata["uid"]) == ({"x": "3"}, True)


def test_label_and_annotate(server: Standing, kubectl: Kubectl) -> None:
    add(server, path(kubectl.namespace), config_map("a", labels={"old": "1"}))
    kubectl("label", "configmap", "a", "new=2", "old-")
    kubectl("annotate", "configmap", "a", "note=some words")
    found = server.call("GET", path(kubectl.namespace, name="a"))
    assert (found.metadata["labels"], found.metadata["annotations"]) == ({"new": "2"}, {"note": "some words"})
    kept = kubectl.try_("label", "configmap", "a", "new=3")
    assert (kept.status, "--overwrite is false" in kept.err) == (1, True)
    refused = kubectl.try_("label", "configmap", "a", "new=not a value", "--overwrite")
    assert refused.status == 1


def test_delete_waits_for_finalizers(server: Standing, kubectl: Kubectl) -> None:
    add(server, path(kubectl.namespace), config_map("a", finalizers=["example.org/wait"]))
    where = path(kubectl.namespace, name="a")
    since = server.call("GET", where).metadata["resourceVersion"]
    with server.watch(path(kubectl.namespace), resourceVersion=since) as watch:
        with kubectl.start("delete", "configmap", "a", "--wait") as process:
            assert watch.take(1) == [("MODIFIED", "a")]
            assert process.poll() is None
            server.call("PATCH", where, {"metadata": {"finalizers": None}}, MERGE).must_be(200)
            out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
    assert out.startswith('configmap "a" deleted')


def test_delete_by_selector_and_all(server: Standing, kubectl: Kubectl) -> None:
    add(server, path(kubectl.namespace), config_map("a", labels={"x": "1"}), config_map("b"), config_map("c"))
    kubectl("delete", "configmap", "--selector=x=1")
    assert server.call("GET", path(kubectl.namespace)).names == ["b", "c"]
    kubectl("delete", "configmap", "--all", "--wait=false")
    assert server.call("GET", path(kubectl.namespace)).names == []


def test_wait(server: Standing, kubectl: Kubectl) -> None:
    add(server, path(kubectl.namespace), config_map("a", {"x": "1"}))
    kubectl("wait", "configmap/a", "--for=jsonpath={.data.x}=1", "--timeout=20s")
    with kubectl.start("wait", "configmap/a", "--for=delete", "--timeout=20s") as process:
        server.call("DELETE", path(kubectl.namespace, name="a")).must_be(200)
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_custom_resources(kubectl: Kubectl) -> None:
    group = f"{kubectl.namespace}.example.org"
    kubectl("create", "-f-", manifest=definition(group))
    kubectl("wait", f"crd/gadgets.{group}", "--for=condition=Established", "--timeout=20s")
    kubectl("apply", "-f-", manifest=gadget(group, "a", spec={"size": 1}))
    assert kubectl("apply", "-f-", manifest=gadget(group, "a", spec={"size": 2})).out.endswith("configured\n")
    assert kubectl("get", f"gadgets.{group}", "a", "-ojsonpath={.spec.size}").out == "2"
    assert kubectl("get", f"gadgets.{group}").out.split()[:3] == ["NAME", "AGE", "a"]
    kubectl("delete", f"gadgets.{group}", "--all")
    kubectl("delete", "crd", f"gadgets.{group}")
    assert "could not find the requested resource" in kubectl.try_("get", "--raw", f"/apis/{group}/v1").err
