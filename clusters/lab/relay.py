# SPDX-License-Identifier: Apache-2.0
"""`python -S -m clusters.lab.relay --to IP:PORT --listen-fd N…`: carries TCP connections to one place of its own.

kube-apiserver binds one address. The sockets given here were made in other network namespaces (this machine's, and
every node's), so whoever connects to one of them reaches a server in the namespace that the relay runs in, and not
a packet of it crosses the dataplane under test. Ends with SIGTERM, or with the lab. Standard library only.
"""

import argparse
import resource
import selectors
import socket
from contextlib import suppress
from typing import Any

CHUNK = 1 << 18
CONNECT_SECONDS = 5.0  # the server is on the same loopback: it answers, refuses, or is in trouble


class Direction:
    """One direction of a connection: what was read from `source` and could not be written to `sink` yet."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source = source
        self.sink = sink
        self.waiting = b""
        self.ended = False  # no more is to come
        self.closed = False  # and the sink has been told so

    def read(self) -> None:
        """Take a chunk from the source. Raises OSError when the connection is broken."""
        try:
            self.waiting = self.source.recv(CHUNK)
        except BlockingIOError:
            return
        self.ended = not self.waiting

    def write(self) -> None:
        """Give the sink what it takes, and the end of the stream after the last byte. Raises OSError."""
        if self.waiting:
            with suppress(BlockingIOError):
                sent = self.sink.send(self.waiting)
                self.waiting = self.waiting[sent:]
        if self.ended and not self.waiting and not self.closed:
            self.sink.shutdown(socket.SHUT_WR)
            self.closed = True


class Connection:
    """A client, the server it is joined to, and the two directions between them."""

    def __init__(self, selector: selectors.BaseSelector, client: socket.socket, server: socket.socket) -> None:
        self._selector = selector
        self._sockets = (client, server)
        self._directions = (Direction(client, server), Direction(server, client))
        self._wanted: dict[socket.socket, int] = {}
        self._watch()

    def serve(self) -> None:
        """Move what can be moved; whichever socket became ready."""
        try:
            for direction in self._directions:
                if not direction.waiting and not direction.ended:
                    direction.read()
                direction.write()
        except OSError:
            self._close()
            return
        if all(direction.closed for direction in self._directions):
            self._close()
        else:
            self._watch()

    def _watch(self) -> None:
        """Wait to read where nothing waits to be written, and to write where something does."""
        wanted = dict.fromkeys(self._sockets, 0)
        for direction in self._directions:
            if direction.waiting:
                wanted[direction.sink] |= selectors.EVENT_WRITE
            elif not direction.ended:
                wanted[direction.source] |= selectors.EVENT_READ
        for end, events in wanted.items():
            before = self._wanted.get(end, 0)
            if events and not before:
                self._selector.register(end, events, self)
            elif before and not events:
                self._selector.unregister(end)
            elif events != before:
                self._selector.modify(end, events, self)
        self._wanted = wanted

    def _close(self) -> None:
        for end, events in self._wanted.items():
            if events:
                self._selector.unregister(end)
        self._wanted = {}
        for end in self._sockets:
            end.close()


def relay(listeners: list[socket.socket], target: tuple[str, int]) -> None:
    """Serve for ever."""
    selector = selectors.DefaultSelector()
    for listener in listeners:
        listener.setblocking(False)
        selector.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.data is None:
                _accept(selector, key.fileobj, target)
            # Its other socket may have ended this connection a moment ago, in the same round.
            elif (now := selector.get_map().get(key.fd)) and now.data is key.data:
                key.data.serve()


def _accept(selector: selectors.BaseSelector, listener: Any, target: tuple[str, int]) -> None:
    with suppress(BlockingIOError, ConnectionError):
        client, _ = listener.accept()
        try:
            server = socket.create_connection(target, timeout=CONNECT_SECONDS)
        except OSError:
            client.close()  # as near to a refusal as an accepted connection comes
            return
        for end in (client, server):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        Connection(selector, client, server)


def main() -> None:
    options = argparse.ArgumentParser(prog="clusters.lab.relay")
    options.add_argument("--to", required=True, metavar="IP:PORT")
    options.add_argument("--listen-fd", type=int, action="append", required=True, metavar="FD")
    given = options.parse_args()
    # Two descriptors a connection, and every node's proxy keeps several open.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    ip, _, port = given.to.rpartition(":")
    relay([socket.socket(fileno=descriptor) for descriptor in given.listen_fd], (ip, int(port)))


if __name__ == "__main__":
    main()
