# SPDX-License-Identifier: Apache-2.0
"""Which Service a dataplane looks at first and last, where it looks at one after the other."""

import re

from clusters.errors import PlumblineError
from clusters.measure import services as named
from clusters.measure.traffic import Target
from plugins.run import Run

_RULE = re.compile(r"-A KUBE-SERVICES -d ([\d.]+)/32 .*-j KUBE-SVC")


def ends(run: Run, services: int) -> tuple[Target, Target]:
    """The first and the last: by the rules in mode iptables, else by their numbers. Raises PlumblineError."""
    if run.proxy.mode == "iptables":
        return _of_iptables(run, services)
    return named.target(0), named.target(services - 1)


def _of_iptables(run: Run, services: int) -> tuple[Target, Target]:
    """As the chain KUBE-SERVICES has them, which every new connection walks from its beginning."""
    node = run.cluster.nodes[0].name
    done = run.cluster.supervisor.run(["iptables-save", "-t", "nat"], node=node)  # type: ignore[attr-defined]
    chain = [
        ip for ip in _RULE.findall(done.out) if (number := named.number_of(ip)) is not None and number < services
    ]
    if not chain:
        raise PlumblineError("iptables has no rules for the Services that are measured")
    return (chain[0], named.SERVICE_PORT), (chain[-1], named.SERVICE_PORT)
