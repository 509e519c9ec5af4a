# SPDX-License-Identifier: Apache-2.0
"""A program that does not tell its version, and that no release holds: known by the module that it was built from."""

import pytest

from clusters import elf
from clusters.errors import UsageError
from tests.binaries.conftest import Place
from tests.binaries.programs import program, write

SPEAKER = "metallb-speaker"
CACHED = f"{SPEAKER}-v0.16.1-linux-{elf.architecture()}"


def speaker(line: str = "dep\tgo.universe.tf/metallb\tv0.16.1\th1:x=") -> bytes:
    """A program in which Go has written from which modules it was built."""
    lines = ["path\tgo.universe.tf/metallb/speaker", "mod\tplumbline.invalid/tools/metallb\t(devel)\t", line]
    return program("usage: …", 2) + b"\xff\0" + "\n".join(lines).encode() + b"\n\0\xff"


def test_it_is_built_at_once_and_then_cached(place: Place) -> None:
    place.install_go(f'echo "$PWD $*" >{place.root}/call; {place.built(speaker())}')

    binary = place.find(SPEAKER)

    assert (binary.version, binary.origin, place.find(SPEAKER).origin) == ("0.16.1", "build", "cache")
    assert place.left_in_cache() == [CACHED]
    assert place.mirror.asked == []
    assert place.said[0] == "metallb-speaker v0.16.1: its releases are container images"
    call = (place.root / "call").read_text()
    assert "/clusters/tools/metallb build -trimpath -mod=readonly " in call
    assert call.strip().endswith("go.universe.tf/metallb/speaker")


def test_without_go_there_is_none(place: Place) -> None:
    with pytest.raises(UsageError) as told:
        place.find(SPEAKER)
    assert str(told.value) == (
        "There is no metallb-speaker v0.16.1 to be had: its releases are container images, and there is no Go on "
        "PATH to build it with; give --announcer-binary=PATH or PLUMBLINE_METALLB_SPEAKER=PATH, or install Go 1.26 "
        "or newer where it can reach a Go module proxy."
    )


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("dep\tgo.universe.tf/metallb\tv0.15.2\th1:x=", "0.15.2"),
        ("mod\tgo.universe.tf/metallb\tv0.17.0-rc.1\th1:x=", "0.17.0-rc.1"),
        ("mod\tgo.universe.tf/metallb\t(devel)\t", "unreleased"),
    ],
)
def test_one_that_the_user_names(place: Place, line: str, version: str) -> None:
    named = write(place.root / "speaker", speaker(line))

    flagged = place.find(SPEAKER, flag=named)
    known = place.find(SPEAKER, settings={"PLUMBLINE_METALLB_SPEAKER": str(named)})

    assert (flagged.version, flagged.origin) == (version, "flag")
    assert (known.version, known.origin) == (version, "environment")


@pytest.mark.parametrize("line", ["dep\tgo.universe.tf/metallbs\tv0.16.1\t", "dep\texample.org/other\tv0.16.1\t"])
def test_one_that_is_another_program(place: Place, line: str) -> None:
    named = write(place.root / "speaker", speaker(line))

    with pytest.raises(
        UsageError, match=r"cannot be used as metallb-speaker: it was not built from go\.universe\.tf"
    ):
        place.find(SPEAKER, flag=named)


def test_a_build_that_is_another_release(place: Place) -> None:
    place.install_go(place.built(speaker("dep\tgo.universe.tf/metallb\tv0.16.0\th1:x=")))

    with pytest.raises(UsageError, match=r"The build of metallb-speaker v0\.16\.1 says it is v0\.16\.0\."):
        place.find(SPEAKER)
