# SPDX-License-Identifier: Apache-2.0
"""Builds the reference datapath's object, dataplane_ref/bpf/plumbline.bpf.o, which is in git.

`make datapath`, or `python -m dataplane_ref.build`: with the compiler that the PyPI package ziglang holds, at the one
version that pyproject.toml pins, so that everybody gets the same bytes; `--check` says whether the object in git is
what the source gives. `--compiler` takes a clang instead: its code differs, and must do the same.
"""

import argparse
import importlib.metadata
import importlib.util
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dataplane_ref.loader.errors import LoadError
from dataplane_ref.strip import strip

ZIGLANG = "0.17.0"
OLDEST_CLANG = 14
SOURCE = Path(__file__).parent / "bpf"
OBJECT = SOURCE / "plumbline.bpf.o"
MAIN = "datapath.c"
COMPILE_SECONDS = 120.0
# The wheel's own headers: the kernel's for user space, x86's (BPF has none of its own, and these are as good as any
# 64-bit little-endian machine's), and the compiler's.
_HEADERS = ("lib/libc/include/any-linux-any", "lib/libc/include/x86-linux-any", "lib/include")
_FLAGS = (
    "-O2", "-g", "-mcpu=v3", "-std=gnu11", "-Wall", "-Wextra",
    "-Wno-unused-parameter", "-Wno-unused-function", "-Wno-unused-variable", "-Wno-unused-const-variable",
    "-fno-unwind-tables", "-fno-asynchronous-unwind-tables", "-fno-stack-protector", "-fno-ident",
)  # fmt: skip


class BuildError(Exception):
    """The object cannot be built; the text is one sentence, or what the compiler said."""


class Compiler(NamedTuple):
    """How a compiler is called, and where its headers are."""

    command: tuple[str, ...]
    headers: tuple[Path, ...]
    root: Path | None


def build(source: Path = SOURCE, *, compiler: str = "zig", defines: Sequence[str] = (), main: str = MAIN) -> bytes:
    """The object of `main` in the folder `source`. Raises BuildError.

    `compiler`: zig, or a clang's name or path. `defines`: NAME or NAME=VALUE, as the compiler's -D takes them.
    """
    found = find(compiler)
    source = source.resolve()
    if not (source / main).is_file():
        raise BuildError(f"there is no {main} in {source}: name the folder of the datapath's source with --source.")
    prefixes = [f"-ffile-prefix-map={source}=."]
    prefixes += [f"-ffile-prefix-map={found.root}=headers"] if found.root else []
    with tempfile.TemporaryDirectory(prefix="plumbline-build-") as folder:
        target = Path(folder) / "datapath.o"
        argv = [
            *found.command, *_FLAGS, *prefixes, *(f"-D{name}" for name in defines),
            *(part for path in found.headers for part in ("-isystem", str(path))),
            "-c", main, "-o", str(target),
        ]  # fmt: skip
        try:
            done = subprocess.run(
                argv,
                cwd=source,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=COMPILE_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BuildError(f"{found.command[0]} does not run: {error}.") from error
        if done.returncode or not target.exists():
            raise BuildError(done.stderr.strip() or f"{found.command[0]} ended with {done.returncode} and no word.")
        sys.stderr.write(done.stderr)  # warnings
        try:
            return strip(target.read_bytes())
        except LoadError as error:
            raise BuildError(f"{compiler} has not made a BPF object of {main}: {error}.") from error


def find(name: str) -> Compiler:
    """The compiler of that name. Raises BuildError with what to type when there is none, or one that is too old."""
    root = _ziglang()
    headers = tuple(root / folder for folder in _HEADERS) if root else ()
    if name == "zig":
        version = importlib.metadata.version("ziglang") if root else "none"
        if version != ZIGLANG:
            raise BuildError(
                f"the pinned compiler is ziglang {ZIGLANG} and here is {version}: type `make datapath`, which "
                "installs it, or name a clang with --compiler."
            )
        command = (sys.executable, "-m", "ziglang", "cc", "-target", "bpfel-freestanding", "-nostdinc")
        return Compiler(command, headers, root)
    program = shutil.which(name)
    if program is None:
        raise BuildError(f"there is no compiler {name} here: type `make datapath`, which brings its own.")
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    release = re.search(r"clang version (\d+)", said)
    if release is None or int(release[1]) < OLDEST_CLANG:
        raise BuildError(
            f"{name} is not clang {OLDEST_CLANG} or newer: type `make datapath`, which brings its own compiler."
        )
    if not headers:  # the system's, where Debian and its kin keep those of the machine apart
        return Compiler((program, "-target", "bpfel"), (Path(f"/usr/include/{platform.machine()}-linux-gnu"),), None)
    return Compiler((program, "-target", "bpfel", "-nostdinc"), headers, root)


def _ziglang() -> Path | None:
    found = importlib.util.find_spec("ziglang")
    return Path(found.origin).parent if found and found.origin else None


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m dataplane_ref.build", description="Build the reference datapath."
    )
    parser.add_argument(
        "--check", action="store_true", help="build nothing; exit 1 when the object in git is outdated"
    )
    parser.add_argument("--compiler", default="zig", help="zig (default), or the name or path of a clang >= 14")
    parser.add_argument("--source", type=Path, default=SOURCE, help="the folder of datapath.c")
    parser.add_argument(
        "--output", type=Path, help="where the object goes (default: plumbline.bpf.o beside the source)"
    )
    parser.add_argument("-D", dest="defines", action="append", default=[], metavar="NAME", help="define a macro")
    options = parser.parse_args(arguments)
    output: Path = options.output or options.source / OBJECT.name
    try:
        data = build(options.source, compiler=options.compiler, defines=options.defines)
        if options.check:
            return _check(data, output)
        output.write_bytes(data)
    except BuildError as error:
        print(f"plumbline: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"plumbline: {output} cannot be written: {error.strerror}.", file=sys.stderr)
        return 1
    return 0


def _check(data: bytes, output: Path) -> int:
    try:
        is_same = output.read_bytes() == data
    except FileNotFoundError:
        print(f"plumbline: there is no {output}: type `make datapath`.", file=sys.stderr)
        return 1
    if not is_same:
        print(f"plumbline: {output} is not what its source gives: type `make datapath`.", file=sys.stderr)
    return 0 if is_same else 1


if __name__ == "__main__":
    sys.exit(main())
