# SPDX-License-Identifier: Apache-2.0
"""Starting an agent as a child process on this machine."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clusters.agent.client import AgentClient

_ROOT = Path(__file__).resolve().parents[2]
_GRACE = 5.0  # seconds an agent may take to end after its control connection has closed


def agent_command(control_fd: int) -> list[str]:
    """The command of an agent that is driven over an inherited descriptor; `-S` halves Python's start-up
    time."""
    return [sys.executable, "-S", "-m", "clusters.agent", "--control-fd", str(control_fd)]


def spawn_agent(name: str = "the agent") -> tuple[subprocess.Popen[bytes], AgentClient]:
    """Start an agent and connect to it. The caller closes the client, which ends the process, and waits for
    it."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            agent_command(theirs.fileno()),
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
        )
    return process, AgentClient(ours, name)


@contextmanager
def agent_process(name: str = "the agent") -> Iterator[AgentClient]:
    """An agent for as long as the context lasts. Raises PlumblineError when it does not start."""
    process, client = spawn_agent(name)
    try:
        with client:
            client.hello()
            yield client
    finally:
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
