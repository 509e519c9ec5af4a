# SPDX-License-Identifier: Apache-2.0
"""Machines that are not this one: a PATH with only the tools a test puts there."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from clusters.host import Machine

TOP = Path(__file__).parents[2]
VERSIONS = {
    "ip": "ip utility, iproute2-6.1.0",
    "iptables": "iptables v1.8.9 (nf_tables)",
    "ip6tables": "ip6tables v1.8.9 (nf_tables)",
    "nft": "nftables v1.0.6 (Lester Gooch #5)",
    "conntrack": "conntrack v1.4.7 (conntrack-tools)",
}
# No privilege: the steps run in the test's own namespace, where every `test -e` succeeds and `ip` is a script.
UNSHARE = """case $1 in --version) echo 'unshare from util-linux 2.38.1'; exit ;; esac
{ echo 'test() { :; }; mount() { :; }'; cat; } | /bin/sh -s"""


@dataclass(frozen=True)
class Fake:
    """A machine whose tools are scripts; kernel features are what the scripts say."""

    machine: Machine
    bin: Path

    def tool(self, name: str, script: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def version(self, name: str, answer: str) -> None:
        self.tool(name, f"echo '{answer}'")

    def backend(self, name: str) -> None:
        """Install iptables' programs of a backend; they do what the default ones do now."""
        for program in ("iptables", "ip6tables"):
            for purpose in ("", "-restore", "-save"):
                target = self.bin / f"{program}{purpose}"
                script = target.read_text() if target.exists() else "#!/bin/sh\n"
                (self.bin / f"{program}-{name}{purpose}").write_text(script)
                (self.bin / f"{program}-{name}{purpose}").chmod(0o755)

    def but(self, **changes: object) -> Machine:
        return replace(self.machine, **changes)  # type: ignore[arg-type]


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    """A machine that has all that iptables and nftables modes need."""
    tools, proc, release = tmp_path / "bin", tmp_path / "proc", tmp_path / "os-release"
    tools.mkdir()
    for name in ("net", "pid", "mnt", "user"):
        (proc / "self" / "ns").mkdir(parents=True, exist_ok=True)
        (proc / "self" / "ns" / name).touch()
    release.write_text('NAME="Debian GNU/Linux"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n')
    found = Fake(Machine("Linux", "6.1.0-40-amd64", "x86_64", 0, str(tools), proc, release), tools)
    for name, answer in VERSIONS.items():
        found.version(name, answer)
    for name in ("cat", "head"):
        (tools / name).symlink_to(f"/usr/bin/{name}")
    # The programs' input decides what this machine can do: a rule that holds a word of `refused` fails.
    for name in ("nft", "iptables-restore", "ip6tables-restore"):
        found.tool(
            name,
            f"""case $1 in --version) echo '{VERSIONS.get(name, "")}'; exit ;; esac
            read refused <"{tmp_path}/refused"
            case $(cat) in *"$refused"*) echo "{name}: No such file or directory"; exit 2 ;; esac""",
        )
    (tmp_path / "refused").write_text("nothing at all\n")
    found.tool("unshare", UNSHARE)
    return found


def refuse(fake: Fake, word: str) -> None:
    """From now on this machine's kernel knows no rule that holds `word`."""
    (fake.bin.parent / "refused").write_text(f"{word}\n")


def is_root() -> bool:
    return os.geteuid() == 0
