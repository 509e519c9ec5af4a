# SPDX-License-Identifier: Apache-2.0
"""`make kernel`: User-Mode Linux from Linux's sources, as `kernel.config` wants it, for `--kernel=uml` to find.

What Debian packages is built for other purposes: it traps each system call with ptrace(2) where newer kernels use
seccomp(2), which takes a third of the time, and its nf_tables knows neither IPv4 nor IPv6.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from clusters import download
from clusters.errors import PlumblineError, UsageError
from clusters.hermetic import finding
from clusters.store import Say, default_cache

RELEASE = "7.2.13"
BASE = "https://cdn.kernel.org/pub/linux/kernel"
BASE_VARIABLE = "PLUMBLINE_KERNEL_BASE"
CONFIG = Path(__file__).with_name("kernel.config")
TOOLS = {"gcc": "gcc", "make": "make", "flex": "flex", "bison": "bison", "bc": "bc", "tar": "tar", "xz": "xz-utils"}
FREE_BYTES = 4 << 30


def build(
    *,
    source: Path | None = None,
    release: str = RELEASE,
    jobs: int | None = None,
    environ: Mapping[str, str] = os.environ,
    say: Say = lambda line: print(line, file=sys.stderr, flush=True),
) -> finding.Uml:
    """Build a kernel into the cache, where it takes the place of the one before.

    `source` is a tarball or an unpacked tree; None downloads `release` and its checksum. Raises UsageError, one
    sentence, for what is missing or does not work; then the cache is as it was.
    """
    path = f"{environ.get('PATH') or os.defpath}:/usr/bin:/bin"
    missing = [package for tool, package in TOOLS.items() if shutil.which(tool, path=path) is None]
    if missing:
        raise UsageError(f"a kernel is built with {', '.join(missing)}; type: apt-get install {' '.join(missing)}")
    if source is not None and not source.exists():
        raise UsageError(f"--source={source}: there is no such file or directory.")
    final = finding.built(default_cache(environ).parent)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(final.parent).free
        if free < FREE_BYTES:
            raise UsageError(
                f"{final.parent} has {free >> 20} MiB left, and building a kernel takes {FREE_BYTES >> 20}."
            )
        with tempfile.TemporaryDirectory(prefix="kernel-", dir=final.parent) as work:
            steps = _Steps(Path(work), environ, say)
            tree = steps.tree(source, release)
            made = steps.compiled(tree, jobs or os.cpu_count() or 1)
            if final.exists():
                final.rename(Path(work) / "old")
            made.rename(final)
    except OSError as error:
        raise UsageError(f"{error.filename or final}: {error.strerror or error}.") from None
    return finding.at(final / finding.BINARY, "built", str(final / finding.BINARY))


class _Steps:
    """What is done in a directory that is removed afterwards, however it ends."""

    def __init__(self, work: Path, environ: Mapping[str, str], say: Say) -> None:
        self._work = work
        self._environ = {**environ, "LC_ALL": "C"}
        self._say = say

    def tree(self, source: Path | None, release: str) -> Path:
        """The unpacked sources."""
        if source is not None and source.is_dir():
            return _root_of(source, f"--source={source}")
        archive = source.absolute() if source else self._downloaded(release)
        place = self._work / "source"
        place.mkdir()
        self._say(f"plumbline: unpacking {archive.name} …")
        self._run(["tar", "-xf", str(archive)], place, f"{archive.name} cannot be unpacked")
        return _root_of(next(place.iterdir(), place), archive.name)

    def _downloaded(self, release: str) -> Path:
        """Linux, as kernel.org has it, checked against the list of sums beside it."""
        if not re.fullmatch(r"\d+\.\d+(\.\d+)?", release):
            raise UsageError(f"--release={release} is no release of Linux, such as {RELEASE}.")
        series = f"{self._environ.get(BASE_VARIABLE, BASE).rstrip('/')}/v{release.partition('.')[0]}.x"
        name = f"linux-{release}.tar.xz"
        self._say(f"plumbline: downloading {series}/{name} (150 MB) …")
        try:
            download.verified(f"{series}/{name}", f"{series}/sha256sums.asc", self._work / name, self._environ)
        except download.UnavailableError as error:
            raise UsageError(f"Linux {release} cannot be had: {error}; name a tarball with --source=PATH.") from None
        return self._work / name

    def compiled(self, tree: Path, jobs: int) -> Path:
        """A directory like Debian's package: the binary, and beside it a list of modules, all of them built in."""
        objects = self._work / "objects"
        objects.mkdir()
        make = ["make", "-s", "-C", str(tree), "ARCH=um", f"O={objects}", f"-j{jobs}"]
        self._say("plumbline: configuring …")
        self._run([*make, "defconfig"], objects, "these sources cannot be configured for User-Mode Linux")
        config = objects / ".config"
        wanted = CONFIG.read_text(encoding="ascii")
        config.write_text(config.read_text(encoding="ascii") + wanted, encoding="ascii")
        self._run([*make, "olddefconfig"], objects, "these sources cannot be configured")
        refused = refused_by(config.read_text(encoding="ascii"), wanted)
        if refused:
            more = f" and {len(refused) - 3} options more" if len(refused) > 3 else ""
            raise UsageError(f"these sources have no {', '.join(refused[:3])}{more}; take Linux {RELEASE}.")
        self._say(f"plumbline: compiling with {jobs} jobs, which takes some minutes …")
        self._run([*make, "linux"], objects, "the kernel does not compile")
        binary = self._work / "made" / finding.BINARY
        binary.parent.mkdir(parents=True)
        shutil.copy2(objects / "linux", binary)
        shelf = (
            self._work / "made" / "usr" / finding.MODULES / finding.release_of(binary, "the kernel that was built")
        )
        shelf.mkdir(parents=True)
        shutil.copy2(objects / "modules.builtin", shelf)
        for name in ("modules.dep", "modules.alias"):
            (shelf / name).touch()
        return self._work / "made"

    def _run(self, argv: Sequence[str], directory: Path, failure: str) -> None:
        """Run a program to its end; the last thing that it said goes into the sentence if it fails."""
        done = subprocess.run(
            argv, cwd=directory, env=self._environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
        )  # fmt: skip
        if done.returncode != 0:
            said = [line.strip() for line in done.stdout.splitlines() if line.strip()]
            telling = next(
                (line for line in said if "error" in line.lower()), said[-1] if said else "no reason given"
            )
            raise UsageError(f"{failure} ({telling}).")


