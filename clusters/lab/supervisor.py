# SPDX-License-Identifier: Apache-2.0
"""The supervisor: the one process that lives in the lab, PID 1 of the lab's PID namespace.

`python -S -m clusters.lab.supervisor --control-fd N --watch-fd P…` is started afresh by pytest's process, which
never enters the lab itself. Two processes come of it:

* the *watchdog* stays in the machine's PID namespace and only waits: when a watched process (pytest, and under
  xdist its controller) ends, it kills the lab; when the lab ends, so does it;
* the *supervisor* proper is PID 1 of a new PID namespace, so that with its end the kernel ends every process in
  the lab, and with the last of them goes every namespace, link, mount and temporary file.

Standard library only: it has to be ready in a few hundredths of a second. Its operations are in `operations.py`.
"""

import argparse
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

from clusters.lab import namespaces
from clusters.lab.operations import Operations
from clusters.lab.wire import Channel

LAB_NAMESPACES = namespaces.CLONE_NEWNET | namespaces.CLONE_NEWNS | namespaces.CLONE_NEWPID


def main() -> int:
    """Become watchdog and supervisor; the exit status is 0 unless the lab could not be entered."""
    options = argparse.ArgumentParser(prog="clusters.lab.supervisor")
    options.add_argument("--control-fd", type=int, required=True)
    options.add_argument("--watch-fd", type=int, action="append", default=[])
    given = options.parse_args()
    control = socket.socket(fileno=given.control_fd)
    try:
        if os.geteuid() != 0:
            namespaces.become_root_of_new_user_namespace()
        namespaces.unshare(LAB_NAMESPACES)
    except OSError as error:
        Channel(control).send({"event": "failed", "error": f"the lab's namespaces could not be made: {error}"})
        return 1
    child = os.fork()
    if child == 0:
        return _supervise(control)
    control.close()
    return _watch(child, given.watch_fd)


def _watch(child: int, watched: list[int]) -> int:
    """Wait until the lab or a watched process ends; then make sure that the lab has ended."""
    lab = os.pidfd_open(child)
    poll = select.poll()
    for descriptor in (lab, *watched):
        poll.register(descriptor, select.POLLIN)
    poll.poll()
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(lab, signal.SIGKILL)
    os.waitpid(child, 0)
    return 0


def _supervise(control: socket.socket) -> int:
    watchdog = os.getppid()
    namespaces.die_with_parent(signal.SIGKILL)
    channel = Channel(control)
    # Seen from its own PID namespace the watchdog has PID 0; had it died before prctl, nothing would tell us.
    if watchdog != 0:
        return 1
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _private_mounts()
    except OSError as error:
        channel.send({"event": "failed", "error": f"the lab's mounts could not be made: {error}"})
        return 1
    channel.send({"event": "up"})
    Operations(channel).run()
    return 0


def _private_mounts() -> None:
    """A /proc of the new PID namespace and a tmpfs on /run, invisible outside and gone with the lab."""
    nosuid_nodev = namespaces.MS_NOSUID | namespaces.MS_NODEV
    namespaces.mount("none", "/", flags=namespaces.MS_REC | namespaces.MS_PRIVATE)
    namespaces.mount("proc", "/proc", "proc", nosuid_nodev | namespaces.MS_NOEXEC)
    namespaces.mount("plumbline", "/run", "tmpfs", nosuid_nodev, "mode=755,size=25%")
    for name in ("netns", "nodes", "tmp"):
        Path("/run", name).mkdir()
    os.environ["TMPDIR"] = "/run/tmp"


if __name__ == "__main__":
    sys.exit(main())
