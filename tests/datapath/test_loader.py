# SPDX-License-Identifier: Apache-2.0
"""Objects: what is read of them, how programs are put together and run, and each refusal in one sentence."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dataplane_ref.build import SOURCE
from dataplane_ref.loader import (
    OBJECT,
    BpfObject,
    Layout,
    Loaded,
    LoadError,
    explain,
    layouts,
    programs,
    syscalls,
    types,
)
from dataplane_ref.loader.elf import Elf
from tests.datapath.conftest import Compile, needs_root

TOP = Path(__file__).parents[2]
PACKET = bytes(range(64))


def counts(loaded: Loaded, index: int) -> int:
    values = loaded.maps["counters"].per_cpu(index.to_bytes(4, "little"))
    return sum(int.from_bytes(value, "little") for value in values)


# ---- What is read ------------------------------------------------------------------------------------------------


def test_layouts_are_what_the_compiler_says(compiled: Compile) -> None:
    """sizeof and offsetof of every structure of types.h, worked out by the compiler into a section of constants."""
    known = layouts()
    names = re.findall(r"^struct (\w+) \{", (SOURCE / "types.h").read_text(), re.MULTILINE)
    assert len(names) > 15
    questions = [(name, field) for name in names for field in (None, *known[name].fields)]
    asked = ", ".join(
        f"__builtin_offsetof(struct {name}, {field}), sizeof(((struct {name} *)0)->{field})"
        if field
        else f"sizeof(struct {name}), 0"
        for name, field in questions
    )
    object_ = compiled(f'const __u32 known[] SEC("facts") = {{{asked}}};\n')
    section = Elf(object_.read_bytes()).section("facts")
    assert section is not None
    answers = memoryview(section.data).cast("I").tolist()
    for (name, field), first, second in zip(questions, answers[::2], answers[1::2], strict=True):
        if field is None:
            assert known[name].size == first, name
        else:
            assert (known[name].fields[field].offset, known[name].fields[field].size) == (first, second), (
                name,
                field,
            )


def test_every_enum_of_the_datapath_can_be_read() -> None:
    names = re.findall(r"^enum (\w+) \{", (SOURCE / "types.h").read_text(), re.MULTILINE)
    enums = BpfObject.open().enums
    assert set(names) <= set(enums)
    assert enums["endpoint_flag"] == {"SERVING": 1, "IN_CLUSTER": 2, "IN_LOCAL": 4, "ON_HOST": 8}
    assert enums["counter"]["COUNTERS"] == enums["counter"]["DROPPED_INCONSISTENT"] + 1


def test_numbers_are_packed_in_the_order_their_type_says(opened: BpfObject) -> None:
    packed = opened.layouts["frontend_key"].pack(address={"words": b"a" * 16}, port=80, protocol=6, family=4)
    assert packed == b"a" * 16 + b"\x00\x50\x06\x04"
    assert opened.layouts["frontend_key"].unpack(packed) == {
        "address": {"words": b"a" * 16},
        "port": 80,
        "protocol": 6,
        "family": 4,
    }


def test_structures_within_structures_and_arrays(opened: BpfObject) -> None:
    frontend = opened.layouts["frontend"]
    packed = frontend.pack(cluster={"first": 7, "count": 2}, flags=0x102, local=b"\x01" * 8)
    assert frontend.unpack(packed)["cluster"] == {"first": 7, "count": 2}
    assert frontend.unpack(packed)["local"] == {"first": 0x01010101, "count": 0x01010101}
    assert frontend.field("cluster.count").offset == frontend.fields["cluster"].offset + 4
    tables = opened.layouts["crc_tables"]
    assert tables.unpack(tables.pack(after=range(16 * 4 * 256)))["after"] == tuple(range(16 * 4 * 256))


def test_many_values_are_packed_by_a_struct(opened: BpfObject) -> None:
    endpoint: Layout = opened.layouts["endpoint"]
    fast = endpoint.struct("address", "port", "flags", "service_port", "weight")
    assert fast.size == endpoint.size
    packed = fast.pack(b"x" * 16, b"\x00\x50", 3, 9, 1)
    assert packed == endpoint.pack(address=b"x" * 16, port=80, flags=3, service_port=9, weight=1)
    with pytest.raises(ValueError, match="struct endpoint has address before what was named before it"):
        endpoint.struct("port", "address")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"prot": 6}, "struct frontend_key has no prot: it has address, port, protocol, family"),
        ({"protocol": 256}, "protocol cannot be 256"),
        ({"port": "http"}, "port cannot be 'http'"),
        ({"address": b"abcd"}, "address has 16 bytes, not 4"),
        ({"address": {"words": 7}}, "words is 16 bytes, not 7"),
    ],
)
def test_what_does_not_fit_is_said(opened: BpfObject, values: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        opened.layouts["frontend_key"].pack(**values)


def test_too_few_bytes_are_no_structure(opened: BpfObject) -> None:
    with pytest.raises(ValueError, match="struct frontend has 32 bytes, not 31"):
        opened.layouts["frontend"].unpack(bytes(31))


def test_the_import_is_light() -> None:
    """It is on every node's way up. Modules that cost milliseconds and are not needed are not loaded."""
    heavy = "{'subprocess', 'ctypes.util', 'inspect', 'dataclasses', 'asyncio', 'tempfile', 'resource'}"
    code = f"import sys; import dataplane_ref.loader; print(*({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=TOP, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# ---- Programs in the kernel --------------------------------------------------------------------------------------


