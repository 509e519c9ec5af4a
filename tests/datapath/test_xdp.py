# SPDX-License-Identifier: Apache-2.0
"""Node ports turned round before there is an skb: XDP on a node's uplink, with the endpoint on another machine.

client 10.78.1.2 ──veth── router ──veth── 10.78.3.2 server
                            └──veth── 10.78.2.2 node, whose end has the XDP program

A frame at XDP says nothing of checksums still to be computed, so client and server compute theirs.
"""

import ctypes
import fcntl
import json
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass

import pytest

from clusters.agent.netns import Namespaces
from dataplane_ref.controller import devices, objects
from dataplane_ref.controller.attach import Attachments
from dataplane_ref.controller.codec import Codec
from dataplane_ref.controller.netlink import read_interfaces
from dataplane_ref.controller.nodeview import node_ips
from dataplane_ref.controller.resources import NODES, SERVICES, SLICES, watched
from dataplane_ref.controller.settings import Settings
from dataplane_ref.controller.state import NodeDatapath
from dataplane_ref.loader import BpfObject, Loaded, LoadError, Program, syscalls
from dataplane_ref.loader.programs import load
from tests.datapath.conftest import as_root, run

NODE_PORT, PORT = 30080, 8080
PLACES = {"client": 1, "node": 2, "server": 3}
SIOCETHTOOL, ETHTOOL_STXCSUM = 0x8946, 0x17  # linux/sockios.h, linux/ethtool.h
XDP, XDP_PASS = 6, 2
FAMILIES = [pytest.param(4, id="IPv4"), pytest.param(6, id="IPv6")]


def address(place: str, family: int, *, host: int = 2) -> str:
    number = PLACES[place]
    return f"10.78.{number}.{host}" if family == 4 else f"fd00:10:78:{number}::{host}"


