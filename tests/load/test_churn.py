# SPDX-License-Identifier: Apache-2.0
"""Other Services: as many a second as was asked for, each for a second, and none afterwards."""

import time
from dataclasses import dataclass, field
from typing import Any, cast

from clusters.api import Backend, Vantage
from clusters.measure.api import Api
from plugins.load.churn import Churn
from plugins.load.traffic import Traffic

PLACE = Vantage("pod", "pod", "node-a", {"IPv4": "10.244.0.9"}, "/run/netns/pod")
POD = Backend("pod", "node-a", PLACE.addresses, (8080,), PLACE)


@dataclass
class Written:
    """An API server that takes everything, and some time for it."""

    seconds: float = 0.0
    requests: list[tuple[str, str]] = field(default_factory=list)

    def request(self, method: str, path: str, _: bytes = b"") -> bytes:
        return f"{method} {path}".encode()

    def write_all(self, requests: Any) -> None:
        time.sleep(self.seconds)
        for one in requests:
            method, _, path = one.decode().partition(" ")
            self.requests.append((method, path))

    def count(self, method: str, plural: str) -> int:
        return sum(one == method and f"/{plural}" in path for one, path in self.requests)


@dataclass
class Seconds:
    """Traffic that goes on for so long."""

    end: float

    @property
    def left(self) -> float:
        return self.end - time.monotonic()

    def go_on(self, seconds: float) -> None:
        time.sleep(max(min(seconds, self.left), 0.0))


def churned(api: Written, seconds: float, per_second: int) -> Churn:
    made = Churn(cast(Api, api), POD, per_second)
    made.go_on(cast(Traffic, Seconds(time.monotonic() + seconds)))
    return made


def test_so_many_come_and_go_in_a_second() -> None:
    api = Written()
    made = churned(api, 1.3, 100)
    assert 100 <= made.added <= 150
    assert 0 < made.removed < made.added
    made.end()
    assert made.removed == made.added
    for plural in ("services", "endpointslices"):
        assert api.count("POST", plural) == api.count("DELETE", plural) == made.added


def test_a_slow_api_server_is_caught_up_with() -> None:
    """Two writes a round, each slower than a round: what is due is written all the same."""
    made = churned(Written(seconds=0.12), 1.2, 100)
    assert made.rate > 60
