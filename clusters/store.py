# SPDX-License-Identifier: Apache-2.0
"""The cache of programs, and how a program gets into it: whole, checked, and once for all who ask."""

import contextlib
import fcntl
import os
import re
import shutil
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from clusters import download, elf, gobuild
from clusters.errors import UsageError

Origin = Literal["flag", "environment", "cache", "download", "build"]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Tool:
    """A program that can be found or fetched. Another tool is another one of these.

    The user can give it by `flag` (where there is one) or by the environment variable `variable`. `path` is
    that of the release, with {version} and {arch} (as Go writes it): the program itself, or a tar archive in which
    it is `member`; None where releases hold no program. Its SHA-256 is a line of the file `checksums`; without one
    it is published beside it, the name ending in `.sha256`. `newest` names the file that holds the newest patch of
    {minor}, where there is one. `version_regex` has one group: the version, without v, in what `version_arguments`
    prints; a program without such arguments is known by the module that Go has built it from.
    """

    name: str
    default: str
    variable: str
    flag: str | None
    host: str
    path: str | None
    newest: str | None
    source: gobuild.GoSource
    build_time: str
    version_arguments: tuple[str, ...] = ()
    version_regex: str = ""
    member: str | None = None
    checksums: str | None = None

    def version_of(self, file: Path) -> str:
        """Which version a file is, without v. Raises NotUsableError."""
        if self.version_arguments:
            return elf.version(file, self.version_arguments, self.version_regex)
        return elf.module_version(file, self.source.module)


@dataclass(frozen=True, slots=True)
class Binary:
    """A program that has been run once to ask its version (as it says it, without v)."""

    path: Path
    version: str
    origin: Origin


