# SPDX-License-Identifier: Apache-2.0
"""Mangled packets through the datapath's programs, each judged: no crash, and no wrong rewrite.

`python -m tests.datapath.fuzz --packets 1000000` prints how fast it was, and what came of the packets.
"""

import argparse
import os
import struct
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.datapath.bench import CONTEXT_BYTES, IFINDEX_AT, Bench
from tests.datapath.fuzz_check import Check, WrongError
from tests.datapath.fuzz_packets import ROLE_ADDRESSES, Packets
from tests.datapath.network import PODS, UPLINK, Network
from tests.datapath.node import DROP, NEXT, PASS, REDIRECT
from tests.datapath.packets import NODE_PORT, PORT, PROTOCOLS, ROLES, TARGET

EPOCH = 20_000
SETTINGS: tuple[tuple[str, ...], ...] = (
    (), ("STRAIGHT",), ("STRAIGHT", "MASQUERADE_ALL"), ("DETECT_BY_INTERFACE",), ("STRAIGHT", "LOCALHOST_NODE_PORTS"),
)  # fmt: skip
PORTS = range(50000, 50400)  # few, so that they are taken at times
FRONTENDS = (
    ("cluster_ip", PORT), ("external_ip", PORT), ("node", NODE_PORT), ("second", NODE_PORT), ("loopback", NODE_PORT),
)  # fmt: skip
XDP_DROP, XDP_PASS, XDP_TX, XDP_REDIRECT = 1, 2, 3, 4
HEADS = {b"\x08\x00": 34, b"\x86\xdd": 54}  # a run of tc refuses frames without as much


@dataclass
class Result:
    """How many packets had which end, what the datapath counted meanwhile, and how long it took."""

    ends: Counter[str] = field(default_factory=Counter)
    counted: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    @property
    def packets(self) -> int:
        return self.ends.total()

    def report(self) -> str:
        rate, of_cpu = (self.packets / seconds for seconds in (self.seconds, self.cpu_seconds))
        lines = [f"{self.packets:,} packets in {self.seconds:.1f} s: {rate:,.0f} a second, {of_cpu:,.0f} of CPU time"]
        lines += [f"{number:12,} {number / self.packets:6.1%}  {end}" for end, number in self.ends.most_common()]
        return "\n".join(lines)


