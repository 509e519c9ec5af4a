# SPDX-License-Identifier: Apache-2.0
"""Bad command lines: exit status 4 and one sentence that says what to type instead, never a traceback."""

import os
import platform
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from clusters.binaries import DEFAULT_KUBERNETES
from clusters.errors import UsageError
from clusters.proxies.reference import own_version
from plugins.options import FAMILIES, Settings, parse, seconds
from plugins.report import Report, _local_facts
from plugins.requirements import release
from plugins.session import HOW_TO_START, SETTINGS, selects_conformance
from tests.binaries import programs
from tests.plugin.runs import ROOT, Finished, runs

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def _only_plumbline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other people's plugins take a third of the time, and have no say here."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


COMMAND = ("--proxy-command=sh", "--k8s-release=1.37")
FOREIGN = {"x86_64": "aarch64", "aarch64": "x86_64"}.get(platform.machine())


def configured(pytester: pytest.Pytester, *arguments: str) -> pytest.Config:
    """plumbline's configuration for a command line, as far as pytest_configure brings it, without a machine."""
    where = (f"--rootdir={ROOT}", "-c", str(ROOT / "pyproject.toml"), "-p", "tests.plugin.fake")
    report = () if any(one.startswith("--report") for one in arguments) else (f"--report={pytester.path / 'out'}",)
    return pytester.parseconfigure(*where, *report, *arguments, str(ROOT / "conformance"))


