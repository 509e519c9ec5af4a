# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.reference.node`, run in a node's network: the controller's own code without its API server.

The first line of stdin is a list of the endpoints' addresses. From the bytes of lists to full maps, timed, which it
prints as a line of JSON; then the datapath is attached, and stays until stdin ends.
"""

import argparse
import gc
import json
import resource
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack

from benchmarks.reference import lists
from dataplane_ref.controller import __main__ as cli
from dataplane_ref.controller import devices, objects, sysctls
from dataplane_ref.controller.attach import Attachments
from dataplane_ref.controller.codec import Codec
from dataplane_ref.controller.collect import Collector
from dataplane_ref.controller.crc import crc_tables
from dataplane_ref.controller.log import say
from dataplane_ref.controller.netlink import read_interfaces
from dataplane_ref.controller.nodeview import node_ips
from dataplane_ref.controller.resources import NODES, SERVICES, SLICES, watched
from dataplane_ref.controller.settings import Settings
from dataplane_ref.controller.state import NodeDatapath
from dataplane_ref.loader import BpfObject, Loaded


def fill(datapath: NodeDatapath, listed: Mapping[str, bytes]) -> int:
    """List bytes into maps, as the watchers and the loop do it; how many entries were written."""
    for resource_ in watched(datapath.settings.node):
        items = objects.list_decoder.decode(listed[resource_.name]).items or ()
        datapath.replace(resource_.name, dict(filter(None, map(resource_.convert, items))))
    return datapath.program()


def again(loaded: Loaded, services: int, each: int) -> float:
    """Seconds to write once more what is in the four large maps, and nothing else."""
    seconds = 0.0
    endpoints = services * each
    for name, most in {
        "frontends": services,
        "addresses": services,
        "endpoints": endpoints,
        "members": endpoints,
    }.items():
        into = loaded.maps[name]
        batches = list(into.batches())
        keys = b"".join(one for one, _, _ in batches)[: most * into.key_size]
        values = b"".join(one for _, one, _ in batches)[: most * into.value_size]
        began = time.perf_counter()
        into.put_many(keys, values, len(keys) // into.key_size)
        seconds += time.perf_counter() - began
    return seconds


def settings_and_sizes(
    node: str, cluster_cidr: str, services: int, endpoints: int
) -> tuple[Settings, dict[str, int]]:
    """As the command line gives them."""
    arguments = cli.parser().parse_args([
        "--kubeconfig=-", f"--node={node}", f"--cluster-cidr={cluster_cidr}",
        f"--max-services={max(services, 65536)}", f"--max-endpoints={max(endpoints, 131072)}",
    ])  # fmt: skip
    return cli.settings_from(arguments), cli.sizes_from(arguments)


def main() -> int:
    parsing = argparse.ArgumentParser(prog="benchmarks.reference.node", description=__doc__.partition("\n")[0])
    add = parsing.add_argument
    add("--node", required=True)
    add("--addresses", required=True, help="of the node, with commas between")
    add("--pod-cidrs", required=True)
    add("--cluster-cidr", required=True)
    add("--services", type=int, required=True)
    add("--each", type=int, required=True, help="endpoints of each Service")
    add("--target-port", type=int, required=True)
    given = parsing.parse_args()
    endpoints: list[str] = json.loads(sys.stdin.readline())
    listed = {
        SERVICES: lists.services(given.services, given.target_port),
        SLICES: lists.slices(given.services, given.target_port, endpoints, given.each),
        NODES: lists.node(given.node, given.addresses.split(","), given.pod_cidrs.split(",")),
    }
    settings, sizes = settings_and_sizes(
        given.node, given.cluster_cidr, given.services + 1024, given.services * given.each + 65536
    )
    gc.collect()
    gc.disable()
    with ExitStack() as stack:
        bpf = BpfObject.open()
        codec = Codec(bpf)
        loaded = stack.enter_context(bpf.load(sizes))
        sysctls.apply(settings, say)
        datapath = NodeDatapath(loaded.maps, codec, settings, say)
        loaded.maps["crc_tables"].put(bytes(4), crc_tables())
        datapath.see(read_interfaces())
        began, worked = time.perf_counter(), time.process_time()
        written = fill(datapath, listed)
        seconds, cpu = time.perf_counter() - began, time.process_time() - worked
        attachments = Attachments(loaded.programs, "auto", None, say)
        stack.callback(attachments.close)
        attachments.follow(
            devices.hooks(datapath.interfaces, node_ips(datapath.node).values(), "auto"), datapath.interfaces
        )
        gc.freeze()
        collector = _collector(loaded, codec)
        collector.start()
        stack.callback(collector.join, 5)
        stack.callback(collector.stop)
        size = sum(map(len, listed.values()))
        listed.clear()
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        limit = again(loaded, given.services, given.each)
        told = {"seconds": seconds, "cpu": cpu, "limit": limit, "written": written, "bytes": size, "rss": rss}
        print(json.dumps(told), flush=True)
        sys.stdin.read()
    return 0


def _collector(loaded: Loaded, codec: Codec) -> Collector:
    maps, program = loaded.maps, loaded.programs["plumbline_collect"]
    return Collector(maps["flows"], maps["affinities"], maps["counters"], program, codec, say)


if __name__ == "__main__":
    sys.exit(main())
