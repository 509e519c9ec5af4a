# SPDX-License-Identifier: Apache-2.0
"""Which Service a dataplane looks at first and last, where it looks at one after the other."""

import re

from clusters.errors import PlumblineError
from clusters.lab.provider import Lab
from clusters.measure import services as named
from clusters.measure.traffic import Target

CHAIN = ("iptables", "-w", "-t", "nat", "-S", "KUBE-SERVICES")
_RULE = re.compile(r"-A KUBE-SERVICES -d ([\d.]+)/32 .*-j KUBE-SVC")


def ends(lab: Lab, mode: str, services: int) -> tuple[Target, Target]:
    """The first and the last: by the rules in mode iptables, else by their numbers. Raises PlumblineError.

    kube-proxy writes that chain anew with every sync, and each time in another order: who wants to know asks just
    before it measures.
    """
    if mode != "iptables":
        return named.target(0), named.target(services - 1)
    done = lab.supervisor.run(CHAIN, node=lab.nodes[0].name)
    return of_chain(done.out, services)


def of_chain(rules: str, services: int) -> tuple[Target, Target]:
    """The same, of the chain that every new connection walks from its beginning. Raises PlumblineError."""
    numbers = ((ip, named.number_of(ip)) for ip in _RULE.findall(rules))
    chain = [ip for ip, number in numbers if number is not None and number < services]
    if not chain:
        raise PlumblineError("iptables has no rules for the Services that are measured")
    return (chain[0], named.SERVICE_PORT), (chain[-1], named.SERVICE_PORT)
