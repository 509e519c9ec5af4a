# SPDX-License-Identifier: Apache-2.0
"""Those who put load on a Service. locust runs this file, in processes of its own: pytest must never import it.

locust makes every socket of its process one of gevent's. Each user here is a few lines on such sockets: what a client
library repeats by itself when a connection breaks under a request would never be counted, and the client's own cost
is most of what is measured.

Every request is told to locust by its event `request`, so that counts, times and failures are locust's own.
"""

import itertools
import json
import math
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gevent
import gevent.event
import locust.runners
import locust.stats
from locust import User, constant, constant_throughput, events, task
from locust.exception import StopUser

from clusters.lab.namespaces import die_with_parent
from plugins.load.order import (
    CLASSES,
    HTTP_KEEPALIVE,
    HTTP_NEW,
    QUEUE_MESSAGE,
    QUEUE_PUT,
    TCP_LINE,
    TELL_SECONDS,
    UDP_DATAGRAM,
    VARIABLE,
    Order,
)

ORDER = Order.loads(os.environ[VARIABLE])
TELL = 3
# After a failure: who is refused would otherwise be refused thousands of times a second.
PAUSE = 0.1
CHUNK = 1 << 16
ANOTHERS = "the answer was to another request"
FAMILY = socket.AF_INET6 if ":" in ORDER.ip else socket.AF_INET
paced = constant_throughput(ORDER.pace) if ORDER.pace else constant(0)
RECEIPTS = os.open(ORDER.receipts, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
KINDS = {name: kind for kind, name in CLASSES.items()}
# From then on no request begins any more.
FINISHING = gevent.event.Event()
# What master and workers say to each other.
FINISH, FINISHED = "plumbline-finish", "plumbline-finished"


class FailedError(Exception):
    """A request failed. The text is the same for all that failed in the same way: locust counts by it."""

    def __repr__(self) -> str:
        return str(self)


class Wire:
    """A TCP connection, read up to separators."""

    def __init__(self, port: int) -> None:
        self._sock = socket.socket(FAMILY, socket.SOCK_STREAM)
        self._buffer = b""
        try:
            self._sock.settimeout(ORDER.deadline)
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sock.connect((ORDER.ip, port))
        except BaseException:
            self._sock.close()
            raise

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def line(self, separator: bytes = b"\n") -> bytes:
        """Up to the separator, without it."""
        while separator not in self._buffer:
            self._more()
        found, _, self._buffer = self._buffer.partition(separator)
        return found

    def exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    def end(self) -> None:
        """The other side has nothing more to say, and closes in good order."""
        if self._buffer or self._sock.recv(1):
            raise FailedError("there was more than the answer")
        self.close()

    def close(self) -> None:
        self._sock.close()

    def _more(self) -> None:
        data = self._sock.recv(CHUNK)
        if not data:
            raise FailedError("the connection was closed before the answer")
        self._buffer += data


class Client(User):
    """What all users have in common: a name for each request, and how its fate is told."""

    abstract = True
    wait_time = paced
    numbers: Iterator[int]

    def on_start(self) -> None:
        self.numbers = itertools.count(1)
        self.wire: Wire | None = None
        # From now on it counts how long it takes, and not from its first answer.
        kind = KINDS[type(self).__name__]
        self.environment.stats.get(kind, method_of(kind))

    def on_stop(self) -> None:
        self.hang_up()

    def hang_up(self) -> None:
        if self.wire is not None:
            self.wire.close()
            self.wire = None

    @contextmanager
    def counted(self, kind: str) -> Iterator["Request"]:
        """What happens inside is one request.

        Who finishes begins none: locust kills a user that waits, and one that has begun again by then is killed in a
        request that was answered and never counted.
        """
        if FINISHING.is_set():
            raise StopUser
        request = Request(time.monotonic())
        try:
            yield request
        except (OSError, FailedError) as error:
            self._tell(kind, request, FailedError(described(error)))
            self.hang_up()
            gevent.sleep(PAUSE)
        else:
            if not request.void:
                self._tell(kind, request)

    def _tell(self, kind: str, request: "Request", failure: Exception | None = None) -> None:
        self.environment.events.request.fire(
            request_type=method_of(kind),
            name=kind,
            response_time=(time.monotonic() - request.began) * 1000,
            response_length=0,
            exception=failure,
            context={},
        )


@dataclass(slots=True)
class Request:
    """When it began, by the machine's clock; one that is `void` came to nothing in good order, and does not count."""

    began: float
    void: bool = False


def method_of(kind: str) -> str:
    """What locust has besides a name: HTTP, TCP, UDP or queue."""
    return kind.partition(" ")[0]


def described(error: Exception) -> str:
    """A failure in words that do not depend on when and where it happened."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)


def is_answer(line: bytes, number: int) -> bool:
    """Whether it is what a backend says to the probe with this number (`clusters/agent/wire.py`)."""
    return line.split(b" ", 1)[0] == b"!%d" % number


def get(wire: Wire, path: bytes, headers: bytes = b"") -> bool:
    """GET; whether the server means to go on with this connection."""
    wire.send(b"GET " + path + b" HTTP/1.1\r\nHost: plumbline\r\n" + headers + b"\r\n")
    status, *fields = wire.line(b"\r\n\r\n").lower().split(b"\r\n")
    values = dict(one.split(b": ", 1) for one in fields)
    body = wire.exactly(int(values[b"content-length"]))
    if status.split(b" ")[1] != b"200":
        raise FailedError(f"HTTP status {status.split(b' ')[1].decode()}")
    if body.partition(b" ")[2] != path + b"\n":
        raise FailedError(ANOTHERS)
    return values.get(b"connection") != b"close"


class HttpKeepalive(Client):
    """One connection for as long as the server wants it."""

    @task
    def ask(self) -> None:
        with self.counted(HTTP_KEEPALIVE):
            self.wire = self.wire or Wire(ORDER.http_port)
            if not get(self.wire, b"/%d" % next(self.numbers)):
                self.hang_up()


class HttpNew(Client):
    """A connection for each request."""

    @task
    def ask(self) -> None:
        with self.counted(HTTP_NEW):
            self.wire = Wire(ORDER.http_port)
            get(self.wire, b"/%d" % next(self.numbers), b"Connection: close\r\n")
            self.wire.end()


class TcpLine(Client):
    """A line there and back, and the end of the connection, which is the server's to begin."""

    @task
    def ask(self) -> None:
        with self.counted(TCP_LINE):
            number = next(self.numbers)
            self.wire = Wire(ORDER.line_port)
            self.wire.send(b"?%d 0\n" % number)
            if not is_answer(self.wire.line(), number):
                raise FailedError(ANOTHERS)
            self.wire.end()


class UdpDatagram(Client):
    """One flow for the whole time, on which what has not been answered in time is lost."""

    def on_start(self) -> None:
        super().on_start()
        self._sock = socket.socket(FAMILY, socket.SOCK_DGRAM)
        self._sock.connect((ORDER.ip, ORDER.line_port))

    def on_stop(self) -> None:
        self._sock.close()

    @task
    def ask(self) -> None:
        with self.counted(UDP_DATAGRAM):
            number = next(self.numbers)
            end = time.monotonic() + ORDER.datagram_deadline
            self._sock.settimeout(ORDER.datagram_deadline)
            self._sock.send(b"?%d 0" % number)
            # An answer that comes too late is that to an earlier request.
            while not is_answer(self._sock.recv(CHUNK), number):
                self._sock.settimeout(max(end - time.monotonic(), 0.001))


class QueueUser(Client):
    """One connection to the broker."""

    abstract = True

    def said(self, line: bytes) -> bytes:
        """The broker's answer to a line."""
        self.wire = self.wire or Wire(ORDER.queue_port)
        self.wire.send(line + b"\n")
        return self.wire.line()

    def note(self, what: str, message: bytes) -> None:
        """One write to a file that is only added to: whole lines, whoever else writes."""
        os.write(RECEIPTS, f"{what} {message.decode()}\n".encode())


class Producer(QueueUser):
    """Puts messages, one after the other, each with the time when it was sent."""

    @task
    def put(self) -> None:
        message = b"%d-%d-%d" % (os.getpid(), id(self), next(self.numbers))
        with self.counted(QUEUE_PUT) as request:
            match self.said(b"PUT %b %r" % (message, request.began)):
                case b"OK":
                    self.note("put", message)
                case b"FULL":
                    request.void = True
                case _:
                    raise FailedError("the broker did not take the message")


class Consumer(QueueUser):
    """Gets messages; the time of each is from its being sent to its being acknowledged."""

    wait_time = constant(0)

    @task
    def get(self) -> None:
        with self.counted(QUEUE_MESSAGE) as request:
            verb, _, rest = self.said(b"GET").partition(b" ")
            if verb == b"NONE":
                request.void = True
                return
            message, _, sent = rest.partition(b" ")
            request.began = float(sent)
            self.note("got", message)
            if self.said(b"ACK " + message) != b"OK":
                raise FailedError("the broker did not take the acknowledgement")


def _begun(environment: Any, **_: Any) -> None:
    """What master and workers do beside their users."""
    runner = environment.runner
    if isinstance(runner, locust.runners.WorkerRunner):
        die_with_parent(signal.SIGKILL)
        runner.register_message(FINISH, _finish, concurrent=True)
        return
    finished: list[str] = []
    runner.register_message(FINISHED, lambda msg, **_: finished.append(msg.node_id))
    gevent.signal_handler(signal.SIGUSR1, lambda: gevent.spawn(_end, runner, finished))
    gevent.spawn(_tell_progress, environment)
    events.quit.add_listener(lambda **_: _tell_failures(environment))


def _finish(environment: Any, **_: Any) -> None:
    """In a worker: every user ends what it is at, and then what they have done is reported.

    locust would do so by itself, were it given more than half a second: not every request fails within that time.
    """
    FINISHING.set()
    environment.runner.stop()
    environment.runner._send_stats()
    environment.runner.send_message(FINISHED)


def _end(runner: Any, finished: list[str]) -> None:
    """In the master: when all workers have finished, or will never, it is over."""
    workers = len(runner.clients)
    runner.send_message(FINISH)
    end = time.monotonic() + runner.environment.stop_timeout + 1
    while len(finished) < workers and time.monotonic() < end:
        gevent.sleep(0.01)
    runner.quit()


def _tell_progress(environment: Any) -> None:
    while True:
        total = environment.stats.total
        _tell(
            users=environment.runner.user_count,
            requests=total.num_requests,
            failures=total.num_failures,
            running=environment.runner.state == locust.runners.STATE_RUNNING,
        )
        gevent.sleep(TELL_SECONDS)


def _tell_failures(environment: Any) -> None:
    """The texts of failures, which locust's JSON lacks."""
    found = [
        {"name": one.name, "error": str(one.error), "count": one.occurrences}
        for one in environment.stats.errors.values()
    ]
    _tell(errors=found)


def _tell(**what: object) -> None:
    os.write(TELL, json.dumps(what).encode() + b"\n")


def two_digits(milliseconds: float) -> float:
    """How locust rounds times, which is to whole milliseconds below a hundred: to two digits, however short."""
    if milliseconds <= 0:
        return 0.0
    return round(milliseconds, 1 - math.floor(math.log10(milliseconds)))


# Documented as the way to have other steps: https://docs.locust.io/en/stable/customizing-response-time-bucketing.html
locust.stats.bucket_response_time = two_digits  # type: ignore[assignment]  # its keys are whole by habit only
# Workers report to their master this often, in seconds; by default every three.
locust.runners.WORKER_REPORT_INTERVAL = TELL_SECONDS
# A worker of which nothing is heard for three seconds is taken for lost, and without workers the test is over; on a
# busy machine it may be longer. Workers are this machine's, and end with their master.
locust.runners.HEARTBEAT_LIVENESS = 60
for _kind, _class in CLASSES.items():
    globals()[_class].fixed_count = ORDER.users.get(_kind, 0)
events.init.add_listener(_begun)
