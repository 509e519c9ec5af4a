# SPDX-License-Identifier: Apache-2.0
"""From a write to the API to the first reply from the new endpoint, and the part of it that is the API server's."""

import json
import select
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from benchmarks.reference import lists
from benchmarks.reference.stage import Stage, staged
from benchmarks.reference.traffic import PORT, Poller, Traffic
from benchmarks.rows import Beside
from clusters.errors import PlumblineError
from clusters.proxies.base import NodeProcesses
from clusters.proxies.reference import Reference, own_version

SERVICES = 10_000
SAMPLES = 200
GOAL = 10.0  # ms
PAUSE = 0.02  # seconds: what one write causes is over before the next
PIPELINE = 100
CHUNK = 1 << 16
MERGE_PATCH = "application/merge-patch+json"
SERVICE_PATH = "/api/v1/namespaces/default/services"
SLICE_PATH = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
DEADLINE = 60.0


class Api:
    """Raw requests to the lab's API server on one connection, so that this end of them costs next to nothing."""

    def __init__(self, stage: Stage) -> None:
        host, _, port = stage.lab.kube.server.rpartition("//")[2].partition(":")
        self._address, self._token = (host, int(port)), stage.lab.kube.token
        self._connection = self.connect()

    def connect(self) -> socket.socket:
        return socket.create_connection(self._address, timeout=DEADLINE)

    def request(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> bytes:
        """A request as it goes over the wire."""
        head = f"{method} {path} HTTP/1.1\r\nHost: plumbline\r\nAuthorization: Bearer {self._token}\r\n"
        return head.encode() + b"Content-Type: %s\r\nContent-Length: %d\r\n\r\n" % (kind.encode(), len(body)) + body

    def send(self, *requests: bytes) -> None:
        self._connection.sendall(b"".join(requests))

    def answered(self, count: int = 1) -> None:
        """Wait for so many answers. Raises PlumblineError when one is no success."""
        seen, done = b"", 0
        while done < count:
            data = self._connection.recv(CHUNK)
            if not data:
                raise PlumblineError("the API server hung up")
            seen += data
            while (end := _answer_end(seen)) is not None:
                if not seen.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201")):
                    raise PlumblineError(f"the API server refused a write: {seen[:end][-400:].decode()}")
                seen, done = seen[end:], done + 1

    def close(self) -> None:
        self._connection.close()


def _answer_end(seen: bytes) -> int | None:
    """Where the first answer in these bytes ends; None when it has not all come."""
    head, found, _ = seen.partition(b"\r\n\r\n")
    if not found:
        return None
    lengths = [line for line in head.lower().splitlines() if line.startswith(b"content-length:")]
    end = len(head) + 4 + int(lengths[0].split()[1])
    return end if len(seen) >= end else None


def populate(api: Api, services: int, address: str) -> None:
    """Services from number 0 with one endpoint each, all at this address."""
    requests = []
    for number in range(services):
        listed = [{"name": "http", "port": lists.PORT, "targetPort": PORT, "protocol": "TCP"}]
        spec = {"clusterIP": lists.cluster_ip(number), "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": f"s-{number}"}}
        requests.append(api.request("POST", SERVICE_PATH, _json({**service, "spec": {**spec, "ports": listed}})))
        one = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": slice_name(number), "labels": {"kubernetes.io/service-name": f"s-{number}"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": PORT, "protocol": "TCP"}],
            **_endpoints(address),
        }
        requests.append(api.request("POST", SLICE_PATH, _json(one)))
    for start in range(0, len(requests), PIPELINE):
        some = requests[start : start + PIPELINE]
        api.send(*some)
        api.answered(len(some))


def slice_name(number: int) -> str:
    """Of the Service with this number."""
    return f"s-{number}-abcde"


def repoint(api: Api, number: int, address: str) -> float:
    """Send the write that gives a Service another endpoint; when (seconds of CLOCK_MONOTONIC)."""
    path = f"{SLICE_PATH}/{slice_name(number)}"
    request = api.request("PATCH", path, _json(_endpoints(address)), MERGE_PATCH)
    sent = time.monotonic()
    api.send(request)
    return sent


def _endpoints(address: str) -> dict[str, object]:
    return {"endpoints": [{"addresses": [address], "conditions": {"ready": True}}]}


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


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
        found.append(await_letter(poller, letters[at]) - sent)
        api.answered()
        time.sleep(PAUSE)
    return found


def await_letter(poller: Poller, letter: str) -> float:
    """When the poller first saw this answer."""
    while True:
        at, seen = poller.next_change()
        if seen == letter:
            return at


def watch_latencies(api: Api, number: int, addresses: Sequence[str], samples: int) -> list[float]:
    """Seconds from the same write to the event in the hands of one who watches."""
    found = []
    with api.connect() as watch:
        selector = f"fieldSelector=metadata.name%3D{slice_name(number)}"
        watch.sendall(api.request("GET", f"{SLICE_PATH}?watch=true&{selector}"))
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
        api = Api(stage)
        stack.callback(api.close)
        node = stage.lab.nodes[0]
        addresses = [pod.addresses["IPv4"] for pod in node.backends[:2]]
        populate(api, SERVICES, addresses[0])
        number = SERVICES // 2
        # Before there is a controller, which would have the event first, and the CPU with it.
        watched = watch_latencies(api, number, addresses, SAMPLES)
        proxy: NodeProcesses = Reference(stage.lab, version=own_version())
        stack.callback(proxy.stop)
        with stage.urging():
            proxy.start()
        for pod, letter in zip(node.backends[:2], "ab", strict=True):
            stack.enter_context(traffic.server(stage.namespace(pod.name), "rate", letter=letter))
        target = (lists.cluster_ip(number), lists.PORT)
        poller = stack.enter_context(traffic.poller(stage.namespace(node.client.name), target))
        await_letter(poller, "a")
        found = first_replies(api, poller, number, addresses, "ab", samples=SAMPLES, seconds=DEADLINE)
    for name, part, goal in (("p50", 0.50, None), ("p99", 0.99, GOAL)):
        first, event = (sorted(each)[int(len(each) * part)] * 1000 for each in (found, watched))
        what = f"API write to first reply, {name}, {SERVICES:,} Services"
        limit = "the write told to one who watches"
        note = f"{len(found)} writes"
        yield Beside(what, "ms", [first], [event], limit, goal, goal_is_for="measured", note=note)
