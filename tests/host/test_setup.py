# SPDX-License-Identifier: Apache-2.0
"""`make` on machines that lack something: what it installs, what it says, and what it does not do again."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
TOOLS = ("ip", "iptables", "ip6tables", "nft", "conntrack")
# A Python 3.11 that can do just what the set-up asks of it, and writes down what it was asked.
PYTHON = """#!/bin/sh
echo "$*" >>"$LOG"
case "$*" in
"-c import sys; print(\\"%d.%d\\""*) echo "${FAKE_VERSION:-3.11 1}" ;;
"-c import sys; print(sys.version_info"*) echo 3.11 ;;
"-c import ensurepip"*) exit "${NO_ENSUREPIP:-0}" ;;
"-m venv"*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
"-m clusters.binaries"*) echo /bin/sh ;;
-) exec cat ;;
*"-r /dev/stdin"*) cat >/dev/null ;;
esac
"""


@dataclass(frozen=True)
class Clone:
    """A clone whose PATH is the test's own."""

    root: Path

    @property
    def log(self) -> list[str]:
        path = self.root / "log"
        return path.read_text().splitlines() if path.exists() else []

    def tool(self, name: str, script: str) -> None:
        path = self.root / "bin" / name
        path.unlink(missing_ok=True)
        path.write_text(script)
        path.chmod(0o755)

    def run(self, *argv: str, settings: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
        environ = {"PATH": str(self.root / "bin"), "LOG": str(self.root / "log"), **(settings or {})}
        return subprocess.run(
            argv, cwd=self.root, env=environ, capture_output=True, text=True, check=False, timeout=20
        )

    def packages(self, settings: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
        return self.run(".ci/system-packages", ".venv/.ready", settings=settings)


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    """A fresh clone on a machine that has everything; its user is not root."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(TOP / name, tmp_path)
    shutil.copytree(TOP / ".ci", tmp_path / ".ci")
    (tmp_path / "clusters").mkdir()
    (tmp_path / "clusters" / "binaries.py").touch()
    os.utime(tmp_path / "clusters" / "binaries.py", (1, 1))
    (tmp_path / "bin").mkdir()
    for name in ("bash", "sh", "cat", "cp", "dirname", "env", "make", "mkdir", "mv", "rm", "sed", "touch"):
        found = shutil.which(name)
        assert found
        (tmp_path / "bin" / name).symlink_to(found)
    clone = Clone(tmp_path)
    for name in TOOLS:
        clone.tool(name, "#!/bin/sh\n")
    clone.tool("python3", PYTHON)
    clone.tool("id", "#!/bin/sh\necho ${FAKE_ID:-1000}\n")
    clone.tool("apt-get", '#!/bin/sh\necho "apt-get $*" >>"$LOG"\n')
    return clone


def test_a_machine_that_has_everything_hears_nothing(clone: Clone) -> None:
    done = clone.packages()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not any(line.startswith("apt-get") for line in clone.log)


def test_an_ordinary_user_gets_one_line_to_type(clone: Clone) -> None:
    for name in ("nft", "ip6tables", "conntrack"):
        (clone.root / "bin" / name).unlink()
    done = clone.packages()
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        "plumbline: these packages are missing; type: sudo apt-get install iptables nftables conntrack\n"
    )
    assert not any(line.startswith("apt-get") for line in clone.log)


def test_root_gets_the_packages(clone: Clone) -> None:
    (clone.root / "bin" / "ip").unlink()
    done = clone.packages({"FAKE_ID": "0"})
    assert done.returncode == 0
    assert [line for line in clone.log if line.startswith("apt-get")] == [
        "apt-get update -qq",
        "apt-get install -y -qq --no-install-recommends iproute2",
    ]


def test_a_failing_apt_is_an_error(clone: Clone) -> None:
    (clone.root / "bin" / "nft").unlink()
    clone.tool("apt-get", "#!/bin/sh\necho 'E: no such package' >&2\nexit 100\n")
    done = clone.packages({"FAKE_ID": "0"})
    assert done.returncode == 1
    assert done.stderr.endswith("plumbline: apt-get could not install nftables: its reason is above.\n")


def test_a_machine_without_apt_is_told_the_names(clone: Clone) -> None:
    for name in ("nft", "apt-get"):
        (clone.root / "bin" / name).unlink()
    done = clone.packages({"FAKE_ID": "0"})
    assert done.returncode == 1
    assert done.stderr == (
        "plumbline: these are missing and there is no apt-get here; install what Debian calls: nftables.\n"
    )


@pytest.mark.parametrize(("python", "package"), [("python3", "python3-venv"), ("python3.12", "python3.12-venv")])
def test_a_python_without_venv_is_a_missing_package(clone: Clone, python: str, package: str) -> None:
    clone.tool(python, PYTHON)
    done = clone.packages({"NO_ENSUREPIP": "1", "PYTHON": python, "FAKE_VERSION": "3.12 1"})
    assert done.stderr == f"plumbline: these packages are missing; type: sudo apt-get install {package}\n"


def test_an_old_python_is_refused(clone: Clone) -> None:
    done = clone.packages({"FAKE_VERSION": "3.10 0"})
    assert done.returncode == 1
    assert done.stderr == (
        "plumbline: Python 3.11 or newer is needed and python3 is 3.10: "
        "name a newer one, as in make PYTHON=python3.12.\n"
    )


def test_an_absent_python_is_said(clone: Clone) -> None:
    done = clone.packages({"PYTHON": "python9"})
    assert done.returncode == 1
    assert done.stderr.startswith("plumbline: there is no python9 here: ")


def test_certify_sets_up_once_and_starts_pytest(clone: Clone) -> None:
    first = clone.run("make", "certify", "PROXY_MODE=nftables", "ARGS=-x")
    asked = clone.log
    second = clone.run("make", "certify", "PROXY_MODE=nftables", "ARGS=-x")

    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    assert [line for line in asked if line.startswith("-m")] == [
        "-m venv --clear .venv",
        "-m pip install --quiet --disable-pip-version-check -c constraints.txt -r /dev/stdin",
        "-m clusters.binaries kube-proxy",
        (
            "-m pytest --proxy-mode=nftables --level=core --report=report --junitxml=report/junit.xml "
            "--report-log=report/reportlog.jsonl -x"
        ),
    ]
    assert clone.log[len(asked) :] == asked[-1:]


@pytest.mark.parametrize("arguments", ["PROXY_MODE=ebpf", "ARGS=--proxy-binary=./kube-proxy", "ARGS=--proxy=none"])
def test_a_run_without_our_kube_proxy_does_not_fetch_it(clone: Clone, arguments: str) -> None:
    assert clone.run("make", "certify", arguments).returncode == 0
    assert not any("clusters.binaries" in line or "dataplane_ref.build" in line for line in clone.log)


def test_a_binary_gone_from_the_cache_is_fetched_again(clone: Clone) -> None:
    assert clone.run("make", "setup").returncode == 0
    (clone.root / ".venv" / ".kube-proxy").write_text("/no/such/kube-proxy\n")
    assert clone.run("make", "setup").returncode == 0
    assert clone.log.count("-m clusters.binaries kube-proxy") == 2


def test_new_constraints_are_installed(clone: Clone) -> None:
    assert clone.run("make", "setup").returncode == 0
    os.utime(clone.root / ".venv" / ".ready", (1, 1))  # as if constraints.txt had come later
    assert clone.run("make", "setup").returncode == 0
    assert sum("pip install" in line for line in clone.log) == 2
    assert clone.log.count("-m venv --clear .venv") == 1


def test_a_missing_package_stops_everything_else(clone: Clone) -> None:
    (clone.root / "bin" / "nft").unlink()
    done = clone.run("make", "setup", "SYSTEM_PATH=/nowhere")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "sudo apt-get install nftables" in done.stderr
    assert not (clone.root / ".venv").exists()


@pytest.mark.parametrize(
    ("typed", "packages"),
    [
        ("test", "ipset iperf3"),
        ("scale", "iperf3"),
        ("compare", "iperf3"),
        ("certify ARGS=-m_scale", "iperf3"),
        ("certify PROXY_MODE=ipvs", "ipset"),
    ],
)
def test_a_target_gets_what_it_alone_needs(clone: Clone, typed: str, packages: str) -> None:
    words = [word.replace("_", " ") if word.startswith("ARGS") else word for word in typed.split()]
    done = clone.run("make", *words, "SYSTEM_PATH=/nowhere")
    assert done.returncode == 2
    assert f"these packages are missing; type: sudo apt-get install {packages}\n" in done.stderr


def test_a_failed_fetch_is_not_taken_for_done(clone: Clone) -> None:
    clone.tool("python3", PYTHON.replace("echo /bin/sh ;;", "exit 4 ;;"))
    assert clone.run("make", "setup").returncode == 2
    assert clone.run("make", "setup").returncode == 2
    assert clone.log.count("-m clusters.binaries kube-proxy") == 2


def test_help_is_the_default_and_names_every_target(clone: Clone) -> None:
    done = clone.run("make")
    listed = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("  make ")}
    others = {"bench", "contract", "control-plane", "controls", "coverage", "datapath", "fuzz", "hop", "kernel"}
    others |= {"compare", "kills", "mutants", "property", "scale", "schedulers", "soak", "versions"}
    assert listed == {"help", "certify", "test", "setup", "lint", "format", "clean"} | others
