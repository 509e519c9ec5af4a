# SPDX-License-Identifier: Apache-2.0
"""Whether a file is a program that this machine can run, and which version it says it is."""

import mmap
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ANSWER_SECONDS = 20.0


class NotUsableError(Exception):
    """The file cannot be used; the text continues a sentence whose subject is the file."""


@dataclass(frozen=True, slots=True)
class _Machine:
    """One architecture: its Go name, its `uname -m` names, and its programs' e_machine, EI_CLASS and EI_DATA.

    The numbers are those of elf(5) and the kernel's include/uapi/linux/elf-em.h.
    """

    go: str
    uname: tuple[str, ...]
    machine: int
    bits: int
    order: str


_MACHINES = (
    _Machine("amd64", ("x86_64", "amd64"), 62, 64, "little"),
    _Machine("arm64", ("aarch64", "arm64"), 183, 64, "little"),
    _Machine("386", ("i386", "i486", "i586", "i686"), 3, 32, "little"),
    _Machine("arm", ("armv6l", "armv7l", "armv8l"), 40, 32, "little"),
    _Machine("ppc64le", ("ppc64le",), 21, 64, "little"),
    _Machine("riscv64", ("riscv64",), 243, 64, "little"),
    _Machine("s390x", ("s390x",), 22, 64, "big"),
)


def architecture(uname: str | None = None) -> str:
    """This machine's architecture as Go and Kubernetes releases write it, such as amd64."""
    name = uname or platform.machine()
    return next((machine.go for machine in _MACHINES if name in machine.uname), name)


def built_for(header: bytes) -> str | None:
    """The architecture (as Go writes it) in a program's first 20 bytes; None if they are no ELF header."""
    if len(header) < 20 or header[:4] != b"\x7fELF":
        return None
    bits, order = {1: 32, 2: 64}.get(header[4], 0), {1: "little", 2: "big"}.get(header[5], "")
    first, second = header[18:20]
    number = second << 8 | first if order == "little" else first << 8 | second
    for machine in _MACHINES:
        if (machine.machine, machine.bits, machine.order) == (number, bits, order):
            return machine.go
    return f"ELF machine {number} ({bits} bits)"


def version(path: Path, arguments: Sequence[str], regex: str) -> str:
    """What group 1 of `regex` finds in what `path` prints, on stdout or stderr. Raises NotUsableError."""
    _check_file(path)
    try:
        done = subprocess.run(
            [path, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=ANSWER_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise NotUsableError(f"gave no answer to {' '.join(arguments)} in {ANSWER_SECONDS:.0f} s") from error
    except OSError as error:
        raise NotUsableError(f"does not run ({error.strerror})") from error
    found = re.search(regex, f"{done.stdout}\n{done.stderr}", re.MULTILINE)
    if done.returncode == 0 and found:
        return found[1]
    said = (done.stdout.strip() or done.stderr.strip()).splitlines()
    answer = f"{said[-1][:200]!r}" if said else "nothing"
    raise NotUsableError(f"answers {' '.join(arguments)} with {answer} and exit status {done.returncode}")


def module_version(path: Path, module: str) -> str:
    """The release of a Go module in a program, as the build has written it there. Raises NotUsableError.

    It is text (https://pkg.go.dev/runtime/debug#BuildInfo): a line `dep` (or `mod`, of the main module) with the
    module's name and version. A program that was built in the module's own repository says `(devel)` there.
    """
    _check_file(path)
    line = re.compile(rb"\n(?:dep|mod)\t" + re.escape(module.encode()) + rb"\t(?:v([0-9][^\t\n]*)|\(devel\))")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        found = line.search(text)
        if found is None:
            raise NotUsableError(f"was not built from {module}")
        return found[1].decode() if found[1] else "unreleased"


def _check_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise NotUsableError("is a directory; the program itself is wanted")
        with path.open("rb") as file:
            header = file.read(20)
    except FileNotFoundError as error:
        raise NotUsableError("does not exist") from error
    except OSError as error:
        raise NotUsableError(f"cannot be read ({error.strerror})") from error
    target, here = built_for(header), architecture()
    if target is None:
        raise NotUsableError("is not a Linux program (it has no ELF header)")
    if target != here:
        raise NotUsableError(f"is built for {target}, and this machine is {here}")
    if not os.access(path, os.X_OK):
        raise NotUsableError("is not executable (chmod +x makes it so)")
