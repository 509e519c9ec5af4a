# SPDX-License-Identifier: Apache-2.0
"""kube-proxy in iptables, nftables or ipvs mode, one per lab node, from one configuration file each.

Configuration: https://kubernetes.io/docs/reference/config-api/kube-proxy-config.v1alpha1/
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from clusters.errors import PlumblineError, ProxyError
from clusters.kernel import DEFAULT_SCHEDULER
from clusters.proxies.base import Host, NodeProcesses, Place
from clusters.proxies.configuration import DETAIL, ProxyConfiguration

METRICS_PORT, HEALTH_PORT = 10249, 10256
SCHEDULER = "scheduler-"
# As often as there is something to do. In ipvs mode a sync looks at everything, by fifty programs, and by default
# every 30 s: in a slow kernel that leaves no time for anything else.
FAST: Mapping[str, Mapping[str, str]] = {
    "iptables": {"minSyncPeriod": "10ms"},
    "nftables": {"minSyncPeriod": "10ms"},
    "ipvs": {"minSyncPeriod": "10ms", "syncPeriod": "10m"},
}
_PERIODS = ("syncPeriod", "minSyncPeriod")
# In which section of its file each mode reads which keys.
SECTIONS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "iptables": {"iptables": ("masqueradeAll", "localhostNodePorts", *_PERIODS)},
    "nftables": {"nftables": ("masqueradeAll", *_PERIODS)},
    "ipvs": {"ipvs": ("strictARP", *_PERIODS), "iptables": ("masqueradeAll",)},
}
Mode = Literal["iptables", "nftables", "ipvs"]
RULES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "iptables": (("iptables-save",), ("ip6tables-save",)),
    "nftables": (("nft", "list", "ruleset"),),
    "ipvs": (
        # Most machines have no ipvsadm, and the kernel tells the same.
        ("sh", "-c", "ipvsadm -Ln --stats 2>/dev/null || cat /proc/net/ip_vs"),
        ("ipset", "list"),
        ("iptables-save",),
        ("ip6tables-save",),
    ),
}
# What not every mode has: https://kubernetes.io/docs/reference/networking/virtual-ips/#migrating-from-iptables-mode-to-nftables
LOCALHOST_NODE_PORTS = "localhost-node-ports"
# SCTP, and /healthz and /livez at HEALTH_PORT.
IN_EVERY_MODE = frozenset({"healthz", "sctp"})
FEATURES: Mapping[str, frozenset[str]] = {
    # Node ports on 127.0.0.1; what conntrack calls invalid is dropped; rules that others deleted come back.
    "iptables": frozenset({LOCALHOST_NODE_PORTS, "invalid-dropped", "rules-restored", "scheduler-random"}),
    # Ports of a ClusterIP that no Service has are refused (KEP-3866).
    "nftables": frozenset({"unserved-ports-refused", "scheduler-random"}),
    # Services' addresses are the node's own, on kube-ipvs0, and what no Service serves there is refused (1.27). Every
    # sync looks at everything.
    "ipvs": frozenset({"unserved-ports-refused", "rules-restored"}),
}
# Those of Linux 6.1: https://kubernetes.io/docs/reference/networking/virtual-ips/#proxy-mode-ipvs has the same list.
IPVS_SCHEDULERS = ("rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "dh", "sed", "nq", "mh", "fo", "ovf")


def features_of(mode: str, scheduler: str | None = None) -> frozenset[str]:
    """The features that kube-proxy has in a mode, of those that not every proxy has; `mh` is Maglev hashing."""
    name = (scheduler or DEFAULT_SCHEDULER).replace("mh", "maglev")
    return IN_EVERY_MODE | FEATURES.get(mode, frozenset()) | ({f"{SCHEDULER}{name}"} if mode == "ipvs" else set())


class KubeProxy(NodeProcesses):
    """The real kube-proxy. It programs whole batches of changes in order, so two generations settle it.

    `strict_arp` is for mode ipvs where no configuration says otherwise.
    """

    name = "kube-proxy"
    settle: Literal["ordered", "converge"] = "ordered"

    def __init__(
        self,
        host: Host,
        *,
        binary: Path,
        version: str,
        mode: Mode,
        sync: Literal["fast", "default"] = "fast",
        scheduler: str | None = None,
        strict_arp: bool = False,
        ready_deadline: float = 60.0,
    ) -> None:
        super().__init__(host, ready_deadline)
        self.binary = binary
        self.version = version
        self.mode = mode
        self.sync = sync
        self.scheduler = scheduler
        self.strict_arp = strict_arp
        self.features = features_of(mode, scheduler)

    def refuses(self, configuration: ProxyConfiguration) -> str | None:
        if configuration.localhost_node_ports and LOCALHOST_NODE_PORTS not in self.features:
            return f"kube-proxy has no localhost node ports in mode {self.mode}"
        if configuration.strict_arp and self.mode != "ipvs":
            return f"kube-proxy has no strictARP in mode {self.mode}"
        return None

    def argv(self, place: Place) -> Sequence[str]:
        config = self.host.write_file(place, "kube-proxy.yaml", json.dumps(self.configuration(place)))
        return [str(self.binary), f"--config={config}", "--v=2"]

    def configuration(self, place: Place) -> dict[str, Any]:
        """The KubeProxyConfiguration for a node."""
        wanted = self.configured.as_dict()
        details = {key: wanted[key] for key in DETAIL.values() if key in wanted}
        return {
            **{key: wanted[key] for key in ("nodePortAddresses", "detectLocalMode") if key in wanted},
            **({"detectLocal": details} if details else {}),
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": self.mode,
            "hostnameOverride": place.name,
            "clientConnection": {
                "kubeconfig": self.host.write_file(place, "kubeconfig", self.host.kubeconfig(place)),
                "contentType": "application/json",
            },
            "clusterCIDR": ",".join(self.host.cluster_cidrs),
            # 0 is "leave alone": the connection table's size belongs to the machine, not to a namespace.
            "conntrack": {
                "maxPerCore": 0,
                "min": 0,
                "tcpEstablishedTimeout": "0s",
                "tcpCloseWaitTimeout": "0s",
                **{key: wanted[key] for key in ("tcpBeLiberal",) if key in wanted},
            },
            # A lab's process must not be spared by the machine's OOM killer before the user's own.
            "oomScoreAdj": 0,
            "healthzBindAddress": f"0.0.0.0:{HEALTH_PORT}",
            "metricsBindAddress": f"127.0.0.1:{METRICS_PORT}",
            **self._sections(wanted),
        }

    def _sections(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """The parts that are one mode's own; ipvs mode reads `masqueradeAll` where iptables mode does."""
        fast = FAST[self.mode] if self.sync == "fast" else {}
        found: dict[str, dict[str, Any]] = {
            section: {key: wanted[key] for key in keys if key in wanted}
            for section, keys in SECTIONS[self.mode].items()
        }
        found[self.mode] = {**fast, **found[self.mode]}
        if self.scheduler:
            found[self.mode]["scheduler"] = self.scheduler
        if self.strict_arp and self.mode == "ipvs":
            found[self.mode].setdefault("strictARP", True)
        return found

    def is_up(self, node: str) -> bool:
        """Healthy, and in the mode that was asked for. Raises ProxyError if it runs in another."""
        try:
            status, mode = self.host.http_get(node, METRICS_PORT, "/proxyMode")
            health, _ = self.host.http_get(node, HEALTH_PORT, "/healthz")
        except PlumblineError:
            return False
        if status != 200 or health != 200:
            return False
        if mode.strip() != self.mode:
            raise ProxyError(
                f"kube-proxy on {node} was asked for mode {self.mode} but runs {mode.strip()}; "
                f"see {self.host.log_directory}"
            )
        return True

    def rules(self, node: str) -> Mapping[str, str]:
        return self.host.outputs(node, RULES[self.mode])