@dataclass(frozen=True)
class Net:
    """The four namespaces, and the datapath in the node's."""

    prefix: str
    spaces: Namespaces
    loaded: Loaded

    def socket(self, place: str, *arguments: int) -> socket.socket:
        with self.spaces.inside(self.spaces.open(f"/run/netns/{self.prefix}{place}")):
            made = socket.socket(*arguments)
        made.settimeout(3)
        return made

    def forwarded(self) -> int:
        key = BpfObject.open().enums["counter"]["XDP_FORWARDED"].to_bytes(4, "little")
        return sum(int.from_bytes(each, "little") for each in self.loaded.maps["counters"].per_cpu(key))


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    as_root()
    prefix, spaces = f"plumb-{os.getpid()}-x", Namespaces()
    with ExitStack() as stack:
        for name in ("router", *PLACES):
            run("ip", "netns", "add", prefix + name)
            stack.callback(run, "ip", "netns", "del", prefix + name)
            run("ip", "-n", prefix + name, "link", "set", "lo", "up")
        for name in ("router", "node"):
            inside = ("ip", "netns", "exec", prefix + name, "sysctl", "-qw")
            run(*inside, "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        for place in PLACES:
            _join(prefix, place)
        for place in ("client", "server"):
            with spaces.inside(spaces.open(f"/run/netns/{prefix}{place}")):
                _compute_checksums("eth0")
        yield stack.enter_context(closing(_Served(prefix, spaces, stack))).net


class _Served:
    """The datapath on the node, attached natively."""

    def __init__(self, prefix: str, spaces: Namespaces, stack: ExitStack) -> None:
        # Whoever takes frames from another's XDP needs a program too: a driver's, in the case of a veth.
        passing = struct.pack("<BBhiBBhi", 0xB7, 0, 0, XDP_PASS, 0x95, 0, 0, 0)
        attributes = syscalls.ProgramLoad(prog_type=XDP, insn_cnt=2, insns=passing, license=b"GPL")
        passes = stack.enter_context(closing(Program(load(attributes, "pass"), "pass", XDP)))
        with spaces.inside(spaces.open(f"/run/netns/{prefix}router")):
            stack.enter_context(closing(passes.attach_xdp(socket.if_nametoindex("node"), "native")))
        bpf = BpfObject.open()
        loaded = stack.enter_context(bpf.load())
        settings = Settings(node="node", cluster_cidrs=("10.244.0.0/16", "fd00:10:244::/48"))
        datapath = NodeDatapath(loaded.maps, Codec(bpf), settings, pytest.fail)
        with spaces.inside(spaces.open(f"/run/netns/{prefix}node")):
            datapath.see(read_interfaces())
            for resource in watched("node"):
                items = objects.list_decoder.decode(_listed()[resource.name]).items or ()
                datapath.replace(resource.name, dict(filter(None, map(resource.convert, items))))
            datapath.program()
            attachments = stack.enter_context(closing(Attachments(loaded.programs, "native", None, pytest.fail)))
            wanted = devices.hooks(datapath.interfaces, node_ips(datapath.node).values(), "native")
            assert "xdp" in {hook for _, hook in wanted}
            try:
                attachments.follow(wanted, datapath.interfaces)
            except LoadError as error:
                pytest.skip(f"unfit: {error}")
        self.net = Net(prefix, spaces, loaded)

    def close(self) -> None:
        """What it holds is the stack's."""


def _join(prefix: str, place: str) -> None:
    """A link between a place and the router, whose neighbours know each other."""
    router, name = prefix + "router", prefix + place
    macs = {"router": f"02:00:00:00:{PLACES[place]:02x}:01", place: f"02:00:00:00:{PLACES[place]:02x}:02"}
    run("ip", "-n", router, "link", "add", place, "type", "veth", "peer", "name", "eth0", "netns", name)
    for space, device, host, key in ((router, place, 1, "router"), (name, "eth0", 2, place)):
        run("ip", "-n", space, "link", "set", device, "address", macs[key], "up")
        for family, bits in ((4, 24), (6, 64)):
            own = f"{address(place, family, host=host)}/{bits}"
            run("ip", "-n", space, "address", "add", own, "dev", device, *(["nodad"] if family == 6 else []))
    for family in (4, 6):
        ends = ((name, "eth0", 1, "router"), (router, place, 2, place))
        for space, device, host, key in ends:
            peer = address(place, family, host=host)
            to = ("lladdr", macs[key], "dev", device, "nud", "permanent")
            run("ip", "-n", space, "neigh", "replace", peer, *to)
        run("ip", "-n", name, f"-{family}", "route", "add", "default", "via", address(place, family, host=1))


def _compute_checksums(device: str) -> None:
    """Have an interface's packets leave with their checksums computed (ethtool -K tx off)."""
    value = bytearray(struct.pack("=II", ETHTOOL_STXCSUM, 0))
    held = (ctypes.c_char * len(value)).from_buffer(value)
    request = struct.pack("16sP16x", device.encode(), ctypes.addressof(held))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        fcntl.ioctl(asked, SIOCETHTOOL, request)


def _listed() -> dict[str, bytes]:
    """One Service with a node port for TCP and UDP in both families, whose endpoint is the server."""
    metadata = {"name": "s", "namespace": "default", "resourceVersion": "1"}
    ports = [{"name": name, "protocol": name.upper(), "port": 80, "nodePort": NODE_PORT} for name in ("tcp", "udp")]
    vips = ["10.96.0.7", "fd00:10:96::7"]
    spec = {
        "type": "NodePort",
        "clusterIP": vips[0],
        "clusterIPs": vips,
        "ipFamilies": ["IPv4", "IPv6"],
        "ports": ports,
    }
    slices: list[dict[str, object]] = [
        {
            "metadata": {**metadata, "name": f"s-{family}", "labels": {"kubernetes.io/service-name": "s"}},
            "addressType": f"IPv{family}",
            "ports": [{"name": name, "protocol": name.upper(), "port": PORT} for name in ("tcp", "udp")],
            "endpoints": [{"addresses": [address("server", family)], "conditions": {"ready": True}}],
        }
        for family in (4, 6)
    ]
    addresses = [{"type": "InternalIP", "address": address("node", family)} for family in (4, 6)]
    node = {"metadata": {"name": "node"}, "status": {"addresses": addresses}}
    listed: dict[str, list[dict[str, object]]] = {
        SERVICES: [{"metadata": metadata, "spec": spec}],
        SLICES: slices,
        NODES: [node],
    }
    return {
        name: json.dumps({"metadata": {"resourceVersion": "1"}, "items": items}).encode()
        for name, items in listed.items()
    }


def _kind(family: int) -> int:
    return socket.AF_INET if family == 4 else socket.AF_INET6


def _skipped(watching: socket.socket) -> int:
    """How many packets came up past XDP: those of packet(7)."""
    watching.setblocking(False)
    count = 0
    try:
        while True:
            _, where = watching.recvfrom(64)
            count += where[2] == socket.PACKET_HOST
    except BlockingIOError:
        return count


@pytest.mark.parametrize("family", FAMILIES)
def test_a_stream_through_a_node_port_is_forwarded_below_the_stack(net: Net, family: int) -> None:
    payload = os.urandom(1 << 20)
    before = net.forwarded()
    with (
        net.socket("server", _kind(family), socket.SOCK_STREAM) as listener,
        net.socket("client", _kind(family), socket.SOCK_STREAM) as client,
        net.socket("node", socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3)) as watching,
    ):
        listener.bind((address("server", family), PORT))
        listener.listen()
        answering = threading.Thread(target=_echo, args=(listener, len(payload)))
        answering.start()
        client.connect((address("node", family), NODE_PORT))
        sending = threading.Thread(target=client.sendall, args=(payload,))
        sending.start()
        received = b""
        while len(received) < len(payload) and (some := client.recv(1 << 16)):
            received += some
        sending.join()
        answering.join()
        assert received == payload
        came_up = _skipped(watching)
    assert net.forwarded() - before > 1000  # a packet has 1,460 bytes at most
    assert came_up < 10  # the first of each direction, and what is not of the flow


def _echo(listener: socket.socket, size: int) -> None:
    accepted, _ = listener.accept()
    with accepted:
        accepted.settimeout(3)
        while size and (some := accepted.recv(1 << 16)):
            size -= len(some)
            accepted.sendall(some)


@pytest.mark.parametrize("family", FAMILIES)
def test_datagrams_through_a_node_port_are_forwarded_below_the_stack(net: Net, family: int) -> None:
    before = net.forwarded()
    with (
        net.socket("server", _kind(family), socket.SOCK_DGRAM) as server,
        net.socket("client", _kind(family), socket.SOCK_DGRAM) as client,
    ):
        server.bind((address("server", family), PORT))
        for number in range(10):
            sent = os.urandom(100 * number)
            client.sendto(sent, (address("node", family), NODE_PORT))
            received, source = server.recvfrom(2048)
            assert (received, source[0]) == (sent, address("node", family))
            server.sendto(received[::-1], source)
            received, source = client.recvfrom(2048)
            assert (received, source[:2]) == (sent[::-1], (address("node", family), NODE_PORT))
    assert net.forwarded() - before >= 18  # all but the first there and the first back
