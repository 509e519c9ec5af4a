# SPDX-License-Identifier: Apache-2.0
"""The running controller: threads that watch feed one queue, and one loop writes what they bring."""

import gc
import signal
import threading
import time
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType

from msgspec import Struct

from dataplane_ref.controller import devices, sysctls
from dataplane_ref.controller.attach import PROGRAMS, Attachments
from dataplane_ref.controller.codec import Codec
from dataplane_ref.controller.collect import Collector
from dataplane_ref.controller.crc import crc_tables
from dataplane_ref.controller.health import Answer, HealthServer, proxy_answer
from dataplane_ref.controller.kubeconfig import Access
from dataplane_ref.controller.log import say
from dataplane_ref.controller.netlink import Interfaces, Monitor, RoutesChanged, read_interfaces
from dataplane_ref.controller.nodeview import is_eligible, node_ips
from dataplane_ref.controller.resources import watched
from dataplane_ref.controller.settings import Settings
from dataplane_ref.controller.state import NodeDatapath
from dataplane_ref.controller.watch import Delta, Listing, Watcher
from dataplane_ref.loader import BpfObject, Loaded, LoadError

NODE_SECONDS = 30.0
RETRY_SECONDS = 1.0
UNHEALTHY_SECONDS = 60.0
RESOURCES = 3


class Stop(Struct, frozen=True):
    """A signal to end."""

    name: str


Item = Listing | Delta | Interfaces | RoutesChanged | Stop


class Options(Struct, frozen=True):
    """What the command line says beside Settings."""

    access: Access
    sizes: dict[str, int]
    pins: Path | None
    xdp: str
    health_port: int


