# SPDX-License-Identifier: Apache-2.0
"""A binary that the user names: used as it is, or refused in one sentence."""

from pathlib import Path

import pytest

from clusters import binaries
from clusters.errors import UsageError
from tests.binaries.conftest import Place
from tests.binaries.programs import program, write


def test_the_flag_comes_before_the_environment(place: Place, kube_proxy: bytes) -> None:
    by_flag = write(place.root / "mine", kube_proxy)
    by_environment = write(place.root / "other", program("Kubernetes v1.30.0\n"))

    first = place.find(flag=by_flag, settings={"PLUMBLINE_KUBE_PROXY": str(by_environment)})
    second = place.find(settings={"PLUMBLINE_KUBE_PROXY": str(by_environment)})

    assert (first.path, first.version, first.origin) == (by_flag, "1.37.1", "flag")
    assert (second.path, second.version, second.origin) == (by_environment, "1.30.0", "environment")
    assert place.mirror.asked == []


def test_a_developers_own_build_keeps_its_name(place: Place) -> None:
    built = write(place.root / "mine", program("Kubernetes v1.38.0-alpha.1.12+0123456789abcd-dirty\n"))

    assert place.find(flag=built).version == "1.38.0-alpha.1.12+0123456789abcd-dirty"


def test_a_relative_path_becomes_absolute(place: Place, kube_proxy: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    write(place.root / "mine", kube_proxy)
    monkeypatch.chdir(place.root)

    assert place.find(flag=Path("./mine")).path == place.root / "mine"


def test_a_directory_is_refused(place: Place) -> None:
    with pytest.raises(UsageError, match=r"^--proxy-binary=.*/bin cannot be used as kube-proxy: it is a directory"):
        place.find(flag=place.root / "bin")


def test_an_absent_file_is_refused_by_the_variables_name(place: Place) -> None:
    with pytest.raises(UsageError, match=r"^PLUMBLINE_KUBE_PROXY=/no/such cannot .*: it does not exist\.$"):
        place.find(settings={"PLUMBLINE_KUBE_PROXY": "/no/such"})


def test_a_script_is_refused(place: Place) -> None:
    with pytest.raises(UsageError, match="it is not a Linux program"):
        place.find(flag=write(place.root / "mine", b"#!/bin/sh\necho Kubernetes v1.37.1\n"))


def test_a_file_that_is_not_executable_is_refused(place: Place, kube_proxy: bytes) -> None:
    mine = write(place.root / "mine", kube_proxy)
    mine.chmod(0o644)
    with pytest.raises(UsageError, match=r"it is not executable \(chmod \+x"):
        place.find(flag=mine)


def test_another_architecture_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = write(place.root / "mine", program("Kubernetes v1.37.1\n", machine="aarch64"))
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    with pytest.raises(UsageError, match="it is built for arm64, and this machine is amd64"):
        place.find(flag=mine)


def test_thirty_two_bits_are_not_sixty_four(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytearray(program("", machine="x86_64"))
    content[4] = 1  # EI_CLASS: x32 has the machine of x86_64
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    with pytest.raises(UsageError, match=r"it is built for ELF machine 62 \(32 bits\)"):
        place.find(flag=write(place.root / "mine", bytes(content)))


@pytest.mark.parametrize(
    ("text", "status", "answer"),
    [
        ("kubelet 7\n", 0, "'kubelet 7'"),
        ("", 3, "nothing and exit status 3"),
        ("Kubernetes v1.37.1\n", 1, "status 1"),
    ],
)
def test_another_program_is_refused(place: Place, text: str, status: int, answer: str) -> None:
    with pytest.raises(UsageError, match=rf"it answers --version with .*{answer}"):
        place.find(flag=write(place.root / "mine", program(text, status)))


def test_a_damaged_program_is_refused(place: Place, kube_proxy: bytes) -> None:
    with pytest.raises(UsageError, match=r"it (does not run|answers --version with nothing)"):
        place.find(flag=write(place.root / "mine", kube_proxy[:64]))


@pytest.mark.parametrize(
    ("version", "agrees"), [("1.37.1", True), ("v1.37", True), ("1.3", False), ("1.36.1", False)]
)
def test_a_version_asked_for_must_be_the_one_named(
    place: Place, kube_proxy: bytes, version: str, agrees: bool
) -> None:
    mine = write(place.root / "mine", kube_proxy)
    if agrees:
        assert place.find(flag=mine, version=version).version == "1.37.1"
        return
    with pytest.raises(UsageError, match=rf"is kube-proxy v1\.37\.1, but v{version} was asked for"):
        place.find(flag=mine, version=version)


@pytest.mark.parametrize("version", ["latest", "1", "1.37.1.2", "1.37/../..", "1.37.1-", "1.37.1\n"])
def test_what_is_no_version_is_refused(place: Place, version: str) -> None:
    with pytest.raises(UsageError, match=r"is not a version of kube-proxy: write a release such as 1\.37\.1"):
        place.find(version=version)
    assert place.mirror.asked == []


def test_an_unknown_tool_is_refused(place: Place) -> None:
    with pytest.raises(UsageError, match="it knows etcd, kube-apiserver, kube-proxy, kube-router, kubectl"):
        binaries.find("kubeproxy", environ=place.environ)
