# SPDX-License-Identifier: Apache-2.0
"""The life of the server: a new cluster behind listening sockets, until a signal ends it."""

import asyncio
import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from clusters.apiserver.bootstrap import ClusterConfig, new_cluster
from clusters.apiserver.control import Control
from clusters.apiserver.faults import Faults
from clusters.apiserver.http import Handler, make_server
from clusters.apiserver.tls import Certificate, Door
from clusters.apiserver.watch import Hub

SHUTDOWN_SECONDS = 0.5
"""How long watches may take to send their last bytes; then their connections are closed."""


@dataclass(frozen=True, slots=True)
class Listeners:
    """Descriptors of listening sockets.

    Requests on `guarded` must carry the token, by http or https; those on `open`, each named after its node, need
    none: client-go sends no token over plain http, and a simulated node's own loopback can be reached by nobody
    else.
    """

    guarded: Sequence[int]
    open: Sequence[tuple[int, str]] = ()


async def serve(config: ClusterConfig, token: str, listeners: Listeners, ready_fd: int | None) -> None:
    """Serve a new cluster until SIGTERM or SIGINT, then end every watch and return."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    api = new_cluster(config)
    hub = Hub(api.store)
    faults = Faults()
    certificate = Certificate()
    handler = partial(Handler, api, hub, faults, Control(api, faults, certificate), token)
    guarded = make_server(handler())
    doors = [Door(socket.socket(fileno=fd), guarded, certificate) for fd in listeners.guarded]
    nodes = [(fd, make_server(handler(guarded=False, node=name))) for fd, name in listeners.open]
    answering = [
        await loop.create_server(server, sock=socket.socket(fileno=fd), backlog=1024) for fd, server in nodes
    ]
    if ready_fd is not None:
        os.write(ready_fd, b"ready\n")
        os.close(ready_fd)
    await stop.wait()
    for door in doors:
        door.close()
    for listener in answering:
        listener.close()
    hub.close()
    servers = [guarded, *(server for _, server in nodes)]
    for server in servers:
        server.pre_shutdown()
    await asyncio.gather(*(server.shutdown(SHUTDOWN_SECONDS) for server in servers))
