# SPDX-License-Identifier: Apache-2.0
"""Arranging in batches: requirements declare their objects, and many share one settle.

When a test needs its arrangement, those of the tests after it are made with it, as many as scheduling.py puts into
one batch, and the batch before it is deleted under the same settle.

What a steady-state requirement arranges is for every test that asks for it. What a transition arranges is for one
test alone, which owns it from then on. It is deleted when the next test settles: until then nothing goes on in the
dataplane, and that one looks at its own first state in peace.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from clusters.errors import PlumblineError
from clusters.proxies.configuration import ProxyConfiguration
from plugins.requirements import requirement_of
from plugins.scheduling import batches
from plugins.services import Service
from plugins.settle import Settled
from plugins.world import World

NEVER_SETTLED = Settled(done=False, seconds=0.0, missing=("settling broke off",))


@dataclass(frozen=True, slots=True)
class Key:
    """What an arrangement depends on: the function, the axes it takes, and for a transition the test it is for."""

    configuration: ProxyConfiguration
    function: Callable[..., Any]
    values: tuple[Any, ...]
    test: str | None


@dataclass(slots=True)
class Arranged:
    """What an `arrange` function returned, or how it failed, and the Services it made."""

    value: Any = None
    error: BaseException | None = None
    services: list[Service] = field(default_factory=list)


@dataclass(slots=True)
class Arranger:
    """Keeps one batch of arrangements alive at a time."""

    world: World
    items: Sequence[pytest.Item]
    workers: int = 1
    _batches: Mapping[str, str] = field(default_factory=dict)
    _arranged: dict[Key, Arranged] = field(default_factory=dict)
    _settled: Settled | None = None

    def arranged(self, item: pytest.Item) -> Any:
        """The arrangement of a test, made now with its successors' if it is not there yet."""
        key = key_of(item)
        if key is None:
            return None
        if key not in self._arranged:
            self._next_batch(item)
        found = self._arranged[key]
        if key.test is not None:
            del self._arranged[key]
            self.world.adopt(found.services)
        if found.error is not None:
            raise found.error
        self.world.note(self._settled or NEVER_SETTLED, found.services)
        return found.value

    def _next_batch(self, item: pytest.Item) -> None:
        self.clear()
        if not self._batches:
            tests = [(one.nodeid, requirement_of(one)) for one in self.items]
            self._batches = batches(tests, self.workers)
        wanted = self._batches[item.nodeid]
        rest = self.items[self.items.index(item) :]
        for key in dict.fromkeys(key_of(one) for one in rest if self._batches.get(one.nodeid) == wanted):
            assert key is not None
            arranged = self._arranged[key] = Arranged()
            with self.world.scope(arranged.services):
                try:
                    arranged.value = key.function(self.world, *key.values)
                except PlumblineError:
                    raise
                except Exception as error:  # noqa: BLE001 - it belongs to this arrangement's tests, not to others'
                    arranged.error = error
        self._settled = self.world.settle()

    def clear(self) -> None:
        """Delete the batch's objects; the next settle covers the deletion."""
        self._settled = None
        for arranged in self._arranged.values():
            for service in arranged.services:
                service.delete()
        self._arranged.clear()
        self.world.delete_what_is_done_with()


def key_of(item: pytest.Item) -> Key | None:
    """What a test's arrangement depends on; None for a test without one."""
    requirement = requirement_of(item)
    if requirement is None or requirement.arrange is None:
        return None
    names = list(inspect.signature(requirement.arrange).parameters)[1:]
    params = item.callspec.params if hasattr(item, "callspec") else {}
    values = tuple(params[name] for name in names)
    return Key(requirement.configuration, requirement.arrange, values, item.nodeid if requirement.changes else None)


def is_prepared(item: pytest.Item) -> bool:
    """Whether a test's arrangement is made for it alone."""
    key = key_of(item)
    return key is not None and key.test is not None