@needs_root
def test_the_datapath_itself_is_accepted() -> None:
    with BpfObject.open().load() as loaded:
        assert {"plumbline_ingress", "plumbline_egress", "plumbline_xdp"} <= set(loaded.programs)
        assert {"frontends", "flows", "verdicts"} <= set(loaded.maps)


@needs_root
def test_signals_while_the_verifier_works_are_nothing_to_it() -> None:
    """A window that changes its size, a profiler, a timer: the verifier stops at each, and begins again."""
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.35)
    try:
        for _ in range(6):
            BpfObject.open().load().close()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@needs_root
def test_functions_constants_and_maps_are_linked(loaded: Loaded, opened: BpfObject) -> None:
    """The fixture multiplies the packet's length by a constant in one function and adds a map's number in another."""
    loaded.maps["config"].put(bytes(4), opened.layouts["config"].pack(flags=5))
    result = loaded.programs["plumbline_ingress"].run(PACKET, ctx=bytes(192))
    assert result.retval == 0
    assert result.data == bytes([PACKET[0] + 1]) + PACKET[1:]
    assert int.from_bytes(result.ctx[8:12], "little") == len(PACKET) * 3 + 5  # __sk_buff.mark
    assert counts(loaded, 0) == 1


def test_runs_repeat(loaded: Loaded) -> None:
    ingress = loaded.programs["plumbline_ingress"]
    assert len({ingress.run(PACKET, ctx=bytes(192))[:3] for _ in range(50)}) == 1
    runner = loaded.programs["plumbline_egress"].runner(1500)
    assert {runner(PACKET[:size]) for size in range(14, 64)} == {2}
    assert counts(loaded, 1) == 50
    with pytest.raises(ValueError, match="1501 bytes are more than the 1500"):
        runner(bytes(1501))
    with pytest.raises(OSError, match="Invalid argument"):
        runner(b"short")


def test_repetitions_see_what_the_one_before_left(loaded: Loaded) -> None:
    result = loaded.programs["plumbline_ingress"].run(PACKET, repeat=10)
    assert result.data[0] == PACKET[0] + 10
    assert loaded.programs["plumbline_ingress"].run(PACKET, out=False).data == b""


