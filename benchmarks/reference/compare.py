# SPDX-License-Identifier: Apache-2.0
"""`make bench ARGS=compare`: the reference beside kube-proxy's iptables and nftables, from one Service to thousands.

Each cell is a lab of its own with one node, so that nothing of one proxy is in another's way. What packets cost is
compared by its ratio to the direct veth pair of the same cell, which stands in brackets. Client and server share one
CPU; API server, proxy and the one who writes share the others.
"""

import itertools
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

from benchmarks.reference.filled import vips
from benchmarks.reference.latency import first_replies, populate
from benchmarks.reference.paths import VALUES
from clusters import binaries
from clusters.api import Node
from clusters.errors import PlumblineError
from clusters.measure import services as named
from clusters.measure.api import Api
from clusters.measure.stage import SECONDS, Stage, beside_limit, staged
from clusters.measure.traffic import Kind, Sample, Target, Traffic
from clusters.proxies.base import NodeProcesses
from clusters.proxies.kube_proxy import KubeProxy
from clusters.proxies.reference import Reference, own_version

Mode = Literal["reference", "iptables", "nftables"]
MODES: tuple[Mode, ...] = ("reference", "iptables", "nftables")
SERVICES = (1, 1_000, 10_000)
UPDATES, UPDATE_SECONDS = 30, 30.0
MOST_SERVICES = 60_000  # ClusterIPs of the lab's range
READY_SECONDS = 900.0
REST = 2.0  # seconds after a start, until memory is looked at
TICKS = 100.0  # of /proc/PID/stat, a second
PAGE = 4096
BEND = 1.5
"""The control: by so much connections must take longer with iptables at the most Services than at the fewest."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One line of the table."""

    what: str
    unit: str
    better: Literal["less", "more"] = "less"


MEASURES: Mapping[str, Measure] = {
    "connect": Measure("connect p50, Services dialled at random", "µs"),
    "connect last": Measure("connect p50, the last Service of the rules", "µs"),
    "rate": Measure("connection rate (connect, byte there, byte back, RST)", "/s", "more"),
    "request": Measure("request latency p50 on one connection", "µs"),
    "update": Measure("API write to first reply, p50", "ms"),
    "update worst": Measure("API write to first reply, slowest", "ms"),
    "cold": Measure("from the proxy's start to the first reply", "s"),
    "cpu": Measure("CPU time of the proxy until then", "s"),
    "rss": Measure("memory of the proxy process (RSS)", "MB"),
}


@dataclass(frozen=True, slots=True)
class Number:
    """A measured value, what it is beside the limit, where there is one, and how many connections failed."""

    value: float
    ratio: float | None = None
    failures: int = 0

    @property
    def judged(self) -> float:
        """What modes are compared by."""
        return self.value if self.ratio is None else self.ratio


@dataclass(frozen=True, slots=True)
class Cell:
    """A mode with so many Services."""

    mode: Mode
    services: int
    numbers: Mapping[str, Number]


def cell(traffic: Traffic, mode: Mode, services: int) -> Cell:
    """Build a lab, fill its API server, start the proxy, measure. Raises PlumblineError."""
    numbers: dict[str, Number] = {}
    with staged(traffic) as stage, ExitStack() as stack:
        api = Api(stage.lab.kube)
        stack.callback(api.close)
        node = stage.lab.nodes[0]
        pods = node.backends[:2]
        addresses = [pod.addresses["IPv4"] for pod in pods]
        populate(stage, api, services, addresses[0])
        number = services // 2
        target = named.target(number)
        proxy = _proxy(stage, mode)
        stack.callback(proxy.stop)
        with ExitStack() as polling:
            for pod, letter in zip(pods, "ab", strict=True):
                polling.enter_context(traffic.server(stage.namespace(pod.name), "serve", letter=letter))
            poller = polling.enter_context(traffic.poller(stage.namespace(node.client.name), target))
            began = time.monotonic()
            with stage.urging():
                proxy.start()
            numbers["cold"] = Number(poller.await_answer("a") - began)
            numbers["cpu"] = Number(_cpu_seconds(stage, proxy))
            _forget_attempts(stage, node)
            time.sleep(REST)
            numbers["rss"] = Number(_rss(stage, proxy) / 1e6)
            updates = first_replies(api, poller, number, addresses, "ab", samples=UPDATES, seconds=UPDATE_SECONDS)
            if len(updates) % 2:  # and back to where the others are
                updates += first_replies(api, poller, number, addresses[::-1], "ba", samples=1, seconds=0)
        numbers["update"] = Number(statistics.median(updates) * 1000)
        numbers["update worst"] = Number(max(updates) * 1000)
        last = _last_service(stage, node) if mode == "iptables" else vips(services)[-1]
        dialled: Sequence[tuple[str, Kind, Sequence[Target]]] = (
            ("connect", "connect", vips(services)),
            ("connect last", "connect", [last]),
            ("rate", "rate", vips(services)),
            ("request", "request", [target]),
        )
        for name, kind, targets in dialled:
            with traffic.server_for(stage.namespace(pods[0].name), kind):
                numbers[name] = _beside_direct(stage, node, kind, targets)
    return Cell(mode, services, numbers)


def _proxy(stage: Stage, mode: Mode) -> NodeProcesses:
    if mode == "reference":
        return Reference(stage.lab, version=own_version(), ready_deadline=READY_SECONDS)
    found = binaries.find("kube-proxy")
    return KubeProxy(
        stage.lab, binary=found.path, version=found.version, mode=mode, sync="fast", ready_deadline=READY_SECONDS
    )


