# SPDX-License-Identifier: Apache-2.0
"""The ends of iptables' chain, among rules that are not of the Services that are measured."""

import pytest

from clusters.errors import PlumblineError
from clusters.measure import services as named
from plugins.scale.order import of_chain

RULE = '-A KUBE-SERVICES -d {}/32 -p tcp -m comment --comment "{}" -m tcp --dport {} -j {}'


def rule(ip: str, chain: str = "KUBE-SVC-ABC") -> str:
    return RULE.format(ip, "scale/s-1:http cluster IP", 80, chain)


def test_the_first_and_the_last_are_those_of_the_chain() -> None:
    order = [7, 2, 9, 0]
    rules = [rule("10.96.0.1"), *(rule(named.cluster_ip(number)) for number in order), rule("10.96.1.1")]
    text = "\n".join(["-N KUBE-SERVICES", *rules, "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS"])
    assert of_chain(text, 10) == (named.target(7), named.target(0))
    assert of_chain(text, 9) == (named.target(7), named.target(0))
    assert of_chain(text, 3) == (named.target(2), named.target(0))


def test_a_chain_without_services_is_an_error() -> None:
    with pytest.raises(PlumblineError, match="has no rules for the Services"):
        of_chain(rule("10.96.1.1"), 10)
