# SPDX-License-Identifier: Apache-2.0
"""Starts a program inside a node's namespaces: fork, enter, exec, with failures told to the parent.

`subprocess` would do, but PID 1 reaps all children itself and must not fight over them.
"""

import errno
import fcntl
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clusters.lab import namespaces


@dataclass(frozen=True, slots=True)
class Launch:
    """One program to start.

    `passed` descriptors become 3, 4, 5, … in the program; `network` (the path of a bound namespace) and `mounts`
    (a descriptor of one) are None for the lab's own.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    network: str | None
    mounts: int | None
    directory: str = "/"
    passed: tuple[int, ...] = ()
    stdin: int | None = None
    stdout: int | None = None
    stderr: int | None = None


def launch(program: Launch) -> int:
    """Start the program and return its PID. Raises OSError when it could not be executed."""
    failed, failed_writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        code = errno.EINVAL
        try:
            _become(program, failed_writer)
        except OSError as error:
            code = error.errno or code
        finally:
            os.write(failed_writer, str(code).encode())
            os._exit(127)
    os.close(failed_writer)
    with os.fdopen(failed, "rb") as pipe:
        told = pipe.read()
    if told:
        os.waitpid(pid, 0)
        code = int(told.split()[0])
        raise OSError(code, os.strerror(code), program.argv[0])
    return pid


def _become(program: Launch, keep: int) -> None:
    """In the child: enter the namespaces, arrange the descriptors, execute. Does not return."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    # Python ignores SIGPIPE and SIGXFSZ; what is executed must not inherit that.
    for number in (signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    if program.network:
        namespaces.setns(os.open(program.network, os.O_RDONLY | os.O_CLOEXEC), namespaces.CLONE_NEWNET)
    if program.mounts is not None:
        namespaces.setns(program.mounts, namespaces.CLONE_NEWNS)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    wanted = [
        null if stream is None else stream for stream in (program.stdin, program.stdout, program.stderr)
    ] + list(program.passed)
    # First lift everything above the range that will be overwritten, then put each in its place.
    base = len(wanted) + 16
    lifted = [_dup_above(descriptor, base) for descriptor in wanted]
    keep = _dup_above(keep, base)
    for place, descriptor in enumerate(lifted):
        os.dup2(descriptor, place, inheritable=True)
    # A directory under /run is the machine's, and is not there in the lab.
    os.chdir(program.directory if Path(program.directory).is_dir() else "/")
    path = program.environment.get("PATH", os.defpath)
    try:
        os.execvpe(  # noqa: S606 - argv is the caller's, and a shell is what must not come between
            program.argv[0], program.argv, {**program.environment, "PATH": path}
        )
    except OSError as error:
        os.write(keep, str(error.errno or errno.EINVAL).encode() + b"\n")
        os._exit(127)


def _dup_above(descriptor: int, base: int) -> int:
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, base)
