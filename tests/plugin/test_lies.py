# SPDX-License-Identifier: Apache-2.0
"""Each lie of the dataplane fails the requirements it breaks, and not those it leaves alone."""

from dataclasses import dataclass

import pytest

from tests.plugin.lies import LIES
from tests.plugin.runs import EVERY_FEATURE, LABELS, SMALL, Finished, runs

REACH = "clusterip.reach.every-ready-endpoint"
REFUSED = "no-endpoints.clusterip.refused"
CONFIGURED = "conformance/proxy_config"
TEST_REACH, TEST_CHANGES = "conformance/clusterip/test_reach.py", "conformance/clusterip/test_changes.py"

BALANCERS = ("conformance/loadbalancer/test_reach.py", "conformance/loadbalancer/test_ingress.py")
EXTERNAL_IPS, SLICES = "conformance/external_ips", "conformance/endpoints/test_slices.py"


@dataclass(frozen=True)
class Caught:
    """Requirements that must fail under a lie, others that must not, a phrase of the `observed` line, and the
    parts of conformance/ that are judged (all of it where none is named)."""

    fails: tuple[str, ...]
    passes: tuple[str, ...]
    says: str
    where: tuple[str, ...] = ()


CAUGHT = {
    "firewalled": Caught(
        ("nodeport.firewall.forwards-nothing-else",),
        ("nodeport.reach.from-outside",),
        "timeout",
        ("conformance/nodeport",),
    ),
    "silent": Caught(
        (REACH, REFUSED, "nodeport.reach.from-outside", "clusterip.hairpin.reaches-itself"), (), "timeout"
    ),
    "drops": Caught(
        (REFUSED, "no-endpoints.clusterip.refused-on-the-node", "no-endpoints.nodeport.refused"),
        (REACH, "clusterip.service.deleted"),
        "outcome timeout, but should be refused",
        ("conformance/no_endpoints", TEST_REACH, TEST_CHANGES),
    ),
    "resets": Caught(
        (REFUSED, "no-endpoints.nodeport.refused"),
        (REACH,),
        "a refusal without an ICMP error, but should be ICMP",
        ("conformance/no_endpoints", TEST_REACH),
    ),
    "skips-one": Caught(
        (REACH, "clusterip.endpoints.added", "nodeport.reach.from-pod"),
        (REFUSED, "clusterip.hairpin.reaches-itself", "clusterip.udp.flow-leaves-removed-endpoint"),
        "never reached: node-",
    ),
    "wrong-client": Caught(
        (REACH, "source.clusterip.pod-keeps-its-address", "source.nodeport.masqueraded-to-the-node"),
        (REFUSED,),
        "client address",
        ("conformance/source", "conformance/no_endpoints", TEST_REACH),
    ),
    "wrong-source": Caught(
        (REACH, "nodeport.reach.from-outside"),
        (REFUSED,),
        "the address dialled",
        ("conformance/nodeport/test_reach.py", "conformance/no_endpoints", TEST_REACH),
    ),
    "one-family": Caught((REACH, REFUSED, "nodeport.service.deleted"), (), "timeout"),
    "one-port": Caught(
        ("clusterip.port.leads-to-its-target-port", "clusterip.port.same-number-two-protocols"),
        (REACH, "nodeport.reach.from-outside"),
        "endpoint",
        ("conformance/clusterip/test_ports.py", "conformance/nodeport/test_reach.py", TEST_REACH),
    ),
    "ignores-readiness": Caught(
        ("endpoints.not-ready.never-used",),
        (REACH, "clusterip.endpoints.removed"),
        "endpoint",
        ("conformance/endpoints", TEST_REACH, TEST_CHANGES),
    ),
    "ignores-proxy-name": Caught(
        ("clusterip.proxy-name.left-to-the-named-proxy",),
        (REACH, "clusterip.endpoints.removed"),
        "outcome reply, but should be",
        ("conformance/clusterip",),
    ),
    "keeps-endpoints": Caught(
        ("clusterip.endpoints.removed", "clusterip.endpoints.none-and-back", "clusterip.service.created-again"),
        (REACH, "clusterip.endpoints.added", "clusterip.service.deleted"),
        "endpoint",
        ("conformance/clusterip",),
    ),
    "keeps-former": Caught(
        (
            "loadbalancer.ingress.withdrawn",
            "external-ips.removed",
            "service-type.to-external-name.falls-silent",
            "service-type.nodeport-to-clusterip.node-port-is-closed",
        ),
        (REACH, "loadbalancer.reach.from-pod", "service-type.from-external-name.is-served"),
        "outcome reply, but should be",
        (TEST_REACH, *BALANCERS, EXTERNAL_IPS, "conformance/service_type"),
    ),
    "ignores-load-balancers": Caught(
        (
            "loadbalancer.reach.from-pod",
            "loadbalancer.reach.from-node",
            "loadbalancer.reach.from-outside",
            "loadbalancer.no-endpoints.refused",
            "loadbalancer.node-ports.not-needed",
            "loadbalancer.ingress.every-ip",
        ),
        (REACH, "loadbalancer.ip-mode.proxy-keeps-other-frontends"),
        "outcome unreachable, but should be",
        (TEST_REACH, *BALANCERS),
    ),
    "ignores-ip-mode": Caught(
        ("loadbalancer.ip-mode.proxy-is-left-to-the-balancer",),
        ("loadbalancer.reach.from-pod", "loadbalancer.ip-mode.proxy-keeps-other-frontends"),
        "outcome reply, but should be",
        BALANCERS,
    ),
    "ignores-source-ranges": Caught(
        ("loadbalancer.source-ranges.only-clients-in-them", "loadbalancer.source-ranges.taken-away"),
        ("loadbalancer.reach.from-pod", "loadbalancer.source-ranges.guard-nothing-else"),
        "outcome reply, but should be timeout",
        ("conformance/loadbalancer",),
    ),
    "ignores-external-ips": Caught(
        ("external-ips.reach.every-ready-endpoint", "external-ips.local.only-endpoints-of-the-node"),
        (REACH,),
        "outcome unreachable, but should be",
        (EXTERNAL_IPS, TEST_REACH),
    ),
    "ignores-external-policy": Caught(
        (
            "traffic-policy.external-local.node-port.endpoints-of-the-node",
            "traffic-policy.external-local.load-balancer.endpoints-of-the-node",
            "traffic-policy.external-local.dropped-without-local-endpoints",
            "traffic-policy.external-local.load-balancer.in-cluster-reaches-every-endpoint",
        ),
        (REACH, "traffic-policy.internal-local.endpoints-of-the-node"),
        "but should be",
        ("conformance/traffic_policy", TEST_REACH),
    ),
    "ignores-internal-policy": Caught(
        (
            "traffic-policy.internal-local.endpoints-of-the-node",
            "traffic-policy.internal-local.dropped-without-local-endpoints",
            "traffic-policy.internal-local.host-network-endpoint",
        ),
        (REACH, "traffic-policy.external-local.node-port.endpoints-of-the-node"),
        "but should be",
        ("conformance/traffic_policy", TEST_REACH),
    ),
    "no-affinity": Caught(
        ("affinity.client-ip.cluster-ip", "affinity.client-ip.node-port", "affinity.client-ip.load-balancer"),
        (REACH,),
        "must not have answered",
        ("conformance/affinity", TEST_REACH),
    ),
    "proxies-headless": Caught(
        ("headless.never-proxied", "endpoints.slices.headless-label-ignored"),
        ("endpoints.slices.several-add-up",),
        "but should be",
        ("conformance/headless", SLICES),
    ),
    "ignores-owner": Caught(
        ("endpoints.slices.without-service-name-ignored",),
        ("endpoints.slices.several-add-up", "endpoints.slices.headless-label-ignored"),
        "endpoint",
        (SLICES,),
    ),
    "confuses-families": Caught(
        (
            "dual-stack.endpoints.of-their-own-family",
            "dual-stack.endpoints.none-in-a-family-refuses",
            "endpoints.slices.other-family-ignored",
        ),
        (),
        "but should be",
        ("conformance/dual_stack", SLICES),
    ),
    "first-slice-only": Caught(
        (
            "endpoints.slices.several-add-up",
            "endpoints.slices.duplicates-do-no-harm",
            "endpoints.slices.target-port-of-each-slice",
            "endpoints.slices.ports-in-slices-of-their-own",
            "endpoints.slices.endpoint-moves",
        ),
        (REACH, "endpoints.slices.without-service-name-ignored"),
        "never reached",
        (SLICES, TEST_REACH),
    ),
    "ignores-terminating": Caught(
        ("endpoints.terminating.used-for-want-of-ready-ones", "endpoints.terminating.used-for-want-of-local-ones"),
        ("endpoints.terminating.not-used-beside-ready-ones", "endpoints.not-ready.never-used"),
        "but should be reply",
        ("conformance/endpoints",),
    ),
    "always-healthy": Caught(
        (
            "health-check.node-port.tells-who-has-endpoints",
            "health-check.node-port.terminating-endpoints-do-not-count",
            "health-check.node-port.follows-the-endpoints",
        ),
        (REACH, "health-check.proxy.healthy"),
        "HTTP 200, but should be 503",
        ("conformance/health_check", TEST_REACH),
    ),
    "stays-eligible": Caught(
        ("health-check.proxy.leaving-node",),
        ("health-check.proxy.healthy", "health-check.node-port.follows-the-endpoints"),
        "node-b HTTP 200, but should be 503",
        ("conformance/health_check", "--deadline-scale=0.1"),
    ),
    "keeps-deleted": Caught(
        ("clusterip.service.deleted", "nodeport.service.deleted"),
        (REACH, "clusterip.endpoints.removed"),
        "outcome reply, but should be",
        (TEST_REACH, TEST_CHANGES, "conformance/nodeport/test_changes.py"),
    ),
    "stale-flows": Caught(
        (
            "clusterip.udp.flow-leaves-removed-endpoint",
            "udp.node-port.flow-leaves-removed-endpoint",
            "udp.external.flow-leaves-removed-endpoint",
            "udp.endpoints.last-one-is-left",
            "udp.node-port.last-endpoint-is-left",
            "udp.endpoints.none-and-back",
            "udp.endpoints.not-ready-is-left",
            "udp.endpoints.terminating-goes-on",
            "udp.service.target-port-changed",
            "udp.service.deleted",
            "udp.service.created-again",
            "udp.service.created-again-after-its-endpoints",
            "udp.internal-local.endpoint-leaves-and-returns",
            "udp.external-local.endpoint-leaves-and-returns",
        ),
        (REACH, "clusterip.endpoints.removed", "udp.endpoints.first-one-is-used", "udp.endpoints.becomes-ready"),
        "endpoint",
        ("conformance/clusterip", "conformance/udp"),
    ),
    "restless-flows": Caught(
        ("udp.endpoints.others-do-not-matter", "udp.service.others-do-not-matter"),
        ("udp.service.deleted", "udp.endpoints.first-one-is-used", "udp.node-port.flow-leaves-removed-endpoint"),
        "but should be",
        ("conformance/udp",),
    ),
    "cuts-connections": Caught(
        (
            "continuity.endpoints.others-do-not-matter",
            "continuity.endpoints.removed",
            "continuity.endpoints.terminating",
            "continuity.endpoints.readiness-flaps",
            "continuity.service.port-added",
            "continuity.service.affinity-switched",
            "continuity.service.policy-flipped",
            "continuity.service.others-do-not-matter",
        ),
        ("clusterip.endpoints.removed",),
        "outcome reset, but should be",
        ("conformance/continuity", TEST_CHANGES),
    ),
    "one-client": Caught(
        ("affinity.client-ip.clients-are-spread",),
        ("affinity.client-ip.cluster-ip", "affinity.timeout.not-before"),
        "were served by node-",
        ("conformance/affinity",),
    ),
    "eternal-affinity": Caught(
        ("affinity.timeout.forgotten-after",),
        ("affinity.timeout.not-before", "affinity.timeout.each-connection-counts", "affinity.timeout.changed"),
        "clients were served by the endpoints they were with before",
        ("conformance/affinity",),
    ),
    "short-affinity": Caught(
        ("affinity.timeout.not-before", "affinity.timeout.each-connection-counts"),
        ("affinity.timeout.forgotten-after", "affinity.timeout.changed", "affinity.client-ip.cluster-ip"),
        "must not have answered",
        ("conformance/affinity",),
    ),
    "affinity-from-first": Caught(
        ("affinity.timeout.each-connection-counts",),
        ("affinity.timeout.not-before", "affinity.timeout.forgotten-after"),
        "must not have answered",
        ("conformance/affinity",),
    ),
    "no-localhost": Caught(
        ("proxy-config.localhost-node-ports.on",),
        ("proxy-config.localhost-node-ports.off",),
        "timeout",
        (CONFIGURED,),
    ),
    "config-ignored": Caught(
        (
            "proxy-config.node-port-addresses.listed-range-only",
            "proxy-config.node-port-addresses.primary",
            "proxy-config.masquerade-all.pod-shown-as-its-node",
        ),
        (
            "proxy-config.node-port-addresses.several-ranges",
            "proxy-config.detect-local.node-cidr.pod-keeps-its-address",
            "proxy-config.sync-period.rules-come-back",
        ),
        "outcome reply, but should be",
        (CONFIGURED,),
    ),
    "config-sticks": Caught(
        ("proxy-config.node-port-addresses.primary", "proxy-config.localhost-node-ports.on"),
        ("proxy-config.node-port-addresses.listed-range-only", "proxy-config.node-port-addresses.loopback-left-out"),
        "refused",
        (f"{CONFIGURED}/test_node_port_addresses.py", f"{CONFIGURED}/test_localhost_node_ports.py"),
    ),
    "passes-invalid": Caught(
        (
            "proxy-config.tcp-be-liberal.connection-survives",
            "proxy-config.tcp-be-liberal.not-needed-where-invalid-is-dropped",
        ),
        ("proxy-config.masquerade-all.pod-shown-as-its-node",),
        "outcome reset, but should be",
        (CONFIGURED,),
    ),
}


