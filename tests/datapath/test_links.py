# SPDX-License-Identifier: Apache-2.0
"""Programs at interfaces: that packets pass through them, what is left when a process dies, what pins keep."""

import errno
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dataplane_ref.loader import (
    BpfObject,
    Link,
    Loaded,
    LoadError,
    NoTcxError,
    PinnedLayoutError,
    Program,
    clsact,
    links,
    syscalls,
)
from dataplane_ref.loader import pins as pinned_maps
from tests.datapath.conftest import Compile, Wire, run
from tests.datapath.test_loader import counts

TOP = Path(__file__).parents[2]
NOWHERE = 99999  # no interface has this index
WAYS = ["attach_tcx", "attach_clsact"]


def attach(program: Program, way: str, ifindex: int, direction: str) -> Link:
    link = getattr(program, way)(ifindex, direction)
    assert isinstance(link, Link)
    return link


@pytest.mark.parametrize("way", WAYS)
def test_what_comes_in_passes_through_the_program(loaded: Loaded, wire: Wire, way: str) -> None:
    with wire.inside(), attach(loaded.programs["plumbline_ingress"], way, wire.ifindex, "ingress") as link:
        before = counts(loaded, 0)
        assert wire.arrives()
        assert counts(loaded, 0) > before
        assert link.is_attached()
    seen = counts(loaded, 0)
    assert wire.arrives()
    assert counts(loaded, 0) == seen


@pytest.mark.parametrize("way", WAYS)
def test_what_goes_out_can_be_dropped(loaded: Loaded, wire: Wire, way: str) -> None:
    assert wire.leaves()
    with wire.inside():
        link = attach(loaded.programs["plumbline_egress"], way, wire.ifindex, "egress")
    assert not wire.leaves()
    assert counts(loaded, 1) > 0
    with wire.inside():
        link.close()
    assert wire.leaves()


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_xdp_sees_packets(loaded: Loaded, wire: Wire, mode: str) -> None:
    with wire.inside(), loaded.programs["plumbline_xdp"].attach_xdp(wire.ifindex, mode):  # type: ignore[arg-type]
        assert wire.arrives()
        assert counts(loaded, 2) > 0


@pytest.mark.parametrize("way", WAYS)
def test_another_program_takes_the_place_of_one(loaded: Loaded, wire: Wire, way: str) -> None:
    with wire.inside(), attach(loaded.programs["plumbline_ingress"], way, wire.ifindex, "ingress") as link:
        link.update(loaded.programs["plumbline_egress"])
        assert not wire.arrives()
        link.update(loaded.programs["plumbline_ingress"])
        assert wire.arrives()


@pytest.mark.parametrize("way", [*WAYS, "attach_xdp"])
def test_an_interface_that_goes_takes_the_link_along(loaded: Loaded, wire: Wire, way: str) -> None:
    with wire.inside():
        if way == "attach_xdp":
            link: Link = loaded.programs["plumbline_xdp"].attach_xdp(wire.ifindex, "generic")
        else:
            link = attach(loaded.programs["plumbline_ingress"], way, wire.ifindex, "ingress")
        run("ip", "link", "del", "eth0")
        assert not link.is_attached()
        link.detach()
        link.detach()


CHILD = """
import sys; from pathlib import Path; from dataplane_ref.loader import BpfObject
object_, ifindex, pins = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None
loaded = BpfObject.open(object_).load(pins=pins)
links = [loaded.programs["plumbline_egress"].attach_tcx(ifindex, "ingress"),
         loaded.programs["plumbline_xdp"].attach_xdp(ifindex, "generic")]
print("attached", flush=True)
sys.stdin.read()
"""


