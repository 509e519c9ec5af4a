# SPDX-License-Identifier: Apache-2.0
"""A small announcer that does what is required, or one thing wrong: `python -m tests.announcer.announcer …`.

One runs on each node. It polls the API, hears from its peers by UDP who is alive, and answers ARP and NDP by a packet
socket. Who leads is the first by a hash of node and address, of those that may. Lies are named by what they do.
"""

import argparse
import hashlib
import select
import socket
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from typing import Any

import urllib3

Object = dict[str, Any]
PORT, BEAT, DEAD_AFTER, POLL = 7946, 0.1, 1.0, 0.1
EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"
ARP, IPV6, ALL = 0x0806, 0x86DD, 0x0003
BROADCAST, ALL_NODES = b"\xff" * 6, bytes.fromhex("333300000001")
# packet(7): join as a listener to all multicast frames, which questions by NDP are.
PACKET_ADD_MEMBERSHIP, PACKET_MR_ALLMULTI = 1, 2
SOLICITATION, ADVERTISEMENT = 135, 136
LIES = (
    *("everyone-answers", "elects-by-service", "ignores-endpoints", "never-withdraws", "only-ready", "any-class"),
    *("ignores-exclusion", "fails-over-never", "says-nothing-unasked"),
)


@dataclass(slots=True)
class Announcer:
    """One node's: what it knows of the cluster, and which addresses it has."""

    node: str
    mac: bytes
    balancer_class: str
    server: str
    peers: dict[str, str]
    lies: frozenset[str]
    heard: dict[str, float] = field(default_factory=dict)
    mine: frozenset[str] = frozenset()

    def alive(self) -> set[str]:
        now = time.monotonic()
        living = {name for name, when in self.heard.items() if now - when < DEAD_AFTER}
        return {*self.peers, self.node} if "fails-over-never" in self.lies else living | {self.node}

    def decide(self) -> frozenset[str]:
        """The addresses that this node has to answer for."""
        services, slices, nodes = (self._list(path) for path in PATHS)
        excluded = {one["metadata"]["name"] for one in nodes if EXCLUDED in (one["metadata"].get("labels") or {})}
        eligible = self.alive() - (set() if "ignores-exclusion" in self.lies else excluded)
        candidates: dict[tuple[str, str], set[str]] = {}
        for service in services:
            spec, name = service["spec"], service["metadata"]["name"]
            if spec.get("loadBalancerClass") != self.balancer_class and "any-class" not in self.lies:
                continue
            for item in (service.get("status", {}).get("loadBalancer") or {}).get("ingress") or ():
                seed = name if "elects-by-service" in self.lies else item["ip"]
                candidates.setdefault((item["ip"], seed), set()).update(self._may(service, slices, eligible))
        ours = {ip for (ip, seed), may in candidates.items() if self._leads(may, seed)}
        return frozenset(ours | (self.mine if "never-withdraws" in self.lies else set()))

    def _may(self, service: Object, slices: list[Object], eligible: set[str]) -> set[str]:
        name = service["metadata"]["name"]
        own = [one for one in slices if one["metadata"]["labels"].get("kubernetes.io/service-name") == name]
        holding = {
            endpoint.get("nodeName")
            for one in own
            for endpoint in one["endpoints"] or ()
            if self._counts(endpoint.get("conditions") or {})
        }
        if "ignores-endpoints" in self.lies:
            return eligible
        is_local = service["spec"].get("externalTrafficPolicy") == "Local"
        return eligible & holding if is_local else eligible if holding else set()

    def _counts(self, conditions: Object) -> bool:
        ready = conditions.get("ready") is not False
        return ready if "only-ready" in self.lies else ready or conditions.get("serving") is True

    def _leads(self, may: set[str], seed: str) -> bool:
        if "everyone-answers" in self.lies:
            return self.node in may
        first = min(may, key=lambda name: hashlib.sha256(f"{name}#{seed}".encode()).digest(), default=None)
        return first == self.node

    def _list(self, path: str) -> list[Object]:
        items: list[Object] = urllib3.request("GET", self.server + path, timeout=5.0).json()["items"]
        return items


PATHS = (
    "/api/v1/namespaces/default/services",
    "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
    "/api/v1/nodes",
)


def arp(mac: bytes, ip: str, to_mac: bytes, to_ip: str, *, reply: bool) -> bytes:
    """A frame that says at which MAC an IPv4 address is."""
    ends = (mac, ip_address(ip).packed, bytes(6) if to_mac == BROADCAST else to_mac, ip_address(to_ip).packed)
    body = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 2 if reply else 1, *ends)
    return to_mac + mac + struct.pack("!H", ARP) + body