NAME_THE_MODE = "name the mode to judge: --proxy-mode=iptables, nftables, ipvs or ebpf"
BAD = [
    # A system under test.
    ([], HOW_TO_START),
    (["--proxy-mode=sideways"], "--proxy-mode=sideways is unknown; choose one of iptables, nftables, ipvs, ebpf"),
    (
        ["--proxy-mode=userspace"],
        "--proxy-mode=userspace was removed in Kubernetes 1.26; use iptables, ipvs or nftables",
    ),
    (["--proxy=envoy"], "--proxy=envoy is unknown; choose one of kube-proxy, ebpf, kube-router, command, none"),
    (["--cluster=moon"], "--cluster=moon is unknown; choose one of lab, kind, k3s, kubeconfig"),
    (["--cluster=lab"], NAME_THE_MODE),
    (["--proxy=kube-proxy"], NAME_THE_MODE),
    (["--proxy-binary=/bin/sh"], NAME_THE_MODE),
    (["--proxy-version=1.37"], NAME_THE_MODE),
    # Contradictions.
    ([*COMMAND, "--proxy-mode=iptables"], "--proxy-command says all about the proxy; leave out --proxy-mode"),
    ([*COMMAND, "--proxy-binary=x"], "--proxy-command says all about the proxy; leave out --proxy-mode"),
    ([*COMMAND, "--proxy=none"], "--proxy-command says all about the proxy; leave out --proxy-mode"),
    (["--proxy=none", "--proxy-mode=iptables"], "--proxy=none starts no proxy; leave out --proxy-mode"),
    (["--proxy=none", "--proxy-binary=x"], "--proxy=none starts no proxy; leave out --proxy-mode"),
    (["--proxy=none", "--proxy-version=1.37"], "--proxy=none starts no proxy; leave out --proxy-mode"),
    ([*COMMAND, "--proxy-version=1.36"], "--proxy-version and --proxy-sync are kube-proxy's; leave them out with"),
    ([*COMMAND, "--proxy-sync=default"], "--proxy-version and --proxy-sync are kube-proxy's; leave them out with"),
    (["--proxy-mode=iptables", "--features=x"], "--features declares what a --proxy-command can do; leave it out"),
    (["--proxy=none", "--features=x"], "--features declares what a --proxy-command can do; leave it out otherwise"),
    (["--proxy=command"], "--proxy=command needs --proxy-command='./my-proxy"),
    (
        ["--proxy-mode=iptables", "--proxy-binary=x", "--proxy-version=1.37"],
        "--proxy-binary names a file and --proxy-version a release to find; give one of them",
    ),
    # The reference datapath.
    (["--proxy=ebpf", "--proxy-mode=iptables"], "--proxy=ebpf has no mode but ebpf; leave out --proxy-mode=iptables"),
    (
        ["--proxy=kube-proxy", "--proxy-mode=ebpf"],
        "--proxy-mode=ebpf is plumbline's reference datapath; leave out --proxy=kube-proxy",
    ),
    (["--proxy=none", "--proxy-mode=ebpf"], "--proxy=none starts no proxy; leave out --proxy-mode"),
    ([*COMMAND, "--proxy-mode=ebpf"], "--proxy-command says all about the proxy; leave out --proxy-mode"),
    (["--proxy-mode=ebpf", "--proxy-binary=x"], "leave out --proxy-binary with mode ebpf"),
    (["--proxy-mode=ebpf", "--proxy-version=1.37"], "leave out --proxy-version with mode ebpf"),
    (["--proxy=ebpf", "--proxy-sync=default"], "leave out --proxy-sync with mode ebpf"),
    (["--proxy-mode=ebpf", "--iptables-backend=nft"], "leave out --iptables-backend with mode ebpf"),
    (["--proxy-mode=ebpf", "--features=x"], "--features declares what a --proxy-command can do; leave it out"),
    # kube-router.
    (
        ["--proxy=kube-router", "--proxy-mode=iptables"],
        "--proxy=kube-router has no mode but ipvs; leave out --proxy-mode=iptables",
    ),
    (
        ["--proxy=kube-router", "--proxy-mode=ebpf"],
        "--proxy-mode=ebpf is plumbline's reference datapath; leave out --proxy=kube-router",
    ),
    (
        ["--proxy=kube-router", "--proxy-sync=default"],
        "--proxy-sync is kube-proxy's, kube-router programs every change at once; leave it out",
    ),
    (
        ["--proxy=kube-router", "--proxy-binary=x", "--proxy-version=2.10"],
        "--proxy-binary names a file and --proxy-version a release to find; give one of them",
    ),
    (["--proxy=kube-router", "--features=x"], "--features declares what a --proxy-command can do; leave it out"),
    ([*COMMAND, "--proxy=kube-router"], "--proxy-command says all about the proxy; leave out --proxy-mode"),
    # IPVS.
    (
        ["--proxy-mode=ipvs", "--ipvs-scheduler=random"],
        "=random is unknown; choose one of rr, wrr, lc, wlc, lblc, lblcr, sh, dh, sed, nq, mh, fo, ovf",
    ),
    (["--proxy-mode=nftables", "--ipvs-scheduler=rr"], "--ipvs-scheduler is kube-proxy's in mode ipvs; say"),
    ([*COMMAND, "--ipvs-scheduler=rr"], "--ipvs-scheduler is kube-proxy's in mode ipvs; say --proxy-mode=ipvs"),
    (["--proxy-mode=ebpf", "--ipvs-scheduler=rr"], "--ipvs-scheduler is kube-proxy's in mode ipvs; say"),
    # A command.
    (["--proxy-command=sh"], "--proxy-command needs --k8s-release=1.37 (or another)"),
    (["--proxy-command=", "--k8s-release=1.37"], "--proxy-command is empty; give a command such as"),
    (["--proxy-command=sh 'oops", "--k8s-release=1.37"], "cannot be split as a shell would: No closing quotation"),
    (["--proxy-command=sh {nodes}", "--k8s-release=1.37"], "unknown placeholder {nodes}; known are {kubeconfig}, "),
    (["--proxy-command=sh {}", "--k8s-release=1.37"], "unknown placeholder {}; known are {kubeconfig}, "),
    (["--proxy-command=sh {node", "--k8s-release=1.37"], "(write a literal brace twice)"),
    (["--proxy-command=no-such-program-here", "--k8s-release=1.37"], "there is no program 'no-such-program-here'"),
    # Numbers and times.
    ([*COMMAND, "--nodes=0"], "--nodes must be between 1 and 250, not 0"),
    ([*COMMAND, "--nodes=251"], "--nodes must be between 1 and 250, not 251"),
    ([*COMMAND, "--pods-per-node=2"], "--pods-per-node must be between 3 and 200, not 2"),
    ([*COMMAND, "--pods-per-node=201"], "--pods-per-node must be between 3 and 200, not 201"),
    ([*COMMAND, "--deadline-scale=0"], "--deadline-scale must be a positive number, not 0.0"),
    ([*COMMAND, "--deadline-scale=-1"], "--deadline-scale must be a positive number, not -1.0"),
    ([*COMMAND, "--deadline-scale=nan"], "--deadline-scale must be a positive number, not nan"),
    ([*COMMAND, "--deadline-scale=inf"], "--deadline-scale must be a positive number, not inf"),
    ([*COMMAND, "--proxy-ready=soon"], "--proxy-ready=soon is no time; write for example 60s, 1.5m or 500ms"),
    ([*COMMAND, "--proxy-ready=0"], "--proxy-ready=0 is no time"),
    ([*COMMAND, "--proxy-ready=-5s"], "--proxy-ready=-5s is no time"),
    ([*COMMAND, "--proxy-ready=infs"], "--proxy-ready=infs is no time"),
    (["--proxy-command=sh", "--k8s-release=latest"], "--k8s-release=latest is no Kubernetes release such as 1.37"),
    (["--proxy-command=sh", "--k8s-release=1"], "--k8s-release=1 is no Kubernetes release such as 1.37"),
    # Not part of this version.
    (["--cluster=kind"], "--cluster=kind is not part of this version of plumbline yet; it has lab"),
    ([*COMMAND, "--iptables-backend=lega"], "--iptables-backend=lega is unknown; choose one of nft, legacy"),
    (["--proxy-mode=nftables", "--iptables-backend=nft"], "--iptables-backend says how iptables and ipvs mode write"),
    ([*COMMAND, "--pod-network=ipip"], "--pod-network=ipip is unknown; choose one of routed, bridge, vxlan"),
    ([*COMMAND, "--control-plane=moon"], "--control-plane=moon is unknown; choose one of embedded, real"),
    ([*COMMAND, "--announcer=porter"], "--announcer=porter is unknown; choose one of metallb"),
    (
        [*COMMAND, "--announcer-binary=x"],
        "--announcer-binary is about an announcer, and none is asked for; add --announcer=metallb",
    ),
    (
        [*COMMAND, "--announcer-version=0.16"],
        "--announcer-version is about an announcer, and none is asked for; add --announcer=metallb",
    ),
    (
        [*COMMAND, "--announcer=metallb", "--announcer-binary=x", "--announcer-version=0.16.1"],
        "--announcer-binary names a file and --announcer-version a release to find; give one of them",
    ),
    (
        [*COMMAND, "--announcer=metallb", "--announcer-binary=absent"],
        "--announcer-binary=absent cannot be used as metallb-speaker: it does not exist.",
    ),
    (
        [*COMMAND, "--announcer=metallb", "--announcer-binary=/bin/sh"],
        "--announcer-binary=/bin/sh cannot be used as metallb-speaker: it was not built from go.universe.tf/metallb.",
    ),
    (
        [*COMMAND, "--announcer=metallb", "--announcer-version=newest"],
        "'newest' is not a version of metallb-speaker: write a release such as 0.16.1",
    ),
    ([*COMMAND, "--lab-shell=node-x", "--nodes=2"], "there is no such node; the lab has node-a, node-b"),
    ([*COMMAND, "--baseline=old.yaml"], "--baseline=old.yaml cannot be read: No such file"),
    ([*COMMAND, "--examples=5"], "--examples=5 is not part of this version"),
    ([*COMMAND, "--allow-disruptive"], "--allow-disruptive is not part of this version"),
    # Scale.
    ([*COMMAND, "--services=0"], "--services=0 must be numbers from 1 to 100,000 with commas between, such as"),
    ([*COMMAND, "--services=100001"], "--services=100001 must be numbers from 1 to 100,000 with commas between"),
    ([*COMMAND, "--services=1,,2"], "--services=1,,2 must be numbers from 1 to 100,000"),
    ([*COMMAND, "--services=-5"], "--services=-5 must be numbers from 1 to 100,000"),
    ([*COMMAND, "--services=many"], "--services=many must be numbers from 1 to 100,000"),
    ([*COMMAND, "--services="], "--services= must be numbers from 1 to 100,000"),
    ([*COMMAND, "--services=10,1"], "--services=10,1 must have each number once, the fewest first"),
    ([*COMMAND, "--services=1,1"], "--services=1,1 must have each number once, the fewest first"),
    (
        ["--proxy-mode=iptables", "--services=1,60000"],
        "--services=1,60000: more than 50,000 are for the reference datapath (--proxy-mode=ebpf); kube-proxy would",
    ),
    (
        ["--proxy=kube-router", "--services=100000"],
        "--services=100000: more than 50,000 are for the reference datapath (--proxy-mode=ebpf); kube-router would",
    ),
    ([*COMMAND, "--endpoints-per-service=0"], "--endpoints-per-service=0 must be a number from 1 to 1,000"),
    ([*COMMAND, "--endpoints-per-service=x"], "--endpoints-per-service=x must be a number from 1 to 1,000"),
    ([*COMMAND, "--endpoints-per-service=1001"], "--endpoints-per-service=1001 must be a number from 1 to 1,000"),
    ([*COMMAND, "--duration=fast"], "--duration=fast is no time; write for example 60s, 1.5m or 500ms"),
    ([*COMMAND, "--duration=0"], "--duration=0 is no time"),
    ([*COMMAND, "--budget=none"], "--budget=none is no time; write for example 60s, 1.5m or 500ms"),
    ([*COMMAND, "--budget=-1m"], "--budget=-1m is no time"),
    ([*COMMAND, "-m", "scale", "--cluster=kind"], "--cluster=kind is not part of this version of plumbline yet"),
    # Files.
    ([*COMMAND, "--features=absent.yaml"], "--features=absent.yaml cannot be read: No such file or directory"),
    ([*COMMAND, "--features={tmp}"], "cannot be read: Is a directory"),
    ([*COMMAND, "--known-failures=absent.txt"], "--known-failures=absent.txt cannot be read: "),
    ([*COMMAND, "--known-failures={tmp}"], "cannot be read: "),
    ([*COMMAND, "--report=/proc/here"], "--report=/proc/here cannot be written: "),
    ([*COMMAND, "--report=/dev/null/here"], "--report=/dev/null/here cannot be written: Not a directory"),
    # A binary.
    (
        ["--proxy-mode=iptables", "--proxy-binary=absent"],
        "--proxy-binary=absent cannot be used as kube-proxy: it does not exist.",
    ),
    (["--proxy-mode=iptables", "--proxy-binary={tmp}"], "it is a directory; the program itself is wanted."),
    (["--proxy-mode=iptables", "--proxy-binary={tmp}/script"], "it is not a Linux program (it has no ELF header)."),
    (["--proxy-mode=iptables", "--proxy-binary={tmp}/foreign"], ", and this machine is "),
    (
        ["--proxy-mode=iptables", "--proxy-binary={tmp}/other"],
        "it answers --version with 'something else' and exit status 0.",
    ),
    (
        ["--proxy=kube-router", "--proxy-binary={tmp}/other"],
        "cannot be used as kube-router: it answers --version with 'something else' and exit status 0.",
    ),
    (
        ["--proxy-mode=iptables", "--proxy-version=newest"],
        "'newest' is not a version of kube-proxy: write a release such as 1.",
    ),
]


