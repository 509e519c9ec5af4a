# SPDX-License-Identifier: Apache-2.0
"""The charts there are, in the page's order: what each shows, and what must hold for it to say anything.

A chart that is not listed here is drawn all the same, under its id and after the others.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

ControlName = Literal["iptables bends", "the limit is flat", "measuring is cheap"]


@dataclass(frozen=True, slots=True)
class Chart:
    """`subjects` are what sentences about series begin with; others are called by their name.

    `contrasts` are pairs of words: a series that has the first is compared with the one that has the second there.
    """

    id: str
    title: str
    shows: str  # what is measured, and how to read it; one or two sentences
    subjects: Mapping[str, str] = field(default_factory=dict)
    contrasts: Sequence[tuple[str, str]] = ()
    controls: tuple[ControlName, ...] = ()

    def subject(self, series: str) -> str:
        """What a sentence about a series begins with."""
        return self.subjects.get(series, f"“{series}”" if series else self.title.lower())


CHARTS: tuple[Chart, ...] = (
    Chart(
        "update",
        "Changing one Service",
        "One Service is added, modified or removed while N others stay as they are: the time from the write to the "
        "API until its first connection is answered by whom it should be, or refused.",
        {"added": "adding a Service", "modified": "modifying a Service", "removed": "removing a Service"},
        controls=("iptables bends",),
    ),
    Chart(
        "cold",
        "Cold start and restart",
        "The proxy is started on a node that has no rules, or again where its rules are in place: the time until all "
        "N Services are in force.",
        {"from nothing": "a start from nothing", "with rules in place": "a start with rules in place"},
    ),
    Chart(
        "first-packet",
        "First packet of a connection",
        "The time of connect(), from SYN to SYN-ACK, which is when a dataplane chooses: dialled is the first "
        "Service, the last, or any of them with the same chance.",
        {
            "last Service": "a connection to the last Service",
            "uniform": "a connection to any Service",
            "first Service": "a connection to the first Service",
        },
        (("last", "first"),),
        ("iptables bends", "the limit is flat", "measuring is cheap"),
    ),
    Chart(
        "rate",
        "New connections a second",
        "Connect, send a byte, get a byte, close, and again, as fast as one client can.",
        {"last Service": "dialling the last Service", "uniform": "dialling any Service"},
        (("last", "first"),),
        ("iptables bends", "the limit is flat", "measuring is cheap"),
    ),
    Chart(
        "keepalive",
        "Kept connections beside new ones",
        "A request and its answer on a connection that stays open, with 100 requests on each connection, and with a "
        "new connection for each: what N costs is paid when a connection begins.",
        {
            "one connection": "a request on one connection that is kept",
            "100 requests each": "a request on connections of 100 requests",
            "new connections": "a request on a connection of its own",
        },
        controls=("iptables bends", "the limit is flat", "measuring is cheap"),
    ),
    Chart(
        "throughput",
        "Throughput",
        "iperf3 through the first and the last of N Services: what the receiver got.",
        {},
        (("last", "first"),),
        ("the limit is flat",),
    ),
    Chart(
        "cpu",
        "CPU at a fixed rate",
        "What a fixed rate of new connections takes of the CPUs, client, server and all between them; and apart from "
        "it what a fixed rate of changes takes of the proxy.",
        controls=("iptables bends",),
    ),
    Chart(
        "memory",
        "Memory",
        "What N Services take: the proxy's process, its maps, and what the kernel holds for its rules.",
    ),
    Chart(
        "hop",
        "The second hop",
        "An endpoint on the node where traffic arrives, or on another one: what the way between nodes costs.",
        {},
        (("routed, other", "same"), ("vxlan, other", "same")),
        ("the limit is flat",),
    ),
    Chart(
        "jitter",
        "Traffic while rules are refreshed",
        "Requests and connections in bins of 100 ms while a Service changes every second, with the proxy on the CPU "
        "that traffic uses and on another; beside the same while nothing changes.",
        contrasts=(("the traffic's CPU", "another CPU"),),
    ),
    Chart(
        "programming",
        "Programming latency",
        "From the write of an endpoint to its first answer, and from its removal to the last: at the proxy's default "
        "pace. What reached its deadline counts as that.",
    ),
    Chart(
        "slices",
        "One Service of many endpoints",
        "One slice of a hundred endpoints is replaced, of a Service that has thousands: what that costs is that of a "
        "slice, if all goes well, whatever the Service has.",
    ),
    Chart(
        "fairness",
        "Fairness",
        "How evenly new connections fall on endpoints, beside what the scheduler promises.",
    ),
    Chart(
        "maglev",
        "Maglev disruption",
        "How many flows change their endpoint, beyond those that must, when one is removed or added.",
    ),
    Chart(
        "correctness",
        "Correctness at scale",
        "Some of N Services, drawn at random, before and after a churn: how many did not answer as they should, and "
        "what that says of all with the confidence stated.",
    ),
    Chart(
        "conntrack",
        "A full connection table",
        "New connections a second while the dataplane's table of connections is empty, half full or full: the "
        "kernel's, or the reference's own.",
    ),
    Chart(
        "load",
        "Load: requests a second",
        "Users of locust while endpoints scale, roll and drain, Services churn and the proxy restarts. What a client "
        "in Python can do at all is the limit beside it.",
    ),
    Chart("load-latency", "Load: latency", "How long those requests took: p50, and percentiles in the table."),
)
CONTROL = "control"
"""The chart whose cells are controls that the run itself judged: told at the top, not drawn."""


def ordered(ids: Iterable[str]) -> tuple[Chart, ...]:
    """The charts of these ids, in the page's order; those that are not listed last."""
    wanted = set(ids) - {CONTROL}
    known = {chart.id for chart in CHARTS}
    others = [Chart(name, name.capitalize(), "") for name in sorted(wanted - known)]
    return (*(chart for chart in CHARTS if chart.id in wanted), *others)
