# SPDX-License-Identifier: Apache-2.0
"""From a write to the API to what a client sees of it: a Service added, given another endpoint, and removed.

The write's own event, as one who watches the API gets it, is the limit: no proxy can be told earlier.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from clusters.errors import PlumblineError
from clusters.measure import services as named
from clusters.measure.api import CHUNK
from clusters.measure.traffic import Poller, urged
from plugins.scale.bench import Bench
from plugins.scale.usage import await_quiet

THEIRS, OTHERS, NONE = "a", "b", "-"
"""What the Services' own endpoints answer, what the other one does, and that nobody does."""
MOST_REPEATS, FEWEST_REPEATS, SECONDS = 5, 2, 6.0
WATCH_DEADLINE = 30.0
CALM = 0.3
"""Seconds without an answer that a Service is taken to be gone after: several connections' patience."""
ADDED, MODIFIED, REMOVED = "added", "modified", "removed"


@dataclass(frozen=True, slots=True)
class Change:
    """Seconds from a write to the first answer that shows it, and to its event."""

    seen: float
    told: float


@dataclass(slots=True)
class Watch:
    """Events of one slice, with the times they came (seconds of CLOCK_MONOTONIC)."""

    times: list[float] = field(default_factory=list)
    came: threading.Condition = field(default_factory=threading.Condition)

    def await_event(self, count: int) -> float:
        """When the event with this number came, from 1. Raises PlumblineError when it does not."""
        with self.came:
            if not self.came.wait_for(lambda: len(self.times) >= count, WATCH_DEADLINE):
                raise PlumblineError("the API server told nobody of a write")
            return self.times[count - 1]


@contextmanager
def other_endpoint(bench: Bench) -> Iterator[str]:
    """An endpoint that answers with another letter; its address."""
    pod = bench.node.backends[0]
    with bench.stage.traffic.server(bench.stage.namespace(pod.name), "serve", letter=OTHERS):
        yield pod.addresses["IPv4"]


@contextmanager
def events(bench: Bench, selector: str, kind: str = named.SLICES) -> Iterator[Watch]:
    """Someone who watches the slices (or another kind) that a selector, as in a URL, selects, from now on."""
    found = Watch()
    connection = bench.api.connect()
    connection.sendall(bench.api.request("GET", f"{kind}?watch=true&{selector}"))

    def read() -> None:
        while True:
            try:
                data = connection.recv(CHUNK)
            except OSError:
                return
            if not data:
                return
            at = time.monotonic()
            with found.came:
                found.times += [at] * data.count(b'"object":')
                found.came.notify_all()

    # What there is already is told first.
    connection.settimeout(0.3)
    try:
        while connection.recv(CHUNK):
            pass
    except TimeoutError:
        connection.settimeout(None)
    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        with urged():
            yield found
    finally:
        connection.shutdown(2)
        thread.join()
        connection.close()


def changes(bench: Bench) -> Mapping[str, list[Change]]:
    """One Service more than there are: added, modified, removed, again and again, each when all is quiet."""
    number = bench.services
    service, slice_ = f"{named.SERVICES}/{named.name(number)}", f"{named.SLICES}/{named.slice_name(number)}"
    api = bench.api
    found: dict[str, list[Change]] = {ADDED: [], MODIFIED: [], REMOVED: []}
    by_name = "fieldSelector=metadata.name%3D"
    with (
        other_endpoint(bench) as other,
        events(bench, by_name + named.slice_name(number)) as slices,
        events(bench, by_name + named.name(number), named.SERVICES) as services,
        bench.polling(bench.service(number)) as poller,
    ):
        written = {
            ADDED: [api.request("POST", *each) for each in bench.shape.objects(number, number + 1)],
            MODIFIED: [api.patch(slice_, named.new_endpoints([other]))],
            REMOVED: [api.request("DELETE", service), api.request("DELETE", slice_)],
        }
        answers = {ADDED: THEIRS, MODIFIED: OTHERS, REMOVED: NONE}
        # The event that a proxy cannot do without: of a Service that goes, its own comes before its slice's.
        told_by = {ADDED: slices, MODIFIED: slices, REMOVED: services}
        poller.await_answer(NONE)
        end = time.monotonic() + SECONDS
        while len(found[REMOVED]) < FEWEST_REPEATS or (len(found[REMOVED]) < MOST_REPEATS and time.monotonic() < end):
            for place, (what, requests) in enumerate(written.items()):
                await_quiet(bench)
                turn = len(found[REMOVED])
                event = 2 * turn + 2 if what == REMOVED else 3 * turn + place + 1
                found[what].append(_change(bench, requests, poller, answers[what], told_by[what], event))
    return found


def _change(bench: Bench, requests: list[bytes], poller: Poller, answer: str, watch: Watch, event: int) -> Change:
    sent = time.monotonic()
    bench.api.send(*requests)
    seen = poller.await_answer(answer, calm=CALM if answer == NONE else 0.0) - sent
    told = watch.await_event(event) - sent
    bench.api.answered(len(requests))
    return Change(max(seen, 0.0), told)