def test_a_program_of_type_syscall_gets_its_argument_and_gives_it_back(loaded: Loaded, opened: BpfObject) -> None:
    key = opened.layouts["tuple"].pack(source_port=1234)
    loaded.maps["flows"].put(key, bytes(loaded.maps["flows"].value_size))
    argument = opened.layouts["collection"]
    result = loaded.programs["plumbline_collect"].run(ctx=argument.pack(count=3, key=key))
    assert (result.retval, argument.unpack(result.ctx)["removed"]) == (7, 3)
    assert loaded.maps["flows"].get(key) is None


@needs_root
def test_only_the_programs_asked_for_are_loaded(opened: BpfObject) -> None:
    with opened.load(sizes={"flows": 10}, programs=["plumbline_xdp"]) as loaded:
        assert set(loaded.programs) == {"plumbline_xdp"}
        assert loaded.maps["flows"].max_entries == 10


@needs_root
def test_nothing_stays_open(opened: BpfObject, compiled: Compile) -> None:
    refused = BpfObject.open(compiled('SEC("tc/x") int f(struct __sk_buff *skb) { return *(int *)(long)skb->len; }'))
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - nothing else may be opened in between
    with opened.load():
        pass
    with pytest.raises(LoadError):
        refused.load()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


# ---- Refusals ----------------------------------------------------------------------------------------------------


def refusal(path: Path) -> str:
    with pytest.raises(LoadError) as caught:
        BpfObject.open(path)
    return str(caught.value).removeprefix(f"the BPF object {path} ")


def test_a_missing_object(tmp_path: Path) -> None:
    path = tmp_path / "x.o"
    with pytest.raises(LoadError, match=re.escape(f"there is no BPF object {path}: type `make datapath`")):
        BpfObject.open(path)


