# SPDX-License-Identifier: Apache-2.0
"""Going into another network namespace to make a socket there, and coming back.

A socket keeps the namespace it was made in (setns(2), network_namespaces(7)), so the agent is abroad only for
the few microseconds of socket(2). Python 3.11 has no os.setns, hence ctypes.
"""

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clusters.agent.wire import RequestError

CLONE_NEWNET = 0x40000000
_OWN = "/proc/self/ns/net"
_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_RESERVED_PORTS = Path("/proc/sys/net/ipv4/ip_local_reserved_ports")
_DEFAULT_PORTS = (range(32768, 61000),)  # the kernel's own default


class Namespace:
    """An open network namespace; `path` is None for the agent's own. Close it, or it stays alive."""

    __slots__ = ("fd", "path", "ports")

    def __init__(self, path: str | None, fd: int) -> None:
        self.path = path
        self.fd = fd
        self.ports: tuple[range, ...] | None = None  # what `local_ports` says, once somebody has asked

    def __str__(self) -> str:
        return self.path or "the agent's own network namespace"

    def close(self) -> None:
        if self.path is not None and self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Namespaces:
    """Knows where the agent is. `enter` goes somewhere (cheap when already there), `home` comes back."""

    def __init__(self) -> None:
        self._setns = ctypes.CDLL(None, use_errno=True).setns
        self._home = Namespace(None, os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC))
        self._current = self._home

    def open(self, path: str | None) -> Namespace:
        """The namespace a file names (None: the agent's own).

        Raises RequestError when there is no such file, when it is no network namespace, or when it may not be
        entered.
        """
        if path is None:
            return self._home
        try:
            namespace = Namespace(path, os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            raise RequestError(f"there is no network namespace {path!r} ({os.strerror(error.errno or 0)})") from None
        try:
            self.enter(namespace)
        except OSError as error:
            namespace.close()
            if error.errno == errno.EINVAL:
                raise RequestError(f"{path!r} is not a network namespace") from None
            raise RequestError(
                f"the agent may not enter the network namespace {path!r} ({os.strerror(error.errno or 0)})"
            ) from None
        self.home()
        return namespace

    def enter(self, namespace: Namespace) -> None:
        if namespace is self._current:
            return
        if self._setns(namespace.fd, CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), namespace.path)
        self._current = namespace

    def home(self) -> None:
        if self._current is not self._home:
            self.enter(self._home)

    @contextmanager
    def inside(self, namespace: Namespace) -> Iterator[None]:
        try:
            self.enter(namespace)
            yield
        finally:
            self.home()

    def local_ports(self, namespace: Namespace) -> tuple[range, ...]:
        """The ports that the namespace gives to sockets which name none, in order.

        ip_local_port_range without ip_local_reserved_ports, in which proxies set aside what they need themselves
        (https://docs.kernel.org/networking/ip-sysctl.html).
        """
        with self.inside(namespace):
            try:
                first, last = map(int, _PORT_RANGE.read_text(encoding="ascii").split())
                reserved = _RESERVED_PORTS.read_text(encoding="ascii").strip()
            except OSError:  # no /proc, or one that hides them
                return _DEFAULT_PORTS
        return without(range(first, last + 1), reserved)


def without(ports: range, reserved: str) -> tuple[range, ...]:
    """Ports without those of a list such as `80,1024-2047`, as the kernel writes it; all, if none would be left."""
    left, start = [], ports.start
    for one in filter(None, reserved.split(",")):
        first, _, last = one.partition("-")
        left.append(range(start, min(int(first), ports.stop)))
        start = max(start, int(last or first) + 1)
    left.append(range(start, ports.stop))
    return tuple(filter(None, left)) or (ports,)


class OpenNamespaces:
    """The namespaces one piece of work uses, opened on first use and closed together."""

    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces
        self._open: dict[str | None, Namespace] = {}

    def get(self, path: str | None) -> Namespace:
        namespace = self._open.get(path)
        if namespace is None:
            namespace = self._open[path] = self._namespaces.open(path)
        return namespace

    def close(self) -> None:
        for namespace in self._open.values():
            namespace.close()
        self._open.clear()