@pytest.mark.parametrize(
    ("arguments", "sentence"), BAD, ids=[" ".join(arguments) or "nothing" for arguments, _ in BAD]
)
def test_a_bad_option_is_one_sentence(
    arguments: Sequence[str], sentence: str, pytester: pytest.Pytester, tmp_path: Path
) -> None:
    if any("foreign" in one for one in arguments):
        assert FOREIGN, "say which machine is foreign to this one"
        programs.write(tmp_path / "foreign", programs.program("Kubernetes v1.37.1\n", machine=FOREIGN))
    programs.write(tmp_path / "script", b"#!/bin/sh\necho Kubernetes v1.37.1\n")
    programs.write(tmp_path / "other", programs.program("something else\n"))
    with pytest.raises(pytest.UsageError) as caught:
        configured(pytester, *(one.replace("{tmp}", str(tmp_path)) for one in arguments))
    told = str(caught.value)
    assert sentence in told
    assert "\n" not in told
    assert not caught.value.__cause__


@pytest.mark.parametrize(
    "arguments", [["--proxy=ebpf"], ["--proxy-mode=ebpf"], ["--proxy=ebpf", "--proxy-mode=ebpf"]]
)
def test_the_reference_is_named_by_its_mode_or_as_a_proxy(
    arguments: Sequence[str], pytester: pytest.Pytester
) -> None:
    settings = configured(pytester, *arguments).stash[SETTINGS]
    assert (settings.proxy, settings.mode) == ("ebpf", "ebpf")
    assert settings.version == own_version()
    assert settings.about() == f"plumbline's reference datapath {own_version()}, mode ebpf"
    assert settings.release == release(DEFAULT_KUBERNETES)
    assert settings.binary is None


