# SPDX-License-Identifier: Apache-2.0
"""The build from the Go module proxy, with a go command that does what each test says."""

import os
import re
import select
import signal
import subprocess
from typing import Any

import pytest

from clusters import binaries, elf
from clusters.errors import UsageError
from tests.binaries.conftest import Place
from tests.binaries.programs import program

CACHED = f"kube-proxy-v1.37.1-linux-{elf.architecture()}"
UPSTREAM = """module k8s.io/kubernetes

go 1.25.0

godebug default=go1.25

require (
\tgithub.com/google/cel-go v0.26.0
\tk8s.io/api v0.0.0
\tk8s.io/kubelet v0.0.0 // indirect
\tk8s.io/klog/v2 v2.130.1
)
"""


def test_without_a_download_the_committed_module_is_built(place: Place, kube_proxy: bytes) -> None:
    place.install_go(f'echo "$PWD $CGO_ENABLED $*" >{place.root}/call; {place.built(kube_proxy)}')

    binary = place.find()

    assert (binary.version, binary.origin, place.find().origin) == ("1.37.1", "build", "cache")
    assert place.left_in_cache() == [CACHED]
    call = (place.root / "call").read_text()
    assert re.search(r"/clusters/tools/kubernetes 0 build -trimpath -mod=readonly ", call)
    assert "-X k8s.io/component-base/version.gitVersion=v1.37.1" in call
    assert call.strip().endswith("k8s.io/kubernetes/cmd/kube-proxy")
    assert place.said[-2:] == [
        "kube-proxy v1.37.1: building from the Go module proxy (about 3 min on 2 cores, once) …",
        place.said[-1],
    ]
    assert re.fullmatch(r"kube-proxy v1\.37\.1: … done in \d+ s", place.said[-1])


@pytest.mark.parametrize("name", [name for name, tool in binaries.tools().items() if tool.source.committed])
def test_the_committed_module_is_the_default_release(name: str) -> None:
    tool = binaries.tools()[name]
    directory, source = tool.source.committed[tool.default], tool.source
    text = (directory / "go.mod").read_text()

    assert f"{source.module} v{tool.default} " in text
    assert re.search(rf"^(tool|)\s+{re.escape(source.package)}$", text, re.MULTILINE)
    assert f"{source.module} v{tool.default} h1:" in (directory / "go.sum").read_text()


def test_another_release_is_built_from_a_module_written_for_it(place: Place) -> None:
    release = place.root / "module"
    release.mkdir()
    (release / "go.mod").write_text(UPSTREAM)
    (release / "go.sum").write_text("sums of the release\n")
    place.install_go(
        f"""case $1 in mod) printf '{{"GoMod": "{release}/go.mod", "Dir": "{release}"}}'; exit ;; esac
        /bin/cp go.mod go.sum {place.root}; {place.built(program("Kubernetes v1.35.4"))}"""
    )

    assert place.find(version="1.35.4").origin == "build"

    written = (place.root / "go.mod").read_text().splitlines()
    assert "go 1.25.0" in written
    assert "godebug default=go1.25" in written
    assert "require k8s.io/kubernetes v1.35.4" in written
    assert [line for line in written if line.startswith("replace")] == [
        "replace k8s.io/api => k8s.io/api v0.35.4",
        "replace k8s.io/kubelet => k8s.io/kubelet v0.35.4",
    ]
    assert (place.root / "go.sum").read_text() == "sums of the release\n"


def test_a_minor_release_is_the_newest_one_given_out(place: Place) -> None:
    release = place.root / "module"
    release.mkdir()
    (release / "go.mod").write_text(UPSTREAM)
    (release / "go.sum").touch()
    place.install_go(
        f"""case "$1 $*" in
        list*) printf '{{"Versions": ["v1.35.8", "v1.35.9", "v1.35.10", "v1.35.11-rc.0", "v1.34.20"]}}'; exit ;;
        *v1.35.10) printf '{{"Error": "not available"}}'; exit 1 ;;
        mod*) printf '{{"GoMod": "{release}/go.mod", "Dir": "{release}"}}'; exit ;;
        esac
        {place.built(program("Kubernetes v1.35.9"))}"""
    )

    assert place.find(version="1.35").version == "1.35.9"


def test_a_release_that_does_not_exist_is_said_by_both(place: Place) -> None:
    place.install_go("""printf '{"Error": "unknown revision v1.99.0"}'; exit 1""")
    with pytest.raises(UsageError) as caught:
        place.find(version="1.99.0")
    caught.match(
        r"^There is no kube-proxy v1\.99\.0 to be had: .* with HTTP 404, and the Go module proxy does not give"
    )
    caught.match(r"out k8s\.io/kubernetes v1\.99\.0 \(unknown revision v1\.99\.0\)")


def test_a_minor_release_that_does_not_exist_is_said_by_both(place: Place) -> None:
    place.install_go("""printf '{"Versions": ["v1.13.0"]}'""")
    with pytest.raises(
        UsageError, match=r"stable-1\.99\.txt with HTTP 404, and the Go module proxy lists no stable 1\.99"
    ):
        place.find(version="1.99")
    assert place.left_in_cache() == []


def test_a_failed_build_ends_in_its_last_lines_and_a_log(place: Place) -> None:
    place.install_go("echo compiling; echo >&2; echo '# k8s.io/api' >&2; echo 'x.go:1: no space left' >&2; exit 1")
    with pytest.raises(UsageError) as caught:
        place.find()
    caught.match(
        r"go build failed \(compiling; # k8s\.io/api; x\.go:1: no space left; all of it is in .*-build\.log\)"
    )
    assert "\n" not in str(caught.value)
    assert place.left_in_cache() == ["kube-proxy-v1.37.1-build.log"]


def test_an_old_go_is_refused_before_it_builds(place: Place, kube_proxy: bytes) -> None:
    place.install_go(place.built(kube_proxy), version="go1.22.1")
    with pytest.raises(UsageError, match=r"bin/go is Go 1\.22\.1 and this release needs 1\.26\.0"):
        place.find()
    assert place.left_in_cache() == []


def test_a_go_that_does_not_run_is_said(place: Place) -> None:
    place.install_go("exit 1", version="")
    (place.root / "bin" / "go").write_text("#!/no/such/interpreter\n")
    with pytest.raises(UsageError, match="bin/go does not run"):
        place.find()


def test_a_build_that_says_another_version_is_refused(place: Place) -> None:
    place.install_go(place.built(program("Kubernetes v0.0.0-master+$Format:%H$\n")))
    with pytest.raises(UsageError, match=r"^The build of kube-proxy v1\.37\.1 says it is v0\.0\.0-master"):
        place.find()
    assert place.left_in_cache() == []


def test_an_interrupt_while_go_is_being_started_ends_it_too(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []

    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            if "build" in arguments[0]:
                started.append(os.pidfd_open(self.pid))
                signal.raise_signal(signal.SIGINT)

    place.install_go("exec /bin/sleep 60")
    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        place.find()

    assert select.select(started, [], [], 0)[0] == started
    assert place.left_in_cache() == []
    assert signal.getsignal(signal.SIGINT) is before
    os.close(started[0])
