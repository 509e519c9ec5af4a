# SPDX-License-Identifier: Apache-2.0
"""The selector languages: what they select, and that nonsense is refused."""

import pytest

from clusters.apiserver.selectors import field_text, parse_fields, parse_labels, parse_selectors
from clusters.apiserver.status import ApiError

LABELS = {"app": "web", "tier": "front", "example.com/weight": "7", "empty": ""}


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("", True),
        ("app=web", True),
        ("app==web", True),
        ("app=db", False),
        ("app!=db", True),
        ("app!=web", False),
        ("missing!=web", True),
        ("app in (db, web)", True),
        ("app in (db)", False),
        ("app notin (db, cache)", True),
        ("app notin (web)", False),
        ("missing notin (web)", True),
        ("app", True),
        ("missing", False),
        ("!missing", True),
        ("!app", False),
        ("empty=", True),
        ("app=", False),
        ("missing=", False),
        ("example.com/weight>6", True),
        ("example.com/weight<7", False),
        ("app>1", False),
        ("app=web,tier in (front,back),!missing", True),
        ("app=web,tier=back", False),
        ("!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name", True),
    ],
)
def test_labels(text: str, selected: bool) -> None:
    assert all(term.matches(LABELS) for term in parse_labels(text)) is selected


@pytest.mark.parametrize("text", ["=", "app=web,", "app in web", "app in (web", "a b", "!", "app=w b", "app>x", "-"])
def test_nonsense_is_a_bad_request(text: str) -> None:
    with pytest.raises(ApiError) as error:
        parse_labels(text)
    assert (error.value.code, error.value.reason) == (400, "BadRequest")


OBJECT = {
    "metadata": {"name": "a,b=c", "namespace": "default"},
    "spec": {"clusterIP": "None", "hostNetwork": True, "priority": 5, "ports": [{"port": 80}]},
}


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("spec.clusterIP!=None", False),
        ("spec.clusterIP=None", True),
        ("spec.clusterIP==None,metadata.namespace=default", True),
        ("spec.missing=", True),
        ("spec.missing!=", False),
        ("spec.missing!=x", True),
        ("spec.missing.deeper=", True),
        ("spec.hostNetwork=true", True),
        ("spec.priority=5", True),
        ("spec.ports=", True),
        (r"metadata.name=a\,b\=c", True),
    ],
)
def test_fields(text: str, selected: bool) -> None:
    assert all(term.matches(lambda path: field_text(OBJECT, path)) for term in parse_fields(text)) is selected


@pytest.mark.parametrize("text", ["metadata.name", "=x", "metadata.name=a b=c=,,"])
def test_nonsense_fields_are_a_bad_request(text: str) -> None:
    with pytest.raises(ApiError) as error:
        parse_fields(text)
    assert error.value.code == 400


def test_equal_requests_share_one_selection() -> None:
    first, second = (parse_selectors("a=b,!c", "metadata.name=x") for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)
    assert first != parse_selectors("a=b", "metadata.name=x")
