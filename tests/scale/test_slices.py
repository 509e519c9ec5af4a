# SPDX-License-Identifier: Apache-2.0
"""A slice is written whole and is no larger than a hundred endpoints; what came too late is told as that."""

import json

from plugins.scale.slices import A_SLICE, Replacement, keep, slice_body, slice_name
from tests.scale.fake_bench import fake_bench


def test_a_slice_has_a_name_of_its_own_and_its_endpoints() -> None:
    bench, _ = fake_bench()
    addresses = [f"10.128.1.{number}" for number in range(A_SLICE)]
    body = json.loads(slice_body(bench, 7, 3, addresses))
    assert body["metadata"]["name"] == slice_name(7, 3) == "s-7-3"
    assert body["metadata"]["labels"]["kubernetes.io/service-name"] == "s-7"
    assert [one["addresses"] for one in body["endpoints"]] == [[address] for address in addresses]


def test_slices_stand_by_their_services_endpoints() -> None:
    bench, kept = fake_bench(services=1)
    keep(bench, 10_000, [Replacement(6_000, 0.5, 0.4, 0.1, 0.01), Replacement(6_000, 0.6, 0.3, 0.2, 0.02)])
    assert {cell.endpoints for cell in kept} == {10_000}
    told = {cell.series: cell.values for cell in kept}
    assert told == {
        "bytes written": (6_000, 6_000),
        "CPU of the proxy": (0.1, 0.2),
        "first new endpoint": (0.5, 0.6),
        "last old endpoint": (0.4, 0.3),
    }
    assert kept[2].note == "a connection to one of the 100 is expected each 20.0 ms"


def test_what_was_never_in_force_is_no_number() -> None:
    bench, kept = fake_bench(services=1)
    keep(bench, 1_000, [Replacement(6_000, None, 0.4, 0.1, 0.01), Replacement(6_000, 0.6, 0.3, 0.2, 0.02)])
    late = kept[2]
    assert (late.outcome, late.values, late.censored) == ("unfit", (), 1)
    assert late.reason == "1 of 2 replacements were not in force after 120 s"
    assert kept[3].is_measured
