# SPDX-License-Identifier: Apache-2.0
"""`python -m clusters.hermetic [--kernel PATH] [--modules …] [--out DIR] -- COMMAND…`: a command in a guest.

It runs as the guest's root, with this machine's file system, which it cannot write; it has memory for /tmp and
/run, and --out names a directory that it can write. The exit status is the command's; 4 is a usage error, 3 a guest
that died.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from clusters.errors import PlumblineError, UsageError
from clusters.hermetic.finding import find
from clusters.hermetic.guest import MEMORY, Guest


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command in a guest of its own."""
    parser = argparse.ArgumentParser(prog="python -m clusters.hermetic", description="Run a command in a guest.")
    parser.add_argument("--kernel", metavar="PATH", help="the linux.uml to boot")
    parser.add_argument("--memory", type=int, default=MEMORY, metavar="MIB")
    parser.add_argument("--modules", default="", metavar="NAME,…", help="kernel modules to load first")
    parser.add_argument("--out", type=Path, metavar="DIR", help="a directory that the command can write")
    parser.add_argument("--verbose", action="store_true", help="print the guest's console at the end")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    try:
        with Guest(find(options.kernel), memory=options.memory) as guest:
            missing = guest.load([name for name in options.modules.split(",") if name])
            if missing:
                raise UsageError(f"--modules: this kernel has no {', '.join(missing)}.")
            out = options.out.absolute() if options.out else None
            if out:
                out.mkdir(parents=True, exist_ok=True)
            guest.start(options.command, writable=[out] if out else [], stdin=True)
            status = guest.pump(lambda text: os.write(1, text), 0)
            if options.verbose:
                print("\n".join(guest.console), file=sys.stderr)
            return status
    except PlumblineError as error:
        print(f"plumbline: {error}", file=sys.stderr)
        return 4 if isinstance(error, UsageError) else 3
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
