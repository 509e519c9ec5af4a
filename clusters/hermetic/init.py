# SPDX-License-Identifier: Apache-2.0
"""The first process inside a guest: mounts, modules on demand, and the commands that plumbline sends.

Orders come over a raw console as JSON lines: `{"do": "run", argv, env, cwd, out}` is answered by `{"exit": status}`;
`"do": "load"` loads modules. A guest has no end of its own: plumbline kills it. Standard library only, and little of
it: every import is dozens of slow system calls here.
"""

import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from clusters.hermetic.modules import Modules
from clusters.hermetic.wire import Inside, raw
from clusters.lab.namespaces import MS_BIND, MS_NODEV, MS_NOSUID, MS_RDONLY, MS_REMOUNT, mount
from clusters.patience import GUEST

ORDERS, OUTPUT, SPEECH = "/dev/tty1", "/dev/tty2", "/dev/tty3"
# Not below /run, of which every lab node has one of its own.
OURS = Path("/dev/plumbline")
PROGRAMS = OURS / "bin"
SLOTS = 256
FINIT_MODULE = 313
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
XTABLES = "/usr/sbin/xtables-legacy-multi"
XTABLES_NAMES = [f"{ip}tables{what}" for ip in ("ip", "ip6") for what in ("", "-save", "-restore")]
# The requester waits for an answer of its own: its number is drawn, since PIDs repeat between PID namespaces.
MODPROBE = f"""#!/bin/sh
for word; do
  case $word in
  -r | --remove) echo "modprobe: modules stay loaded in a guest" >&2; exit 1 ;;
  -*) ;;
  *) module=$word; break ;;
  esac
done
[ -n "$module" ] || exit 1
read -r drawn </proc/sys/kernel/random/uuid
slot=$(( 0x${{drawn%%-*}} % {SLOTS} ))
echo "$slot $module" >{OURS}/wanted
read -r status <{OURS}/loaded-$slot
exit "$status"
"""
# What every run needs, and what nothing asks for by itself: on demand each would cost a process or two.
PRELOADED = (
    *("ipv6", "veth", "bridge", "br_netfilter", "dummy", "af_packet", "unix", "nf_conntrack", "nf_conntrack_netlink"),
    *(f"{ip}table_{table}" for ip in ("ip", "ip6") for table in ("nat", "filter", "mangle")),
    *(f"xt_{one}" for one in ("comment", "mark", "statistic", "recent", "sctp", "tcpudp", "conntrack", "addrtype")),
    *("xt_nat", "xt_MASQUERADE", "ipt_REJECT", "ip6t_REJECT", "xt_physdev"),
)
# As the lab, and kube-proxy in it, want the machine; what belongs to a network namespace they set themselves.
SYSCTLS = {
    "kernel/modprobe": str(PROGRAMS / "modprobe"),
    "kernel/printk": "4 4 1 4",
    "kernel/panic_on_oops": "1",
    "net/ipv4/icmp_msgs_per_sec": "1000000",
    "net/ipv4/icmp_msgs_burst": "10000",
    "net/netfilter/nf_conntrack_max": "262144",
}


class Loader:
    """Loads modules: for the kernel and for programs by `modprobe`, for plumbline by an order."""

    def __init__(self, directory: Path) -> None:
        self._modules = Modules(directory)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._lock = threading.Lock()

    def load(self, name: str) -> int:
        """0, or 1 as modprobe has it."""
        with self._lock:
            files = self._modules.files(name)
        if files is None:
            return 1
        return int(any(self._insert(file) for file in files))

    def _insert(self, file: Path) -> bool:
        """Whether it failed."""
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if self._libc.syscall(FINIT_MODULE, descriptor, b"", 0) == 0:
                return False
            code = ctypes.get_errno()
        finally:
            os.close(descriptor)
        if code != 17:  # EEXIST
            print(f"module {file.name}: {os.strerror(code)}", file=sys.stderr, flush=True)
        return code != 17

    def serve(self) -> None:
        """Answer `modprobe` for ever. Loading a module may ask for another one, so each has a thread of its own."""
        answers = [os.open(OURS / f"loaded-{slot}", os.O_RDWR) for slot in range(SLOTS)]

        def answer(slot: int, name: str) -> None:
            os.write(answers[slot], b"%d\n" % self.load(name))

        with (OURS / "wanted").open("r+b", buffering=0) as wanted:
            rest = b""
            while True:
                *lines, rest = (rest + wanted.read(4096)).split(b"\n")
                for line in lines:
                    slot, _, name = line.decode().partition(" ")
                    threading.Thread(target=answer, args=(int(slot), name), daemon=True).start()


