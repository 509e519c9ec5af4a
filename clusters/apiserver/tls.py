# SPDX-License-Identifier: Apache-2.0
"""https beside http on one socket, for kubectl: client-go sends no bearer token over plain http.

Nothing is made until somebody asks for the certificate: making one means importing `cryptography` (a tenth of a
second), and most runs never hand out a kubeconfig.
"""

import asyncio
import socket
import sys
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from clusters.apiserver.identity import Identity

TLS_HANDSHAKE = b"\x16"
ACCEPT_AGAIN_SECONDS = 0.1


class Certificate:
    """The server's identity, made when somebody first asks for it."""

    def __init__(self) -> None:
        self.identity: Identity | None = None
        self._making: asyncio.Task[Identity] | None = None

    async def pem(self) -> str:
        """The certificate that clients must trust; from then on there is one to answer them with."""
        if self._making is None:
            self._making = asyncio.create_task(asyncio.to_thread(_new_identity))
        self.identity = await asyncio.shield(self._making)
        return self.identity.certificate


class Door:
    """A listening socket that answers http and, once the certificate is known, https as well.

    The first byte of a connection tells which: a TLS handshake begins with 22 (RFC 8446, 5.1), HTTP with a letter.
    """

    def __init__(self, listener: socket.socket, server: web.Server, certificate: Certificate) -> None:
        self._listener = listener
        self._server = server
        self._certificate = certificate
        self._admitting: set[asyncio.Task[None]] = set()
        listener.setblocking(False)
        self._accepting = asyncio.create_task(self._accept())

    def close(self) -> None:
        """Accept nothing new."""
        for task in (self._accepting, *self._admitting):
            task.cancel()
        self._listener.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listener)
            except OSError as problem:
                # The client has gone again, or there are no descriptors left: later ones may be luckier.
                print(f"a connection could not be accepted: {problem}", file=sys.stderr, flush=True)
                await asyncio.sleep(ACCEPT_AGAIN_SECONDS)
                continue
            task = asyncio.create_task(self._admit(connection))
            self._admitting.add(task)
            task.add_done_callback(self._admitting.discard)

    async def _admit(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            first = await _first_byte(connection)
            identity = self._certificate.identity
            if first == TLS_HANDSHAKE and identity is None:
                raise ConnectionError("TLS, and nobody has asked for a certificate yet")
            context = identity.context if identity is not None and first == TLS_HANDSHAKE else None
            await loop.connect_accepted_socket(self._server, connection, ssl=context)
        except OSError:
            # Gone, or no agreement on TLS: both sides' own business, as with any server.
            connection.close()
        except asyncio.CancelledError:
            connection.close()
            raise


async def _first_byte(connection: socket.socket) -> bytes:
    """The first byte a client sends, left in place for whoever reads on; nothing if it sends none."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(connection, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(connection)
    return connection.recv(1, socket.MSG_PEEK)


def _new_identity() -> "Identity":
    from clusters.apiserver.identity import new_identity

    return new_identity()