# A lie is told about all nodes and protocols alike, and mostly about both families.
SOME = ("-k", "not second and not third and not TCP")
BOTH_FAMILIES = ("silent", "one-family")


def each_lie(*names: str) -> pytest.MarkDecorator:
    """Parametrise over lies, each with the run in which it is told."""
    arguments = {
        name: (
            f"--lie={name}",
            EVERY_FEATURE,
            *CAUGHT[name].where,
            *SOME,
            *(() if name in BOTH_FAMILIES else ("--family=ipv4",)),
        )
        for name in names
    }
    return pytest.mark.parametrize("lie", [pytest.param(name, marks=runs(*arguments[name])) for name in names])


@each_lie(*CAUGHT)
def test_the_right_requirements_fail(lie: str, finished: Finished) -> None:
    caught = CAUGHT[lie]
    assert finished.status == 1, finished.out[-3000:]
    assert set(caught.fails) <= finished.ids("fail")
    assert set(caught.passes) <= finished.ids("pass") - finished.ids("fail")
    judged = finished.ids("fail", "pass", "warned", "recorded", "unfit")
    assert judged == set(finished.outcomes()), "nothing but judgements"


@each_lie(*CAUGHT)
def test_every_failure_has_five_lines(lie: str, finished: Finished) -> None:
    failures = finished.failures()
    failed = [one for one in finished.records if one["outcome"] == "fail"]
    assert len(failures) == len(failed)
    for shown, record in zip(failures, failed, strict=True):
        assert set(LABELS) <= set(shown)
        assert (
            shown["requirement"] == f"{record['id']} ({record['level']}, since {since(shown)}): {record['sentence']}"
        )
        assert "outcome: " in shown["expected"]
        assert shown["observed"].endswith(f"[{record['observed']}]")
        assert shown["where"].startswith(record["where"])
        assert "--proxy-command 'sh'; kernel " in shown["where"]
        assert shown["reproduce"].startswith((".venv/bin/pytest 'conformance/", ".venv/bin/pytest conformance/"))
        assert record["test"] in shown["reproduce"]
        assert "--proxy-command=sh --k8s-release=1.37" in shown["reproduce"]
    assert any(CAUGHT[lie].says in one["observed"] for one in failures)
    assert not finished.has_traceback()