def test_what_is_no_object(tmp_path: Path, built: Path) -> None:
    path = tmp_path / "x.o"
    assert refusal(tmp_path) == "cannot be read: Is a directory"
    path.write_text("hello")
    assert refusal(path) == "cannot be used: it is no ELF file: build it with `make datapath`"
    path.write_bytes(Path(sys.executable).resolve().read_bytes()[:4096])
    assert refusal(path) == (
        "cannot be used: it is not built for BPF (64 bits, little-endian): build it with `make datapath`"
    )
    whole = built.read_bytes()
    damaged = "cannot be used: it is cut short or damaged: build it again with `make datapath`"
    for size in (24, 64, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert refusal(path) == damaged
    path.write_bytes(whole.replace(b".BTF\0", b".XTF\0"))
    assert refusal(path) == ("cannot be used: it has no type information (BTF): build it again with `make datapath`")
    path.write_bytes(whole.replace(b"\x9f\xeb\x01\x00", b"\x00\x00\x01\x00"))
    assert refusal(path) == (
        "cannot be used: its type information (BTF) is damaged: build it again with `make datapath`"
    )


def test_unknown_names(opened: BpfObject) -> None:
    with pytest.raises(LoadError, match="the object has no map flaws: it has addresses, affinities, config"):
        opened.load(sizes={"flaws": 1})
    with pytest.raises(LoadError, match="the object has no program main: it has plumbline_collect, "):
        opened.load(programs=["main"])


def test_a_function_that_is_nowhere(compiled: Compile) -> None:
    path = compiled('int elsewhere(int);\nSEC("tc/x") int calls(struct __sk_buff *skb) { return elsewhere(1); }')
    with pytest.raises(LoadError, match="program calls refers to elsewhere, which its object does not have"):
        BpfObject.open(path).load()


@needs_root
def test_the_verifiers_reason_and_the_line_it_is_about(compiled: Compile) -> None:
    path = compiled('SEC("tc/x") int reads(struct __sk_buff *skb) { return *(int *)(long)skb->len; }')
    with pytest.raises(LoadError) as caught:
        BpfObject.open(path).load()
    assert re.fullmatch(
        r"the kernel's verifier refuses program reads: R\d invalid mem access 'scalar' "
        r"\(at: .*return \*\(int \*\)\(long\)skb->len; \}.*\)",
        str(caught.value),
    )


@needs_root
def test_a_helper_that_the_kernel_lacks(compiled: Compile) -> None:
    path = compiled(
        "static long (*future)(void) = (void *)9999;\n"
        'SEC("tc/x") int calls(struct __sk_buff *skb) { return future(); }'
    )
    with pytest.raises(LoadError) as caught:
        BpfObject.open(path).load()
    assert str(caught.value) == (
        f"this kernel ({os.uname().release}) lacks the helper number 9999, which program calls calls"
    )


def test_a_helper_of_a_newer_kernel_is_named() -> None:
    """What Linux 5.9 says of redirect_neigh."""
    log = "0: (85) call unknown#152\ninvalid func unknown#152\nprocessed 1 insns\n"
    assert explain.refused("plumbline_ingress", log) == (
        f"this kernel ({os.uname().release}) lacks the helper redirect_neigh, which program plumbline_ingress calls: "
        "it needs Linux 5.10"
    )


@needs_root
def test_a_map_type_that_the_kernel_lacks(compiled: Compile) -> None:
    path = compiled(
        "MAP(odd, 250, __u32, __u32, 1, 0);\n"
        'SEC("tc/x") int f(struct __sk_buff *skb) { __u32 k = 0; return !map_lookup(&odd, &k); }'
    )
    with pytest.raises(LoadError) as caught:
        BpfObject.open(path).load()
    assert str(caught.value) == f"this kernel ({os.uname().release}) lacks the map type number 250"
    assert explain.no_map_type(11).endswith("lacks the map type LPM_TRIE: it needs Linux 4.11")


@needs_root
def test_a_program_type_that_the_kernel_lacks() -> None:
    with pytest.raises(LoadError, match="lacks type 999 programs, such as future"):
        programs.load(syscalls.ProgramLoad(prog_type=999, insn_cnt=1, insns=bytes(8), license=b"GPL"), "future")
    assert explain.no_program_type(31, "x").endswith("lacks syscall programs, such as x: it needs Linux 5.14")


@needs_root
def test_maps_that_cannot_be_made(opened: BpfObject) -> None:
    with pytest.raises(LoadError, match="there is no room for map crc_tables with 4294967295 entries: ask for fewer"):
        opened.load(sizes={"crc_tables": 0xFFFFFFFF})
    expected = r"map flows \(HASH, 0 entries of 40 \+ \d+ bytes\) cannot be made: Invalid argument"
    with pytest.raises(LoadError, match=expected):
        opened.load(sizes={"flows": 0})


@needs_root
def test_an_ordinary_user_is_told_what_to_type(built: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from dataplane_ref.loader import BpfObject, LoadError\n"
        "object_ = BpfObject.open(Path(sys.argv[1])); os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: object_.load()\n"
        "except LoadError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, built], cwd=TOP, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == (syscalls.NO_PERMISSION, "")


def test_a_kernel_that_minds_the_types_gets_the_program_without(
    opened: BpfObject, loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Types of all functions but the last are more than any kernel takes."""
    assert loaded  # that is, BPF may be loaded
    real = types.Records.of
    monkeypatch.setattr(types.Records, "of", lambda records, linked: real(records, linked)[: records.size])
    with opened.load(programs=["plumbline_ingress"]) as plain:
        assert plain.programs["plumbline_ingress"].run(PACKET, ctx=bytes(192)).data[0] == PACKET[0] + 1


def test_a_kernel_without_bpf(opened: BpfObject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscalls, "BPF", -1)  # no system call has this number
    with pytest.raises(LoadError, match=re.escape(syscalls.NO_BPF)):
        opened.load()


def test_the_object_in_git_is_where_the_loader_looks() -> None:
    assert OBJECT.is_file()
