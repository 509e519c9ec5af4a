# SPDX-License-Identifier: Apache-2.0
"""The watcher against a server on loopback that answers what a test tells it, well or badly."""

import base64
import json
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dataplane_ref.controller import agent, kubeconfig, watch
from dataplane_ref.controller.kubeconfig import Access
from dataplane_ref.controller.resources import watched
from dataplane_ref.controller.settings import Settings
from dataplane_ref.controller.watch import Delta, Listing, Watcher
from tests.datapath.cluster import NODE, FakeNode, endpoint_slice, service

SERVICES, SLICES, NODES = watched(NODE)
PATIENCE = 10.0
TOKEN = "t"  # noqa: S105 - nobody asks for it
Reply = list[bytes | None]
"""Pieces of a body; None cuts the connection in the middle."""


class Server(socketserver.ThreadingTCPServer):
    """Answers each request with the next of `replies`, (status, pieces); without one it stays silent."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies: SimpleQueue[tuple[int, Reply]] = SimpleQueue()
        self.queries: list[dict[str, str]] = []
        self.ending = threading.Event()


class Handler(BaseHTTPRequestHandler):
    """HTTP with chunks, as API servers watch."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.server.queries.append({key: value[0] for key, value in parse_qs(urlsplit(self.path).query).items()})
        try:
            status, pieces = self.server.replies.get(timeout=PATIENCE)
        except Empty:
            return
        self.send_response(status)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            if piece is None:
                self.close_connection = True
                return
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
        if pieces and pieces[-1] == STAYS_OPEN:
            self.server.ending.wait(PATIENCE)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: Any) -> None:
        pass


STAYS_OPEN = b"\n"


def listing(version: str, *objects: dict[str, Any]) -> tuple[int, Reply]:
    return 200, [json.dumps({"metadata": {"resourceVersion": version}, "items": objects}).encode()]


def event(kind: str, thing: dict[str, Any], version: str) -> bytes:
    metadata = thing.get("metadata", {}) | {"resourceVersion": version}
    return json.dumps({"type": kind, "object": thing | {"metadata": metadata}}).encode() + b"\n"


class Watching:
    """A watcher at work, what it told, and what it said."""

    def __init__(self, server: Server, resource: watch.Resource, access: Access | None = None) -> None:
        self.told: SimpleQueue[Listing | Delta] = SimpleQueue()
        self.said: SimpleQueue[str] = SimpleQueue()
        access = access or Access(host="127.0.0.1", port=server.server_address[1], token=TOKEN)
        self.watcher = Watcher(access, resource, self.told, self.said.put)
        self.watcher.start()

    def next(self) -> Listing | Delta:
        return self.told.get(timeout=PATIENCE)

    def listed(self) -> set[Any]:
        found = self.next()
        assert isinstance(found, Listing)
        return {key for key, each in found.objects.items() if each is not None}

    def changed(self) -> tuple[Any, bool]:
        found = self.next()
        assert isinstance(found, Delta)
        return found.key, found.object is not None


@contextmanager
def watching(*replies: tuple[int, Reply], resource: watch.Resource = SERVICES) -> Iterator[tuple[Watching, Server]]:
    with Server() as server:
        for each in replies:
            server.replies.put(each)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        found = Watching(server, resource)
        try:
            yield found, server
        finally:
            found.watcher.stop()
            server.ending.set()
            server.shutdown()


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "BACKOFF_SECONDS", (0.01, 0.05))


def open_watch(*lines: bytes) -> tuple[int, Reply]:
    return 200, [*lines, STAYS_OPEN]


def test_a_watch_goes_on_from_its_list() -> None:
    changes = open_watch(
        event("ADDED", service("b"), "11"),
        event("MODIFIED", service("a"), "12"),
        event("DELETED", service("b"), "13"),
    )
    with watching(listing("10", service("a")), changes) as (seen, server):
        assert seen.listed() == {("default", "a")}
        b, a = ("default", "b"), ("default", "a")
        assert [seen.changed() for _ in range(3)] == [(b, True), (a, True), (b, False)]
        listed, watched_ = server.queries
        selector = "!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name"
        assert listed == {"labelSelector": selector}
        assert watched_["labelSelector"] == selector
        assert (watched_["resourceVersion"], watched_["allowWatchBookmarks"]) == ("10", "true")
        assert 240 <= int(watched_["timeoutSeconds"]) <= 480


def test_after_a_cut_the_watch_goes_on_from_the_last_bookmark_without_a_list() -> None:
    bookmark = event("BOOKMARK", {"kind": "Service"}, "25")
    again = open_watch(event("ADDED", service("b"), "26"))
    with watching(listing("10"), (200, [bookmark, None]), again) as (seen, server):
        assert seen.listed() == set()
        assert seen.changed() == (("default", "b"), True)
        assert [query.get("resourceVersion") for query in server.queries] == [None, "10", "25"]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ((410, [b"{}"]), "(410 Gone)"),
        ((200, [b'{"type":"ERROR","object":{"code":410,"reason":"Expired"}}\n']), "the watch says 410 Expired"),
        ((200, [b'{"type":"GUESS","object":{"metadata":{}}}\n']), "unknown type 'GUESS'"),
    ],
    ids=["gone", "error", "unknown event"],
)
def test_what_cannot_go_on_is_listed_again(bad: tuple[int, Reply], why: str) -> None:
    with watching(listing("10", service("a")), bad, listing("30", service("b")), open_watch()) as (seen, _):
        assert seen.listed() == {("default", "a")}
        assert seen.listed() == {("default", "b")}
        said = seen.said.get(timeout=PATIENCE)
        assert said.startswith("services are listed again: ")
        assert why in said


