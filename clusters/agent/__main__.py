# SPDX-License-Identifier: Apache-2.0
"""The agent's program: `python -S -m clusters.agent --control-fd N`, N being a connected SOCK_STREAM Unix
socket.

It needs the standard library only, keeps no files and ends when the control connection closes.
"""

import argparse
import gc
import os
import resource
import signal
import socket
import sys
from typing import Any

from clusters.agent.capture import Sniffer
from clusters.agent.control import Control, Reply
from clusters.agent.flowspec import SourcePorts, Tokens
from clusters.agent.hold import Holder
from clusters.agent.inject import Injector
from clusters.agent.loop import Loop
from clusters.agent.netns import Namespaces
from clusters.agent.paced import Pacer
from clusters.agent.probe import Prober
from clusters.agent.recorder import Recorder
from clusters.agent.sctp_channel import Associations
from clusters.agent.serve import Server
from clusters.agent.wire import PROTOCOL_VERSION

# Flows are freed by reference counting; the cycle collector would only stop the clock in the middle of a
# batch.
_GC_THRESHOLD = 200_000


def _raise_descriptor_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _hello(_: dict[str, Any], reply: Reply) -> None:
    descriptors, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    reply.ok({"version": PROTOCOL_VERSION, "pid": os.getpid(), "descriptors": descriptors})


def run(control: socket.socket) -> None:
    """Serve one control connection until it closes."""
    loop = Loop()
    namespaces = Namespaces()
    ports = SourcePorts(namespaces)
    tokens = Tokens()
    associations = Associations(loop, namespaces, ports)
    operations = {
        "hello": _hello,
        **Server(loop, namespaces).operations(),
        **Prober(loop, namespaces, ports, tokens, associations).operations(),
        **Holder(loop, namespaces, ports, tokens, associations).operations(),
        **Pacer(loop, namespaces, ports, tokens).operations(),
        **Sniffer(loop, namespaces).operations(),
        **Injector(namespaces).operations(),
        **Recorder(namespaces).operations(),
    }
    Control(loop, control, operations)
    loop.run()


def main() -> int:
    parser = argparse.ArgumentParser(prog="clusters.agent", description="Serves backends and probes flows.")
    parser.add_argument(
        "--control-fd",
        type=int,
        required=True,
        metavar="N",
        help="an inherited, connected stream socket that carries requests and replies",
    )
    arguments = parser.parse_args()
    try:
        control = socket.socket(fileno=arguments.control_fd)
    except OSError as error:
        print(
            f"clusters.agent: descriptor {arguments.control_fd} is no socket ({error.strerror})",
            file=sys.stderr,
        )
        return 4
    # A Ctrl-C is for the test session; whoever holds the control connection ends the agent when it has cleaned up.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _raise_descriptor_limit()
    gc.set_threshold(_GC_THRESHOLD, 50, 100)
    with control:
        run(control)
    return 0


if __name__ == "__main__":
    sys.exit(main())