def advertisement(mac: bytes, ip: str, to_mac: bytes, to_ip: str, *, solicited: bool) -> bytes:
    """The same for an IPv6 address."""
    source = IPv6Address(ip).packed
    flags = (0x40000000 if solicited else 0) | 0x20000000
    body = struct.pack("!BBHI16sBB6s", ADVERTISEMENT, 0, 0, flags, source, 2, 1, mac)
    target = IPv6Address(to_ip).packed
    total = sum(
        struct.unpack(f"!{(40 + len(body)) // 2}H", source + target + struct.pack("!II", len(body), 58) + body)
    )
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    body = body[:2] + struct.pack("!H", ~total & 0xFFFF) + body[4:]
    return to_mac + mac + struct.pack("!HIHBB", IPV6, 6 << 28, len(body), 58, 255) + source + target + body


def answer(frame: bytes, announcer: Announcer) -> bytes | None:
    """The answer to a question that a frame may hold; None where it is none of ours."""
    kind, asker = struct.unpack_from("!H", frame, 12)[0], frame[6:12]
    if kind == ARP and len(frame) >= 42 and frame[20:22] == b"\0\1":
        wanted, by = str(ip_address(frame[38:42])), str(ip_address(frame[28:32]))
        if wanted in announcer.mine and by != wanted:
            return arp(announcer.mac, wanted, asker, by, reply=True)
    if kind == IPV6 and len(frame) >= 78 and frame[20] == 58 and frame[54] == SOLICITATION:
        wanted, by = str(IPv6Address(frame[62:78])), str(IPv6Address(frame[22:38]))
        if wanted in announcer.mine:
            return advertisement(announcer.mac, wanted, asker, by, solicited=True)
    return None


def unasked(mac: bytes, ips: Iterable[str]) -> list[bytes]:
    """Frames that make it known where addresses are now."""
    return [
        advertisement(mac, ip, ALL_NODES, "ff02::1", solicited=False)
        if ":" in ip
        else arp(mac, ip, BROADCAST, ip, reply=False)
        for ip in ips
    ]


def serve(announcer: Announcer, interface: str, address: str) -> None:
    """Until killed."""
    members = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    members.bind((address, PORT))
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL))
    wire.bind((interface, ALL))
    everything = struct.pack("iHH8s", socket.if_nametoindex(interface), PACKET_MR_ALLMULTI, 0, b"")
    wire.setsockopt(263, PACKET_ADD_MEMBERSHIP, everything)  # SOL_PACKET
    next_beat = next_poll = 0.0
    announcer.heard = dict.fromkeys(announcer.peers, time.monotonic())
    while True:
        now = time.monotonic()
        if now >= next_beat:
            next_beat = now + BEAT
            for peer in announcer.peers.values():
                members.sendto(announcer.node.encode(), (peer, PORT))
        if now >= next_poll:
            before, announcer.mine = announcer.mine, announcer.decide()
            if "says-nothing-unasked" not in announcer.lies:
                _send_all(wire.send, unasked(announcer.mac, sorted(announcer.mine - before)))
            next_poll = time.monotonic() + POLL
        for ready in select.select([members, wire], [], [], 0.02)[0]:
            if ready is members:
                announcer.heard[members.recv(256).decode()] = time.monotonic()
            else:
                frame, where = wire.recvfrom(2048)
                said = answer(frame, announcer) if where[2] != socket.PACKET_OUTGOING else None
                _send_all(wire.send, [said] if said else [])


def _send_all(send: Callable[[bytes], int], frames: Iterable[bytes]) -> None:
    for frame in frames:
        send(frame)


def main() -> None:
    parser = argparse.ArgumentParser()
    for option in ("--node", "--mac", "--interface", "--address", "--peers", "--class", "--server"):
        parser.add_argument(option, required=True)
    parser.add_argument("--lie", action="append", default=[], choices=LIES)
    given = vars(parser.parse_args())
    peers = dict(pair.split("=") for pair in given["peers"].split(",") if pair)
    mac = bytes.fromhex(given["mac"].replace(":", ""))
    announcer = Announcer(given["node"], mac, given["class"], given["server"], peers, frozenset(given["lie"]))
    serve(announcer, given["interface"], given["address"])


if __name__ == "__main__":
    main()
