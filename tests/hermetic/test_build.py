# SPDX-License-Identifier: Apache-2.0
"""`make kernel`: from sources to a kernel that --kernel=uml finds, with sources of a few lines."""

import hashlib
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusters.errors import UsageError
from clusters.hermetic import build, finding
from clusters.hermetic.build import CONFIG, RELEASE
from tests.binaries.mirror import Mirror, serving

# As Linux's own: with O=, what is made lies there. The kernel is a script that answers --version.
MAKEFILE = r"""
defconfig:
	echo CONFIG_64BIT=y >$(O)/.config
olddefconfig:
	sed -i "/$(LACKS)=/d" $(O)/.config
linux:
	printf '#!/bin/sh\necho 9.8.7-plumbline\n' >$(O)/linux
	chmod +x $(O)/linux
	echo kernel/net/ipv4/ip_tables.ko >$(O)/modules.builtin
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / f"linux-{RELEASE}"
    (tree / "arch/um").mkdir(parents=True)
    (tree / "arch/um/Kconfig").touch()
    (tree / "Makefile").write_text(MAKEFILE.replace("$(LACKS)", "CONFIG_NONE"))
    return tree


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """All programs are there; flex, bison and bc are asked for only by Linux itself."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in build.TOOLS:
        if shutil.which(name) is None:
            (tools / name).symlink_to("/bin/true")
    return {"PATH": f"{tools}:/usr/bin:/bin", "XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}


def tarball(tree: Path) -> Path:
    made = tree.with_name(f"{tree.name}.tar.xz")
    with tarfile.open(made, "w:xz") as archive:
        archive.add(tree, tree.name)
    return made


def refusal(environ: dict[str, str], source: Path | None = None, release: str = RELEASE) -> str:
    """The sentence; and what was in the cache before is all that is in it now."""
    cache = Path(environ["XDG_CACHE_HOME"]) / "plumbline"
    before = sorted(cache.rglob("*"))
    with pytest.raises(UsageError) as refused:
        build.build(source=source, release=release, environ=environ, say=lambda _: None)
    assert sorted(cache.rglob("*")) == before or sorted(cache.rglob("*")) == []
    return str(refused.value)


def is_found(environ: dict[str, str]) -> bool:
    found = finding.find(environ=environ, fetch=False)
    builtin = (found.modules / "modules.builtin").read_text()
    return (found.version, found.origin, "ip_tables" in builtin) == ("9.8.7-plumbline", "built", True)


@pytest.mark.parametrize("packed", [False, True], ids=["a tree", "a tarball"])
def test_a_kernel_from_sources_at_hand(tree: Path, environ: dict[str, str], packed: bool) -> None:
    for _ in range(2):  # the second takes the place of the first
        built = build.build(source=tarball(tree) if packed else tree, environ=environ, say=lambda _: None)
        assert built.origin == "built"
        assert is_found(environ)
    assert [path.name for path in (Path(environ["XDG_CACHE_HOME"]) / "plumbline").iterdir()] == ["uml-built"]


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with serving() as mirror:
        yield mirror


def publish(mirror: Mirror, content: bytes, promised: bytes) -> None:
    """As kernel.org does: sums of a whole series in one signed list."""
    name = f"linux-{RELEASE}.tar.xz"
    mirror.files[f"/v7.x/{name}"] = content
    sums = f"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{'0' * 64}  linux-7.1.tar.xz\n" * 2000
    sums += f"{hashlib.sha256(promised).hexdigest()}  {name}\n-----BEGIN PGP SIGNATURE-----\n"
    mirror.files["/v7.x/sha256sums.asc"] = sums.encode()


def test_a_kernel_from_the_network(tree: Path, environ: dict[str, str], mirror: Mirror) -> None:
    packed = tarball(tree).read_bytes()
    publish(mirror, packed, packed)
    environ[build.BASE_VARIABLE] = mirror.url
    build.build(environ=environ, say=lambda _: None)
    assert is_found(environ)


def test_a_download_that_is_not_the_published_one(environ: dict[str, str], mirror: Mirror) -> None:
    publish(mirror, b"something else", b"Linux")
    environ[build.BASE_VARIABLE] = mirror.url
    assert "is not the published one" in refusal(environ)


def test_a_release_that_nobody_has(environ: dict[str, str], mirror: Mirror) -> None:
    environ[build.BASE_VARIABLE] = mirror.url
    said = refusal(environ)
    assert said.startswith(f"Linux {RELEASE} cannot be had: 127.0.0.1:")
    assert said.endswith("; name a tarball with --source=PATH.")
    assert refusal(environ, release="latest") == f"--release=latest is no release of Linux, such as {RELEASE}."


def test_sources_that_are_not_there(tmp_path: Path, environ: dict[str, str]) -> None:
    assert refusal(environ, tmp_path / "none") == f"--source={tmp_path / 'none'}: there is no such file or directory."


def test_sources_of_something_else(tmp_path: Path, environ: dict[str, str], tree: Path) -> None:
    shutil.rmtree(tree / "arch")
    assert refusal(environ, tree) == f"--source={tree} holds no sources of Linux."
    assert refusal(environ, tarball(tree)) == f"linux-{RELEASE}.tar.xz holds no sources of Linux."
    (tmp_path / "text.tar").write_text("no archive")
    assert refusal(environ, tmp_path / "text.tar").startswith("text.tar cannot be unpacked (")


def test_sources_without_what_is_needed(tree: Path, environ: dict[str, str]) -> None:
    (tree / "Makefile").write_text(MAKEFILE.replace("$(LACKS)", "CONFIG_IP_VS"))
    assert refusal(environ, tree) == f"these sources have no CONFIG_IP_VS; take Linux {RELEASE}."
    (tree / "Makefile").write_text(MAKEFILE.replace("$(LACKS)", "CONFIG_IP_VS_.*"))
    said = refusal(environ, tree)
    assert said.startswith("these sources have no CONFIG_IP_VS_DH, CONFIG_IP_VS_FO, CONFIG_IP_VS_IPV6 and ")
    assert said.endswith(f" options more; take Linux {RELEASE}.")


def test_a_compiler_that_fails(tree: Path, environ: dict[str, str]) -> None:
    makefile = MAKEFILE.replace("$(LACKS)", "CONFIG_NONE")
    (tree / "Makefile").write_text(makefile.replace("printf", "echo 'net/x.c:1: error: no such thing'; false;"))
    assert refusal(environ, tree) == "the kernel does not compile (net/x.c:1: error: no such thing)."


def test_programs_that_are_missing(tree: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = shutil.which
    monkeypatch.setattr(
        shutil, "which", lambda name, path: None if name in ("flex", "xz") else found(name, path=path)
    )
    assert refusal(environ, tree) == "a kernel is built with flex, xz-utils; type: apt-get install flex xz-utils"


def test_too_little_room(tree: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "FREE_BYTES", 1 << 60)
    assert "and building a kernel takes" in refusal(environ, tree)


def test_every_option_is_asked_for_once() -> None:
    names = [
        line.removeprefix("# ").partition("=")[0].split()[0]
        for line in CONFIG.read_text().splitlines()
        if "CONFIG_" in line
    ]
    assert len(names) == len(set(names)) > 100