def killed_after_attaching(wire: Wire, built: Path, *pins: Path) -> None:
    """A process of its own attaches programs that drop everything, and is killed."""
    argv = ["ip", "netns", "exec", wire.near, sys.executable, "-c", CHILD, str(built), str(wire.ifindex)]
    with subprocess.Popen(
        [*argv, *map(str, pins)], cwd=TOP, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "attached\n"
        assert not wire.arrives()
        child.send_signal(signal.SIGKILL)


def attached(wire: Wire) -> str:
    return run("ip", "-n", wire.near, "-details", "link", "show", "eth0")


def test_nothing_stays_when_the_process_is_killed(wire: Wire, built: Path) -> None:
    killed_after_attaching(wire, built)
    assert wait_for_arrival(wire)
    assert "xdp" not in attached(wire)


def wait_for_arrival(wire: Wire) -> bool:
    """The kernel lets go of a dead process's links a moment after wait(2) has told of it."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if wire.arrives(0.1):
            return True
    return False


# ---- Pins --------------------------------------------------------------------------------------------------------


def test_pinned_maps_are_taken_over(opened: BpfObject, pins: Path) -> None:
    with opened.load(pins=pins) as first:
        assert not any(one.is_adopted for one in first.maps.values())
        first.maps["devices"].put(bytes(4), b"kept")
    with opened.load(pins=pins) as second:
        assert all(one.is_adopted for one in second.maps.values())
        assert second.maps["devices"].get(bytes(4)) == b"kept"
    (pins / "devices").unlink()
    with opened.load(pins=pins) as third:
        assert [name for name, one in third.maps.items() if not one.is_adopted] == ["devices"]
        assert third.maps["devices"].get(bytes(4)) is None


def test_pinned_links_outlive_a_killed_process_and_are_taken_over(
    wire: Wire, built: Path, opened: BpfObject, pins: Path
) -> None:
    killed_after_attaching(wire, built, pins)
    assert not wire.arrives()
    names = {f"link-{wire.ifindex}-ingress", f"link-{wire.ifindex}-xdp"}
    assert {path.name for path in pins.glob("link-*")} == names
    with opened.load(pins=pins) as loaded, wire.inside():
        link = loaded.programs["plumbline_ingress"].attach_tcx(wire.ifindex, "ingress")
        xdp = loaded.programs["plumbline_xdp"].attach_xdp(wire.ifindex, "generic")
        assert link.is_adopted
        assert xdp.is_adopted
        assert wire.arrives()  # the link has the other program now
        assert counts(loaded, 0) > 0
        link.detach()
        xdp.detach()
    assert not list(pins.glob("link-*"))
    assert "xdp" not in attached(wire)


def test_the_pin_of_an_interface_that_has_gone_is_replaced(wire: Wire, opened: BpfObject, pins: Path) -> None:
    with opened.load(pins=pins) as loaded, wire.inside():
        loaded.programs["plumbline_ingress"].attach_tcx(wire.ifindex, "ingress").close()
        run("ip", "link", "del", "eth0")
        run("ip", "link", "add", "eth0", "index", str(wire.ifindex), "type", "veth", "peer", "name", "eth1")
        link = loaded.programs["plumbline_ingress"].attach_tcx(wire.ifindex, "ingress")
        assert not link.is_adopted
        assert link.is_attached()
        link.detach()


def test_a_pinned_filter_stays_when_its_link_is_closed(wire: Wire, opened: BpfObject, pins: Path) -> None:
    with opened.load(pins=pins) as loaded, wire.inside():
        link = loaded.programs["plumbline_egress"].attach_clsact(wire.ifindex, "ingress")
        link.close()
        assert not wire.arrives()
        loaded.programs["plumbline_egress"].attach_clsact(wire.ifindex, "ingress").detach()
        assert wire.arrives()


def test_a_map_pinned_with_another_layout(opened: BpfObject, pins: Path) -> None:
    with opened.load(pins=pins):
        pass
    with pytest.raises(PinnedLayoutError) as caught:
        opened.load(pins=pins, sizes={"flows": 77})
    assert str(caught.value) == (
        f"the map pinned at {pins}/flows has number of entries 524288 and this object's has 77: "
        f"remove {pins} to start anew"
    )


def test_a_map_pinned_with_other_entries_of_the_same_size(
    loaded: Loaded, compiled: Compile, pins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel keeps the types that a map was made with; without the right to see them sizes have to do."""
    assert loaded  # that is, BPF may be loaded
    text = (
        "struct one { __u32 first; __u16 %s; __u16 %s; };\nMAP(things, BPF_MAP_TYPE_HASH, __u32, struct one, 8, 0);\n"
        'SEC("tc/x") int f(struct __sk_buff *skb) { __u32 k = 0; return !map_lookup(&things, &k); }'
    )
    for _ in range(2):
        with BpfObject.open(compiled(text % ("second", "third"))).load(pins=pins) as loaded:
            loaded.maps["things"].put(bytes(4), bytes(8))
    swapped = BpfObject.open(compiled(text % ("third", "second")))
    with pytest.raises(PinnedLayoutError) as caught:
        swapped.load(pins=pins)
    assert str(caught.value) == (
        f"the map pinned at {pins}/things has entries that look different from this object's: "
        f"remove {pins} to start anew"
    )

    def bpf(command: int, attributes: object) -> int:
        if command == syscalls.BTF_GET_FD_BY_ID:
            raise OSError(errno.EPERM, "not permitted")
        return syscalls.bpf(command, attributes)  # type: ignore[arg-type]

    monkeypatch.setattr(pinned_maps, "bpf", bpf)
    with swapped.load(pins=pins) as taken:
        assert taken.maps["things"].is_adopted


def test_pins_need_a_bpffs(loaded: Loaded, opened: BpfObject, tmp_path: Path) -> None:
    assert loaded
    folder = tmp_path / "pins"
    with pytest.raises(LoadError, match=re.escape(f"{folder} is on no bpffs: type mount -t bpf bpf {folder}")):
        opened.load(pins=folder)
    (tmp_path / "file").touch()
    with pytest.raises(LoadError, match=re.escape(f"{tmp_path}/file/pins cannot be made: Not a directory")):
        opened.load(pins=tmp_path / "file" / "pins")


def test_a_file_in_the_place_of_a_pin(loaded: Loaded, opened: BpfObject, tmp_path: Path) -> None:
    assert loaded
    (tmp_path / "flows").touch()
    with pytest.raises(LoadError, match=re.escape(f"what is pinned at {tmp_path}/flows cannot be opened: ")):
        opened.load(pins=tmp_path)


# ---- Refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [*WAYS, "attach_tc"])
def test_no_such_interface(loaded: Loaded, wire: Wire, way: str) -> None:
    sentence = f"there is no interface with index {NOWHERE} here"
    with wire.inside(), pytest.raises(LoadError, match=sentence):
        attach(loaded.programs["plumbline_ingress"], way, NOWHERE, "ingress")
    with wire.inside(), pytest.raises(LoadError, match=sentence):
        loaded.programs["plumbline_xdp"].attach_xdp(NOWHERE, "generic")


def test_xdp_twice(loaded: Loaded, wire: Wire) -> None:
    xdp = loaded.programs["plumbline_xdp"]
    with wire.inside(), xdp.attach_xdp(wire.ifindex, "generic"):
        sentence = f"interface {wire.ifindex} has an XDP program already: detach that one first"
        with pytest.raises(LoadError, match=sentence):
            xdp.attach_xdp(wire.ifindex, "generic")


def test_a_driver_without_xdp(loaded: Loaded, wire: Wire) -> None:
    with (
        wire.inside(),
        pytest.raises(LoadError, match="the driver of interface 1 has no XDP of its own"),
    ):
        loaded.programs["plumbline_xdp"].attach_xdp(1, "native")


def test_a_kernel_without_tcx_gets_a_filter(loaded: Loaded, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    def bpf(command: int, attributes: object) -> int:
        if command == syscalls.LINK_CREATE:
            raise OSError(errno.EINVAL, "as kernels before 6.6 say")
        return syscalls.bpf(command, attributes)  # type: ignore[arg-type]

    monkeypatch.setattr(links, "bpf", bpf)
    ingress = loaded.programs["plumbline_ingress"]
    with wire.inside():
        with pytest.raises(NoTcxError, match=re.escape(f"this kernel ({os.uname().release}) lacks TCX: ")):
            ingress.attach_tcx(wire.ifindex, "ingress")
        with ingress.attach_tc(wire.ifindex, "ingress"):
            assert wire.arrives()
            assert counts(loaded, 0) > 0


def test_a_program_of_another_type(loaded: Loaded, wire: Wire) -> None:
    """An XDP program is no filter."""
    xdp = loaded.programs["plumbline_xdp"]
    sentence = f"interface {wire.ifindex} takes no tc filter at ingress: Invalid argument"
    with wire.inside(), pytest.raises(LoadError, match=sentence):
        xdp.attach_clsact(wire.ifindex, "ingress")


def test_without_permission(loaded: Loaded, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.EPERM, "not permitted")

    monkeypatch.setattr(links, "bpf", refuse)
    monkeypatch.setattr(clsact, "_request", refuse)
    for way in WAYS:
        with pytest.raises(LoadError, match=re.escape(syscalls.NO_PERMISSION)):
            attach(loaded.programs["plumbline_ingress"], way, wire.ifindex, "ingress")
    with pytest.raises(LoadError, match=re.escape(syscalls.NO_PERMISSION)):
        clsact.detach(wire.ifindex, "ingress")


def test_other_filters_are_left_alone(loaded: Loaded, wire: Wire) -> None:
    """Somebody else's clsact and filter are there before and after."""
    rules = ("dev", "eth0", "ingress", "protocol", "ip", "prio", "1", "u32", "match", "u32", "0", "0")
    with wire.inside():
        run("tc", "qdisc", "add", "dev", "eth0", "clsact")
        run("tc", "filter", "add", *rules, "classid", "1:1")
        loaded.programs["plumbline_ingress"].attach_clsact(wire.ifindex, "ingress").close()
        shown = run("tc", "filter", "show", "dev", "eth0", "ingress")
    assert "u32" in shown
    assert "bpf" not in shown