def _beside_direct(stage: Stage, node: Node, kind: Kind, targets: Sequence[Target]) -> Number:
    client, value = stage.namespace(node.client.name), VALUES[kind]
    failures = 0

    def run() -> Sample:
        nonlocal failures
        sample = stage.traffic.measure(client, kind, targets, SECONDS)
        failures += sample.failures
        return sample

    measured, limit = beside_limit(run, lambda: stage.direct(kind), value)
    ratios = [one / of for one, of in zip(measured, limit, strict=True)]
    return Number(statistics.median(measured), statistics.median(ratios), failures)


def _forget_attempts(stage: Stage, node: Node) -> None:
    """Attempts from before there were rules are tracked untranslated for two minutes, and their ports come back."""
    done = stage.lab.supervisor.run(["conntrack", "-F"], node=node.name)
    if done.status != 0:
        raise PlumblineError(f"conntrack -F failed on {node.name}: {done.err.strip()}")


def _last_service(stage: Stage, node: Node) -> Target:
    """The ClusterIP that iptables comes to last."""
    rules = stage.lab.supervisor.run(["iptables-save", "-t", "nat"], node=node.name).out
    known = {named.cluster_ip(number) for number in range(MOST_SERVICES)}
    found = [ip for ip in re.findall(r"-A KUBE-SERVICES -d ([\d.]+)/32 .*-j KUBE-SVC", rules) if ip in known]
    if not found:
        raise PlumblineError("iptables has no rules for the benchmark's Services")
    return found[-1], named.SERVICE_PORT


def _of_process(stage: Stage, proxy: NodeProcesses, name: str) -> list[str]:
    ((node, pid),) = proxy.pids.items()
    done = stage.lab.supervisor.run(["cat", f"/proc/{pid}/{name}"])
    if done.status != 0:
        raise PlumblineError(f"{proxy.name} on {node} has ended")
    return done.out.rpartition(")")[2].split()


def _cpu_seconds(stage: Stage, proxy: NodeProcesses) -> float:
    """Of the process and of the programs it has run: utime, stime, cutime and cstime of /proc/PID/stat (proc(5))."""
    return sum(int(each) for each in _of_process(stage, proxy, "stat")[11:15]) / TICKS


def _rss(stage: Stage, proxy: NodeProcesses) -> float:
    return int(_of_process(stage, proxy, "statm")[1]) * PAGE


def is_ahead(name: str, of: Cell, others: Sequence[Cell]) -> bool:
    """Whether a cell's number is better than those of all others."""
    sign = -1 if MEASURES[name].better == "more" else 1
    return all(sign * of.numbers[name].judged < sign * other.numbers[name].judged for other in others)


def bends(cells: Sequence[Cell]) -> tuple[float, bool] | None:
    """How much longer connections take with iptables at the most Services, and whether the control holds."""
    found = sorted((one for one in cells if one.mode == "iptables"), key=lambda one: one.services)
    if len(found) < 2:
        return None
    ratio = found[-1].numbers["connect last"].judged / found[0].numbers["connect last"].judged
    return ratio, ratio >= BEND


def as_markdown(cells: Sequence[Cell]) -> list[str]:
    """The table: a line for each measure and number of Services, a column for each mode."""
    modes = [mode for mode in MODES if any(one.mode == mode for one in cells)]
    lines = [
        f"| what | Services | {' | '.join(modes)} | reference ahead |",
        f"|---|---|{'---|' * len(modes)}---|",
    ]
    for name, services in itertools.product(MEASURES, sorted({one.services for one in cells})):
        of = {one.mode: one for one in cells if one.services == services}
        if not of:
            continue
        measure = MEASURES[name]
        texts = [_text(of[mode].numbers[name], measure) if mode in of else "" for mode in modes]
        ahead = ""
        others = [one for mode, one in of.items() if mode != "reference"]
        if "reference" in of and others:
            ahead = "yes" if is_ahead(name, of["reference"], others) else "**no**"
        lines.append(f"| {measure.what} | {services:,} | {' | '.join(texts)} | {ahead} |")
    bend = bends(cells)
    if bend is not None:
        said = "holds" if bend[1] else "**does not hold**"
        lines += [
            "",
            f"Control: connections to the last Service take {bend[0]:.2f} times as long with iptables at the",
        ]
        lines += [f"most Services as at the fewest, and must take {BEND} times as long: it {said}."]
    return lines


def _text(number: Number, measure: Measure) -> str:
    value = f"{number.value:,.0f}" if number.value >= 100 else f"{number.value:.3g}"
    failed = f", {number.failures} failed" if number.failures else ""
    return f"{value} {measure.unit}" + ("" if number.ratio is None else f" ({number.ratio:.2f}{failed})")


def run(services: Sequence[int], told: Callable[[str], None]) -> tuple[list[str], list[str]]:
    """Measure every mode with every number of Services: the table, and the versions of what was compared.

    `told` hears of each cell as it is done. Raises PlumblineError.
    """
    cells = []
    with Traffic() as traffic:
        for count, mode in itertools.product(services, MODES):
            cells.append(cell(traffic, mode, count))
            numbers = ", ".join(f"{name} {number.value:.3g}" for name, number in cells[-1].numbers.items())
            told(f"{mode}, {count:,} Services: {numbers}")
    return as_markdown(cells), [f"kube-proxy {binaries.find('kube-proxy').version}", f"plumbline {own_version()}"]
