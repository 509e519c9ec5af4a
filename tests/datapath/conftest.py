# SPDX-License-Identifier: Apache-2.0
"""Small BPF objects built for the tests, a bpffs, and two network namespaces joined by a veth pair:

near 10.78.0.1  ──veth──  10.78.0.2 far
"""

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from clusters.agent.netns import Namespaces
from dataplane_ref.build import SOURCE, BuildError, build, find
from dataplane_ref.loader import BpfObject, Loaded, LoadError, syscalls
from tests.datapath.bench import Bench
from tests.datapath.network import Network

FIXTURES = Path(__file__).parent / "fixtures"
NEAR, FAR, PORT = "10.78.0.1", "10.78.0.2", 7000
PREAMBLE = f'#include "{SOURCE}/maps.h"\nchar _license[] SEC("license") = "GPL";\n'
Compile = Callable[..., Path]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="unfit: needs root")


def as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("unfit: needs root")


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
    return done.stdout


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The object of fixtures/datapath.c."""
    try:
        find("zig")
    except BuildError as error:
        pytest.skip(f"unfit: {error}")
    data = build(FIXTURES)
    path = tmp_path_factory.mktemp("object") / "fixture.bpf.o"
    path.write_bytes(data)
    return path


@pytest.fixture
def compiled(built: Path, tmp_path: Path) -> Compile:
    """Makes an object of a few lines of C, behind an include of maps.h and a licence."""
    assert built  # that is, there is a compiler

    def compile_(text: str, *, preamble: str = PREAMBLE) -> Path:
        (tmp_path / "datapath.c").write_text(preamble + text)
        path = tmp_path / "small.bpf.o"
        path.write_bytes(build(tmp_path))
        return path

    return compile_


@pytest.fixture
def opened(built: Path) -> BpfObject:
    return BpfObject.open(built)


@pytest.fixture
def loaded(opened: BpfObject) -> Iterator[Loaded]:
    as_root()
    try:
        loaded = opened.load()
    except LoadError as error:
        if str(error) in (syscalls.NO_PERMISSION, syscalls.NO_BPF):
            pytest.skip(f"unfit: {error}")
        raise
    with loaded:
        yield loaded


@pytest.fixture
def loaded_small(opened: BpfObject) -> Iterator[Loaded]:
    """With maps that are soon full."""
    sizes = {"flows": 100, "source_ranges": 10, "members": 8}
    with opened.load(sizes=sizes, programs=[]) as loaded:
        yield loaded


@pytest.fixture
def pins(tmp_path: Path) -> Iterator[Path]:
    """A folder on a bpffs of the test's own."""
    as_root()
    mounted = tmp_path / "bpf"
    mounted.mkdir()
    run("mount", "-t", "bpf", "bpf", str(mounted))
    yield mounted / "plumbline"
    run("umount", "--lazy", str(mounted))


@dataclass(frozen=True)
class Wire:
    """Two namespaces and what is between them. `ifindex`: of the near end, in the near namespace."""

    near: str
    far: str
    ifindex: int

    @contextmanager
    def inside(self, name: str | None = None) -> Iterator[None]:
        """In the near namespace, or the one that is named."""
        namespaces = Namespaces()
        with namespaces.inside(namespaces.open(f"/run/netns/{name or self.near}")):
            yield

    def arrives(self, seconds: float = 0.3) -> bool:
        """Whether a datagram from the far end is received at the near end."""
        with self.inside():
            receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with self.inside(self.far):
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with receiver, sender:
            receiver.bind((NEAR, PORT))
            receiver.settimeout(seconds)
            sender.sendto(b"hello", (NEAR, PORT))
            try:
                return receiver.recv(16) == b"hello"
            except TimeoutError:
                return False

    def leaves(self) -> bool:
        """Whether the near end sends a datagram out; one that a program drops is an error of send(2) or none."""
        with self.inside():
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with self.inside(self.far):
            receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with receiver, sender:
            receiver.bind((FAR, PORT))
            receiver.settimeout(0.3)
            sender.sendto(b"hello", (FAR, PORT))
            try:
                return receiver.recv(16) == b"hello"
            except TimeoutError:
                return False


@pytest.fixture
def wire() -> Iterator[Wire]:
    as_root()
    near, far = f"plumb-{os.getpid()}-n", f"plumb-{os.getpid()}-f"
    made = []
    try:
        for name in (near, far):
            run("ip", "netns", "add", name)
            made.append(name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "-n", near, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", far)
        macs = {near: "02:00:00:00:78:01", far: "02:00:00:00:78:02"}
        for name, address in ((near, NEAR), (far, FAR)):
            run("ip", "-n", name, "link", "set", "eth0", "address", macs[name], "up")
            run("ip", "-n", name, "address", "add", f"{address}/24", "dev", "eth0")
        for name, peer, mac in ((near, FAR, macs[far]), (far, NEAR, macs[near])):
            run("ip", "-n", name, "neigh", "replace", peer, "lladdr", mac, "dev", "eth0", "nud", "permanent")
        ifindex = int(run("ip", "netns", "exec", near, "cat", "/sys/class/net/eth0/ifindex"))
        yield Wire(near, far, ifindex)
    finally:
        for name in made:
            run("ip", "netns", "del", name)


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    as_root()
    network = Network()
    yield network
    network.close()


@pytest.fixture(scope="session")
def loaded_bench(network: Network) -> Iterator[Bench]:
    with network.entered():
        bench = Bench(sizes={"flows": 4096, "affinities": 4096})  # small ones are soon emptied
        try:
            bench.__enter__()
        except LoadError as error:
            if str(error) in (syscalls.NO_PERMISSION, syscalls.NO_BPF):
                pytest.skip(f"unfit: {error}")
            raise
        assert bench.interfaces
    yield bench
    bench.__exit__()


@pytest.fixture
def node(loaded_bench: Bench, network: Network) -> Iterator[Bench]:
    """A node without Services, in its own network."""
    with network.entered():
        loaded_bench.reset()
        yield loaded_bench