@pytest.mark.parametrize(
    "bad",
    [(500, [b"no"]), (200, [b"<html>"]), (200, [b'{"metadata":{}}']), (200, [b'{"met', None]), (403, [b"forbidden"])],
    ids=["500", "garbage", "no version", "cut", "forbidden"],
)
def test_a_list_that_fails_is_tried_again_and_said_once(bad: tuple[int, Reply]) -> None:
    with watching(bad, bad, bad, listing("10", service("a")), open_watch()) as (seen, _):
        assert seen.listed() == {("default", "a")}
        assert "services cannot be watched at 127.0.0.1:" in seen.said.get(timeout=PATIENCE)
        assert seen.said.get(timeout=PATIENCE) == "services are watched again"
        assert seen.said.empty()


def test_garbage_in_a_watch_ends_it_and_the_next_goes_on() -> None:
    bad: tuple[int, Reply] = (200, [event("ADDED", service("a"), "11"), b"{nonsense\n"])
    with watching(listing("10"), bad, open_watch(event("ADDED", service("b"), "12"))) as (seen, server):
        seen.listed()
        assert [seen.changed()[0][1] for _ in range(2)] == ["a", "b"]
        assert server.queries[2]["resourceVersion"] == "11"


def test_events_in_pieces_are_put_together() -> None:
    line = event("ADDED", service("a"), "11") + event("ADDED", service("b"), "12")
    with watching(listing("10"), open_watch(*(line[at : at + 7] for at in range(0, len(line), 7)))) as (seen, _):
        seen.listed()
        assert [seen.changed()[0][1] for _ in range(2)] == ["a", "b"]


def test_one_broken_object_takes_no_other_along() -> None:
    broken = service("broken") | {"spec": {"ports": "many"}}
    changes = open_watch(event("ADDED", broken, "11"), event("ADDED", service("b"), "12"))
    with watching(listing("10", broken, service("a")), changes) as (seen, _):
        assert seen.listed() == {("default", "a")}
        assert "one of the services is left out: default/broken Expected `array" in seen.said.get(timeout=PATIENCE)
        assert seen.changed() == (("default", "b"), True)


def test_a_slice_with_a_broken_address_is_said() -> None:
    broken = endpoint_slice("10.1.0.1", name="broken") | {"endpoints": [{"addresses": ["10.1.0"]}]}
    good = endpoint_slice("10.1.0.1")
    with watching(listing("10", broken, good), open_watch(), resource=SLICES) as (seen, _):
        assert seen.listed() == {("default", "web-1")}
        assert "default/broken has an endpoint without an address that is IPv4" in seen.said.get(timeout=PATIENCE)


def test_the_node_is_asked_for_by_name() -> None:
    with watching(listing("10"), resource=NODES) as (seen, server):
        assert seen.listed() == set()
        assert server.queries[0] == {"fieldSelector": "metadata.name=node-a"}


def test_nobody_at_the_address_is_said_once_and_tried_again() -> None:
    with Server() as server:
        port = server.server_address[1]
    said: SimpleQueue[str] = SimpleQueue()
    watcher = Watcher(Access("127.0.0.1", port), SERVICES, SimpleQueue[Listing | Delta](), said.put)
    watcher.start()
    assert said.get(timeout=PATIENCE).endswith("and that is tried again: [Errno 111] Connection refused")
    with pytest.raises(Empty):
        said.get(timeout=0.3)
    watcher.stop()


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "plumbline")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )  # fmt: skip
    return folder / "crt", folder / "key"


@pytest.mark.parametrize("trusted", ["data", "file", "none"])
def test_tls_needs_the_clusters_authority_and_shows_a_client_certificate(tmp_path: Path, trusted: str) -> None:
    crt, key = certificate(tmp_path)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(crt, key)
    serving.verify_mode = ssl.CERT_REQUIRED
    serving.load_verify_locations(crt)
    given = {
        "data": {"certificate-authority-data": base64.b64encode(crt.read_bytes()).decode()},
        "file": {"certificate-authority": "crt"},
        "none": {},
    }[trusted]
    with Server() as server:
        server.socket = serving.wrap_socket(server.socket, server_side=True)
        server.replies.put(listing("10", service("a")))
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        config = {
            "current-context": "x",
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            "clusters": [
                {"name": "x", "cluster": {"server": f"https://127.0.0.1:{server.server_address[1]}"} | given}
            ],
            "users": [{"name": "x", "user": {"client-certificate": "crt", "client-key": "key"}}],
        }
        (tmp_path / "kubeconfig").write_text(json.dumps(config))
        seen = Watching(server, SERVICES, kubeconfig.read(tmp_path / "kubeconfig"))
        if trusted == "none":
            assert "CERTIFICATE_VERIFY_FAILED" in seen.said.get(timeout=PATIENCE)
        else:
            assert seen.listed() == {("default", "a")}
        seen.watcher.stop()
        server.ending.set()
        server.shutdown()


def test_a_node_that_the_api_does_not_know_is_waited_for_and_then_gone_without(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    node = FakeNode()
    node.datapath.replace("nodes", {})
    controller = agent.Agent(Settings(NODE), agent.Options(Access("127.0.0.1", 9), {}, None, "off", 0))
    may_begin = controller._may_begin
    assert not may_begin(node.datapath)  # nothing is listed yet
    controller._listed.update(("services", "endpointslices", "nodes"))
    assert not may_begin(node.datapath)
    monkeypatch.setattr(agent, "NODE_SECONDS", 0.0)
    assert may_begin(node.datapath)
    assert may_begin(node.datapath)
    said = capsys.readouterr().err
    assert said.count("the API knows no node 'node-a'") == 1