class Fuzzer:
    """A node with Services of every kind, and packets for it; `epoch` of them between two new beginnings."""

    def __init__(self, node: Bench, seed: int, epoch: int = EPOCH) -> None:
        self.node, self.packets, self.epoch = node, Packets(seed), epoch
        self.random = self.packets.random
        self.frontends: dict[tuple[bytes, int, int], set[tuple[bytes, int]]] = {}
        programs = node.loaded.programs
        self.tc = {True: programs["plumbline_egress"], False: programs["plumbline_ingress"]}
        self.xdp = programs["plumbline_xdp"]
        self.contexts = {name: self._context(name) for name in (UPLINK, PODS, "lo")}
        self.result = Result()

    def _context(self, name: str) -> bytes:
        context = bytearray(CONTEXT_BYTES)
        struct.pack_into("=I", context, IFINDEX_AT, self.node.interfaces[name])
        return bytes(context)

    def _install(self, settings: Sequence[str]) -> None:
        """All anew: a ClusterIP, an empty one, a node port, a load balancer's IP with ranges and Local policy."""
        node = self.node
        node.reset()
        node.configure(*settings, masquerade_first=PORTS[0], masquerade_last=PORTS[-1])
        self.frontends.clear()
        node.restrict(1, "10.244.0.0/16", "172.18.0.0/16", "fd00::/8")
        for family, roles in ROLES.items():
            version = 4 if family == "IPv4" else 6
            named = ROLE_ADDRESSES[version]
            for address in (roles.cluster_ip, roles.external_ip):
                node.know(address, "IS_VIRTUAL", *(["IS_CLUSTER_IP"] if address == roles.cluster_ip else []))
            node.know(roles.second, "ON_NODE", "SERVES_NODE_PORTS")
            local = [node.endpoint(getattr(roles, name), TARGET) for name in ("pod", "other_pod")]
            remote = node.endpoint(roles.remote_pod, TARGET, "SERVING", "IN_CLUSTER")
            host = node.endpoint(roles.node, TARGET, "SERVING", "IN_CLUSTER", "IN_LOCAL", "ON_HOST")
            every = [*local, remote, host]
            ends = {(named[name], TARGET) for name in ("pod", "other_pod", "remote_pod", "node")}
            for protocol in PROTOCOLS:
                number = {"TCP": 6, "UDP": 17, "SCTP": 132}[protocol]
                node.frontend(roles.cluster_ip, PORT, protocol, cluster=every)
                node.frontend(roles.cluster_ip, 9, protocol)
                kind, flags = "LOAD_BALANCER", ["EXTERNAL_LOCAL", "RESTRICTED", "CLIENT_AFFINITY"]
                node.frontend(
                    roles.external_ip, PORT, protocol, cluster=every, local=local, kind=kind, flags=flags,
                    source_ranges=1, affinity_seconds=60, scheduler="ROUND_ROBIN",
                )  # fmt: skip
                scheduler, kind = "LEAST_CONNECTIONS", "NODE_PORT"
                node.frontend(
                    None, NODE_PORT, protocol, cluster=every, kind=kind, family=version, scheduler=scheduler
                )
                for name, port in FRONTENDS:
                    self.frontends[named[name], port, number] = ends

    def run(self, packets: int) -> Result:
        """So many packets. Raises WrongError with the first that was treated wrongly, in hexadecimal."""
        began, cpu = time.perf_counter(), time.process_time()
        check = Check(self.frontends, PORTS)
        for done in range(packets):
            if done % self.epoch == 0:
                self._settle()
                self._install(SETTINGS[done // self.epoch % len(SETTINGS)])
                check.forget()
                self.packets.known.clear()
            data = self.packets.make()
            try:
                self.result.ends[self._one(check, data)] += 1
            except WrongError as problem:
                raise WrongError(f"packet {done}: {problem}\n{data.hex()}") from None
            for flow in check.news:
                self.packets.remember(flow)
            check.news.clear()
        self._settle()
        self.result.seconds += time.perf_counter() - began
        self.result.cpu_seconds += time.process_time() - cpu
        return self.result

    def _one(self, check: Check, data: bytes) -> str:
        chance = self.random.random()
        if chance < 0.12 or len(data) < HEADS.get(data[12:14], 15):
            return self._xdp(check, data)
        out = chance < 0.35
        by = PODS if chance > 0.8 else "lo" if 0.12 <= chance < 0.17 else UPLINK
        sent = self.tc[out].run(data, ctx=self.contexts[by])
        if sent.retval == NEXT:
            return check.left_alone(data, sent.data)
        if sent.retval == DROP:
            return "dropped: an error" if check.unreadable(data) else "dropped"
        if sent.retval not in (PASS, REDIRECT):
            raise WrongError(f"the action {sent.retval} is none")
        if len(sent.data) != len(data) or (sent.data[14:] != data[14:] and self._is_refusal(data, sent.data)):
            return check.refused(data, sent.data)
        return check.rewritten(data, sent.data)

    def _is_refusal(self, before: bytes, after: bytes) -> bool:
        """A refusal can be as long as what it refuses, if that is long."""
        at, icmp, kinds = (
            (23, b"\x01", (b"\3\3", b"\x0b\0")) if before[12] == 8 else (20, b"\x3a", (b"\1\4", b"\3\0"))
        )
        start = 34 if before[12] == 8 else 54
        is_error = after[at : at + 1] == icmp and before[at : at + 1] != icmp
        return is_error and after[start : start + 2] in kinds

    def _xdp(self, check: Check, data: bytes) -> str:
        if len(data) < 15:
            return "too short to be run"
        sent = self.xdp.run(data)
        if sent.retval == XDP_PASS:
            check.left_alone(data, sent.data)
            return "XDP: left to tc"
        if sent.retval == XDP_DROP:
            check.unreadable(data)
            return "XDP: dropped"
        if sent.retval not in (XDP_TX, XDP_REDIRECT):
            raise WrongError(f"the action {sent.retval} is none")
        check.rewritten(data, sent.data)
        return "XDP: forwarded"

    def _settle(self) -> None:
        """Add what the datapath has counted since the last time, and compare: nothing happens uncounted."""
        counted, ends = self.result.counted, self.result.ends
        if self.frontends:
            counted.update(self.node.counted)
        dropped = sum(number for name, number in counted.items() if name.startswith("DROPPED_"))
        lost = ends["dropped: an error"]  # translated, and then there was no way
        pairs = {
            "dropped": (dropped, ends["dropped"] + lost + ends["XDP: dropped"]),
            "refused": (counted["REFUSALS_SENT"], ends["refused"]),
            "errors translated": (counted["ERRORS_TRANSLATED"], ends["rewritten: ICMP error"] + lost),
            "forwarded by XDP": (counted["XDP_FORWARDED"], ends["XDP: forwarded"]),
        }
        for name, (number, seen) in pairs.items():
            if number != seen:
                raise WrongError(f"{seen} packets were {name}, and {number} were counted")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.datapath.fuzz", description=__doc__)
    parser.add_argument("--packets", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--seed", type=int, default=None, help="of an earlier run, to repeat it")
    options = parser.parse_args(arguments)
    if options.packets < 1:
        parser.error(f"--packets must be at least 1, not {options.packets}")
    if os.geteuid() != 0:
        print("unfit: running packets through BPF programs needs root", file=sys.stderr)
        return 4
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(4))
    print(f"seed {seed}")
    network = Network()
    try:
        with network.entered(), Bench(sizes={"flows": 16384, "affinities": 4096}) as node:
            result = Fuzzer(node, seed).run(options.packets)
    except WrongError as problem:
        print(problem, file=sys.stderr)
        return 1
    finally:
        network.close()
    print(result.report())
    print(", ".join(f"{name} {number:,}" for name, number in sorted(result.counted.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
