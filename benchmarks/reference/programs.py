# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.reference.programs`, run in a node's network: nanoseconds per packet of programs.

BPF_PROG_TEST_RUN does not put a packet back between repetitions: it sees its own work. So the Services here have
themselves for an endpoint (a VIP is translated to the same VIP), and the mark that says "seen" is no bit at all. What
goes past the stack has a hop less each time, which is why those runs are short. Prints one line of JSON: for each
case the nanoseconds of every batch, and those of a no-op program right after it.
"""

import gc
import json
import statistics
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from benchmarks.reference import lists
from benchmarks.reference.node import fill
from dataplane_ref.controller.codec import Codec
from dataplane_ref.controller.log import say
from dataplane_ref.controller.netlink import read_interfaces
from dataplane_ref.controller.resources import NODES, SERVICES, SLICES
from dataplane_ref.controller.settings import Settings
from dataplane_ref.controller.state import NodeDatapath
from dataplane_ref.loader import BpfObject, Loaded, Program, syscalls
from dataplane_ref.loader.programs import load

VIPS = {"IPv4": "10.96.7.7", "IPv6": "fd00:10:96::707"}
CLIENTS = {"IPv4": "10.244.0.250", "IPv6": "fd00:10:244::fa"}
NOBODY = "203.0.113.9"
PORT = 80
SERVED = ("IPv4 TCP", "IPv4 UDP", "IPv6 TCP")
PAYLOAD = bytes(64)
BATCHES, RUNS = 25, 15  # short ones, of which few are interrupted
XDP_BATCHES = 5  # each run costs the kernel a tenth of a second beside
LONG = 4_000  # repetitions where a packet stays as it is
SHORT = 240  # … and where its TTL, at first 255, goes down
SCHED_CLS, XDP = 3, 6
PASS, REDIRECT, NEXT = 0, 7, 0xFFFFFFFF  # of tc
NEXT_CODE = -1
XDP_TX, XDP_REDIRECT = 3, 4
NO_MARK = 0


def no_op(kind: int, answer: int) -> Program:
    """r0 = answer; exit."""
    code = struct.pack("<BBhi", 0xB7, 0, 0, answer) + struct.pack("<BBhi", 0x95, 0, 0, 0)
    attributes = syscalls.ProgramLoad(prog_type=kind, insn_cnt=2, insns=code, license=b"GPL")
    return Program(load(attributes, "no-op"), "no-op", kind)


def packets() -> Mapping[str, bytes]:
    """Of flows to the Services, and of one to nobody's address. The first one opens its flow."""
    from scapy.layers.inet import IP, TCP, UDP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Ether

    frame = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    tcp, udp = TCP(sport=40000, dport=PORT, flags="A") / PAYLOAD, UDP(sport=40000, dport=PORT) / PAYLOAD
    v4, v6 = (
        IP(src=CLIENTS["IPv4"], dst=VIPS["IPv4"], ttl=255),
        IPv6(src=CLIENTS["IPv6"], dst=VIPS["IPv6"], hlim=255),
    )
    return {
        "IPv4 TCP": bytes(frame / v4 / tcp),
        "IPv4 UDP": bytes(frame / v4 / udp),
        "IPv6 TCP": bytes(frame / v6 / tcp),
        "no Service's": bytes(frame / IP(src=CLIENTS["IPv4"], dst=NOBODY, ttl=255) / tcp),
    }


def listed(node: str, addresses: Sequence[str], pod_cidrs: Sequence[str]) -> Mapping[str, bytes]:
    """A Service for each family whose endpoint is the Service itself."""
    ports = [{"name": name, "protocol": name.upper(), "port": PORT} for name in ("tcp", "udp")]
    services, slices = [], []
    for family, vip in VIPS.items():
        metadata = {"name": family.lower(), "namespace": "default", "resourceVersion": "1"}
        spec = {"clusterIP": vip, "clusterIPs": [vip], "ipFamilies": [family], "ports": ports, "type": "ClusterIP"}
        services.append({"metadata": metadata, "spec": spec})
        labels = {"kubernetes.io/service-name": metadata["name"]}
        endpoints = [{"addresses": [vip], "conditions": {"ready": True}}]
        one = {"metadata": {**metadata, "labels": labels}, "addressType": family}
        slices.append({**one, "ports": ports, "endpoints": endpoints})
    both = {SERVICES: services, SLICES: slices}
    of_lists = {name: {"metadata": {"resourceVersion": "1"}, "items": items} for name, items in both.items()}
    return {
        **{name: json.dumps(one).encode() for name, one in of_lists.items()},
        NODES: lists.node(node, addresses, pod_cidrs),
    }


@contextmanager
def loaded_node(node: str, addresses: Sequence[str], pod_cidrs: Sequence[str], straight: bool) -> Iterator[Loaded]:
    """The datapath with those Services in its maps, attached to nothing."""
    bpf = BpfObject.open()
    codec = Codec(bpf)
    with bpf.load() as loaded:
        settings = Settings(node=node, cluster_cidrs=tuple(pod_cidrs), mark=NO_MARK, straight=straight)
        datapath = NodeDatapath(loaded.maps, codec, settings, say)
        datapath.see(read_interfaces())
        fill(datapath, listed(node, addresses, pod_cidrs))
        yield loaded


@dataclass(frozen=True, slots=True)
class Case:
    """A program with a packet, how often it is run at a time, and what it must answer."""

    program: Program
    packet: bytes
    repeat: int
    answer: int

    def runs(self, times: int) -> float:
        """Nanoseconds per repetition, the median of runs; the kernel's clock gives whole ones, rounded down.

        Raises SystemExit when the last repetition did not end as it should: something else was timed.
        """
        found = []
        for _ in range(times):
            done = self.program.run(self.packet, repeat=self.repeat, out=False)
            if done.retval != self.answer:
                raise SystemExit(f"{self.program.name} answers {done.retval} instead of {self.answer}")
            found.append(done.duration_ns + 0.5)
        return statistics.median(found)


def beside(case: Case, no_op: Case, batches: int, times: int) -> list[tuple[float, float]]:
    """The case and the no-op in turns, since a CPU's pace changes with what the others do."""
    return [(case.runs(times), no_op.runs(times)) for _ in range(batches)]


def main() -> int:
    node, addresses, pod_cidrs = sys.argv[1], sys.argv[2].split(","), sys.argv[3].split(",")
    found: dict[str, list[tuple[float, float]]] = {}
    with ExitStack() as stack:
        straight, by_stack = (
            stack.enter_context(loaded_node(node, addresses, pod_cidrs, is_straight)).programs
            for is_straight in (True, False)
        )
        gc.disable()
        seen = packets()
        nothing = Case(no_op(SCHED_CLS, NEXT_CODE), seen["IPv4 TCP"], LONG, NEXT)
        turn = Case(no_op(XDP, XDP_TX), seen["IPv4 TCP"], LONG, XDP_TX)
        for name, packet in seen.items():
            case = Case(by_stack["plumbline_ingress"], packet, LONG, PASS if name in SERVED else NEXT)
            found[f"tc: {name}, on by the stack"] = beside(case, nothing, BATCHES, RUNS)
        for name in SERVED:
            case = Case(straight["plumbline_ingress"], seen[name], SHORT, REDIRECT)
            found[f"tc: {name}, straight on"] = beside(case, nothing, BATCHES, RUNS)
        for name in SERVED:
            case = Case(straight["plumbline_xdp"], seen[name], SHORT, XDP_REDIRECT)
            found[f"xdp: {name}, turned round"] = beside(case, turn, XDP_BATCHES, 1)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
