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
_DEFAULT_PORT_RANGE = (32768, 60999)  # the kernel's own default


class Namespace:
    """An open network namespace; `path` is None for the agent's own. Close it, or it stays alive."""

    __slots__ = ("fd", "path", "ports")

    def __init__(self, path: str | None, fd: int) -> None:
        self.path = path
        self.fd = fd
        self.ports: tuple[int, int] | None = None  # the local port range, once somebody has asked

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

    def local_port_range(self, namespace: Namespace) -> tuple[int, int]:
        """First and last port the namespace gives to sockets that name none (ip_local_port_range, ip(7))."""
        with self.inside(namespace):
            try:
                first, last = _PORT_RANGE.read_text(encoding="ascii").split()
            except OSError:  # no /proc, or one that hides it
                return _DEFAULT_PORT_RANGE
        return int(first), int(last)


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
