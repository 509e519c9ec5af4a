# SPDX-License-Identifier: Apache-2.0
"""What these tests judge by can fail: answers that are not as they must be."""

from collections.abc import Mapping
from http.client import HTTPMessage
from typing import Any

import pytest

from tests.apiserver.contract.servers import Answer

REFUSAL: Mapping[str, Any] = {
    "kind": "Status",
    "apiVersion": "v1",
    "status": "Failure",
    "reason": "NotFound",
    "message": "it is not there",
    "code": 404,
}


def answer(status: int, body: Any) -> Answer:
    return Answer(status, body, HTTPMessage())


def test_a_refusal_as_it_must_be() -> None:
    answer(404, dict(REFUSAL)).must_be_refused(404, "NotFound")


@pytest.mark.parametrize(
    ("status", "change"),
    [
        (200, {}),
        (404, {"kind": "Service"}),
        (404, {"apiVersion": "v2"}),
        (404, {"status": "Success"}),
        (404, {"reason": "Gone"}),
        (404, {"code": 410}),
        (404, {"message": ""}),
    ],
    ids=str,
)
def test_refusals_as_they_must_not_be(status: int, change: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        answer(status, {**REFUSAL, **change}).must_be_refused(404, "NotFound")


def test_a_status_that_must_be_another() -> None:
    with pytest.raises(AssertionError, match="500, but should be 200: trouble"):
        answer(500, "trouble").must_be(200)
