# SPDX-License-Identifier: Apache-2.0
"""The smallest programs that can stand for a released binary: real ELF files that print one text and exit."""

import platform
import struct
from pathlib import Path

BASE = 0x400000
HEADERS = 64 + 56


def program(text: str, status: int = 0, machine: str | None = None, descriptor: int = 1) -> bytes:
    """An ELF program for this machine (or x86_64, aarch64) that writes `text`, and exits with `status`."""
    name = machine or platform.machine()
    number, code = {"x86_64": (62, _x86_64), "aarch64": (183, _aarch64)}[name]
    body = code(len(text.encode()), status, descriptor) + text.encode()
    size = HEADERS + len(body)
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 2, number, 1, BASE + HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, BASE, BASE, size, size, 0x1000)
    return ident + header + segment + body


def write(path: Path, content: bytes) -> Path:
    """`content` as an executable file."""
    path.write_bytes(content)
    path.chmod(0o755)
    return path


def _x86_64(length: int, status: int, descriptor: int) -> bytes:
    return (
        b"\xb8" + struct.pack("<I", 1)  # mov eax, write
        + b"\xbf" + struct.pack("<I", descriptor)  # mov edi, descriptor
        + b"\x48\x8d\x35" + struct.pack("<i", 5 + 2 + 5 + 5 + 2)  # lea rsi, [rip + what follows]
        + b"\xba" + struct.pack("<I", length)  # mov edx, length
        + b"\x0f\x05"  # syscall
        + b"\xb8" + struct.pack("<I", 60)  # mov eax, exit
        + b"\xbf" + struct.pack("<I", status)  # mov edi, status
        + b"\x0f\x05"  # syscall
    )  # fmt: skip


def _aarch64(length: int, status: int, descriptor: int) -> bytes:
    def movz(register: int, value: int) -> int:
        return 0xD2800000 | value << 5 | register

    adr_x1_28_bytes_on = 0x10000000 | 7 << 5 | 1
    svc = 0xD4000001
    words = [
        movz(0, descriptor),
        adr_x1_28_bytes_on,
        movz(2, length),
        movz(8, 64),
        svc,
        movz(0, status),
        movz(8, 93),
        svc,
    ]
    return struct.pack("<8I", *words)
