# SPDX-License-Identifier: Apache-2.0
"""What a guest cannot do is one sentence, before anything is fetched or booted."""

from argparse import Namespace
from pathlib import Path

import pytest

from clusters import kernel
from clusters.errors import UsageError
from clusters.hermetic import finding
from clusters.patience import SLOWER, patient
from plugins import kernels
from plugins.options import Settings
from tests.plugin.runs import Finished, runs


def settings(mode: str = "iptables", **changes: object) -> Settings:
    return Settings("kube-proxy", mode, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (settings(iptables_backend="nft"), "--iptables-backend=nft cannot work there"),
        (settings(keep_lab=True), "--keep-lab cannot keep"),
        (settings(lab_shell="node-a"), "--lab-shell cannot open"),
        (settings(control_plane="real"), "--control-plane=real needs more memory"),
    ],
)
def test_refused(made: Settings, sentence: str) -> None:
    with pytest.raises(UsageError, match=rf"^--kernel=uml: {sentence}"):
        kernels.choose(Namespace(kernel="uml"), made, print)


class TestKernel:
    """What depends on the kernel that is found."""

    @staticmethod
    def uml(version: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        binary = tmp_path / "linux.uml"
        binary.write_text(
            f"#!/bin/sh\necho CONFIG_IP_VS=m; echo CONFIG_NF_TABLES_IPV4={'n' if version < '7' else 'y'}\n"
        )
        binary.chmod(0o755)
        monkeypatch.setattr(finding, "find", lambda *_, **__: finding.Uml(binary, tmp_path, version, "cache"))

    @pytest.mark.parametrize(
        ("mode", "sentence"),
        [
            ("nftables", "mode nftables cannot run on Linux 6.1.9, which has no nf_tables for IPv4 and IPv6"),
            ("ebpf", "the reference datapath cannot be loaded there: the verifier of Linux 6.1 refuses"),
        ],
    )
    def test_debians(self, mode: str, sentence: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.uml("6.1.9", monkeypatch, tmp_path)
        with pytest.raises(UsageError, match=rf"^--kernel=uml: {sentence}.*make kernel"):
            kernels.choose(Namespace(kernel="uml"), settings(mode), print)

    @pytest.mark.parametrize("mode", ["nftables", "ebpf"])
    def test_ours(self, mode: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.uml("7.2.13-plumbline", monkeypatch, tmp_path)
        chosen = kernels.choose(Namespace(kernel="uml"), settings(mode), print)
        assert chosen.guest == "User-Mode Linux 7.2.13-plumbline, guest of this machine"


class TestChoice:
    """Mode ipvs has a guest by itself where this machine's kernel has no ip_vs, and says why."""

    @pytest.fixture(autouse=True)
    def _uml(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = finding.Uml(Path("/uml/linux.uml"), Path("/uml"), "6.1.9", "cache")
        monkeypatch.setattr(finding, "find", lambda *_, **__: found)

    def test_without_ip_vs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(kernel, "lacks_ip_vs", lambda *_, **__: ["IP virtual servers"])
        chosen = kernels.choose(Namespace(kernel=None), settings("ipvs"), print)
        assert chosen.guest is not None
        assert chosen.guest.startswith("User-Mode Linux 6.1.9, guest of this machine (whose own kernel ")
        assert chosen.guest.endswith("lacks IP virtual servers)")
        assert chosen.deadline_scale == SLOWER

    @pytest.mark.parametrize(("kernel_asked", "mode"), [(None, "ipvs"), ("host", "ipvs"), (None, "iptables")])
    def test_on_this_machine(self, monkeypatch: pytest.MonkeyPatch, kernel_asked: str | None, mode: str) -> None:
        monkeypatch.setattr(kernel, "lacks_ip_vs", lambda *_, **__: ["it"] if kernel_asked else [])
        assert kernels.choose(Namespace(kernel=kernel_asked), settings(mode), print).guest is None


def test_deadlines_are_longer_in_a_guest() -> None:
    assert patient(30.0, {"PLUMBLINE_GUEST": "/dev/tty3"}) == 30.0 * SLOWER
    assert patient(30.0, {}) == 30.0


@runs("--kernel=kvm", "conformance/clusterip")
def test_another_word(finished: Finished) -> None:
    assert finished.status == 4
    assert "--kernel=kvm is unknown; choose host, uml, or uml:PATH" in finished.err


@runs("--kernel=uml:/nowhere/linux.uml", "conformance/clusterip")
def test_nothing_there(finished: Finished) -> None:
    assert finished.status == 4
    assert "--kernel=uml:/nowhere/linux.uml: there is no such file" in finished.err
    assert not finished.has_traceback()
