# SPDX-License-Identifier: Apache-2.0
"""Arranging in batches: steady-state requirements declare their objects, and many share one settle.

When a test needs its arrangement, the arrangements of the tests after it are made with it (whether or not this
xdist worker will run them all: objects are cheap, settling is not), and the batch before it is deleted under the
same settle. A batch never spans two configurations of the proxy.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from clusters.errors import PlumblineError
from clusters.proxies.configuration import ProxyConfiguration
from plugins.requirements import requirement_of
from plugins.services import Service
from plugins.settle import Settled
from plugins.world import World

# Arrangements per batch: enough that a level pays for one or two settles, few enough to stay far from the 1,000
# endpoints at which kube-proxy's iptables mode changes its ways.
BATCH = 64

NEVER_SETTLED = Settled(done=False, seconds=0.0, missing=("settling broke off",))

Key = tuple[ProxyConfiguration, Callable[..., Any], tuple[Any, ...]]


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
        if found.error is not None:
            raise found.error
        self.world.note(self._settled or NEVER_SETTLED, found.services)
        return found.value

    def _next_batch(self, item: pytest.Item) -> None:
        self.clear()
        start = self.items.index(item)
        keys = dict.fromkeys(key for one in self.items[start:] if (key := key_of(one)) is not None)
        configuration = next(iter(keys))[0]
        for key in [key for key in keys if key[0] == configuration][:BATCH]:
            _, function, values = key
            arranged = self._arranged[key] = Arranged()
            with self.world.scope(arranged.services):
                try:
                    arranged.value = function(self.world, *values)
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


def key_of(item: pytest.Item) -> Key | None:
    """What a test's arrangement depends on: the proxy's configuration, the function, and the axes it takes."""
    requirement = requirement_of(item)
    if requirement is None or requirement.arrange is None:
        return None
    names = list(inspect.signature(requirement.arrange).parameters)[1:]
    params = item.callspec.params if hasattr(item, "callspec") else {}
    return requirement.configuration, requirement.arrange, tuple(params[name] for name in names)
