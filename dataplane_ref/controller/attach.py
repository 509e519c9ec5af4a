# SPDX-License-Identifier: Apache-2.0
"""Programs on interfaces, following what interfaces there are."""

from collections.abc import Callable, Mapping
from pathlib import Path

from dataplane_ref.controller.devices import Hook
from dataplane_ref.controller.netlink import Interfaces
from dataplane_ref.loader import Link, LoadError, Program

PROGRAMS: Mapping[Hook, str] = {"ingress": "plumbline_ingress", "egress": "plumbline_egress", "xdp": "plumbline_xdp"}


class Attachments:
    """The links of this process. `xdp`: auto, native, generic or off; auto goes without where a driver has none."""

    def __init__(
        self, programs: Mapping[str, Program], xdp: str, pins: Path | None, say: Callable[[str], None]
    ) -> None:
        self._programs, self._xdp, self._pins, self._say = programs, xdp, pins, say
        self._links: dict[tuple[int, Hook], Link] = {}
        self._names: dict[int, str] = {}
        self._refused: set[tuple[int, Hook]] = set()

    def follow(self, wanted: set[tuple[int, Hook]], seen: Interfaces) -> None:
        """Attach where something is missing, and let go where an interface has gone or needs a program no more."""
        # An index can be used anew, and then the old link is attached to nothing.
        names = {index: link.name for index, link in seen.links.items()}
        for place in list(self._links):
            if place not in wanted or self._names.get(place[0]) != names.get(place[0]):
                self._links.pop(place).detach()
        self._refused &= wanted
        self._names = names
        for index, hook in sorted(wanted - self._links.keys() - self._refused):
            try:
                self._links[index, hook] = self._attach(index, hook)
            except LoadError as error:
                self._refused.add((index, hook))
                if hook != "xdp" or self._xdp != "auto":
                    self._say(f"interface {names[index]} goes without the datapath at {hook}: {error}")

    def sweep(self) -> None:
        """Remove pinned links of interfaces that went while nobody watched."""
        if self._pins is None:
            return
        ours = {f"link-{index}-{hook}" for index, hook in self._links}
        for path in self._pins.glob("link-*"):
            if path.name not in ours:
                path.unlink(missing_ok=True)

    def count(self) -> int:
        """How many links there are."""
        return len(self._links)

    def close(self) -> None:
        """Let go of all: pinned links stay, others are detached."""
        for link in self._links.values():
            link.close()
        self._links.clear()

    def _attach(self, index: int, hook: Hook) -> Link:
        program = self._programs[PROGRAMS[hook]]
        if hook == "xdp":
            return program.attach_xdp(index, "generic" if self._xdp == "generic" else "native")
        return program.attach_tc(index, hook)
