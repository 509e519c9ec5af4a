# SPDX-License-Identifier: Apache-2.0
"""`python -m dataplane_ref.controller`: serve Services on this node with the reference datapath, until SIGTERM.

Exit status 0 after SIGTERM or SIGINT, 1 when the datapath cannot be loaded, 2 for wrong arguments.
"""

import argparse
import gc
import sys
from pathlib import Path

from dataplane_ref.controller import kubeconfig
from dataplane_ref.controller.log import say
from dataplane_ref.controller.schedule import SCHEDULERS
from dataplane_ref.controller.settings import MARK, Settings, SettingsError, cidrs, port_range, read_proxy_config

SMALLEST = 16


def parser() -> argparse.ArgumentParser:
    parsing = argparse.ArgumentParser(prog="dataplane_ref.controller", description=__doc__.partition("\n")[0])
    add = parsing.add_argument
    add("--kubeconfig", type=Path, required=True, metavar="FILE")
    add("--node", required=True, metavar="NAME", help="this node's name in the API")
    add("--proxy-config", type=Path, metavar="FILE", help="JSON: nodePortAddresses, masqueradeAll, detectLocalMode …")
    add("--cluster-cidr", default="", metavar="CIDR[,CIDR]", help="the pods' addresses")
    add(
        "--pins",
        type=Path,
        metavar="DIR",
        help="on a bpffs: the datapath outlives this process, and the next goes on",
    )
    add("--scheduler", default="random", choices=list(SCHEDULERS), help="for Services that do not say (%(default)s)")
    add("--masquerade-ports", default="1024-29999", metavar="FIRST-LAST")
    add("--node-port-range", default="30000-32767", metavar="FIRST-LAST", help="as kube-apiserver's")
    add("--mark", type=lambda text: int(text, 0), default=MARK, metavar="BIT")
    add("--max-services", type=int, default=65536, metavar="N", help="Service ports, in each family (%(default)s)")
    add("--max-endpoints", type=int, default=131072, metavar="N", help="(%(default)s)")
    add("--max-flows", type=int, default=262144, metavar="N", help="(%(default)s)")
    add("--max-affinities", type=int, default=262144, metavar="N", help="(%(default)s)")
    add("--max-source-ranges", type=int, default=16384, metavar="N", help="(%(default)s)")
    add("--xdp", default="auto", choices=("auto", "native", "generic", "off"))
    add("--no-straight", action="store_true", help="always through the stack, where the way is known too")
    add("--health-port", type=int, default=10256, metavar="PORT", help="0: none (%(default)s)")
    return parsing


def settings_from(arguments: argparse.Namespace) -> Settings:
    """Raises SettingsError."""
    configured = read_proxy_config(arguments.proxy_config) if arguments.proxy_config else {}
    if not 0 <= arguments.health_port < 65536:
        raise SettingsError(f"--health-port must be 0 to 65535, not {arguments.health_port}")
    if not 0 < arguments.mark < 1 << 32 or arguments.mark & (arguments.mark - 1):
        raise SettingsError(f"--mark must be one bit such as 0x20000000, not {arguments.mark:#x}")
    return Settings(
        node=arguments.node,
        cluster_cidrs=cidrs(arguments.cluster_cidr, "--cluster-cidr"),
        scheduler=arguments.scheduler,
        masquerade_ports=port_range(arguments.masquerade_ports, "--masquerade-ports"),
        node_port_range=port_range(arguments.node_port_range, "--node-port-range"),
        mark=arguments.mark,
        straight=not arguments.no_straight,
        **configured,
    )


def sizes_from(arguments: argparse.Namespace) -> dict[str, int]:
    """Entries of the maps. Raises SettingsError."""
    for name in ("services", "endpoints", "flows", "affinities", "source_ranges"):
        if getattr(arguments, f"max_{name}") < SMALLEST:
            option = f"--max-{name.replace('_', '-')}"
            raise SettingsError(f"{option} must be at least {SMALLEST}, not {getattr(arguments, f'max_{name}')}")
    services, endpoints = arguments.max_services, arguments.max_endpoints
    return {
        # A Service port has a ClusterIP, often a node port, seldom more.
        "frontends": 3 * services,
        "addresses": 2 * services + 1024,
        "cursors": services,
        "endpoints": endpoints,
        "endpoint_states": endpoints,
        # Each set changes by standing elsewhere for a moment; what is left is for lookup tables.
        "members": 4 * endpoints,
        "source_ranges": arguments.max_source_ranges,
        "flows": 2 * arguments.max_flows,
        "affinities": arguments.max_affinities,
    }


def main() -> int:
    arguments = parser().parse_args()
    try:
        settings, sizes = settings_from(arguments), sizes_from(arguments)
        access = kubeconfig.read(arguments.kubeconfig)
    except SettingsError as error:
        say(str(error))
        return 2
    # What decoding makes is in no cycle: looking for some among a million new objects would only cost time.
    gc.disable()
    from dataplane_ref.controller.agent import Agent, Options
    from dataplane_ref.loader import LoadError

    options = Options(access, sizes, arguments.pins, arguments.xdp, arguments.health_port)
    try:
        Agent(settings, options).run()
    except LoadError as error:
        say(str(error))
        return 1
    except OSError as error:
        say(f"the datapath cannot run here: {error.strerror or error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
