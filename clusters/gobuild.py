# SPDX-License-Identifier: Apache-2.0
"""Builds a released Go program from the Go module proxy, with every module checked by Go's checksum database.

A release may have a committed module (go.mod and go.sum), which makes its build repeatable. For any other
release a module is written that requires nothing but that release. https://go.dev/ref/mod
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# `go mod download` of one large module over a slow line; a build has no limit, its log shows it move.
DOWNLOAD_SECONDS = 600.0


class BuildError(Exception):
    """The build is impossible or failed; the text is a clause that says why."""


@dataclass(frozen=True, slots=True)
class GoSource:
    """Where a program's Go source is.

    `stamps` are linker assignments with {version}, {major} and {minor}; `committed` maps a release to the
    directory of its committed module.
    """

    module: str
    package: str
    stamps: tuple[str, ...] = ()
    committed: Mapping[str, Path] = field(default_factory=dict)


def build(
    source: GoSource,
    version: str,
    out: Path,
    *,
    log: Path,
    environ: Mapping[str, str],
    begin: Callable[[], None],
) -> None:
    """Builds `source` at release `version` (without v) into the file `out`, with Go's own output in `log`.

    Whatever else it writes goes beside `out`, in a directory that the caller makes and removes. `begin` is called
    once there is a Go that can do it. Raises BuildError.
    """
    go = _Go.find(environ, out.parent)
    module = source.committed.get(version)
    if module is None:
        begin()
        module = _write_module(go, source, version, out.parent)
        go.require(_go_line(module / "go.mod"))
    else:
        go.require(_go_line(module / "go.mod"))
        begin()
    major, minor = version.split(".")[:2]
    stamps = [f"-X {stamp.format(version=version, major=major, minor=minor)}" for stamp in source.stamps]
    modules = "-mod=readonly" if version in source.committed else "-mod=mod"
    argv = [
        "build",
        "-trimpath",
        modules,
        "-ldflags",
        " ".join(["-s", "-w", *stamps]),
        "-o",
        str(out),
        source.package,
    ]
    with log.open("wb") as file:
        status = go.run(argv, cwd=module, output=file.fileno())
    if status:
        raise BuildError(f"go build failed ({_tail(log.read_text('utf-8', 'replace'))}; all of it is in {log})")


def newest_listed(source: GoSource, minor: str, scratch: Path, environ: Mapping[str, str]) -> str:
    """The newest stable patch of a minor release such as "1.35" that the Go module proxy lists and gives out.

    Raises BuildError.
    """
    go = _Go.find(environ, scratch)
    answer = go.json(["list", "-m", "-versions", "-json", source.module])
    if "Error" in answer:
        raise BuildError(f"the Go module proxy does not list {source.module} ({_tail(str(answer['Error']))})")
    listed = answer.get("Versions", [])
    pattern = re.compile(rf"v{re.escape(minor)}\.(\d+)")
    patches = sorted((int(m[1]) for v in listed if (m := pattern.fullmatch(v))), reverse=True)
    refusal = ""
    for patch in patches:
        answer = go.json(["mod", "download", "-json", f"{source.module}@v{minor}.{patch}"])
        if "Error" not in answer:
            return f"{minor}.{patch}"
        refusal = f" that it gives out ({_tail(answer['Error'])})"
    raise BuildError(f"the Go module proxy lists no stable {minor} of {source.module}{refusal}")


def _write_module(go: "_Go", source: GoSource, version: str, directory: Path) -> Path:
    """A module that requires one release only, with that release's own go.sum to begin with."""
    release = go.json(["mod", "download", "-json", f"{source.module}@v{version}"])
    if "Error" in release:
        raise BuildError(
            f"the Go module proxy does not give out {source.module} v{version} ({_tail(release['Error'])})"
        )
    upstream = Path(release["GoMod"]).read_text("utf-8")
    lines = [f"module plumbline.invalid/tools/{source.module}", f"go {_go_line(Path(release['GoMod']))}"]
    lines += re.findall(r"^godebug default=\S+", upstream, re.MULTILINE)
    lines += [f"require {source.module} v{version}"]
    # Kubernetes replaces its staging modules by directories, which a module zip lacks: they are published as
    # v0.X.Y.
    staged = set(re.findall(r"^\s*(?:require\s+)?(k8s\.io/\S+) v0\.0\.0(?:\s|$)", upstream, re.MULTILINE))
    lines += [f"replace {name} => {name} v0.{version.partition('.')[2]}" for name in sorted(staged)]
    (directory / "go.mod").write_text("\n".join(lines) + "\n", "utf-8")
    shutil.copyfile(Path(release["Dir"]) / "go.sum", directory / "go.sum")
    (directory / "go.sum").chmod(0o644)
    return directory