def test_another_release_can_be_asked_of_the_reference(pytester: pytest.Pytester) -> None:
    assert configured(pytester, "--proxy=ebpf", "--k8s-release=1.30").stash[SETTINGS].release == (1, 30)


@pytest.mark.parametrize(
    ("arguments", "promised"), [([], release(DEFAULT_KUBERNETES)), (["--k8s-release=1.30"], (1, 30))]
)
def test_kube_router_is_named_alone(
    arguments: Sequence[str],
    promised: tuple[int, int],
    pytester: pytest.Pytester,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its releases are not Kubernetes', so it is to keep what the newest one promises."""
    monkeypatch.setattr("plugins.session._with_kernel", lambda settings, _: settings)
    monkeypatch.setattr("plugins.kernels.choose", lambda _, settings, __: settings)
    told = programs.program("Running bin/kube-router version 2.10.0, built on , go1.26.8\n", descriptor=2)
    binary = programs.write(tmp_path / "kube-router", told)
    settings = configured(pytester, "--proxy=kube-router", f"--proxy-binary={binary}", *arguments).stash[SETTINGS]
    assert (settings.proxy, settings.mode, settings.binary) == ("kube-router", "ipvs", str(binary))
    assert settings.about() == "kube-router 2.10.0 as service proxy, mode ipvs"
    assert (settings.release, settings.system.release) == (promised, (2, 10))


FEATURES = [
    ("- a\n- list\n", "must be a mapping with the keys features, settle, scheduler"),
    ("", "must be a mapping with the keys features, settle, scheduler"),
    ("feature: [x]\n", "must be a mapping with the keys features, settle, scheduler"),
    ("features: one\n", "features must be a list of names"),
    ("features: [1, 2]\n", "features must be a list of names"),
    ("settle: never\n", "settle must be ordered or converge, not 'never'"),
    ("features: [x\n", "is not YAML"),
    ("a: b: c\n", "is not YAML"),
]


@pytest.mark.parametrize(("text", "sentence"), FEATURES)
def test_a_bad_features_file_is_one_sentence(
    text: str, sentence: str, pytester: pytest.Pytester, tmp_path: Path
) -> None:
    file = tmp_path / "features.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(pytest.UsageError) as caught:
        configured(pytester, *COMMAND, f"--features={file}")
    assert str(caught.value).startswith(f"--features={file}")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("line", ["some.id family", "some.id family=IPv6=x", "one.id another.id"])
def test_a_bad_known_failures_file_is_one_sentence(line: str, pytester: pytest.Pytester, tmp_path: Path) -> None:
    file = tmp_path / "known.txt"
    file.write_text(f"good.id\n  {line} # comment\n", encoding="utf-8")
    with pytest.raises(pytest.UsageError) as caught:
        configured(pytester, *COMMAND, f"--known-failures={file}")
    assert str(caught.value) == (
        f"--known-failures={file}: {line!r} is not an id followed by axes such as family=IPv6"
    )


@pytest.mark.parametrize("option", ["--features", "--known-failures"])
def test_a_file_that_is_no_text_is_one_sentence(option: str, pytester: pytest.Pytester, tmp_path: Path) -> None:
    file = tmp_path / "binary"
    file.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(pytest.UsageError) as caught:
        configured(pytester, *COMMAND, f"{option}={file}")
    assert str(caught.value).startswith(f"{option}={file} ")
    assert "\n" not in str(caught.value)


def test_a_features_file_may_leave_a_key_empty(pytester: pytest.Pytester, tmp_path: Path) -> None:
    file = tmp_path / "features.yaml"
    file.write_text("features:\nsettle:\n", encoding="utf-8")
    configured(pytester, *COMMAND, f"--features={file}")


@pytest.mark.parametrize("word", ["{node:d}", "{node!x}", "{node:{where}}"])
def test_a_placeholder_with_a_format_is_refused(word: str, pytester: pytest.Pytester) -> None:
    with pytest.raises(pytest.UsageError):
        configured(pytester, f"--proxy-command=sh {word}", "--k8s-release=1.37")


# The same through a real process: exit status 4, the sentence on stderr, and nothing that looks like a crash.


def real(name: str, sentence: str, *arguments: str, proxy: bool = True) -> object:
    return pytest.param(sentence, id=name, marks=runs(*arguments, proxy=proxy))


@pytest.mark.parametrize(
    "sentence",
    [
        real("no proxy", HOW_TO_START, proxy=False),
        real("no proxy, one test", HOW_TO_START, "conformance/clusterip/test_reach.py::x", proxy=False),
        real("xdist", "--nodes must be between 1 and 250", "--nodes=0", "-n", "2"),
        real("choice", "argument --level: invalid choice: 'some'", "--level=some"),
        real("report", "--report=/proc/here cannot be written", "--report=/proc/here"),
    ],
)
def test_a_real_run_ends_with_status_4(sentence: str, finished: Finished) -> None:
    assert finished.status == 4
    assert sentence in finished.err
    assert not finished.has_traceback()
    assert "test session starts" not in finished.out


@runs("--proxy-mode=iptables", "--proxy-binary=absent", proxy=False, fake=False, environ={"PATH": "/nowhere"})
def test_a_binary_that_is_named_is_looked_at_before_the_machine(finished: Finished) -> None:
    assert finished.status == 4
    assert "ERROR: --proxy-binary=absent cannot be used as kube-proxy" in finished.err
    assert not finished.has_traceback()


@pytest.mark.skipif(shutil.which("unshare", path="/usr/sbin:/sbin") is not None, reason="it is in both places")
@runs("--proxy-mode=iptables", proxy=False, fake=False, environ={"PATH": "/nowhere"})
def test_what_the_machine_lacks_is_a_usage_error(finished: Finished) -> None:
    """The real check of the machine comes before a binary is looked for."""
    assert finished.status == 4
    if os.geteuid() != 0:
        assert "ERROR: The lab needs root, for network namespaces: " in finished.err
    else:
        assert "ERROR: iptables mode needs programs that are not on PATH: " in finished.err
    assert not finished.has_traceback()


# What needs no system under test.


@runs("tests/plugin/test_flows.py", "-k", "summary", proxy=False, fake=False)
def test_plumblines_own_tests_need_none(finished: Finished) -> None:
    assert finished.status == 0
    assert not finished.report.exists()


@runs("--collect-only", "-q", "conformance", proxy=False, fake=False)
def test_looking_needs_none(finished: Finished) -> None:
    assert finished.status == 0
    assert any("test_reach.py::" in line for line in finished.lines)


@pytest.mark.parametrize(
    ("arguments", "selects"),
    [
        (["conformance"], True),
        (["."], True),
        (["conformance/clusterip/test_reach.py::test_x"], True),
        (["tests", "conformance"], True),
        (["tests"], False),
        (["tests/plugin/test_options.py"], False),
        ([], False),
        (["conformance_of_others"], False),
    ],
)
def test_what_selects_conformance(arguments: list[str], selects: bool) -> None:
    assert selects_conformance(arguments, ROOT) is selects


# Good ones.


@pytest.mark.parametrize(
    ("text", "value"), [("90", 90.0), ("90s", 90.0), ("1.5m", 90.0), ("500ms", 0.5), ("1h", 3600.0)]
)
def test_times(text: str, value: float) -> None:
    assert seconds("--proxy-ready", text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "s", "5 minutes", "1d", "ms", "-1", "nan", "inf"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError):
        seconds("--proxy-ready", text)


def test_settings_survive_the_way_to_a_worker(pytester: pytest.Pytester, tmp_path: Path) -> None:
    known = tmp_path / "known.txt"
    reach, gone = "clusterip.reach.every-ready-endpoint", "clusterip.service.deleted"
    known.write_text(f"{reach} # why\n\n  {gone}   family=IPv6 protocol=TCP\n#e.f\n", encoding="utf-8")
    config = configured(
        pytester,
        "--proxy-command=sh -c '{node} {{}}'",
        "--k8s-release=v1.36.2",
        f"--known-failures={known}",
        "--family=ipv6",
        "--deadline-scale=2",
    )
    settings = parse(config.option)
    assert settings.command == ("sh", "-c", "{node} {{}}")
    assert settings.release == (1, 36)
    assert settings.known_failures == (reach, f"{gone} family=IPv6 protocol=TCP")
    assert settings.families == FAMILIES["ipv6"]
    assert settings.ready_deadline == 120.0
    assert Settings.loads(settings.dumps()) == settings


@pytest.mark.parametrize(
    ("entries", "axes", "known"),
    [
        ((), {"family": "IPv6"}, False),
        (("a.b",), {"family": "IPv6"}, True),
        (("a.b",), {}, True),
        (("a.c",), {}, False),
        (("a",), {}, False),
        (("a.b family=IPv6",), {"family": "IPv6", "protocol": "TCP"}, True),
        (("a.b family=IPv6",), {"family": "IPv4", "protocol": "TCP"}, False),
        (("a.b family=IPv6",), {}, False),
        (("a.b family=IPv6 protocol=UDP",), {"family": "IPv6", "protocol": "TCP"}, False),
        (("a.b family=IPv4", "a.b family=IPv6"), {"family": "IPv6"}, True),
    ],
)
def test_which_tests_are_known_to_fail(entries: tuple[str, ...], axes: dict[str, str], known: bool) -> None:
    settings = Settings(proxy="none", mode="none", known_failures=entries)
    assert settings.is_known_to_fail("a.b", axes) is known


def test_nothing_is_certified_where_nobody_told_what_there_is(pytester: pytest.Pytester) -> None:
    """Workers tell it at their end, which those of an interrupted run may not come to."""
    config = configured(pytester, *COMMAND)
    report = Report(config)
    report._facts.append(_local_facts(config))
    assert report._verdict_on_core().startswith("core level: not certified: 0 of 0 requirements passed; what belongs")
