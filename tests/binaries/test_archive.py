# SPDX-License-Identifier: Apache-2.0
"""etcd is released as an archive, with one checksum file for all of a release's archives."""

import hashlib
import io
import tarfile

import pytest

from clusters import binaries, elf
from clusters.errors import UsageError
from tests.binaries.conftest import Place
from tests.binaries.programs import program

ARCH = elf.architecture()
RELEASE = "/etcd-io/etcd/releases/download/v3.6.16"
ARCHIVE = f"etcd-v3.6.16-linux-{ARCH}.tar.gz"
ETCD = program("etcd Version: 3.6.16\nGit SHA: Not provided\n")


def archive(**members: bytes) -> bytes:
    """A compressed tar archive of files under the release's own directory."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(f"etcd-v3.6.16-linux-{ARCH}/{name}")
            info.size, info.mode = len(content), 0o755
            tar.addfile(info, io.BytesIO(content))
    return whole.getvalue()


def publish(place: Place, content: bytes, promised: bytes | None = None) -> None:
    """The archive, and a checksum file in which it is neither the first nor the last."""
    digest = hashlib.sha256(content if promised is None else promised).hexdigest()
    names = ("etcd-v3.6.16-darwin-arm64.zip", ARCHIVE, f"{ARCHIVE}.sig")
    lines = [f"{digest if name == ARCHIVE else '0' * 64}  {name}\n" for name in names]
    place.mirror.files[f"{RELEASE}/{ARCHIVE}"] = content
    place.mirror.files[f"{RELEASE}/SHA256SUMS"] = "".join(lines).encode()


def test_the_program_is_taken_out_of_its_archive(place: Place) -> None:
    publish(place, archive(etcdctl=b"another program", etcd=ETCD))

    first, second = place.find("etcd"), place.find("etcd")

    assert (first.version, first.origin, second.origin) == ("3.6.16", "download", "cache")
    assert first.path.read_bytes() == ETCD
    assert place.left_in_cache() == [f"etcd-v3.6.16-linux-{ARCH}"]
    assert place.mirror.asked == [f"{RELEASE}/SHA256SUMS", f"{RELEASE}/{ARCHIVE}"]


def test_a_wrong_checksum_among_many_is_an_error(place: Place) -> None:
    publish(place, archive(etcd=ETCD), promised=b"something else")
    with pytest.raises(UsageError, match=r"is not the published one \(its SHA-256 should be"):
        place.find("etcd")
    assert place.left_in_cache() == []


def test_an_archive_without_a_checksum_is_not_used(place: Place) -> None:
    publish(place, archive(etcd=ETCD))
    place.mirror.files[f"{RELEASE}/SHA256SUMS"] = f"{'0' * 64}  one\n{'1' * 64}  other\n".encode()
    with pytest.raises(UsageError, match=r"SHA256SUMS with something that is not a SHA-256.*PLUMBLINE_ETCD=PATH"):
        place.find("etcd")


@pytest.mark.parametrize("content", [archive(etcdctl=ETCD), b"no archive", archive(etcd=ETCD)[:-200]])
def test_an_archive_without_the_program_is_an_error(place: Place, content: bytes) -> None:
    publish(place, content)
    with pytest.raises(
        UsageError, match=rf"^The archive at .*{ARCHIVE} does not hold etcd-v3\.6\.16-linux-{ARCH}/etcd"
    ):
        place.find("etcd")
    assert place.left_in_cache() == []


def test_without_a_list_of_releases_the_newest_patch_needs_go(place: Place) -> None:
    with pytest.raises(UsageError, match=r"nothing says which etcd 3\.6 is the newest, and there is no Go on PATH"):
        place.find("etcd", version="3.6")


def test_it_is_built_where_it_cannot_be_downloaded(place: Place) -> None:
    place.install_go(f'echo "$PWD $*" >{place.root}/call; {place.built(ETCD)}')
    assert place.find("etcd").origin == "build"
    call = (place.root / "call").read_text()
    assert "/clusters/tools/etcd build " in call
    assert call.strip().endswith("go.etcd.io/etcd/server/v3")


def test_at_hand_is_what_need_not_be_fetched(place: Place) -> None:
    publish(place, archive(etcd=ETCD))
    assert binaries.at_hand("etcd", place.environ) is None
    assert place.mirror.asked == []

    found = place.find("etcd")
    cached = binaries.at_hand("etcd", place.environ)
    named = binaries.at_hand("etcd", {**place.environ, "PLUMBLINE_ETCD": str(found.path)})

    assert cached is not None
    assert named is not None
    assert (cached.path, cached.origin, named.path, named.origin) == (found.path, "cache", found.path, "environment")
