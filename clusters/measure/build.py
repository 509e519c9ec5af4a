# SPDX-License-Identifier: Apache-2.0
"""The C program as one that can be run: compiled once, and kept in the cache of programs."""

import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from clusters.errors import UsageError
from clusters.store import default_cache

SOURCE = Path(__file__).with_name("traffic.c")


def program(scratch: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """The program of today's sources: the cache's, or one that is compiled, into `scratch` where nothing can be kept.

    Raises UsageError where there is no compiler.
    """
    kept = default_cache(environ) / f"traffic-{_digest()}"
    if os.access(kept, os.X_OK):
        return kept
    with suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as beside:
            compiled(Path(beside)).rename(kept)
        return kept
    return compiled(scratch)


def compiled(folder: Path) -> Path:
    """A program in a folder, by the pinned compiler where it is installed, else by the system's. UsageError."""
    if importlib.util.find_spec("ziglang") is not None:
        compiler = [sys.executable, "-m", "ziglang", "cc"]
    elif found := shutil.which("cc"):
        compiler = [found]
    else:
        raise UsageError("the measurements' client is C and here is no compiler: pip install --group dev")
    made = folder / "traffic"
    command = [*compiler, "-O2", "-o", str(made), str(SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UsageError(f"the measurements' client could not be compiled: {done.stderr.strip()}")
    return made


def _digest() -> str:
    """Of all sources, and of the machine they are compiled for."""
    sources = [one.read_bytes() for one in sorted([SOURCE, *SOURCE.parent.glob("*.h")])]
    return hashlib.sha256(b"".join([platform.machine().encode(), *sources])).hexdigest()[:12]
