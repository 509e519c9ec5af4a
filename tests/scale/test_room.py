# SPDX-License-Identifier: Apache-2.0
"""The reference's maps have room for what `--services` asks for."""

from types import SimpleNamespace
from typing import Any

import pytest

from clusters.proxies import reference
from clusters.proxies.base import Place
from clusters.proxies.reference import Reference
from dataplane_ref.controller.__main__ import parser, sizes_from

PLACE = Place("node-a", "172.18.0.10", "fd00::10", ("10.244.0.0/24",))


def sizes(services: int, endpoints: int) -> dict[str, int]:
    host: Any = SimpleNamespace(
        cluster_cidrs=("10.244.0.0/16",), kubeconfig=lambda _: "", write_file=lambda _, name, __: f"/run/{name}"
    )
    command = Reference(host, version="0", services=services, endpoints=endpoints).argv(PLACE)
    return sizes_from(parser().parse_args(command[command.index("dataplane_ref.controller") + 1 :]))


def test_as_many_as_are_announced_fit() -> None:
    given = sizes(100_000, 200_000)
    assert given["cursors"] > 100_000
    assert given["addresses"] > 100_000
    assert given["endpoints"] > 200_000


@pytest.mark.parametrize("services", [0, 10_000])
def test_few_change_nothing(services: int) -> None:
    options = parser()
    assert sizes(services, 2 * services)["cursors"] == options.get_default("max_services") == reference.SERVICES
    assert sizes(services, 2 * services)["endpoints"] == options.get_default("max_endpoints") == reference.ENDPOINTS
