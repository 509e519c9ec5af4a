# SPDX-License-Identifier: Apache-2.0
"""Where User-Mode Linux comes from, and one sentence for each way in which it cannot be had."""

import shutil
from pathlib import Path

import pytest

from clusters.errors import UsageError
from clusters.hermetic import finding
from clusters.hermetic.guest import check_memory


def binary(directory: Path, answer: str = "echo 6.1.9", modules: str | None = "6.1.9") -> Path:
    """What Debian's package has, as scripts."""
    place = directory / "bin" / "linux.uml"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(f"#!/bin/sh\n{answer}\n")
    place.chmod(0o755)
    if modules:
        shelf = directory / finding.MODULES / modules
        shelf.mkdir(parents=True)
        (shelf / "modules.dep").touch()
    return place


def refusal(path: Path) -> str:
    with pytest.raises(UsageError) as refused:
        finding.find(str(path), environ={})
    return str(refused.value)


def test_binary_and_modules_beside_it(tmp_path: Path) -> None:
    found = finding.find(str(binary(tmp_path)), environ={})
    assert (found.version, found.origin) == ("6.1.9", "flag")
    assert found.modules == tmp_path / "lib/uml/modules/6.1.9"


def test_absent(tmp_path: Path) -> None:
    assert "there is no such file" in refusal(tmp_path / "linux.uml")


def test_not_executable(tmp_path: Path) -> None:
    place = binary(tmp_path)
    place.chmod(0o644)
    assert refusal(place).endswith(f"cannot be executed; type: chmod +x {place}")


@pytest.mark.parametrize("answer", ["exit 1", "echo usage: something", "kill -9 $$"])
def test_another_program(tmp_path: Path, answer: str) -> None:
    assert "is no User-Mode Linux" in refusal(binary(tmp_path, answer))


def test_modules_missing(tmp_path: Path) -> None:
    assert "its modules are missing" in refusal(binary(tmp_path, modules=None))


def test_modules_of_another_version(tmp_path: Path) -> None:
    said = refusal(binary(tmp_path, modules="6.1.8"))
    assert "is Linux 6.1.9, and the modules" in said
    assert "are for 6.1.8" in said


def test_the_environment_names_one(tmp_path: Path) -> None:
    place = binary(tmp_path)
    assert finding.find(environ={finding.VARIABLE: str(place)}).origin == "environment"


class TestFetching:
    """apt-get and dpkg-deb are scripts here."""

    @pytest.fixture
    def environ(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
        tools = tmp_path / "tools"
        tools.mkdir()
        monkeypatch.setattr(shutil, "which", lambda name, path: None if name == "linux.uml" else f"{path}/{name}")
        unpack = "mkdir -p unpacked/usr/bin unpacked/usr/lib/uml/modules/6.1.9; cd unpacked/usr"
        unpack += "; touch lib/uml/modules/6.1.9/modules.dep"
        unpack += "; printf '#!/bin/sh\\necho 6.1.9\\n' >bin/linux.uml; chmod +x bin/linux.uml"
        for name, script in (("apt-get", "touch user-mode-linux_6.1_amd64.deb"), ("dpkg-deb", unpack)):
            (tools / name).write_text(f"#!/bin/sh\n{script}\n")
            (tools / name).chmod(0o755)
        return {"PATH": f"{tools}:/usr/bin:/bin"}

    def test_into_the_cache_once(self, tmp_path: Path, environ: dict[str, str]) -> None:
        said: list[str] = []
        first = finding.find(environ=environ, cache=tmp_path / "cache", say=said.append)
        again = finding.find(environ=environ, cache=tmp_path / "cache", say=said.append)
        assert (first.origin, again.origin) == ("fetched", "cache")
        assert len(said) == 1
        assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["uml"]

    def test_apt_says_no(self, tmp_path: Path, environ: dict[str, str]) -> None:
        (tmp_path / "tools" / "apt-get").write_text("#!/bin/sh\necho 'E: no network' >&2\nexit 100\n")
        with pytest.raises(
            UsageError, match=r"apt-get could not fetch user-mode-linux \(E: no network\): type: sudo apt"
        ):
            finding.find(environ=environ, cache=tmp_path / "cache", say=lambda _: None)
        assert list((tmp_path / "cache").iterdir()) == []


def test_too_little_memory(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9000000 kB\nMemAvailable:    3145728 kB\n")
    check_memory(2048, meminfo=meminfo)
    with pytest.raises(UsageError, match="2 guests need 2048 MiB each of memory, and 3072 MiB are available"):
        check_memory(2048, guests=2, meminfo=meminfo)