def _go_line(go_mod: Path) -> str:
    found = re.search(r"^go (\d+\.\d+\S*)", go_mod.read_text("utf-8"), re.MULTILINE)
    return found[1] if found else "1.16"


def _tail(output: str) -> str:
    """The last lines of a tool's output as one clause."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    text = "; ".join(lines[-3:]).rstrip(".") or "it said nothing"
    return text if len(text) <= 400 else "…" + text[-400:]


def _number(version: str) -> tuple[int, int]:
    found = re.match(r"(?:go)?(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)


@dataclass(frozen=True, slots=True)
class _Go:
    """The go command, with the environment that makes a build depend on nothing else of this machine."""

    path: str
    environ: Mapping[str, str]
    version: str
    switches: bool

    @classmethod
    def find(cls, environ: Mapping[str, str], scratch: Path) -> "_Go":
        path = shutil.which("go", path=environ.get("PATH", os.defpath))
        if path is None:
            raise BuildError("there is no Go on PATH to build it with")
        settings = {"CGO_ENABLED": "0", "GOOS": "", "GOARCH": "", "GOWORK": "off", "GO111MODULE": "on"}
        go = cls(path, {**environ, **settings, "GOTMPDIR": str(scratch)}, "", False)
        try:
            answer = go.ask(["env", "GOVERSION", "GOTOOLCHAIN"]).splitlines()
        except (OSError, subprocess.SubprocessError) as error:
            raise BuildError(f"{path} does not run ({error})") from error
        version, toolchain = [*answer, "", ""][:2]
        # Go 1.21 and later fetches a newer Go by itself unless told not to. https://go.dev/doc/toolchain
        switches = _number(version) >= (1, 21) and toolchain not in ("", "local", "path")
        return cls(path, go.environ, version.removeprefix("go"), switches)

    def require(self, needed: str) -> None:
        if _number(self.version) < _number(needed) and not self.switches:
            raise BuildError(
                f"{self.path} is Go {self.version or 'of unknown version'} and this release needs {needed}"
            )

    def ask(self, argv: Sequence[str]) -> str:
        return subprocess.run(
            [self.path, *argv],
            cwd=self.environ["GOTMPDIR"],
            env=dict(self.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=DOWNLOAD_SECONDS,
        ).stdout

    def json(self, argv: Sequence[str]) -> dict[str, Any]:
        try:
            answer = json.loads(self.ask(argv))
        except subprocess.CalledProcessError as error:
            # `go mod download -json` gives its reason in the JSON on stdout; other commands write to stderr.
            try:
                answer = json.loads(error.stdout)
            except ValueError:
                answer = {"Error": error.stderr}
        except subprocess.TimeoutExpired:
            answer = {"Error": f"no answer in {DOWNLOAD_SECONDS:.0f} s"}
        return dict(answer)

    def run(self, argv: Sequence[str], *, cwd: Path, output: int) -> int:
        """Runs go in a process group of its own, so that an interrupt ends its compilers too."""
        with contextlib.ExitStack() as at_end:
            with _signals_held():
                process = subprocess.Popen(
                    [self.path, *argv],
                    cwd=cwd,
                    env=dict(self.environ),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    process_group=0,
                )
                at_end.callback(_end_group, process)
            return process.wait()


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    # Go's caches survive this, and its work directory lies in the caller's scratch directory.
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Delivers the signals that end this program when the block is left: Popen that is interrupted between its
    fork and its return leaves a process that nobody knows."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if callable(signal.getsignal(number))
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in came:
            signal.raise_signal(late)
