# SPDX-License-Identifier: Apache-2.0
"""The reference datapath as a judge: what it would do with a flow in a cluster, without a cluster.

The same object code that runs on nodes is given the flow's first packet (BPF_PROG_TEST_RUN), with the cluster's state
in its maps. It looks at no route and no socket on the way to its decision, so it is the same in any namespace.
"""

from collections.abc import Iterable, Sequence
from typing import Self, overload

from dataplane_ref.controller.codec import Codec
from dataplane_ref.loader import BpfObject
from dataplane_ref.oracle.answer import Answer, Entry, Question
from dataplane_ref.oracle.packets import first_packet
from dataplane_ref.oracle.state import StateLike, Tables
from dataplane_ref.oracle.view import View

# Any port that a client might have.
SOURCE_PORT = 40000


class Oracle:
    """Answers for one state at a time. Nodes are loaded when they are first asked about, in some 0.15 s each."""

    def __init__(self, object_: BpfObject) -> None:
        self._object = object_
        self._codec = Codec(object_)
        flags = object_.enums["device_flag"]
        # How a packet comes in: from a pod by an interface that leads to pods, from elsewhere by the uplink.
        self._devices: dict[Entry, int] = {"pod": flags["TOWARDS_PODS"], "outside": flags["UPLINK"], "process": 0}
        self._views: dict[str, tuple[View, Tables]] = {}
        self._state: StateLike | None = None
        self._shown: dict[str, StateLike] = {}

    @classmethod
    def load(cls) -> Self:
        """Raises LoadError, one sentence, where BPF cannot be loaded, or not this."""
        oracle = cls(BpfObject.open())
        # That it loads is seen at once.
        oracle._views[""] = oracle._new_view("")
        return oracle

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is left in the kernel."""
        for view, _ in self._views.values():
            view.close()
        self._views.clear()

    def state(self, state: StateLike) -> None:
        """From now on answer for this state. Maps follow when a node is asked about, and only where they differ."""
        self._state = state

    def ask(self, question: Question) -> Answer:
        """What becomes of a flow, at the node where it starts or arrives, and if that lets it pass, at its end."""
        entry, node, owner = question.entry, question.node, self._owner(question.destination)
        if node is None:
            node = owner
        if node is None:
            return Answer("passed")
        packet = first_packet(question.source, question.destination, SOURCE_PORT, question.port, question.protocol)
        answer = self._view(node).decide(packet, entry, self._devices[entry])
        if answer.outcome == "passed" and owner is not None and owner != node and not self._owns(node, question):
            return self._view(owner).decide(packet, "outside", self._devices["outside"])
        return answer

    def ask_many(self, node: str, packets: Iterable[bytes], entry: Entry = "outside") -> "Verdicts":
        """What a node does with each of many packets (from the Ethernet header on) that come in there."""
        view = self._view(node)
        places, decisions = view.decide_many(packets, entry, self._devices[entry])
        return Verdicts(view, places, decisions)

    def _view(self, node: str) -> View:
        """A node with the state in its maps. Raises LookupError for a node that it has not, LoadError."""
        if self._state is None:
            raise LookupError("the oracle was told of no state")
        if node not in self._views:
            # The one that was loaded to see whether that works is nobody's yet.
            spare = self._views.pop("", None)
            self._views[node] = self._named(spare[0], node) if spare else self._new_view(node)
        view, tables = self._views[node]
        if self._shown.get(node) is not self._state:
            tables.show(self._state)
            view.changed()
            self._shown[node] = self._state
        return view

    def _new_view(self, node: str) -> tuple[View, Tables]:
        return self._named(View(node, self._object, self._codec), node)

    def _named(self, view: View, node: str) -> tuple[View, Tables]:
        view.node = node
        return view, Tables(node, view.loaded.maps, self._codec)

    def _owner(self, address: str) -> str | None:
        if self._state is None:
            return None
        return next((one.name for one in self._state.nodes if address in one.addresses), None)

    def _owns(self, node: str, question: Question) -> bool:
        """Whether a node may have an address that others have too."""
        assert self._state is not None
        return any(one.name == node and question.destination in one.addresses for one in self._state.nodes)


class Verdicts(Sequence[Answer | None]):
    """Many answers, each decoded when it is looked at; None where a packet called for no decision.

    Who may answer is read from the maps: look before the oracle is told of another state.
    """

    def __init__(self, view: View, places: Sequence[int], decisions: bytes) -> None:
        self._view = view
        self._places = places
        self._decisions = decisions

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Answer | None: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Answer | None]: ...
    def __getitem__(self, index: int | slice) -> Answer | Sequence[Answer | None] | None:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = self._places[index]
        if place < 0:
            return None
        return self._view.answer([self._view.decision(self._decisions, place)])
