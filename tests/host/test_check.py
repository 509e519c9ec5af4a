# SPDX-License-Identifier: Apache-2.0
"""What the host check says about machines that lack something, and about this one."""

import json
import os
import sys
import time
from pathlib import Path

import pytest

from clusters import host, kernel
from clusters.errors import UsageError
from tests.host.conftest import UNSHARE, Fake, is_root, refuse


@pytest.mark.parametrize("mode", ["iptables", "nftables", "none"])
def test_a_good_machine_is_reported(fake: Fake, mode: str) -> None:
    report = host.check(mode, fake.machine)

    assert (report.kernel, report.arch) == ("6.1.0-40-amd64", "x86_64")
    assert report.distribution == "Debian GNU/Linux 12 (bookworm)"
    assert report.tools["iptables"] == "1.8.9"
    assert report.tools["nft"] == "1.0.6"
    assert report.tools["ip"] == "6.1.0"
    assert report.tools["ipset"] is None
    assert report.iptables_backend == "nft"
    assert json.loads(json.dumps(report.as_dict()))["tools"]["conntrack"] == "1.4.7"


@pytest.mark.parametrize(
    ("answer", "backend"),
    [
        ("iptables v1.8.9 (legacy)", "legacy"),
        ("iptables v1.6.2", "legacy"),
        ("iptables v1.8.11 (nf_tables)", "nft"),
    ],
)
def test_the_iptables_backend_is_told_apart(fake: Fake, answer: str, backend: str) -> None:
    fake.version("iptables", answer)
    assert host.check("iptables", fake.machine).iptables_backend == backend


def test_an_ordinary_user_gets_legacy_iptables_where_it_works(fake: Fake) -> None:
    assert host.check("iptables", fake.but(euid=1000)).iptables_backend == "nft"
    fake.backend("legacy")
    report = host.check("iptables", fake.but(euid=1000))
    assert (report.iptables_backend, report.iptables_chosen) == ("legacy", True)
    refuse(fake, "statistic")
    fake.version("iptables-restore", "")  # the default backend goes on to work
    fake.version("ip6tables-restore", "")
    assert host.check("iptables", fake.but(euid=1000)).iptables_backend == "nft"


def test_root_gets_what_is_asked_for(fake: Fake) -> None:
    fake.backend("legacy")
    assert host.check("iptables", fake.machine).iptables_backend == "nft"
    assert host.check("iptables", fake.machine, iptables_backend="legacy").iptables_backend == "legacy"
    refuse(fake, "statistic")
    with pytest.raises(UsageError, match="lacks what iptables mode needs: the IPv4 iptables match statistic"):
        host.check("iptables", fake.machine, iptables_backend="legacy")


def test_a_backend_that_is_not_installed_is_named(fake: Fake) -> None:
    with pytest.raises(UsageError, match=r"^--iptables-backend=legacy needs iptables-legacy and its -save and -rest"):
        host.check("iptables", fake.machine, iptables_backend="legacy")


def test_another_system_is_refused(fake: Fake) -> None:
    with pytest.raises(UsageError, match=r"^The lab needs Linux, and this is Darwin"):
        host.check("iptables", fake.but(system="Darwin"))


def test_an_ordinary_user_gets_a_user_namespace(fake: Fake) -> None:
    fake.tool("unshare", 'echo "$*" >"$0.called"; ' + UNSHARE)
    host.check("iptables", fake.but(euid=1000))
    assert (fake.bin / "unshare.called").read_text().startswith("--user --map-root-user --net --mount ")