@each_lie(*CAUGHT)
def test_the_record_says_what_was_seen(lie: str, finished: Finished) -> None:
    failed = [one for one in finished.records if one["outcome"] == "fail"]
    assert any(CAUGHT[lie].says in one["reason"] for one in failed)
    for record in failed:
        assert record["settled"] is True
        assert record["observations"]
        assert record["expected"]
        assert record["observed"]


@each_lie("silent")
def test_the_first_failures_keep_the_rules_and_tables_of_the_node(lie: str, finished: Finished) -> None:
    kept = [one for one in finished.records if one["artefacts"]]
    assert len(kept) == 10
    for record in kept:
        assert record["outcome"] == "fail"
        files = [finished.report / path for path in record["artefacts"]]
        packets = next(one for one in files if one.name.endswith("packets.txt")).read_text(encoding="utf-8")
        assert "eth0      outgoing  0.0.0.0 > 0.0.0.0 hopopt" in packets
        assert any(one.suffix == ".pcap" and one.stat().st_size == 24 + 16 + 34 for one in files)
        texts = [one.read_text(encoding="utf-8") for one in files if one.suffix == ".txt"]
        nodes = {seen["node"] for seen in record["observations"]} - {None} or {"node-a", "node-b", "node-c"}
        for node in nodes:
            assert f"the rules of {node}" in texts
            assert f"the connections of {node}" in texts
            assert f"the last words of {node}" in texts
        kinds = {one.name.partition(".")[2] for one in files}
        assert {"fake-list-rules.txt", "conntrack--L.txt", "proxy-log.txt", "packets.txt"} <= kinds
    assert sum("attached" in one for one in finished.failures()) == len(kept), lie