def refused_by(config: str, wanted: str) -> list[str]:
    """The options that were asked for and that a configuration has not got, in order."""
    has = frozenset(config.splitlines())
    return [line.partition("=")[0] for line in wanted.splitlines() if line.startswith("CONFIG_") and line not in has]


def _root_of(tree: Path, named: str) -> Path:
    if not (tree / "arch" / "um" / "Kconfig").is_file():
        raise UsageError(f"{named} holds no sources of Linux.")
    return tree.absolute()


def main(arguments: Sequence[str] | None = None) -> int:
    """0 and a line that names the kernel, or 4 and a sentence."""
    parser = argparse.ArgumentParser(prog="python -m clusters.hermetic.build", description=__doc__.partition("\n")[0])
    parser.add_argument("--release", default=RELEASE, help=f"which release of Linux to download ({RELEASE})")
    parser.add_argument(
        "--source", type=Path, metavar="PATH", help="a tarball of Linux, or an unpacked tree, instead"
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="how many compilers at once (a processor each)")
    options = parser.parse_args(arguments)
    try:
        uml = build(source=options.source, release=options.release, jobs=options.jobs)
    except PlumblineError as error:
        print(f"plumbline: {error}", file=sys.stderr)
        return 4
    except KeyboardInterrupt:
        return 130
    print(f"Linux {uml.version} is in {uml.binary}; --kernel=uml takes it from now on.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
