# SPDX-License-Identifier: Apache-2.0
"""What the supervisor can be asked to do, and its event loop.

Each request `{"id", "op", …}` is answered by `{"id", "ok"}` or `{"id", "error"}`; a process that ends without
having been asked about is told as `{"event": "exit"}`. Commands run as children whose output goes to memory files and
is sent when they end, so that nothing here waits for them.
"""

import os
import selectors
import signal
import socket
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusters.lab import namespaces
from clusters.lab.build import build
from clusters.lab.conntrack import ConnectionTable
from clusters.lab.dense import build_dense
from clusters.lab.process import Launch, launch
from clusters.lab.topology import LabPlan
from clusters.lab.wire import Channel, Message

NODE_DIRECTORIES = Path("/run/nodes")
# First on PATH in every node: programs that are to be found under another's name, such as a backend of iptables.
NODE_PROGRAMS = Path("/run/plumbline/bin")
# In every node, where BPF objects can be kept by name: they go with the node's mounts.
NODE_BPF = Path("/run/plumbline/bpf")


@dataclass(slots=True)
class Child:
    """A running child: who asked for it, and where a command's output is collected."""

    name: str
    request: int | None
    output: int | None = None
    errors: int | None = None


class Operations:
    """The supervisor's loop: requests in, children reaped, answers and events out."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._children: dict[int, Child] = {}
        self._listeners: dict[str, socket.socket] = {}
        self._node_mounts: dict[str, int] = {}
        self._tables: dict[str, ConnectionTable] = {}
        self._operations: dict[str, Callable[[Message, list[int]], Any]] = {
            "build": self._build,
            "dense": self._dense,
            "spawn": self._spawn,
            "run": self._run,
            "signal": self._signal,
            "listen": self._listen,
            "connect": self._connect,
            "write": self._write,
            "read": self._read,
            "mounts": self._mounts,
            "forget-flows": self._forget_flows,
        }

    def run(self) -> None:
        """Serve until the control socket closes."""
        wake, wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        selector = selectors.DefaultSelector()
        selector.register(wake, selectors.EVENT_READ)
        selector.register(self._channel.socket, selectors.EVENT_READ)
        with suppress(EOFError, BrokenPipeError, ConnectionResetError):
            while True:
                for key, _ in selector.select():
                    if key.fd == wake:
                        with suppress(BlockingIOError):
                            os.read(wake, 4096)
                        self._reap()
                    else:
                        for message, descriptors in self._channel.receive():
                            self._serve(message, descriptors)

    def _serve(self, message: Message, descriptors: list[int]) -> None:
        request = message["id"]
        try:
            answer = self._operations[message["op"]](message, descriptors)
        except (OSError, ValueError, KeyError) as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            sentence = f"{message['op']}: {error} ({Path(where.filename).name}:{where.lineno})"
            self._channel.send({"id": request, "error": sentence})
        else:
            if answer is not None:
                self._channel.send({"id": request, "ok": answer})
        finally:
            for descriptor in descriptors:
                with suppress(OSError):
                    os.close(descriptor)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self._children.pop(pid, None)
            if child is None:
                continue  # an orphan that PID 1 inherited
            code = os.waitstatus_to_exitcode(status)
            if child.request is None:
                self._channel.send({"event": "exit", "name": child.name, "pid": pid, "status": code})
            else:
                result = {"status": code, "out": _drain(child.output), "err": _drain(child.errors)}
                self._channel.send({"id": child.request, "ok": result})

    # Operations. Each takes the message and its descriptors; None as an answer means "later".

    def _build(self, message: Message, _: list[int]) -> dict[str, Any]:
        self._plan = plan = LabPlan.from_json(message["plan"])
        build(plan)
        for node in plan.nodes:
            programs, pins = (
                NODE_DIRECTORIES / node.name / one.relative_to("/run") for one in (NODE_PROGRAMS, NODE_BPF)
            )
            programs.mkdir(parents=True)
            pins.mkdir()
            for name, place in message["programs"].items():
                (programs / name).symlink_to(place)
            self._node_mounts[node.name] = _new_node_mounts(node.name)
        return {}

    def _dense(self, message: Message, _: list[int]) -> dict[str, Any]:
        build_dense(self._plan, self._plan.dense(message["node"]))
        return {}

    def _spawn(self, message: Message, descriptors: list[int]) -> dict[str, Any]:
        passed = list(descriptors)
        listeners = [self._listeners.pop(name) for name in message.get("listeners", ())]
        passed += [listener.fileno() for listener in listeners]
        output = passed.pop(0)
        try:
            pid = launch(self._launch(message, passed, stdout=output, stderr=output))
        finally:
            # Were they kept here too, clients of a server that died would wait for ever instead of being refused.
            for listener in listeners:
                listener.close()
        self._children[pid] = Child(message["name"], None)
        return {"pid": pid}

    def _run(self, message: Message, _: list[int]) -> None:
        text = os.memfd_create("stdin", os.MFD_CLOEXEC)
        out, err = os.memfd_create("stdout", os.MFD_CLOEXEC), os.memfd_create("stderr", os.MFD_CLOEXEC)
        try:
            with os.fdopen(os.dup(text), "wb") as file:
                file.write(message.get("input", "").encode())
            os.lseek(text, 0, os.SEEK_SET)
            pid = launch(self._launch(message, [], stdin=text, stdout=out, stderr=err))
        except OSError:
            os.close(out)
            os.close(err)
            raise
        finally:
            os.close(text)
        self._children[pid] = Child(message["argv"][0], message["id"], out, err)

    def _launch(self, message: Message, passed: list[int], **streams: int) -> Launch:
        node = message.get("node")
        environment = {**os.environ, **message.get("env", {})}
        if node:
            environment["PATH"] = f"{NODE_PROGRAMS}:{environment.get('PATH', os.defpath)}"
        return Launch(
            argv=tuple(message["argv"]),
            environment=environment,
            network=str(namespaces.netns(message["netns"])) if message.get("netns") else None,
            mounts=self._node_mounts[node] if node else None,
            directory=message.get("directory", "/"),
            passed=tuple(passed),
            **streams,
        )

    def _signal(self, message: Message, _: list[int]) -> dict[str, Any]:
        if message["pid"] not in self._children:
            return {"sent": False}  # already ended: never signal a PID that may be another process by now
        # Whatever is started leads a group of its own (process.py).
        (os.killpg if message.get("group") else os.kill)(message["pid"], message["signal"])
        return {"sent": True}

    def _listen(self, message: Message, descriptors: list[int]) -> dict[str, Any]:
        """Make a listening socket in a namespace, or keep one that came as a descriptor, under a name."""
        if descriptors:
            listener = socket.socket(fileno=os.dup(descriptors[0]))
        else:
            with namespaces.inside_network(namespaces.netns(message["netns"])):
                listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((message["ip"], message["port"]))
            listener.listen(128)
        self._listeners[message["name"]] = listener
        return {}

    def _connect(self, message: Message, _: list[int]) -> None:
        """A TCP connection from inside a namespace, handed to the caller."""
        family = socket.AF_INET6 if ":" in message["ip"] else socket.AF_INET
        with namespaces.inside_network(namespaces.netns(message["netns"])):
            client = socket.socket(family, socket.SOCK_STREAM)
        with client:
            client.settimeout(1.0)
            client.connect((message["ip"], message["port"]))
            self._channel.send({"id": message["id"], "ok": {}}, [client.fileno()])

    def _forget_flows(self, message: Message, _: list[int]) -> dict[str, Any]:
        """Empty the connection tables of these namespaces."""
        for name in message["netns"]:
            if name not in self._tables:
                with namespaces.inside_network(namespaces.netns(name)):
                    self._tables[name] = ConnectionTable()
            self._tables[name].flush()
        return {}

    def _write(self, message: Message, _: list[int]) -> dict[str, Any]:
        path = Path(message["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(message["text"], encoding="utf-8")
        path.chmod(0o600)
        return {}

    def _mounts(self, _: Message, __: list[int]) -> dict[str, int]:
        return self._node_mounts

    def _read(self, message: Message, _: list[int]) -> dict[str, Any]:
        return {"text": Path(message["path"]).read_text(encoding="utf-8", errors="replace")}


def _in_directory_of(node: str, path: Path) -> Path:
    """Where the lab sees what a node sees at a path below /run."""
    return NODE_DIRECTORIES / node / path.relative_to("/run")


def _new_node_mounts(name: str) -> int:
    """A mount namespace whose /run is the node's own directory, so that each node has its own xtables lock.

    It is kept by a descriptor: binding it to a file is refused at random by kernels that number namespaces per
    CPU (the loop check of mount(2) compares those numbers; seen on 6.18).
    """
    made, made_writer = os.pipe2(os.O_CLOEXEC)
    opened, opened_writer = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            namespaces.unshare(namespaces.CLONE_NEWNS)
            with namespaces.inside_network(namespaces.netns(name)), suppress(OSError):
                # /sys shows the network of whoever mounted it; without the right it keeps showing the lab's.
                namespaces.mount("sysfs", "/sys", "sysfs", namespaces.MS_NOSUID | namespaces.MS_NODEV)
            namespaces.mount(str(NODE_DIRECTORIES / name), "/run", flags=namespaces.MS_BIND)
            with suppress(
                OSError
            ):  # a kernel without BPF, which whoever needs it is told by the check of the machine
                namespaces.mount("bpf", str(NODE_BPF), "bpf", namespaces.MS_NOSUID | namespaces.MS_NODEV)
            os.write(made_writer, b"1")
            os.close(opened_writer)
            os.read(opened, 1)
            status = 0
        finally:
            os._exit(status)
    os.close(made_writer)
    try:
        if not os.read(made, 1):
            raise OSError(f"the mounts of {name} could not be made")
        return os.open(f"/proc/{child}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        for descriptor in (made, opened, opened_writer):
            os.close(descriptor)
        os.waitpid(child, 0)


def _drain(descriptor: int | None) -> str:
    if descriptor is None:
        return ""
    with os.fdopen(descriptor, "rb") as file:
        file.seek(0)
        return file.read().decode("utf-8", errors="replace")
