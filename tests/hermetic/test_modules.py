# SPDX-License-Identifier: Apache-2.0
"""Which files make up a module, by name and by alias."""

from pathlib import Path

import pytest

from clusters.hermetic.modules import Modules

DEP = """kernel/net/ip_vs.ko: kernel/net/nf_conntrack.ko kernel/net/nf_defrag.ko kernel/lib/crc.ko
kernel/net/ip_vs_rr.ko.xz: kernel/net/ip_vs.ko kernel/net/nf_conntrack.ko
kernel/net/nf-conntrack.ko: kernel/lib/crc.ko
kernel/lib/crc.ko:
"""
ALIAS = """# Aliases extracted from modules themselves.
alias ipt_scheduler_rr ip_vs_rr
alias nfnetlink-subsys-[1-2] nf_conntrack
alias fs-overlay overlay
"""


@pytest.fixture
def modules(tmp_path: Path) -> Modules:
    for name, text in (("dep", DEP), ("alias", ALIAS), ("builtin", "kernel/fs/ext4/ext4.ko\n")):
        (tmp_path / f"modules.{name}").write_text(text)
    return Modules(tmp_path)


def names(modules: Modules, name: str) -> list[str] | None:
    files = modules.files(name)
    return None if files is None else [file.name for file in files]


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("ip_vs", ["crc.ko", "nf_defrag.ko", "nf_conntrack.ko", "ip_vs.ko"]),
        ("ip-vs-rr", ["nf_conntrack.ko", "ip_vs.ko", "ip_vs_rr.ko.xz"]),
        ("ipt_scheduler_rr", ["nf_conntrack.ko", "ip_vs.ko", "ip_vs_rr.ko.xz"]),
        ("nfnetlink-subsys-2", ["crc.ko", "nf-conntrack.ko"]),
        ("ext4", []),
        ("overlay", None),
        ("nonsense", None),
    ],
)
def test_what_is_loaded(modules: Modules, name: str, files: list[str] | None) -> None:
    """Needed modules first; nothing for what is built in; None for what nobody knows."""
    assert names(modules, name) == files


def test_an_alias_of_nothing_is_no_file(modules: Modules) -> None:
    assert names(modules, "fs-overlay") == []