@each_lie("silent")
def test_every_requirement_can_fail(lie: str, finished: Finished) -> None:
    """Against a dataplane that never answers nothing passes: no requirement is met by doing nothing."""
    judged = {one["id"] for one in finished.judged}
    assert finished.ids("fail", "warned", "recorded") == judged, lie
    assert all(one["reason"] for one in finished.records if one["outcome"] == "recorded")
    assert not finished.ids("pass")


@each_lie("one-family")
def test_the_other_family_goes_on_passing(lie: str, finished: Finished) -> None:
    # Where a Service changes its families, the axis says which comes first, and both are judged.
    single = [one for one in finished.records if "family" in one["axes"] and not one["id"].startswith("dual-stack.")]
    assert {one["axes"]["family"] for one in single if one["outcome"] == "fail"} == {"IPv6"}, lie
    assert {one["axes"]["family"] for one in single if one["outcome"] == "pass"} == {"IPv4"}


@each_lie("silent")
def test_the_level_is_not_certified(lie: str, finished: Finished) -> None:
    total = len({one["id"] for one in finished.records if one["level"] == "core"})
    line = next(line for line in finished.lines if line.startswith("core level: "))
    assert line.startswith(f"core level: not certified: 0 of {total} requirements passed; "), lie
    assert line.endswith(f", {total} did not pass")


@runs("--lie=frozen", "--deadline-scale=0.01", *SMALL)
def test_a_dataplane_that_follows_nothing_fails_and_proves_nothing(finished: Finished) -> None:
    """Violations are failures even when nothing settled; what passes all the same proves nothing."""
    assert finished.ids("fail")
    assert not finished.ids("pass")
    assert finished.status == (3 if finished.ids("unknown") else 1)
    assert all(one["settled"] is False for one in finished.records)
    assert {"node-a", "node-b", "node-c"} >= {
        word.split()[0] for one in finished.failures() for word in one["note"].partition("s: ")[2].split(", ")
    }


def test_every_lie_is_told() -> None:
    """A lie that no test tells shows nothing."""
    elsewhere = {"frozen", "never-settles", "never-ready", "dies", "dies-between", "crashes", "stalls"}
    elsewhere |= {"inflexible", "rejects-config", "unwatched"}  # test_proxy_config.py
    assert set(LIES) == set(CAUGHT) | elsewhere


def since(shown: dict[str, str]) -> str:
    return shown["requirement"].partition("since ")[2].partition(")")[0]
