# SPDX-License-Identifier: Apache-2.0
"""kube-router: released as an archive without a directory, and telling its version on stderr."""

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from clusters import binaries, elf
from clusters.errors import UsageError
from tests.binaries import programs
from tests.binaries.conftest import Place

ARCH = elf.architecture()
RELEASE = "/cloudnativelabs/kube-router/releases/download/v2.10.0"
ARCHIVE = f"kube-router_2.10.0_linux_{ARCH}.tar.gz"
CHECKSUMS = "kube-router_2.10.0_checksums.txt"
PROGRAM = programs.program("Running ./kube-router version 2.10.0, built on , go1.26.8\n", descriptor=2)


def archive(name: str) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as tar:
        for member, content in (("LICENSE", b"Apache"), (name, PROGRAM)):
            info = tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return whole.getvalue()


def publish(place: Place, content: bytes, promised: bytes | None = None) -> None:
    digest = hashlib.sha256(content if promised is None else promised).hexdigest()
    place.mirror.files[f"{RELEASE}/{ARCHIVE}"] = content
    place.mirror.files[f"{RELEASE}/{CHECKSUMS}"] = f"{'0' * 64}  other.tar.gz\n{digest}  {ARCHIVE}\n".encode()


def test_it_is_taken_out_of_its_release(place: Place) -> None:
    publish(place, archive("kube-router"))

    first, second = place.find("kube-router"), place.find("kube-router")

    assert (first.version, first.origin, second.origin) == ("2.10.0", "download", "cache")
    assert first.path.read_bytes() == PROGRAM
    assert place.mirror.asked == [f"{RELEASE}/{CHECKSUMS}", f"{RELEASE}/{ARCHIVE}"]


def test_a_wrong_checksum_is_an_error(place: Place) -> None:
    publish(place, archive("kube-router"), promised=b"something else")
    with pytest.raises(UsageError, match=r"is not the published one \(its SHA-256 should be"):
        place.find("kube-router")
    assert place.left_in_cache() == []


def test_an_archive_without_it_is_an_error(place: Place) -> None:
    publish(place, archive("gobgp"))
    with pytest.raises(UsageError, match=rf"^The archive at .*{ARCHIVE} does not hold kube-router"):
        place.find("kube-router")


def test_it_is_built_where_it_cannot_be_downloaded(place: Place) -> None:
    place.install_go(f'echo "$PWD $*" >{place.root}/call; {place.built(PROGRAM)}')
    assert place.find("kube-router").origin == "build"
    call = (place.root / "call").read_text()
    assert "/clusters/tools/kube-router build " in call
    assert "-X github.com/cloudnativelabs/kube-router/v2/pkg/version.Version=2.10.0" in call
    assert call.strip().endswith("github.com/cloudnativelabs/kube-router/v2/cmd/kube-router")


def test_without_download_or_go_the_sentence_says_what_to_type(place: Place) -> None:
    with pytest.raises(
        UsageError, match=r"^There is no kube-router v2\.10\.0 .* --proxy-binary=PATH or PLUMBLINE_KUBE_ROUTER="
    ):
        place.find("kube-router")


def test_it_can_be_named(place: Place, tmp_path: Path) -> None:
    named = programs.write(tmp_path / "kube-router", PROGRAM)
    assert place.find("kube-router", flag=named).origin == "flag"
    assert place.find("kube-router", settings={"PLUMBLINE_KUBE_ROUTER": str(named)}).origin == "environment"
    with pytest.raises(UsageError, match=r"^--proxy-binary=.* is kube-router v2\.10\.0, but v2\.9 was asked for"):
        place.find("kube-router", flag=named, version="2.9")


def test_another_program_is_not_taken_for_it(place: Place, kube_proxy: bytes, tmp_path: Path) -> None:
    named = programs.write(tmp_path / "kube-proxy", kube_proxy)
    with pytest.raises(UsageError, match=r"cannot be used as kube-router: it answers --version with 'Kubernetes v1"):
        place.find("kube-router", flag=named)


def test_the_committed_module_requires_the_default_release() -> None:
    tool = binaries.tools()["kube-router"]
    module = (tool.source.committed[tool.default] / "go.mod").read_text(encoding="utf-8")
    assert f"{tool.source.module} v{tool.default} " in module
    assert f"tool {tool.source.package}\n" in module
