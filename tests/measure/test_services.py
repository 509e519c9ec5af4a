# SPDX-License-Identifier: Apache-2.0
"""Services by their numbers, and as the API takes them."""

import json

import pytest

from clusters.lab.topology import SERVICES4
from clusters.measure import services as named
from clusters.measure.services import MORE, MOST_SERVICES, Shape


def test_every_service_has_an_address_of_its_own() -> None:
    from ipaddress import ip_address, ip_network

    addresses = [named.cluster_ip(number) for number in range(MOST_SERVICES)]
    assert len(set(addresses)) == MOST_SERVICES
    ranges = [ip_network(SERVICES4), ip_network(MORE)]
    for number in (0, 59_999, 60_000, MOST_SERVICES - 1):
        inside = [ip_address(addresses[number]) in one for one in ranges]
        assert inside == [not named.needs_more(number + 1), named.needs_more(number + 1)]
    with pytest.raises(ValueError, match="is none of them"):
        named.cluster_ip(MOST_SERVICES)


@pytest.mark.parametrize("number", [0, 1, 9_999, 59_999, 60_000, 99_999])
def test_an_address_tells_its_service(number: int) -> None:
    assert named.number_of(named.cluster_ip(number)) == number


@pytest.mark.parametrize("ip", ["10.96.0.1", "10.96.1.1", "10.97.0.1", "10.95.255.255", "172.18.0.1"])
def test_others_have_no_number(ip: str) -> None:
    assert named.number_of(ip) is None


def test_no_two_services_share_an_endpoint_while_there_are_enough() -> None:
    shape = Shape([f"10.128.0.{number}" for number in range(6)], 2)
    chosen = [address for number in range(3) for address in shape.endpoints(number)]
    assert chosen == list(shape.addresses)
    assert shape.endpoints(3) == shape.endpoints(0)


def test_objects_are_json_of_their_kinds() -> None:
    shape = Shape(["10.128.0.1", "10.128.0.2"], 2, 9000)
    (path, service), (slice_path, one) = ((path, json.loads(body)) for path, body in shape.objects(7, 8))
    assert path.endswith("/namespaces/scale/services")
    assert service["spec"]["clusterIPs"] == [named.cluster_ip(7)]
    assert service["spec"]["ports"][0]["targetPort"] == 9000
    assert slice_path.endswith("/namespaces/scale/endpointslices")
    assert one["metadata"]["labels"]["kubernetes.io/service-name"] == service["metadata"]["name"] == "s-7"
    assert [each["addresses"] for each in one["endpoints"]] == [["10.128.0.1"], ["10.128.0.2"]]
    assert named.new_endpoints(["10.128.0.9"]) == {
        "endpoints": [{"addresses": ["10.128.0.9"], "conditions": {"ready": True}}]
    }
