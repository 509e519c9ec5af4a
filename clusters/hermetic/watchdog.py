# SPDX-License-Identifier: Apache-2.0
"""What stands between plumbline and a guest, so that nothing of the guest outlives plumbline.

`python -S -m clusters.hermetic.watchdog --watch-fd P… --memory MIB --cpu N -- LINUX ARGUMENT…` starts the guest's
kernel and ends when it ends; when a watched process ends, so does the guest. A guest is several processes of this
machine (its kernel, and one for each of its address spaces), of which killing the first leaves the others. Where PID
namespaces can be made they end together; elsewhere the watchdog adopts the orphans (PR_SET_CHILD_SUBREAPER) and
kills them.

The guest's control socket and its memory are files; they lie on a tmpfs that nobody else sees, or else in a
directory that is removed. `{state}` in the arguments stands for it. Standard library only.
"""

import argparse
import os
import select
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from clusters.lab import namespaces

PRIVATE = namespaces.CLONE_NEWPID | namespaces.CLONE_NEWNS | namespaces.CLONE_NEWNET
PR_SET_CHILD_SUBREAPER = 36
# Where the guest has a tmpfs of its own in any case.
STATE = Path("/run")
CANNOT_START = 126
# `no` in the environment: do without namespaces, for containers in which they only seem to work.
NAMESPACES = "PLUMBLINE_GUEST_NAMESPACES"


def main(arguments: Sequence[str]) -> int:
    """Run the guest to its end; the exit status is its kernel's, 126 where it could not be started."""
    options = argparse.ArgumentParser(prog="clusters.hermetic.watchdog")
    options.add_argument("--watch-fd", type=int, action="append", default=[])
    options.add_argument("--memory", type=int, required=True, help="MiB")
    options.add_argument("--cpu", type=int, required=True, help="the processor that all of the guest runs on")
    options.add_argument("--init", required=True, help="text of the script that the guest begins with")
    options.add_argument("command", nargs="+")
    given = options.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError):
        os.sched_setaffinity(0, {given.cpu})
    private = _private()
    if not private:
        namespaces.prctl(PR_SET_CHILD_SUBREAPER, 1)
    state = STATE if private else Path(tempfile.mkdtemp(prefix="plumbline-guest-"))
    try:
        child = os.fork()
        if child == 0:
            os._exit(_first(given, state) if private else _kernel(given, state))
        return _watch(child, given.watch_fd, private=private)
    finally:
        if not private:
            shutil.rmtree(state, ignore_errors=True)


def _private() -> bool:
    """Whether the next child can have namespaces of its own: tried in a process that may lose what it has."""
    if os.environ.get(NAMESPACES) == "no":
        return False
    trial = os.fork()
    if trial == 0:
        os._exit(0 if _enter() and _trial() else 1)
    _, status = os.waitpid(trial, 0)
    return status == 0 and _enter()


def _enter() -> bool:
    try:
        if os.geteuid() != 0:
            namespaces.become_root_of_new_user_namespace()
        namespaces.unshare(PRIVATE)
    except OSError:
        return False
    return True


def _trial() -> bool:
    """Some containers allow namespaces, and then no /proc in them."""
    child = os.fork()
    if child == 0:
        try:
            _private_mounts(1)
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def _private_mounts(memory: int) -> None:
    namespaces.mount("none", "/", flags=namespaces.MS_REC | namespaces.MS_PRIVATE)
    namespaces.mount("proc", "/proc", "proc", namespaces.MS_NOSUID | namespaces.MS_NODEV | namespaces.MS_NOEXEC)
    # Not noexec: the guest's memory is mapped from here, its programs included.
    namespaces.mount("plumbline", str(STATE), "tmpfs", namespaces.MS_NOSUID | namespaces.MS_NODEV, f"size={memory}m")


def _first(given: argparse.Namespace, state: Path) -> int:
    """PID 1 of the guest's PID namespace: with its end everything ends. A kernel must not be PID 1 itself."""
    namespaces.die_with_parent(signal.SIGKILL)
    if os.getppid() != 0:
        return CANNOT_START
    _private_mounts(given.memory + 64)
    kernel = os.fork()
    if kernel == 0:
        os._exit(_kernel(given, state))
    while True:
        pid, status = os.wait()
        if pid == kernel:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _kernel(given: argparse.Namespace, state: Path) -> int:
    """Become the guest's kernel; returns only where that fails."""
    namespaces.die_with_parent(signal.SIGKILL)
    init = state / "init"
    init.write_text(given.init, encoding="utf-8")
    init.chmod(0o755)
    argv = [word.replace("{state}", str(state)) for word in given.command]
    # Without a TMPDIR it takes /dev/shm, which some containers keep small.
    directory = state if state == STATE or not _fits("/dev/shm", given.memory) else Path("/dev/shm")  # noqa: S108
    try:
        os.execve(argv[0], argv, {**os.environ, "TMPDIR": str(directory), "HOME": str(state)})  # noqa: S606
    except OSError as error:
        print(f"{argv[0]} does not run: {error.strerror}", file=sys.stderr, flush=True)
    return CANNOT_START


def _fits(directory: str, memory: int) -> bool:
    with suppress(OSError):
        free = os.statvfs(directory)
        return os.access(directory, os.W_OK) and free.f_bavail * free.f_frsize >= memory << 20
    return False


def _watch(child: int, watched: Sequence[int], *, private: bool) -> int:
    """Wait until the guest or a watched process ends; then see that all of the guest has ended."""
    guest = os.pidfd_open(child)
    poll = select.poll()
    for descriptor in (guest, *watched):
        poll.register(descriptor, select.POLLIN)
    poll.poll()
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(guest, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not private:
        _kill_adopted()
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _kill_adopted() -> None:
    """Kill children until there are none: each that dies may leave some of its own."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    while True:
        for pid in children.read_text(encoding="ascii").split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        try:
            os.wait()
        except ChildProcessError:
            return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
