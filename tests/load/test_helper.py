# SPDX-License-Identifier: Apache-2.0
"""Programs that serve a measurement: what they tell, where they are, and that their end is the end of all of it."""

import signal
from pathlib import Path

import pytest

from clusters.errors import PlumblineError
from clusters.lab.helper import Helper
from clusters.lab.provider import Lab
from plugins.load.servers import Servers

PATIENCE = 20.0
TELL = "import os; tell = lambda text: os.write(3, text.encode() + b'\\n')\n"


def helper(lab: Lab, code: str, log: Path) -> Helper:
    return Helper.start(lab.supervisor, "test", ["-S", "-c", TELL + code], netns=lab.nodes[0].client.name, log=log)


def test_what_it_tells_is_heard_line_by_line(lab: Lab, tmp_path: Path) -> None:
    code = "tell('one'); tell('two'); tell('three'); import time; time.sleep(60)"
    with helper(lab, code, tmp_path / "log") as running:
        assert running.await_line(PATIENCE) == "one"
        lines: list[str] = []
        while len(lines) < 2:
            lines += running.told()
        assert lines == ["two", "three"]
        assert running.await_line(0.05) is None
        assert not running.ended


def test_it_is_in_the_namespace_it_was_put_into(lab: Lab, tmp_path: Path) -> None:
    ip = lab.nodes[0].client.addresses["IPv4"]
    with helper(lab, f"import socket; socket.socket().bind(({ip!r}, 0)); tell('bound')", tmp_path / "log") as running:
        assert running.await_line(PATIENCE) == "bound"


def test_its_end_is_seen_and_its_words_are_kept(lab: Lab, tmp_path: Path) -> None:
    with helper(lab, "tell('bye'); raise SystemExit('no more')", tmp_path / "log") as running:
        assert running.await_end(PATIENCE)
        assert running.told() == ["bye"]
        assert running.await_line(0.0) is None
        assert running.last_words() == "\n    no more"


def test_it_hears_signals(lab: Lab, tmp_path: Path) -> None:
    code = "from signal import *; signal(SIGUSR1, lambda *_: tell('heard')); tell('up')\nwhile 1: pause()"
    with helper(lab, code, tmp_path / "log") as running:
        assert running.await_line(PATIENCE) == "up"
        assert running.signal(signal.SIGUSR1)
        assert running.await_line(PATIENCE) == "heard"


def test_its_children_are_killed_with_it(lab: Lab, tmp_path: Path) -> None:
    """They hold the pipe, so that its end shows that they have ended."""
    code = "pid = os.fork(); tell('parent' if pid else 'child'); import time; time.sleep(60)"
    with helper(lab, code, tmp_path / "log") as running:
        assert {running.await_line(PATIENCE), running.await_line(PATIENCE)} == {"parent", "child"}
        assert lab.supervisor.signal(running.pid, signal.SIGKILL, group=True)
        assert running.await_end(PATIENCE)


def test_a_lab_that_is_gone_took_it_with_it(lab: Lab, tmp_path: Path) -> None:
    with helper(lab, "tell('up'); import time; time.sleep(60)", tmp_path / "log") as running:
        assert running.await_line(PATIENCE) == "up"
        lab.supervisor.close()
        assert running.await_end(PATIENCE)


def test_servers_come_up_drain_and_go(lab: Lab, tmp_path: Path) -> None:
    pods = [lab.nodes[0].backends[0], lab.nodes[1].backends[0], *lab.dense_backends("node-b", 2)]
    with Servers(lab, ("IPv4", "IPv6"), tmp_path) as servers:
        servers.start(pods)
        assert [servers.state(pod)["name"] for pod in pods] == [pod.name for pod in pods]
        servers.drain(pods[:1])
        servers.stop(pods[:1])
        with pytest.raises(PlumblineError, match="does not answer /state"):
            servers.state(pods[0])
        servers.start(pods[:1])
        servers.kill(pods[1:2])
        assert servers.answered(pods[0]) == 0
    with pytest.raises(PlumblineError, match="does not answer /state"):
        servers.state(pods[0])


def test_a_place_that_is_taken_is_one_sentence(lab: Lab, tmp_path: Path) -> None:
    pod = lab.nodes[0].backends[0]
    sentence = r"no server came up at .*; its log ends:\s+clusters.measure.served: "
    with Servers(lab, ("IPv4",), tmp_path) as servers, Servers(lab, ("IPv4",), tmp_path) as others:
        servers.start([pod])
        with pytest.raises(PlumblineError, match=sentence):
            others.start([pod])
