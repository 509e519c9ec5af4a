# SPDX-License-Identifier: Apache-2.0
"""A download host on loopback that can be honest, wrong, cut short or stuck."""

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Mirror:
    """Files by path. `cut` names paths whose body ends half-way; `stuck` those that stop there until `go_on`."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    stuck: set[str] = field(default_factory=set)
    half_sent: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    asked: list[str] = field(default_factory=list)

    def publish(self, path: str, content: bytes, promised: bytes | None = None) -> None:
        """A file, and the SHA-256 of what is promised to be in it."""
        self.files[path] = content
        digest = hashlib.sha256(content if promised is None else promised).hexdigest()
        self.files[f"{path}.sha256"] = digest.encode()


@contextlib.contextmanager
def serving() -> Iterator[Mirror]:
    """A mirror that serves until the block ends."""
    mirror = Mirror()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            mirror.asked.append(self.path)
            if self.path in mirror.redirects:
                self.send_response(302)
                self.send_header("Location", mirror.redirects[self.path])
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = mirror.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            half = len(content) // 2
            self.wfile.write(content[:half])
            self.wfile.flush()
            if self.path in mirror.cut:
                return
            if self.path in mirror.stuck:
                mirror.half_sent.set()
                mirror.go_on.wait(20)
            with contextlib.suppress(ConnectionError):
                self.wfile.write(content[half:])

        def log_message(self, *_: object) -> None:
            """Silent: the tests read `asked`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    mirror.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield mirror
    finally:
        mirror.go_on.set()
        server.shutdown()
        thread.join()
        server.server_close()
