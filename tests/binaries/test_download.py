# SPDX-License-Identifier: Apache-2.0
"""The official release: downloaded once, checked, and never half there."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clusters import elf
from clusters.errors import UsageError
from clusters.store import default_cache
from tests.binaries.conftest import RELEASE, Place
from tests.binaries.programs import program, write

CACHED = f"kube-proxy-v1.37.1-linux-{elf.architecture()}"


def test_a_release_is_downloaded_once(place: Place, kube_proxy: bytes) -> None:
    place.mirror.publish(RELEASE, kube_proxy)

    first, second = place.find(), place.find()

    assert (first.version, first.origin, second.origin) == ("1.37.1", "download", "cache")
    assert first.path == second.path == place.cache / CACHED
    assert place.left_in_cache() == [CACHED]
    assert place.mirror.asked == [f"{RELEASE}.sha256", RELEASE]


def test_redirects_are_followed(place: Place, kube_proxy: bytes) -> None:
    place.mirror.publish("/elsewhere", kube_proxy)
    place.mirror.redirects = {RELEASE: "/elsewhere", f"{RELEASE}.sha256": f"{place.mirror.url}/elsewhere.sha256"}

    assert place.find().origin == "download"


def test_a_proxy_in_the_environment_is_used_unless_exempt(place: Place, kube_proxy: bytes) -> None:
    place.mirror.publish(f"http://plumbline.invalid{RELEASE}", kube_proxy)
    settings = {"PLUMBLINE_DOWNLOAD_BASE": "http://plumbline.invalid", "http_proxy": place.mirror.url}

    with pytest.raises(UsageError, match=r"plumbline\.invalid cannot be reached"):
        place.find(settings={**settings, "no_proxy": "plumbline.invalid"})
    assert place.mirror.asked == []
    assert place.find(settings=settings).origin == "download"


def test_a_wrong_checksum_is_an_error_and_not_a_reason_to_build(place: Place, kube_proxy: bytes) -> None:
    place.mirror.publish(RELEASE, kube_proxy, promised=b"something else")
    place.install_go(place.built(kube_proxy))

    with pytest.raises(UsageError, match=r"should be [0-9a-f]{64} and is [0-9a-f]{64}\) and was removed"):
        place.find()
    assert place.left_in_cache() == []


def test_a_release_that_says_another_version_is_refused(place: Place) -> None:
    place.mirror.publish(RELEASE, program("Kubernetes v1.2.3\n"))

    with pytest.raises(UsageError, match=r"^The download of kube-proxy v1\.37\.1 says it is v1\.2\.3\.$"):
        place.find()
    assert place.left_in_cache() == []


@pytest.mark.parametrize("trouble", ["absent", "cut", "portal", "refused", "unresolved"])
def test_without_go_the_sentence_names_both_ways(place: Place, kube_proxy: bytes, trouble: str) -> None:
    more, reason = {}, ""
    if trouble == "absent":
        reason = r"answers http://.*\.sha256 with HTTP 404"
    elif trouble == "cut":
        place.mirror.publish(RELEASE, kube_proxy)
        place.mirror.cut = {RELEASE}
        reason = r"broke off after \d+ bytes"
    elif trouble == "portal":
        place.mirror.publish(RELEASE, kube_proxy)
        place.mirror.files[f"{RELEASE}.sha256"] = b"<html>Please sign in</html>"
        reason = "something that is not a SHA-256"
    elif trouble == "refused":
        more, reason = {"PLUMBLINE_DOWNLOAD_BASE": "http://127.0.0.1:1"}, r"127\.0\.0\.1:1 cannot be reached"
    elif trouble == "unresolved":
        more, reason = {"PLUMBLINE_DOWNLOAD_BASE": "http://plumbline.invalid"}, "plumbline.invalid cannot be reached"

    with pytest.raises(UsageError) as caught:
        place.find(settings=more)

    caught.match(rf"^There is no kube-proxy v1\.37\.1 to be had: .*{reason}.*, and there is no Go on PATH to build")
    caught.match(r"; give --proxy-binary=PATH or PLUMBLINE_KUBE_PROXY=PATH, or install Go 1\.26 or newer")
    assert "\n" not in str(caught.value)
    assert not any("building" in line for line in place.said)
    assert place.left_in_cache() == []


def test_a_download_base_that_is_no_address_is_refused(place: Place) -> None:
    with pytest.raises(UsageError, match="not an http or https address: correct PLUMBLINE_DOWNLOAD_BASE"):
        place.find(settings={"PLUMBLINE_DOWNLOAD_BASE": "/srv/mirror"})
    assert place.left_in_cache() == []


def test_two_runs_download_once(place: Place, kube_proxy: bytes) -> None:
    place.mirror.publish(RELEASE, kube_proxy)
    place.mirror.stuck = {RELEASE}
    waits = threading.Event()

    def listen(line: str) -> None:
        if "waiting for another run" in line:
            waits.set()

    with ThreadPoolExecutor(2) as runs:
        first = runs.submit(place.find)
        assert place.mirror.half_sent.wait(10)
        second = runs.submit(place.find, say=listen)
        assert waits.wait(10)
        assert place.cache / CACHED not in list(place.cache.iterdir())
        place.mirror.go_on.set()
        origins = [first.result(10).origin, second.result(10).origin]

    assert origins == ["download", "cache"]
    assert place.mirror.asked.count(RELEASE) == 1
    assert place.left_in_cache() == [CACHED]


def test_what_a_killed_run_left_is_cleared(place: Place, kube_proxy: bytes) -> None:
    place.mirror.publish(RELEASE, kube_proxy)
    (place.cache / f".{CACHED}.partial").mkdir(parents=True)
    (place.cache / f".{CACHED}.partial" / "kube-proxy").write_bytes(b"half")
    (place.cache / f".{CACHED}.lock").touch()

    assert place.find().origin == "download"
    assert place.left_in_cache() == [CACHED]


def test_a_damaged_file_in_the_cache_is_replaced(place: Place, kube_proxy: bytes) -> None:
    place.mirror.publish(RELEASE, kube_proxy)
    place.cache.mkdir(parents=True)
    write(place.cache / CACHED, kube_proxy[:10])

    assert place.find().origin == "download"
    assert any("the cached one is not a Linux program" in line for line in place.said)


def test_a_cache_that_cannot_be_written_is_named(place: Place) -> None:
    (place.root / "cache").write_text("a file where a directory should be")
    with pytest.raises(UsageError, match=r"^The cache .* cannot be written \(Not a directory\): set XDG_CACHE_HOME"):
        place.find()


@pytest.mark.parametrize("cached", [False, True])
def test_a_minor_release_is_its_newest_patch(place: Place, kube_proxy: bytes, cached: bool) -> None:
    place.mirror.files["/release/stable-1.37.txt"] = b"v1.37.1"
    place.mirror.publish(RELEASE, kube_proxy)
    if cached:
        place.cache.mkdir(parents=True)
        for patch in (2, 10, 9):
            name = f"kube-proxy-v1.37.{patch}-linux-{elf.architecture()}"
            write(place.cache / name, program(f"Kubernetes v1.37.{patch}\n"))

    binary = place.find(version="1.37")

    assert binary.version == ("1.37.10" if cached else "1.37.1")
    assert bool(place.mirror.asked) is not cached


def test_the_cache_is_where_the_desktop_specification_says() -> None:
    assert default_cache({"HOME": "/h"}) == Path("/h/.cache/plumbline/bin")
    assert default_cache({"HOME": "/h", "XDG_CACHE_HOME": "/c"}) == Path("/c/plumbline/bin")
    assert default_cache({"HOME": "/h", "XDG_CACHE_HOME": "not/absolute"}) == Path("/h/.cache/plumbline/bin")
