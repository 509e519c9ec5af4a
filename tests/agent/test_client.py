# SPDX-License-Identifier: Apache-2.0
"""The control connection: an agent that dies, hangs or is asked nonsense is one sentence, never a hang."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from clusters.agent.client import AgentClient, BackendSpec, ProbeRequest
from clusters.agent.launch import agent_command, spawn_agent
from clusters.errors import PlumblineError
from clusters.observation import Address, FlowOutcome

NOWHERE = ProbeRequest("host", None, None, "direct", "UDP", Address("127.0.0.1", 1))


def test_a_dead_agent_is_one_sentence() -> None:
    process, client = spawn_agent("the probing agent")
    with client:
        assert client.hello() == process.pid
        process.kill()
        process.wait()
        for _ in range(2):
            with pytest.raises(PlumblineError, match=r"^the probing agent has ended: [^\n]*$"):
                client.probe([NOWHERE])


def test_an_agent_that_dies_within_a_request_is_one_sentence() -> None:
    """A UDP server that never answers: the agent is killed while the probe waits."""
    process, client = spawn_agent()
    with client, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        client.hello()
        mute.bind(("127.0.0.1", 0))
        mute.settimeout(10)
        flow = client.paced(
            ProbeRequest("host", None, None, "direct", "UDP", Address("127.0.0.1", mute.getsockname()[1])), 0.01
        )
        mute.recv(1000)
        process.kill()
        process.wait()
        with pytest.raises(PlumblineError, match="has ended"):
            flow.close()


def test_an_agent_that_hangs_is_one_sentence() -> None:
    process, client = spawn_agent()
    with client:
        client.hello()
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        with pytest.raises(PlumblineError, match="did not answer 'hello' in time"):
            client.hello(deadline=0.05)
        with pytest.raises(PlumblineError, match="did not answer"):
            client.serve([BackendSpec("b", None)])
    process.send_signal(signal.SIGCONT)
    assert process.wait(10) == 0


def test_the_agent_ends_with_its_control_connection() -> None:
    process, client = spawn_agent()
    client.hello()
    client.close()
    assert process.wait(10) == 0
    with pytest.raises(PlumblineError, match="was told to end"):
        client.hello()


def test_an_agent_of_another_version_is_turned_away() -> None:
    ours, theirs = socket.socketpair()
    with AgentClient(ours) as client, theirs:
        theirs.send(b'{"id":1,"ok":{"version":0,"pid":1}}\n')
        with pytest.raises(PlumblineError, match="protocol version 0, not 1"):
            client.hello()


def test_replies_come_in_any_order_and_requests_in_any_pieces() -> None:
    """A slow request does not delay a quick one; nonsense is answered and survived."""
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind(("127.0.0.1", 0))
        process = subprocess.Popen(agent_command(theirs.fileno()), pass_fds=(theirs.fileno(),))
        theirs.close()
        ours.settimeout(10)
        flow = [0, "UDP", "127.0.0.1", mute.getsockname()[1], None, None, False]
        slow = json.dumps({"id": "slow", "op": "probe", "timeout": 0.2, "flows": [flow]}).encode()
        for piece in (slow[:7], slow[7:], b'\n{"id":"qui', b'ck","op":"hello"}\n[1]\n{"id":2,"op":"fly"}\nx\n'):
            ours.send(piece)
        ours.send(b'{"id":3,"op":"probe"}\n{"id":4,"op":"probe","flows":[[9]]}\n')
        with ours.makefile("r") as lines:
            replies = [json.loads(lines.readline()) for _ in range(7)]
        assert [reply["id"] for reply in replies] == ["quick", None, 2, None, 3, 4, "slow"]
        assert all("error" in reply for reply in replies[1:6])
        assert replies[6]["ok"]["results"][0][0] == FlowOutcome.TIMEOUT
        ours.shutdown(socket.SHUT_WR)
        assert process.wait(10) == 0


def test_few_descriptors_make_it_slower_but_not_wrong() -> None:
    """More flows at once than the agent may open files: it takes fewer at a time, serving included."""
    ours, theirs = socket.socketpair()
    with theirs:
        command = ["prlimit", "--nofile=64:64", *agent_command(theirs.fileno())]
        process = subprocess.Popen(command, pass_fds=(theirs.fileno(),))
    with AgentClient(ours) as client:
        with socket.create_server(("127.0.0.1", 0)) as finder:
            port = finder.getsockname()[1]
        client.serve([BackendSpec("b", None, tcp=[port], addresses=["127.0.0.1"])])
        request = ProbeRequest("host", None, None, "direct", "TCP", Address("127.0.0.1", port))
        seen = client.probe([request] * 500, 10.0, concurrency=500)
        assert {flow.outcome for flow in seen} == {FlowOutcome.REPLY}
    assert process.wait(10) == 0


def test_an_interrupt_from_the_terminal_leaves_the_agent_alone() -> None:
    """Ctrl-C reaches the whole process group; the session still needs its agents to clean up."""
    process, client = spawn_agent()
    with client:
        client.hello()
        process.send_signal(signal.SIGINT)
        assert client.hello() == process.pid
    assert process.wait(10) == 0


def test_a_descriptor_that_is_no_socket_is_a_usage_error() -> None:
    with subprocess.Popen(agent_command(0), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        _, complaint = process.communicate()
    assert process.returncode == 4
    assert complaint.decode().startswith("clusters.agent: descriptor 0 is no socket")


def test_the_agent_needs_nothing_but_the_standard_library() -> None:
    """It runs in an image that has nothing else."""
    script = (
        "import sys, clusters.agent.__main__\n"
        "names = {name.split('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)\n"
        "assert names <= {'clusters', '__main__'}, names\n"
        "assert not {'clusters.agent.client', 'clusters.errors'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-S", "-c", script], check=True, timeout=30)
