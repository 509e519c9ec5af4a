# SPDX-License-Identifier: Apache-2.0
"""kube-router as a service proxy only: IPVS, one process per lab node, configured by its command line.

Options: https://github.com/cloudnativelabs/kube-router/blob/v2.10.0/docs/user-guide.md
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from clusters.proxies.base import Host, NodeProcesses, Place
from clusters.proxies.configuration import DEFAULT, PRIMARY, ProxyConfiguration

HEALTH_PORT = 20244
RULES = (
    # Most machines have no ipvsadm, and the kernel tells the same.
    ("sh", "-c", "ipvsadm -Ln --stats 2>/dev/null || cat /proc/net/ip_vs"),
    ("ip", "address", "show", "dev", "kube-dummy-if"),
    ("ipset", "list"),
    ("iptables-save",),
    ("ip6tables-save",),
)
# Round robin, unless a Service's annotation names another one.
SCHEDULERS = ("rr", "lc", "sh", "dh")
FEATURES = frozenset(f"scheduler-{name}" for name in SCHEDULERS)
# It enters the names of its routing tables in /etc/iproute2, which the lab's nodes share with the machine.
OWN_TABLE_NAMES = """
mkdir -p /run/plumbline/iproute2 && cp -r /etc/iproute2/. /run/plumbline/iproute2/ 2>/dev/null
if [ -w /etc ]; then mount --bind /etc /etc && mount -o remount,bind,ro /etc || exit; fi
[ ! -d /etc/iproute2 ] || mount --bind /run/plumbline/iproute2 /etc/iproute2 || exit
exec "$@"
"""
# Nothing but a service proxy, for both families, that does what Services ask for: its defaults refuse IPs of load
# balancers and external IPs, pods that dial themselves, and node ports at any but the node's first address.
ALWAYS = (
    "--run-service-proxy=true",
    "--run-router=false",
    "--run-firewall=false",
    "--run-loadbalancer=false",
    "--enable-cni=false",
    "--enable-ipv4=true",
    "--enable-ipv6=true",
    "--strict-external-ip-validation=false",
    "--hairpin-mode=true",
    "--metrics-port=0",
    f"--health-port={HEALTH_PORT}",
    "--v=1",
)


class KubeRouter(NodeProcesses):
    """The real kube-router. Each sync puts into force all it has heard of, so two generations settle it."""

    name = "kube-router"
    mode = "ipvs"
    settle: Literal["ordered", "converge"] = "ordered"
    features = FEATURES

    def __init__(self, host: Host, *, binary: Path, version: str, ready_deadline: float = 60.0) -> None:
        super().__init__(host, ready_deadline)
        self.binary = binary
        self.version = version

    def refuses(self, configuration: ProxyConfiguration) -> str | None:
        """It has options for some: all of a node's addresses or its primary ones, masqueradeAll, and its period."""
        known = replace(
            configuration,
            node_port_addresses=None
            if configuration.node_port_addresses == (PRIMARY,)
            else configuration.node_port_addresses,
            masquerade_all=None,
            sync_period=None,
        )
        if known == DEFAULT:
            return None
        return f"kube-router has no option for {', '.join(known.as_dict())}"

    def argv(self, place: Place) -> Sequence[str]:
        wanted = self.configured
        kubeconfig = self.host.write_file(place, "kubeconfig", self.host.kubeconfig(place))
        return [
            *("unshare", "--mount", "sh", "-c", OWN_TABLE_NAMES, "sh"),
            str(self.binary),
            f"--kubeconfig={kubeconfig}",
            f"--hostname-override={place.name}",
            *(f"--service-cluster-ip-range={cidr}" for cidr in self.host.service_cidrs),
            *ALWAYS,
            *([] if wanted.node_port_addresses else ["--nodeport-bindon-all-ip=true"]),
            *(["--masquerade-all=true"] if wanted.masquerade_all else []),
            *([f"--ipvs-sync-period={wanted.sync_period}"] if wanted.sync_period else []),
        ]

    def is_up(self, node: str) -> bool:
        """Whether all of its controllers have a heartbeat."""
        return self.is_healthy(node, HEALTH_PORT)

    def rules(self, node: str) -> Mapping[str, str]:
        return self.host.outputs(node, RULES)
