# SPDX-License-Identifier: Apache-2.0
"""From a write to the API to the first reply from the new endpoint, and the part of it that is the API server's."""

import select
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from benchmarks.rows import Beside
from clusters.kube import NAMESPACES
from clusters.measure import services as named
from clusters.measure.api import CHUNK, Api
from clusters.measure.services import Shape
from clusters.measure.stage import Stage, staged
from clusters.measure.traffic import Poller, Traffic
from clusters.proxies.base import NodeProcesses
from clusters.proxies.reference import Reference, own_version

SERVICES = 10_000
SAMPLES = 200
GOAL = 10.0  # ms
PAUSE = 0.02  # seconds: what one write causes is over before the next
DEADLINE = 60.0


def populate(stage: Stage, api: Api, services: int, address: str) -> None:
    """Services from number 0 with one endpoint each, all at this address."""
    stage.lab.kube.create(NAMESPACES, {"metadata": {"name": named.NAMESPACE}})
    shape = Shape([address], 1)
    api.write_all(api.request("POST", *each) for each in shape.objects(0, services))


def repoint(api: Api, number: int, address: str) -> float:
    """Send the write that gives a Service another endpoint; when (seconds of CLOCK_MONOTONIC)."""
    request = api.patch(f"{named.SLICES}/{named.slice_name(number)}", named.new_endpoints([address]))
    sent = time.monotonic()
    api.send(request)
    return sent


def first_replies(
    api: Api, poller: Poller, number: int, addresses: Sequence[str], letters: str, *, samples: int, seconds: float
) -> list[float]:
    """Seconds from a write to the first reply from the new endpoint: `samples` of them, or as many as time allows.

    The Service points at the first address when this begins, and each of them answers with its letter.
    """
    found: list[float] = []
    end = time.monotonic() + seconds
    while len(found) < samples and (not found or time.monotonic() < end):
        at = (len(found) + 1) % len(addresses)
        sent = repoint(api, number, addresses[at])
        found.append(poller.await_answer(letters[at]) - sent)
        api.answered()
        time.sleep(PAUSE)
    return found


def watch_latencies(api: Api, number: int, addresses: Sequence[str], samples: int) -> list[float]:
    """Seconds from the same write to the event in the hands of one who watches."""
    found = []
    with api.connect() as watch:
        selector = f"fieldSelector=metadata.name%3D{named.slice_name(number)}"
        watch.sendall(api.request("GET", f"{named.SLICES}?watch=true&{selector}"))
        while select.select([watch], [], [], 0.5)[0]:  # what there was before
            watch.recv(CHUNK)
        for index in range(samples):
            sent = repoint(api, number, addresses[(index + 1) % len(addresses)])
            seen = b""
            while b"MODIFIED" not in seen:
                seen += watch.recv(CHUNK)
            found.append(time.monotonic() - sent)
            api.answered()
            time.sleep(PAUSE)
    return found


def rows(traffic: Traffic) -> Iterator[Beside]:
    """In a lab with ten thousand Services, the reference on its one node."""
    with staged(traffic) as stage, ExitStack() as stack:
        api = Api(stage.lab.kube)
        stack.callback(api.close)
        node = stage.lab.nodes[0]
        addresses = [pod.addresses["IPv4"] for pod in node.backends[:2]]
        populate(stage, api, SERVICES, addresses[0])
        number = SERVICES // 2
        # Before there is a controller, which would have the event first, and the CPU with it.
        watched = watch_latencies(api, number, addresses, SAMPLES)
        proxy: NodeProcesses = Reference(stage.lab, version=own_version())
        stack.callback(proxy.stop)
        with stage.urging():
            proxy.start()
        for pod, letter in zip(node.backends[:2], "ab", strict=True):
            stack.enter_context(traffic.server(stage.namespace(pod.name), "serve", letter=letter))
        target = named.target(number)
        poller = stack.enter_context(traffic.poller(stage.namespace(node.client.name), target))
        poller.await_answer("a")
        found = first_replies(api, poller, number, addresses, "ab", samples=SAMPLES, seconds=DEADLINE)
    for name, part, goal in (("p50", 0.50, None), ("p99", 0.99, GOAL)):
        first, event = (sorted(each)[int(len(each) * part)] * 1000 for each in (found, watched))
        what = f"API write to first reply, {name}, {SERVICES:,} Services"
        limit = "the write told to one who watches"
        note = f"{len(found)} writes"
        yield Beside(what, "ms", [first], [event], limit, goal, goal_is_for="measured", note=note)