def mounts() -> None:
    """What has to be written lies in the guest's memory; all else is the machine's, and cannot be written.

    For an ordinary user's guest the machine's files are not root's, so that a program with the set-user-ID bit, as
    mount(8) is, would no longer be root there.
    """
    mount("none", "/", flags=MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID)
    mount("proc", "/proc", "proc")
    mount("sysfs", "/sys", "sysfs")
    mount("plumbline", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    for name in ("/dev/shm", "/dev/pts", str(PROGRAMS), "/run/tmp", "/run/upper", "/run/work"):  # noqa: S108
        Path(name).mkdir(parents=True, exist_ok=True)
    for name in ("/run/tmp", "/run/upper"):
        Path(name).chmod(0o1777)
    mount("plumbline", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")  # noqa: S108
    mount("devpts", "/dev/pts", "devpts", data="mode=620,ptmxmode=666")


def loopback() -> None:
    """Up, as netdevice(7) has it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))


def temporary() -> None:
    """/tmp with what the machine has there: a clone of plumbline may be among it."""  # noqa: S108
    try:
        mount("plumbline", "/tmp", "overlay", data="lowerdir=/tmp,upperdir=/run/upper,workdir=/run/work")  # noqa: S108
    except OSError:
        mount("plumbline", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")  # noqa: S108


def programs() -> None:
    """`modprobe`, and legacy iptables under the plain names: this kernel has no nf_tables for addresses."""
    modprobe = PROGRAMS / "modprobe"
    modprobe.write_text(MODPROBE, encoding="ascii")
    modprobe.chmod(0o755)
    for name in XTABLES_NAMES:
        (PROGRAMS / name).symlink_to(XTABLES)
    for name in ("wanted", *(f"loaded-{slot}" for slot in range(SLOTS))):
        os.mkfifo(OURS / name)


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """The user's, with what is the guest's own."""
    path = f"{PROGRAMS}:{given.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    changed = {"PATH": path, "TMPDIR": "/run/tmp", "XTABLES_LOCKFILE": "/run/xtables.lock"}
    return {**given, **changed, "PYTHONDONTWRITEBYTECODE": "1", GUEST: SPEECH}


def run(order: Mapping[str, Any]) -> int:
    """Run one command to its end; its exit status, 128 + N after signal N, 126 if it cannot be started."""
    output = raw(OUTPUT)
    try:
        for directory in order["writable"]:
            mount("none", directory, "hostfs", data=directory)
        for directory in order["memory"]:
            mount("plumbline", directory, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
        done = subprocess.run(
            order["argv"],
            env=environment(order["env"]),
            cwd=order["cwd"],
            stdin=output if order["stdin"] else subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Not a session of its own: a shell would make the console its terminal, and hang it up at its end.
            process_group=0,
            check=False,
        )
        status = done.returncode if done.returncode >= 0 else 128 - done.returncode
    except OSError as error:
        os.write(output, f"{order['argv'][0]}: {error.strerror}\n".encode())
        status = 126
    termios.tcdrain(output)
    os.close(output)
    return status


def obey(loader: Loader, speak: Callable[..., None], order: Mapping[str, Any]) -> None:
    """Carry out one order and answer it."""
    if order["do"] == "load":
        speak(missing=[name for name in order["modules"] if loader.load(name)])
    else:
        speak(exit=run(order))


def reap_for_ever() -> None:
    """The first process gets all orphans; if the second ends, so does the kernel."""
    worker = os.fork()
    while worker:
        pid, _ = os.wait()
        if pid == worker:
            os._exit(1)


def main(arguments: Sequence[str]) -> int:
    """`arguments`: the directory of the kernel's modules. Never returns."""
    reap_for_ever()
    mounts()
    programs()
    loader = Loader(Path(arguments[0]))
    threading.Thread(target=loader.serve, daemon=True).start()
    for module in PRELOADED:
        loader.load(module)
    for name, value in SYSCTLS.items():
        with suppress(OSError):
            Path("/proc/sys", name).write_text(value, encoding="ascii")
    temporary()
    loopback()
    console, lock = Inside(ORDERS), threading.Lock()

    def speak(**message: Any) -> None:
        with lock:
            console.send(message)

    speak(up=True)
    while True:
        for _ in range(console.read()):
            speak(got=True)
        while (order := console.next()) is not None:
            threading.Thread(target=obey, args=(loader, speak, order), daemon=True).start()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(main(sys.argv[1:]))
