# SPDX-License-Identifier: Apache-2.0
"""Where User-Mode Linux comes from: what the user names, what `make kernel` has built, or Debian's package, which is
installed, in the cache, or fetched with apt-get.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clusters.errors import UsageError
from clusters.store import Say, default_cache

VARIABLE = "PLUMBLINE_UML"
PACKAGE = "user-mode-linux"
BINARY = Path("usr/bin/linux.uml")
MODULES = Path("lib/uml/modules")
VERSION_SECONDS = 10.0
FETCH_SECONDS = 600.0

Origin = Literal["flag", "environment", "built", "installed", "cache", "fetched"]


@dataclass(frozen=True, slots=True)
class Uml:
    """A User-Mode Linux kernel: its binary, the directory of its modules, and its release (`6.1.176`)."""

    binary: Path
    modules: Path
    version: str
    origin: Origin


def find(
    flag: str | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    cache: Path | None = None,
    fetch: bool = True,
    say: Say = lambda line: print(line, file=sys.stderr, flush=True),
) -> Uml:
    """The kernel to boot, fetched first if need be; `flag` is the PATH of --kernel=uml:PATH.

    Raises UsageError, one sentence, where there is no way to have it.
    """
    if platform.machine() != "x86_64":
        raise UsageError(
            f"--kernel=uml: User-Mode Linux runs on x86_64 only, and this machine is {platform.machine()}."
        )
    if flag:
        return at(Path(flag), "flag", f"--kernel=uml:{flag}")
    if environ.get(VARIABLE):
        return at(Path(environ[VARIABLE]), "environment", f"{VARIABLE}={environ[VARIABLE]}")
    cache = cache or default_cache(environ).parent
    own = built(cache) / BINARY
    if own.exists():
        return at(own, "built", str(own))
    installed = shutil.which("linux.uml", path=f"{environ.get('PATH') or os.defpath}:/usr/bin")
    if installed:
        return at(Path(installed), "installed", installed)
    kept = cache / "uml"
    if not (kept / BINARY).exists():
        if not fetch:
            raise UsageError(f"User-Mode Linux is not here; type: sudo apt-get install {PACKAGE}")
        _fetch(kept, environ, say)
        return at(kept / BINARY, "fetched", str(kept / BINARY))
    return at(kept / BINARY, "cache", str(kept / BINARY))


def at(path: Path, origin: Origin, source: str) -> Uml:
    """The kernel at `path`, with its modules in `../lib/uml/modules/VERSION` beside it. Raises UsageError."""
    binary = path.expanduser().absolute()
    if not binary.is_file():
        raise UsageError(
            f"{source}: there is no such file; name a linux.uml, or leave the path out to have one fetched."
        )
    if not os.access(binary, os.X_OK):
        raise UsageError(f"{source} cannot be executed; type: chmod +x {binary}")
    version = release_of(binary, source)
    shelf = binary.parent.parent / MODULES
    modules = shelf / version
    if (modules / "modules.dep").is_file():
        return Uml(binary, modules, version, origin)
    others = sorted(one.name for one in shelf.iterdir()) if shelf.is_dir() else []
    if others:
        raise UsageError(
            f"{source} is Linux {version}, and the modules in {shelf} are for {', '.join(others)}: "
            f"take both from one {PACKAGE} package."
        )
    raise UsageError(
        f"{source}: its modules are missing; they belong in {modules}, as in Debian's package {PACKAGE}."
    )


def built(cache: Path) -> Path:
    """Where in plumbline's cache directory `make kernel` keeps its kernel."""
    return cache / "uml-built"


def release_of(binary: Path, source: str) -> str:
    """What a binary says of itself; `source` is what it is called. Raises UsageError where it is another program."""
    done = _asked(binary, "--version", source)
    word = done.stdout.strip()
    if done.returncode != 0 or not word[:1].isdigit() or len(word.split()) != 1:
        raise UsageError(f"{source} is no User-Mode Linux: asked for --version, it does not answer with a release.")
    return word


def has(uml: Uml, option: str) -> bool:
    """Whether a kernel was built with an option (`CONFIG_…`), as a module or for good, by what it says of itself.

    Raises UsageError where it does not run.
    """
    lines = _asked(uml.binary, "--showconfig", str(uml.binary)).stdout.splitlines()
    return any(line in (f"{option}=y", f"{option}=m") for line in lines)


def _asked(binary: Path, question: str, source: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            [binary, question], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            check=False, timeout=VERSION_SECONDS,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = error.strerror if isinstance(error, OSError) else "it does not end"
        raise UsageError(f"{source} does not run as User-Mode Linux ({reason}).") from None


def _fetch(kept: Path, environ: Mapping[str, str], say: Say) -> None:
    """Unpack Debian's package into the cache, as an ordinary user can; apt checks what it downloads."""
    remedy = f"type: sudo apt-get install {PACKAGE}, or name a kernel with --kernel=uml:PATH"
    path = f"{environ.get('PATH') or os.defpath}:/usr/bin:/bin"
    missing = [name for name in ("apt-get", "dpkg-deb") if shutil.which(name, path=path) is None]
    if missing:
        raise UsageError(
            f"--kernel=uml: User-Mode Linux is not here, and there is no {missing[0]} to fetch it: {remedy}."
        )
    say(f"plumbline: fetching {PACKAGE} with apt-get (40 MB) …")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="uml-", dir=kept.parent) as work:
            _step(["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=", PACKAGE], work, environ, remedy)
            packages = sorted(Path(work).glob(f"{PACKAGE}_*.deb"))
            if not packages:
                raise UsageError(f"--kernel=uml: apt-get downloaded no {PACKAGE}: {remedy}.")
            _step(["dpkg-deb", "-x", str(packages[0]), "unpacked"], work, environ, remedy)
            try:
                (Path(work) / "unpacked").rename(kept)
            except OSError:
                if not (kept / BINARY).exists():  # another run may have been faster
                    raise
    except OSError as error:
        raise UsageError(f"--kernel=uml: {kept} cannot be written: {error.strerror or error}.") from None


def _step(argv: list[str], work: str, environ: Mapping[str, str], remedy: str) -> None:
    try:
        done = subprocess.run(
            argv, cwd=work, env={**environ, "LC_ALL": "C"}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", check=False, timeout=FETCH_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise UsageError(f"--kernel=uml: {argv[0]} took longer than {FETCH_SECONDS:g} s: {remedy}.") from None
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UsageError(f"--kernel=uml: {argv[0]} could not fetch {PACKAGE} ({said}): {remedy}.")
