# SPDX-License-Identifier: Apache-2.0
"""pytest as an ordinary user: as this one, or for root as nobody, who may read this clone in a mount namespace."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clusters import binaries

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534
CANNOT = 99
# The first argument is an empty directory; those up to `--` are closed to others, as root's home is. An overlay whose
# upper layer is open lets everybody pass, in this mount namespace only.
OPEN = f"""
layers=$1; shift
mount -t tmpfs plumbline "$layers" || exit {CANNOT}
while [ "$1" != -- ]; do
  layer=$layers/$#; mkdir "$layer" "$layer/upper" "$layer/work" && chmod 755 "$layer/upper" &&
    mount -t overlay plumbline -o "lowerdir=$1,upperdir=$layer/upper,workdir=$layer/work" "$1" || exit {CANNOT}
  shift
done
shift
exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups "$@"
"""


@dataclass(frozen=True, slots=True)
class Ordinary:
    """How to run things as an ordinary user: a prefix for commands, and a directory that user may write to."""

    prefix: tuple[str, ...]
    directory: Path

    def pytest(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run pytest to its end, with its report in `directory`."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        report = f"--report={self.directory / 'report'}"
        return subprocess.run(
            [*self.prefix, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", report, *arguments],
            cwd=ROOT,
            env={**kept, "PYTHONDONTWRITEBYTECODE": "1", "CI": ""},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120.0,
        )


@contextmanager
def ordinary_user() -> Iterator[Ordinary]:
    """An ordinary user who can read this clone, its interpreter and the cached kube-proxy."""
    with tempfile.TemporaryDirectory(prefix="plumbline-") as name:
        directory = Path(name)
        prefix: tuple[str, ...] = ()
        if os.geteuid() == 0:
            needed = (ROOT, Path(sys.executable), Path(sys.base_prefix), binaries.find("kube-proxy").path, directory)
            layers = directory / "layers"
            layers.mkdir()
            os.chown(directory, NOBODY, NOBODY)
            closed = [str(one) for one in _closed_to_others(needed) if one != directory]
            prefix = ("unshare", "--mount", "sh", "-c", OPEN, "sh", str(layers), *closed, "--")
        yield Ordinary(prefix, directory)


def _closed_to_others(paths: tuple[Path, ...]) -> list[Path]:
    """The directories on the way to these paths that others may not pass, outermost first."""
    ways = {parent for path in paths for way in (path, path.resolve()) for parent in (way, *way.parents)}
    return sorted(way for way in ways if way.is_dir() and not way.stat().st_mode & 0o001)
