# SPDX-License-Identifier: Apache-2.0
"""The fields of built-in kinds: as the API has them, and what becomes of others."""

from typing import Any

import pytest

from clusters.apiserver import fields, shapes
from clusters.apiserver.decoding import WriteOptions
from clusters.apiserver.kinds import builtin_resources
from clusters.apiserver.status import ApiError
from tests.apiserver.conftest import Cluster
from tests.apiserver.fields import generate

STRICT = WriteOptions(strict=True)


def test_the_data_is_what_the_models_say() -> None:
    assert fields.DATA.read_bytes() == generate(), "run python -m tests.apiserver.fields"


def test_every_built_in_kind_has_its_fields() -> None:
    for resource in builtin_resources():
        shape = fields.shape_of(resource.key)
        assert {"apiVersion", "kind", "metadata"} <= shape.keys()
    assert fields.shape_of(("example.org", "v1", "things")) is None


def test_hand_written_shapes_name_no_field_that_is_not_there() -> None:
    """They say more of a field than the models do (that it is text or a number), and of fewer fields."""
    for key, written in (
        (("", "v1", "services"), shapes.SERVICE),
        (("", "v1", "nodes"), shapes.NODE),
        (("", "v1", "configmaps"), shapes.CONFIG_MAP),
        (("", "v1", "endpoints"), shapes.ENDPOINTS),
        (("discovery.k8s.io", "v1", "endpointslices"), shapes.ENDPOINT_SLICE),
        (("networking.k8s.io", "v1", "servicecidrs"), shapes.SERVICE_CIDR),
        (("apiextensions.k8s.io", "v1", "customresourcedefinitions"), shapes.CUSTOM_RESOURCE_DEFINITION),
    ):
        assert list(strangers(written, fields.shape_of(key), "")) == []


def strangers(written: Any, known: Any, path: str) -> list[str]:
    """Paths in `written` that `known` has not."""
    if isinstance(written, list) and isinstance(known, list):
        return strangers(written[0], known[0], f"{path}[]")
    if not isinstance(written, dict) or not isinstance(known, dict):
        return [] if known is None or isinstance(known, type(written)) else [path]
    found: list[str] = []
    for name, inner in written.items():
        found += strangers(inner, known[name], f"{path}.{name}") if name in known else [f"{path}.{name}"]
    return found


@pytest.mark.parametrize(
    ("plural", "obj", "path"),
    [
        ("pods", {"spec": {"containers": [{"name": "c", "imago": "i"}]}}, "spec.containers[0].imago"),
        ("secrets", {"dato": {}}, "dato"),
        ("configmaps", {"metadata": {"name": "a", "label": {}}}, "metadata.label"),
        ("services", {"spec": {"ports": [{"prot": 1}]}}, "spec.ports[0].prot"),
        ("endpointslices", {"endpoints": [{"addresses": ["10.0.0.1"], "condition": {}}]}, "endpoints[0].condition"),
    ],
)
def test_unknown_fields_are_named_by_their_path(
    cluster: Cluster, plural: str, obj: dict[str, Any], path: str
) -> None:
    with pytest.raises(ApiError) as error:
        cluster.create(plural, {"metadata": {"name": "a"}, **obj}, options=STRICT)
    assert (error.value.code, f'unknown field "{path}"' in error.value.message) == (400, True)


def test_maps_and_free_fields_have_no_unknown_ones(cluster: Cluster) -> None:
    pod = {
        "metadata": {"name": "a", "annotations": {"any": "thing"}},
        "spec": {"nodeSelector": {"any": "thing"}, "containers": [{"resources": {"limits": {"cpu": 1}}}]},
    }
    assert cluster.create("pods", pod, options=STRICT)["spec"] == pod["spec"]


@pytest.mark.parametrize("spec", [[], "text", {"containers": {}}, {"containers": [3]}, {"nodeSelector": []}], ids=str)
def test_something_else_where_an_object_belongs(cluster: Cluster, spec: Any) -> None:
    with pytest.raises(ApiError) as error:
        cluster.create("pods", {"metadata": {"name": "a"}, "spec": spec})
    assert (error.value.code, "the object cannot be decoded: spec" in error.value.message) == (400, True)
