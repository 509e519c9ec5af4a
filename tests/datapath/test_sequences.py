# SPDX-License-Identifier: Apache-2.0
"""API events while flows live: the model of their continuity against what the datapath does to the next packet."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest

from dataplane_ref.controller.resources import SLICES
from dataplane_ref.model import Flow
from tests.datapath.bench import Bench
from tests.datapath.compiled import Compiled
from tests.datapath.generate import Draw
from tests.datapath.network import Network
from tests.datapath.sequences import EXPECTED, PLACES, DifferenceError, Sequence, report, run
from tests.model.cluster import CLUSTER_IP, from_pod

CLIENT = from_pod("a1")


@pytest.fixture(scope="module")
def any_node(network: Network) -> Iterator[Bench]:
    assert network
    strange = Network(own=("192.0.2.1/24", "2001:db8:192::1/64"))
    with strange.entered(), Bench(sizes={"flows": 256, "affinities": 256}) as bench:
        yield bench
    strange.close()


def test_sequences_of_events(any_node: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    cases = run(any_node, 80, start=11)

    with capsys.disabled():
        print(f"\n{report(cases)}")
    assert len([case for case in EXPECTED if not cases[case]]) < 3  # too few to expect everything


class Told(Sequence):
    """A sequence whose events a test tells."""

    def all_are(self, condition: str) -> None:
        self.conditions = dict.fromkeys(PLACES, condition)
        self.said.append(f"every endpoint is {condition}")
        self._show()

    def sends(self, protocol: Any, flags: str = "S", sport: int = 40000) -> str:
        """A client's packet, judged; where it went."""
        self._sent((Flow(CLIENT, protocol, CLUSTER_IP, 80), sport), flags)
        return self.said[-1].rsplit(": ", 1)[1]

    def hears(self, protocol: Any, flags: str = "SA") -> None:
        self._answer((Flow(CLIENT, protocol, CLUSTER_IP, 80), 40000), flags)


@pytest.mark.parametrize("protocol", ["UDP", "SCTP"])
def test_datagrams_between_none_and_many_in_every_direction(any_node: Bench, protocol: str) -> None:
    told = Told(any_node, Draw(b""))

    went = [told.sends(protocol)]
    for condition in ("removed", "ready", "not ready", "draining", "removed"):
        told.all_are(condition)
        went.append(told.sends(protocol))

    assert went == ["answered", "refused", "answered", "refused", "answered", "refused"]


def test_a_connection_outlives_its_endpoint_and_its_service(any_node: Bench) -> None:
    told = Told(any_node, Draw(b""))
    told.sends("TCP")
    told.hears("TCP")
    told.all_are("removed")
    assert told.sends("TCP", "A") == "answered"
    told.exists = False
    told._show()
    assert told.sends("TCP", "A") == "answered"
    told.hears("TCP", "A")
    assert told.sends("TCP", "FA") == "answered"
    assert told.sends("TCP", "S") == "passed"


@pytest.mark.parametrize("protocol", ["UDP", "SCTP"])
def test_a_datapath_that_does_not_hear_of_a_removal_is_found_out(
    any_node: Bench, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told(any_node, Draw(b""))
    told.sends(protocol)
    tell = Compiled.tell

    def deaf(self: Compiled, resource: str, objects: Iterable[Mapping[str, Any]]) -> None:
        tell(self, resource, () if resource == SLICES else objects)

    monkeypatch.setattr(Compiled, "tell", deaf)
    told.all_are("removed")
    with pytest.raises(DifferenceError, match="no usable endpoint"):
        told.sends(protocol)


def test_a_connection_that_is_lost_is_found_out(any_node: Bench) -> None:
    told = Told(any_node, Draw(b""))
    told.sends("TCP")
    told.hears("TCP")
    told.all_are("removed")
    any_node.empty("flows")
    with pytest.raises(DifferenceError, match="which goes on"):
        told.sends("TCP", "A")
