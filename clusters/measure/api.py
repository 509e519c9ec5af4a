# SPDX-License-Identifier: Apache-2.0
"""Raw requests to a lab's API server on one connection, so that this end of them costs next to nothing."""

import json
import socket
import ssl
from collections.abc import Iterable, Mapping

from clusters.errors import PlumblineError
from clusters.kube import MERGE_PATCH, KubeClient

JSON = "application/json"
# Requests on their way at once: the server is never idle, and neither side's buffers fill up.
PIPELINE, PIPELINE_BYTES = 200, 1 << 20
CHUNK = 1 << 16
DEADLINE = 60.0


class Api:
    """One connection. `send` and `answered` apart, so that a write's time is known before its answer is read."""

    def __init__(self, kube: KubeClient) -> None:
        self._kube = kube
        self._connection = self.connect()
        self._seen = b""

    def connect(self) -> socket.socket:
        """Another connection, for a watch for instance. Raises PlumblineError."""
        scheme, _, address = self._kube.server.partition("://")
        host, _, port = address.partition(":")
        try:
            plain = socket.create_connection((host, int(port)), timeout=DEADLINE)
        except OSError as error:
            raise PlumblineError(f"the API server at {self._kube.server} cannot be reached: {error}") from None
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if scheme == "http":
            return plain
        return ssl.create_default_context(cadata=self._kube.ca).wrap_socket(plain, server_hostname=host)

    def request(self, method: str, path: str, body: bytes = b"", kind: str = JSON) -> bytes:
        """A request as it goes over the wire."""
        head = f"{method} {path} HTTP/1.1\r\nHost: plumbline\r\nAuthorization: Bearer {self._kube.token}\r\n"
        return head.encode() + b"Content-Type: %s\r\nContent-Length: %d\r\n\r\n" % (kind.encode(), len(body)) + body

    def patch(self, path: str, body: Mapping[str, object]) -> bytes:
        """A JSON merge patch (RFC 7386)."""
        return self.request("PATCH", path, json.dumps(body).encode(), MERGE_PATCH)

    def send(self, *requests: bytes) -> None:
        self._connection.sendall(b"".join(requests))

    def answered(self, count: int = 1) -> None:
        """Wait for so many answers. Raises PlumblineError when one is no success."""
        done = 0
        while done < count:
            while done < count and (end := _answer_end(self._seen)) is not None:
                if not self._seen.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201")):
                    refusal = self._seen[:end][-400:].decode(errors="replace")
                    raise PlumblineError(f"the API server refused a write: {refusal}")
                self._seen, done = self._seen[end:], done + 1
            if done < count:
                data = self._connection.recv(CHUNK)
                if not data:
                    raise PlumblineError("the API server hung up")
                self._seen += data

    def write_all(self, requests: Iterable[bytes]) -> None:
        """Send all of them, some on their way at any time. Raises PlumblineError when one is refused."""
        waiting: list[bytes] = []
        on_the_way = 0
        for request in requests:
            waiting.append(request)
            if len(waiting) == PIPELINE // 2 or sum(map(len, waiting)) > PIPELINE_BYTES // 2:
                self.send(*waiting)
                self.answered(on_the_way)
                on_the_way, waiting = len(waiting), []
        self.send(*waiting)
        self.answered(on_the_way + len(waiting))

    def close(self) -> None:
        self._connection.close()


def _answer_end(seen: bytes) -> int | None:
    """Where the first answer in these bytes ends; None when it has not all come."""
    head, found, _ = seen.partition(b"\r\n\r\n")
    if not found:
        return None
    at = head.lower().find(b"content-length:")
    if at < 0:
        raise PlumblineError("the API server sent an answer without its length")
    end = len(head) + 4 + int(head[at + 15 :].split(None, 1)[0])
    return end if len(seen) >= end else None
