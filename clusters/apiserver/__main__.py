# SPDX-License-Identifier: Apache-2.0
"""`python -m clusters.apiserver`: serve one new, empty cluster on inherited listening sockets until SIGTERM.

The caller creates the sockets, in whichever network namespaces it likes, and passes their numbers. `ready` and a
newline are written to `--ready-fd` once connections are answered. Exit status 0 after SIGTERM or SIGINT, 2 for wrong
arguments.
"""

import argparse
import gc
import os
import sys

from clusters.apiserver.bootstrap import ClusterConfig
from clusters.apiserver.store import HISTORY

TOKEN_VARIABLE = "PLUMBLINE_API_TOKEN"  # noqa: S105 - the name of the variable, not the token
"""Holds the bearer token that requests on `--listen-fd` sockets must carry; a command line could be read by all."""


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="clusters.apiserver", description=__doc__.partition("\n")[0])
    parser.add_argument("--listen-fd", type=int, action="append", required=True, metavar="FD")
    parser.add_argument(
        "--open-fd", action="append", default=[], metavar="FD[:NODE]", help="a socket that asks for no token"
    )
    parser.add_argument("--ready-fd", type=int, metavar="FD", help="where `ready` is written")
    parser.add_argument("--service-cidrs", default="10.96.0.0/16,fd00:10:96::/112", metavar="CIDR[,CIDR]")
    parser.add_argument("--node-port-range", default="30000-32767", metavar="FIRST-LAST")
    parser.add_argument("--history", type=int, default=HISTORY, metavar="EVENTS", help="kept per resource")
    parsed = parser.parse_args(arguments)
    parsed.token = os.environ.get(TOKEN_VARIABLE)
    if not parsed.token:
        parser.error(f"set {TOKEN_VARIABLE} to the bearer token that clients must send")
    opened = [text.partition(":") for text in parsed.open_fd]
    if wrong := [number for number, _, _ in opened if not number.isdigit()]:
        parser.error(f"--open-fd must be a number, or a number and a name as in 5:node-a, not {wrong[0]}")
    parsed.open_fd = [(int(number), name) for number, _, name in opened]
    first, _, last = parsed.node_port_range.partition("-")
    if not (first.isdigit() and last.isdigit()):
        parser.error(f"--node-port-range must look like 30000-32767, not {parsed.node_port_range}")
    try:
        parsed.config = ClusterConfig(
            service_cidrs=tuple(parsed.service_cidrs.split(",")),
            node_ports=(int(first), int(last)),
            history=parsed.history,
        )
    except ValueError as problem:
        parser.error(str(problem))
    return parsed


def main() -> None:
    arguments = parse_arguments(sys.argv[1:])
    gc.disable()
    # As it is imported, aiohttp reads every CA certificate of the machine for its client: a quarter of the start-up
    # time, for a server that never is one. It does without ssl where there is none; asyncio has it for listeners.
    import asyncio
    import ssl

    sys.modules["ssl"] = None  # type: ignore[assignment]
    from clusters.apiserver.serving import Listeners, serve

    sys.modules["ssl"] = ssl

    # What is imported lives for ever, and stored objects are mostly bytes: collecting often would only cost pauses.
    gc.freeze()
    gc.enable()
    gc.set_threshold(50_000, 20, 20)
    listeners = Listeners(arguments.listen_fd, arguments.open_fd)
    asyncio.run(serve(arguments.config, arguments.token, listeners, arguments.ready_fd))
    # Taking a large store apart object by object would take longer than everything before it.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