@pytest.mark.parametrize(
    ("switch", "value", "remedy"),
    [
        ("kernel/unprivileged_userns_clone", "0", "sudo sysctl kernel.unprivileged_userns_clone=1, or"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns=0, or"),
        ("user/max_user_namespaces", "0", "sudo sysctl user.max_user_namespaces=10000, or"),
        ("user/max_user_namespaces", "9", "run the same command with sudo, and in a container with --privileged"),
    ],
)
def test_a_user_without_user_namespaces_is_told_what_to_type(
    fake: Fake, switch: str, value: str, remedy: str
) -> None:
    fake.tool("unshare", "echo 'unshare: unshare failed: Operation not permitted' >&2; exit 1")
    file = fake.machine.proc / "sys" / switch
    file.parent.mkdir(parents=True)
    file.write_text(f"{value}\n")
    with pytest.raises(UsageError) as caught:
        host.check("iptables", fake.but(euid=1000))
    caught.match(r"^No user namespace can be made here \(unshare: unshare failed: Operation not permitted\): ")
    caught.match(remedy)


def test_a_missing_kind_of_namespace_is_named(fake: Fake) -> None:
    (fake.machine.proc / "self" / "ns" / "user").unlink()
    with pytest.raises(UsageError, match=r"has no user namespaces \(CONFIG_USER_NS\)"):
        host.check("none", fake.machine)


def test_missing_tools_are_named_with_their_packages(fake: Fake) -> None:
    for name in ("iptables", "ip6tables", "conntrack"):
        (fake.bin / name).unlink()
    with pytest.raises(UsageError) as caught:
        host.check("iptables", fake.machine)
    caught.match("^iptables mode needs programs that are not on PATH: iptables, ip6tables, conntrack; ")
    caught.match(r"type: sudo apt-get install iptables conntrack\.$")


def test_a_mode_needs_only_its_own_tools(fake: Fake) -> None:
    for name in ("iptables", "ip6tables"):
        (fake.bin / name).unlink()
    assert host.check("nftables", fake.machine).iptables_backend is None
    with pytest.raises(UsageError, match=r"ipvs mode needs programs .*: iptables, ip6tables, ipset;"):
        host.check("ipvs", fake.machine)


@pytest.mark.parametrize(
    ("mode", "tool", "answer", "sentence"),
    [
        ("iptables", "iptables", "iptables v1.6.1", r"needs iptables 1\.6\.2 or newer, and this is 1\.6\.1"),
        ("iptables", "ip6tables", "ip6tables v1.4.21", r"needs ip6tables 1\.6\.2 or newer, and this is 1\.4\.21"),
        (
            "nftables",
            "nft",
            "nftables v1.0.0 (Fearless Fosdick #2)",
            r"needs nft 1\.0\.1 or newer, and this is 1\.0\.0",
        ),
        ("nftables", "nft", "", r"bin/nft does not tell its version: reinstall nftables"),
    ],
)
def test_an_old_tool_is_named(fake: Fake, mode: str, tool: str, answer: str, sentence: str) -> None:
    fake.version(tool, answer)
    with pytest.raises(UsageError, match=sentence):
        host.check(mode, fake.machine)


def test_an_old_kernel_is_refused_for_nftables_only(fake: Fake) -> None:
    old = fake.but(release="5.4.0-216-generic")
    with pytest.raises(
        UsageError, match=r"nftables mode needs Linux 5\.13 or newer, and this is 5\.4\.0-216-generic"
    ):
        host.check("nftables", old)
    assert host.check("iptables", old).kernel == "5.4.0-216-generic"


@pytest.mark.parametrize(
    ("mode", "word", "named"),
    [
        ("nftables", "fib", "nftables 'fib' (CONFIG_NFT_FIB_IPV4"),
        ("nftables", "numgen", "nftables 'numgen' (CONFIG_NFT_NUMGEN"),
        ("nftables", "masquerade", "nftables 'masquerade' (CONFIG_NFT_MASQ"),
        ("iptables", "statistic", "the IPv4 iptables match statistic (CONFIG_NETFILTER_XT_MATCH_STATISTIC"),
        ("iptables", "recent", "the IPv6 iptables match recent (CONFIG_NETFILTER_XT_MATCH_RECENT"),
        ("iptables", "[::1]:80", "the IPv6 iptables target DNAT (CONFIG_NETFILTER_XT_NAT"),
    ],
)
def test_a_missing_kernel_feature_is_named(fake: Fake, mode: str, word: str, named: str) -> None:
    refuse(fake, word)
    with pytest.raises(UsageError) as caught:
        host.check(mode, fake.machine)
    sentence = str(caught.value)
    assert sentence.startswith(f"This kernel (6.1.0-40-amd64) lacks what {mode} mode needs: ")
    assert named in sentence
    assert "No such file or directory" in sentence
    assert sentence.count("CONFIG_") == (2 if word in ("statistic", "recent") else 1)


def test_rules_that_fail_only_together_are_still_an_error(fake: Fake) -> None:
    refuse(fake, "fib")
    fake.tool(
        "nft", "case $1 in --version) echo nftables v1.0.6;; *) case $(cat) in *fib*numgen*) exit 1;; esac;; esac"
    )
    with pytest.raises(UsageError, match="all of nft's rules together"):
        host.check("nftables", fake.machine)


def test_a_lab_without_kube_proxy_needs_no_rules(fake: Fake) -> None:
    refuse(fake, "statistic")
    assert host.check("command", fake.machine).kernel == "6.1.0-40-amd64"


def test_an_ordinary_user_cannot_have_the_reference_datapath(fake: Fake) -> None:
    with pytest.raises(UsageError) as caught:
        host.check("ebpf", fake.but(euid=1000))
    assert str(caught.value) == (
        "The reference datapath loads BPF, which needs root: run the same command with sudo."
    )
    assert host.check("command", fake.but(euid=1000)).lacks_bpf == "BPF needs root"


def test_sctp_is_spoken_where_the_kernel_does_not_and_conntrack_knows_it(fake: Fake) -> None:
    assert host.check("command", fake.machine).lacks_sctp is None
    tracking = fake.machine.proc / "sys" / "net" / "netfilter"
    tracking.mkdir(parents=True)
    (tracking / "nf_conntrack_max").touch()
    assert host.check("command", fake.machine).lacks_sctp == (
        "this kernel does not track SCTP (CONFIG_NF_CT_PROTO_SCTP)"
    )
    (tracking / "nf_conntrack_sctp_timeout_established").touch()
    assert host.check("command", fake.machine).lacks_sctp is None
    (fake.machine.proc / "net" / "sctp").mkdir(parents=True)
    assert host.check("command", fake.machine).lacks_sctp == (
        "the kernel's own SCTP would answer beside the agent's: unload the module sctp"
    )


@pytest.mark.parametrize(
    ("trial", "named"),
    [
        ("maps", r"BPF maps \(CONFIG_BPF_SYSCALL, Linux 5\.5; no maps here\)"),
        (
            "attach",
            r"BPF at interfaces \(CONFIG_NET_XGRESS, or CONFIG_NET_SCH_INGRESS and _CLS_BPF; no attach here\)",
        ),
        ("syscall", r"BPF programs run by system calls \(CONFIG_BPF_SYSCALL, Linux 5\.14; no syscall here\)"),
    ],
)
def test_a_kernel_without_the_bpf_it_takes_is_named(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, trial: str, named: str
) -> None:
    fake.tool("python", f'case "$*" in *" {trial}"*) echo "no {trial} here" >&2; exit 1 ;; esac')
    monkeypatch.setattr(sys, "executable", str(fake.bin / "python"))
    with pytest.raises(UsageError, match=rf"lacks what ebpf mode needs: {named}: load"):
        host.check("ebpf", fake.machine)
    assert host.check("command", fake.machine).kernel == "6.1.0-40-amd64"


def test_a_machine_that_has_all_that_the_reference_takes(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.tool("python", "exit 0")
    monkeypatch.setattr(sys, "executable", str(fake.bin / "python"))
    for name in ("iptables", "ip6tables"):
        (fake.bin / name).unlink()
    assert host.check("ebpf", fake.machine).iptables_backend is None


def test_missing_links_are_named(fake: Fake) -> None:
    fake.tool("ip", "case \"$*\" in -V) echo ip 6.1.0;; *veth*) echo 'Error: Unknown device type.'; exit 2;; esac")
    with pytest.raises(UsageError, match=r"needs: veth links \(CONFIG_VETH; Error: Unknown device type\): load"):
        host.check("none", fake.machine)


def test_a_container_without_privilege_is_told_which_one(fake: Fake) -> None:
    fake.tool("unshare", "echo 'unshare: unshare failed: Operation not permitted' >&2; exit 1")
    with pytest.raises(
        UsageError, match=r"\(unshare: unshare failed: Operation not permitted\): root needs CAP_SYS_ADMIN"
    ):
        host.check("none", fake.machine)


def test_every_feature_says_what_gives_it() -> None:
    features = [feature for mode in ("iptables", "nftables", "ipvs", "ebpf") for feature in kernel._features(mode)]
    assert len(features) > 40
    assert all(feature.option.startswith("CONFIG_") for feature in features)


@pytest.mark.skipif(not is_root(), reason="unfit: needs root")
@pytest.mark.parametrize("program", ["iptables-restore", "ip6tables-restore", "nft"])
def test_this_kernel_accepts_the_rules_and_refuses_a_wrong_one(program: str) -> None:
    path = host.Machine.here().path
    mode = "nftables" if program == "nft" else "iptables"
    rules = [feature for feature in kernel._features(mode) if feature.program == program]
    wrong = kernel.Feature("nonsense", "none", program, "no such rule", rules[0].place)

    good, bad = kernel._try([rules, [*rules, wrong]], path)

    assert good is None
    assert bad


@pytest.mark.skipif(not is_root(), reason="unfit: needs root")
def test_this_machine_is_checked_quickly_and_left_as_it_was() -> None:
    before = sorted(Path("/sys/class/net").iterdir())
    fastest = 9.0
    for _ in range(3):
        started = time.perf_counter()
        report = host.check("none")
        fastest = min(fastest, time.perf_counter() - started)
    assert report.kernel == os.uname().release
    assert fastest < 0.15
    assert sorted(Path("/sys/class/net").iterdir()) == before