class Agent:
    """One node's controller, from start to SIGTERM."""

    def __init__(self, settings: Settings, options: Options) -> None:
        self.settings, self.options = settings, options
        self._queue: SimpleQueue[Item] = SimpleQueue()
        self._listed: set[str] = set()
        self._node_missing_since: float | None = None
        self._goes_without_node = False
        self._failing_since: float | None = None
        self._updated_at = time.time()

    def run(self) -> None:
        """Until SIGTERM or SIGINT. Raises LoadError when BPF cannot be loaded, OSError without rtnetlink."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        bpf = BpfObject.open()
        codec = Codec(bpf)
        with bpf.load(self.options.sizes, self.options.pins, self._programs()) as loaded:
            sysctls.apply(self.settings, say)
            monitor = Monitor()
            datapath = NodeDatapath(loaded.maps, codec, self.settings, say)
            if self.options.pins is not None:
                datapath.adopt()
            loaded.maps["crc_tables"].put(bytes(4), crc_tables())
            datapath.see(read_interfaces())
            attachments = Attachments(loaded.programs, self.options.xdp, self.options.pins, say)
            try:
                self._serve(loaded, codec, datapath, attachments, monitor)
            finally:
                attachments.close()

    def _programs(self) -> list[str]:
        wanted = [name for hook, name in PROGRAMS.items() if hook != "xdp" or self.options.xdp != "off"]
        return [*wanted, "plumbline_collect"]

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self._queue.put(Stop(signal.Signals(number).name))

    def _serve(
        self, loaded: Loaded, codec: Codec, datapath: NodeDatapath, attachments: Attachments, monitor: Monitor
    ) -> None:
        maps = loaded.maps
        health = HealthServer(
            self.options.health_port,
            lambda path: self._own_answer(path, loaded, codec, datapath),
            self.is_healthy,
            say,
        )
        collector = Collector(
            maps["flows"], maps["affinities"], maps["counters"], loaded.programs["plumbline_collect"], codec, say
        )
        watchers = [
            Watcher(self.options.access, resource, self._queue, say) for resource in watched(self.settings.node)
        ]
        threading.Thread(target=monitor.follow, args=(self._queue.put,), name="netlink", daemon=True).start()
        for each in (health, collector, *watchers):
            each.start()
        try:
            self._loop(datapath, attachments, health)
        finally:
            for watcher in watchers:
                watcher.stop()
            collector.stop()
            health.stop()
            # The maps must not be closed under them.
            collector.join(5)
            health.join(5)

    def _loop(self, datapath: NodeDatapath, attachments: Attachments, health: HealthServer) -> None:
        is_first = True
        while True:
            stop = self._take_in(datapath)
            if stop is not None:
                say(f"{stop.name}: the datapath {'stays' if self.options.pins else 'is taken off'}")
                return
            if not self._may_begin(datapath):
                continue
            began = time.monotonic()
            written = self._program(datapath)
            if written is None:
                continue
            wanted = devices.hooks(datapath.interfaces, node_ips(datapath.node).values(), self.options.xdp)
            attachments.follow(wanted, datapath.interfaces)
            health.update(datapath.health)
            if is_first:
                is_first = False
                attachments.sweep()
                gc.freeze()
                gc.enable()
                spent = (time.monotonic() - began) * 1000
                say(
                    f"{len(datapath.services):,} Services are served: {written:,} entries written in {spent:.0f} ms, "
                    f"{attachments.count()} programs attached"
                )

    def _take_in(self, datapath: NodeDatapath) -> Stop | None:
        """Wait for something, and take all that is there, in its order."""
        is_waiting = self._failing_since is not None or self._node_missing_since is not None
        try:
            item = self._queue.get(timeout=RETRY_SECONDS if is_waiting else None)
            while True:
                if isinstance(item, Listing):
                    datapath.replace(item.resource, item.objects)
                    self._listed.add(item.resource)
                elif isinstance(item, Delta):
                    datapath.change(item.resource, item.key, item.object)
                elif isinstance(item, Interfaces):
                    datapath.see(item)
                elif isinstance(item, RoutesChanged):
                    datapath.way_changed()
                else:
                    return item
                item = self._queue.get_nowait()
        except Empty:
            return None

    def _may_begin(self, datapath: NodeDatapath) -> bool:
        """Not before everything was listed and the node is known, or was not for half a minute."""
        if len(self._listed) < RESOURCES:
            return False
        if datapath.node is not None or self._goes_without_node:
            self._node_missing_since = None
            return True
        now = time.monotonic()
        if self._node_missing_since is None:
            self._node_missing_since = now
        if now - self._node_missing_since < NODE_SECONDS:
            return False
        say(f"the API knows no node {self.settings.node!r} after {NODE_SECONDS:.0f} s: it goes on without addresses")
        self._node_missing_since = None
        self._goes_without_node = True
        return True

    def _program(self, datapath: NodeDatapath) -> int | None:
        """Write what changed; None where that failed, which is tried again."""
        try:
            written = datapath.program()
        except (LoadError, OSError) as error:
            if self._failing_since is None:
                self._failing_since = time.monotonic()
                say(f"the maps could not be written, and that is tried again: {error}")
            return None
        if self._failing_since is not None:
            self._failing_since = None
            say("the maps are written again")
        self._updated_at = time.time()
        return written

    def is_healthy(self) -> bool:
        """Whether what the API says is in the maps, but for the last minute's trouble."""
        since = self._failing_since
        return since is None or time.monotonic() - since < UNHEALTHY_SECONDS

    def _own_answer(self, path: str, loaded: Loaded, codec: Codec, datapath: NodeDatapath) -> Answer | None:
        if path == "/metrics":
            return Answer(200, _metrics(loaded, codec), {"Content-Type": "text/plain; version=0.0.4"})
        if path not in ("/healthz", "/livez"):
            return None
        is_eligible_here = is_eligible(datapath.node)
        fields: dict[str, object] = {"lastUpdated": _stamp(self._updated_at), "currentTime": _stamp(time.time())}
        if path == "/healthz":
            fields["nodeEligible"] = is_eligible_here
        is_fine = self.is_healthy() and (path == "/livez" or is_eligible_here)
        return proxy_answer(200 if is_fine else 503, fields)


def _stamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _metrics(loaded: Loaded, codec: Codec) -> str:
    """The datapath's counters, as Prometheus reads them."""
    lines = []
    for name, index in codec.counter.items():
        if name == "COUNTERS":
            continue
        total = sum(
            int.from_bytes(each, "little") for each in loaded.maps["counters"].per_cpu(index.to_bytes(4, "little"))
        )
        metric = f"plumbline_{name.lower()}_total"
        lines += [f"# TYPE {metric} counter", f"{metric} {total}"]
    return "\n".join([*lines, ""])