def default_cache(environ: Mapping[str, str]) -> Path:
    """`bin` in plumbline's cache directory. https://specifications.freedesktop.org/basedir-spec/latest/"""
    base = Path(environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        home = environ.get("HOME")
        base = (Path(home) if home else Path.home()) / ".cache"
    return base / "plumbline" / "bin"


@dataclass(frozen=True, slots=True)
class Store:
    """The cache directory of one tool, and the two ways to fill it."""

    spec: Tool
    directory: Path
    environ: Mapping[str, str]
    say: Say

    def get(self, version: str) -> Binary:
        if version.count(".") == 1:
            cached = self._newest_cached(version)
            version = cached or self._newest_released(version)
        return self.cached(version) or self._fetch(version)

    def _path(self, version: str) -> Path:
        return self.directory / f"{self.spec.name}-v{version}-linux-{elf.architecture()}"

    def cached(self, version: str) -> Binary | None:
        """What the cache holds of a release, if it can be used."""
        path = self._path(version)
        if not path.exists():
            return None
        try:
            return Binary(path, self._inspect(path, version), "cache")
        except elf.NotUsableError as error:
            self.say(f"{self.spec.name} v{version}: the cached one {error}; getting it anew …")
            return None

    def _inspect(self, path: Path, version: str) -> str:
        found = self.spec.version_of(path)
        if found != version:
            raise elf.NotUsableError(f"says it is v{found}")
        return found

    def _newest_cached(self, minor: str) -> str | None:
        pattern = re.compile(rf"{self.spec.name}-v({re.escape(minor)}\.(\d+))-linux-{elf.architecture()}")
        try:
            names = [entry.name for entry in self.directory.iterdir()]
        except OSError:
            return None
        return max(
            ((int(m[2]), m[1]) for name in names if (m := pattern.fullmatch(name))),
            default=(0, None),
        )[1]

    def _newest_released(self, minor: str) -> str:
        missing = f"nothing says which {self.spec.name} {minor} is the newest"
        if self.spec.newest:
            url = self._url(self.spec.newest.format(minor=minor))
            try:
                answer = download.text(url, self.environ).strip()
                if re.fullmatch(rf"v{re.escape(minor)}\.\d+", answer):
                    return answer.removeprefix("v")
                missing = f"{url} does not hold a version"
            except download.UnavailableError as error:
                missing = str(error)
        with self._alone(minor) as scratch:
            try:
                return gobuild.newest_listed(self.spec.source, minor, scratch, self.environ)
            except gobuild.BuildError as error:
                self._give_up(minor, missing, str(error), error)

    def _url(self, path: str) -> str:
        base = self.environ.get("PLUMBLINE_DOWNLOAD_BASE") or self.spec.host
        return f"{base.rstrip('/')}/{path}"

    def _fetch(self, version: str) -> Binary:
        with self._alone(version) as scratch:
            if (present := self.cached(version)) is not None:
                return present  # another run filled the cache while this one waited
            file = scratch / self.spec.name
            try:
                self._download(version, file)
                origin: Origin = "download"
            except download.UnavailableError as error:
                self.say(f"{self.spec.name} v{version}: {error}")
                self._build(version, file, str(error))
                origin = "build"
            file.chmod(0o755)
            try:
                found = self._inspect(file, version)
            except elf.NotUsableError as error:
                raise UsageError(f"The {origin} of {self.spec.name} v{version} {error}.") from error
            self._keep(file, self._path(version))
        return Binary(self._path(version), found, origin)

    def _download(self, version: str, file: Path) -> None:
        if self.spec.path is None:
            raise download.UnavailableError("its releases are container images")
        arch = elf.architecture()
        url = self._url(self.spec.path.format(version=version, arch=arch))
        checksums = self._url(self.spec.checksums.format(version=version)) if self.spec.checksums else f"{url}.sha256"
        target = file.with_name("archive") if self.spec.member else file
        started = time.monotonic()
        self.say(f"{self.spec.name} v{version}: downloading {url} …")
        size = download.verified(url, checksums, target, self.environ)
        if self.spec.member:
            _unpack(target, self.spec.member.format(version=version, arch=arch), file, url)
        seconds = time.monotonic() - started
        self.say(f"{self.spec.name} v{version}: … {size / 2**20:.0f} MiB in {seconds:.0f} s, SHA-256 verified")

    def _build(self, version: str, file: Path, missing: str) -> None:
        log = self.directory / f"{self.spec.name}-v{version}-build.log"
        started = time.monotonic()

        def begin() -> None:
            self.say(
                f"{self.spec.name} v{version}: building from the Go module proxy ({self.spec.build_time}, once) …"
            )

        try:
            gobuild.build(self.spec.source, version, file, log=log, environ=self.environ, begin=begin)
        except gobuild.BuildError as error:
            self._give_up(version, missing, str(error), error)
        except BaseException:
            log.unlink(missing_ok=True)
            raise
        log.unlink()
        self.say(f"{self.spec.name} v{version}: … done in {time.monotonic() - started:.0f} s")

    def _give_up(self, version: str, missing: str, why: str, cause: Exception) -> NoReturn:
        by_flag = f"{self.spec.flag}=PATH or " if self.spec.flag else ""
        raise UsageError(
            f"There is no {self.spec.name} v{version} to be had: {missing}, and {why}; give {by_flag}"
            f"{self.spec.variable}=PATH, or install Go 1.26 or newer where it can reach a Go module proxy."
        ) from cause

    def _keep(self, file: Path, final: Path) -> None:
        """Puts a finished file under its name: the whole file or nothing, also when the machine goes down."""
        for path in (file, self.directory):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
                if path == file:
                    file.rename(final)
            finally:
                os.close(descriptor)

    @contextlib.contextmanager
    def _alone(self, version: str) -> Iterator[Path]:
        """An empty scratch directory in the cache, for this process only; others wait here for their turn."""
        name = f".{self.spec.name}-v{version}-linux-{elf.architecture()}"
        lock, scratch = self.directory / f"{name}.lock", self.directory / f"{name}.partial"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            descriptor = self._lock(lock, version)
            try:
                shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
                scratch.mkdir()
                yield scratch
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
                lock.unlink(missing_ok=True)
                os.close(descriptor)
        except OSError as error:
            flag = f", or give {self.spec.flag}=PATH" if self.spec.flag else ""
            raise UsageError(
                f"The cache {self.directory} cannot be written ({error.strerror or error}): "
                f"set XDG_CACHE_HOME to a directory that can{flag}."
            ) from error

    def _lock(self, path: Path, version: str) -> int:
        """An exclusively locked descriptor of `path`, which its last holder may just have removed."""
        told = False
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if not told:
                        self.say(f"{self.spec.name} v{version}: waiting for another run to get it …")
                        told = True
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                if _is_at(descriptor, path):
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)


def _unpack(archive: Path, member: str, file: Path, url: str) -> None:
    """Writes one regular file of a tar archive to `file`. Raises UsageError when it is not in there."""
    try:
        with tarfile.open(archive) as tar, file.open("wb") as out:
            content = tar.extractfile(member)
            if content is None:
                raise KeyError(member)
            shutil.copyfileobj(content, out)
    except (tarfile.TarError, KeyError, EOFError, zlib.error) as error:
        raise UsageError(f"The archive at {url} does not hold {member}.") from error


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
