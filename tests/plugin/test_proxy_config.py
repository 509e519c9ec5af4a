# SPDX-License-Identifier: Apache-2.0
"""The proxy's configuration as an axis: what may be asked for, how tests are grouped by it, and where it shows."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from clusters.proxies.base import Host, Place
from clusters.proxies.command import CommandProxy
from clusters.proxies.configuration import DEFAULT, KEYS, PLACEHOLDERS, ProxyConfiguration
from clusters.proxies.kube_proxy import KubeProxy, Mode, features_of
from clusters.proxies.none import NoProxy
from tests.plugin.miniature import HEAD
from tests.plugin.runs import EVERY_FEATURE, Finished, runs

GENERATIONS = 2
PLACE = Place("node-a", "192.0.2.1", "2001:db8::1", ("198.51.100.0/24",))
MASQUERADE_ALL = ProxyConfiguration(masquerade_all=True)
CANNOT = "the proxy's configuration cannot be set from here"


# What may be asked for.


@pytest.mark.parametrize(
    "text",
    [
        "{masqueradeAll: true}",
        "{localhostNodePorts: false, tcpBeLiberal: true, strictARP: true}",
        "{nodePortAddresses: [primary]}",
        "{nodePortAddresses: [192.0.2.0/24, <lan-ipv6>], syncPeriod: 1s, minSyncPeriod: 10ms}",
        "{detectLocalMode: NodeCIDR}",
        "{detectLocalMode: BridgeInterface, bridgeInterface: <pod-bridge>}",
        "{detectLocalMode: InterfaceNamePrefix, interfaceNamePrefix: veth}",
    ],
)
def test_a_configuration_is_read_as_it_is_written(text: str) -> None:
    read = ProxyConfiguration.parse(text)

    assert str(read) == text
    assert ProxyConfiguration.parse(str(read.as_dict())) == read
    assert read != DEFAULT


def test_keys_may_come_in_any_order() -> None:
    one = ProxyConfiguration.parse("{tcpBeLiberal: true, masqueradeAll: true}")
    assert one == ProxyConfiguration.parse("{masqueradeAll: true, tcpBeLiberal: true}")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{masqueradeAll: [}", "is not a YAML flow mapping such as {masqueradeAll: true}"),
        ("{}", "is not a YAML flow mapping such as {masqueradeAll: true}"),
        ("{colour: red}", "has the unknown key 'colour'; known are nodePortAddresses, localhostNodePorts, "),
        ("{masqueradeAll: 1}", "has masqueradeAll: 1, which must be true or false"),
        ("{syncPeriod: 1}", "has syncPeriod: 1, which must be a time such as 1s or 500ms"),
        ("{syncPeriod: soon}", "has syncPeriod: soon, which must be a time"),
        ("{nodePortAddresses: 192.0.2.0/24}", "has nodePortAddresses: 192.0.2.0/24, which must be a list of ranges"),
        ("{nodePortAddresses: []}", "has nodePortAddresses: [], which must be a list of ranges, or [primary]"),
        ("{nodePortAddresses: [home]}", "has nodePortAddresses with 'home', which is no range such as 192.0.2.0/24"),
        (
            "{nodePortAddresses: [<home>]}",
            "has nodePortAddresses with the unknown placeholder <home>; known are <lan-",
        ),
        ("{nodePortAddresses: [primary, 192.0.2.0/24]}", "has nodePortAddresses with 'primary' beside ranges"),
        ("{detectLocalMode: Guess}", "has detectLocalMode: Guess, which must be one of ClusterCIDR, NodeCIDR, "),
        ("{detectLocalMode: BridgeInterface}", "must have detectLocalMode: BridgeInterface and bridgeInterface tog"),
        ("{interfaceNamePrefix: veth}", "must have detectLocalMode: InterfaceNamePrefix and interfaceNamePrefix tog"),
        (
            "{detectLocalMode: BridgeInterface, bridgeInterface: 7}",
            "has bridgeInterface: 7, which must be a name, or",
        ),
    ],
)
def test_what_cannot_be_asked_for_is_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r"^(has|is|must)") as caught:
        ProxyConfiguration.parse(text)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_placeholders_are_filled_in_from_what_the_cluster_knows() -> None:
    asked = ProxyConfiguration.parse("{nodePortAddresses: [<lan-ipv4>, 192.0.2.0/24]}")

    assert asked.filled_in({"lan-ipv4": "10.0.0.0/8"}).node_port_addresses == ("10.0.0.0/8", "192.0.2.0/24")
    with pytest.raises(LookupError, match=r"^<lan-ipv4>$"):
        asked.filled_in({})


def test_keys_and_placeholders_are_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert [name for name in (*KEYS, *(f"<{name}>" for name in PLACEHOLDERS)) if f"`{name}`" not in text] == []


BAD = HEAD + "@req('mini.bad', needs=['proxy-config:{colour: red}'])\ndef test_bad(world): pass\n"
TWO = (
    HEAD
    + "@req('mini.two', needs=['proxy-config:{masqueradeAll: true}', 'proxy-config:{tcpBeLiberal: true}'])\n"
    + "def test_two(world): pass\n"
)


@pytest.mark.parametrize(
    "sentence",
    [
        pytest.param(
            "requirement 'mini.bad': need 'proxy-config:{colour: red}' has the unknown key 'colour'; known are ",
            marks=runs(files={"test_bad.py": BAD}),
        ),
        pytest.param(
            "requirement 'mini.two': needs two proxy configurations, 'proxy-config:{masqueradeAll: true}' and ",
            marks=runs(files={"test_two.py": TWO}),
        ),
    ],
)
def test_a_wrong_configuration_fails_collection(sentence: str, finished: Finished) -> None:
    assert finished.status == 3
    assert any(line.startswith(sentence) for line in finished.lines)
    assert not finished.has_traceback()
    assert finished.records == []


# How tests are grouped.

GROUPS = (
    HEAD
    + """
ALL, LIBERAL = "proxy-config:{masqueradeAll: true}", "proxy-config:{tcpBeLiberal: true}"

def made(world):
    return world.service(endpoints=world.backends(1))

@req("mini.all-transition", needs=[ALL])
def test_all_transition(world):
    service = world.service(endpoints=world.backends(1))
    world.settle()
    reach(world.vantage("pod"), service)

@req("mini.plain-transition")
def test_plain_transition(world):
    world.settle()

@req("mini.liberal", needs=[LIBERAL], arrange=made)
@everywhere(vantage=["pod", "node"])
def test_liberal(service, vantage):
    reach(vantage, service)

@req("mini.all", needs=[ALL], arrange=made)
@everywhere(vantage=["pod", "node"])
def test_all(service, vantage):
    reach(vantage, service)

@req("mini.plain", arrange=made)
@everywhere(vantage=["pod", "node"])
def test_plain(service, vantage):
    reach(vantage, service)

@req("mini.all-again", needs=[ALL], arrange=made)
def test_all_again(world, service):
    reach(world.vantage("pod"), service)
"""
)
FILES = {"test_groups.py": GROUPS}
RESTARTS = ["{masqueradeAll: true}", "{tcpBeLiberal: true}"]


@runs(files=FILES)
def test_the_default_comes_first_and_each_group_is_whole(finished: Finished) -> None:
    assert finished.status == 0
    assert [one["id"].removeprefix("mini.") for one in finished.records] == [
        *("plain", "plain", "plain-transition"),
        *("all", "all", "all-again", "all-transition"),
        *("liberal", "liberal"),
    ]


@runs(files=FILES)
def test_each_group_costs_one_restart_and_batches_do_not_span_groups(finished: Finished) -> None:
    """A batch for each of three groups, two transitions, and one generation after each restart."""
    facts = finished.facts()
    assert facts["restarts"] == RESTARTS
    assert facts["generations"] == (3 + 2) * GENERATIONS + len(RESTARTS)
    assert facts["created"] == 3 + 1 + 1
    assert facts["left"] == []


@runs(files=FILES)
def test_the_configuration_is_recorded(finished: Finished) -> None:
    found = {one["id"]: one["proxy_config"] for one in finished.records}
    assert found["mini.plain"] == {}
    assert found["mini.all"] == {"masqueradeAll": True}
    assert found["mini.liberal"] == {"tcpBeLiberal": True}


@runs(files=FILES)
def test_the_summary_says_what_restarts_cost(finished: Finished) -> None:
    (line,) = (line for line in finished.lines if line.startswith("time: "))
    assert ", restarts " in line


@runs("-n", "2", files=FILES)
def test_with_xdist_each_worker_restarts_its_own_once_per_group(finished: Finished) -> None:
    assert finished.status == 0
    assert len(finished.records) == 9
    for worker in ("gw0", "gw1"):
        restarts = finished.facts(worker)["restarts"]
        assert restarts == [one for one in RESTARTS if one in restarts]


@runs("-k", "liberal", files=FILES)
def test_a_part_restarts_only_for_itself(finished: Finished) -> None:
    assert finished.facts()["restarts"] == ["{tcpBeLiberal: true}"]
    assert set(finished.outcomes()) == {"mini.liberal"}


@runs("-x", "--lie=silent", "-k", "not plain", files=FILES)
def test_stopping_at_the_first_failure_restarts_no_more(finished: Finished) -> None:
    assert finished.status == 1
    assert finished.facts()["restarts"] == ["{masqueradeAll: true}"]


@runs("--lie=silent", "-k", "all", files=FILES)
def test_a_failure_says_where_with_the_configuration(finished: Finished) -> None:
    assert finished.failures()
    for shown in finished.failures():
        assert shown["where"].endswith("; proxy-config {masqueradeAll: true}")


@runs("--lie=rejects-config", files=FILES)
def test_a_proxy_that_does_not_come_up_ends_the_run_as_an_error(finished: Finished) -> None:
    assert finished.status == 3
    assert [one["outcome"] for one in finished.records] == ["pass"] * 3 + ["unknown"]
    assert finished.records[-1]["reason"] == (
        "fake-proxy on node-b ended with status 1; its log ends:\n    no such key"
    )
    assert not finished.has_traceback()


# Where it cannot be had.


@runs("--lie=inflexible", files=FILES)
def test_without_a_way_to_configure_the_tests_are_unfit(finished: Finished) -> None:
    assert finished.status == 0
    assert finished.facts()["restarts"] == []
    assert finished.ids("unfit") == {"mini.all", "mini.all-again", "mini.all-transition", "mini.liberal"}
    assert finished.ids("pass") == {"mini.plain", "mini.plain-transition"}
    for record in finished.records:
        if record["outcome"] == "unfit":
            assert record["reason"].startswith(f"{CANNOT}: {{")
            assert record["proxy_config"]


@runs("--lie=unwatched", EVERY_FEATURE, "--deadline-scale=0.05", "conformance/proxy_config/test_sync_period.py")
def test_rules_that_never_come_back_are_a_failure(finished: Finished) -> None:
    assert finished.status == 1
    assert finished.outcomes() == {"proxy-config.sync-period.rules-come-back": {"fail"}}


def host() -> Host:
    """As much of a lab as a configuration needs: it remembers the files that are written."""
    return cast(
        Host,
        SimpleNamespace(
            cluster_cidrs=("198.51.100.0/22",),
            service_cidrs=("203.0.113.0/24",),
            kubeconfig=lambda _: "",
            write_file=lambda _place, name, _text: f"/run/{name}",
        ),
    )


def a_kube_proxy(mode: Mode, scheduler: str | None = None) -> KubeProxy:
    return KubeProxy(host(), binary=Path("kube-proxy"), version="1.37.1", mode=mode, scheduler=scheduler)


def kube_proxy(mode: Mode, configured: ProxyConfiguration, *, scheduler: str | None = None) -> dict[str, Any]:
    proxy = a_kube_proxy(mode, scheduler)
    proxy.configured = configured
    return proxy.configuration(PLACE)


def test_nobody_configures_a_command_that_takes_no_configuration() -> None:
    assert CommandProxy(host(), command=["sh"]).refuses(MASQUERADE_ALL) == CANNOT
    assert NoProxy().refuses(MASQUERADE_ALL) == CANNOT


def test_a_command_may_offer_to_be_configured(tmp_path: Path) -> None:
    written: dict[str, str] = {}

    def write(_place: Place, name: str, text: str) -> str:
        written[name] = text
        return os.fspath(tmp_path / name)

    lab = host()
    vars(lab)["write_file"] = write
    proxy = CommandProxy(lab, command=["my-proxy", "--config={proxy_config}"])
    proxy.configured = MASQUERADE_ALL

    assert proxy.refuses(MASQUERADE_ALL) is None
    assert proxy.argv(PLACE) == ["my-proxy", f"--config={tmp_path}/proxy-config.json"]
    assert written["proxy-config.json"] == '{"masqueradeAll": true}'


MODES: Sequence[Mode] = ("iptables", "nftables")


@pytest.mark.parametrize("mode", MODES)
def test_kube_proxys_file_has_each_key_in_its_place(mode: Mode) -> None:
    asked = ProxyConfiguration.parse(
        "{nodePortAddresses: [primary], masqueradeAll: true, tcpBeLiberal: true, localhostNodePorts: false, "
        "detectLocalMode: InterfaceNamePrefix, interfaceNamePrefix: pod-, syncPeriod: 2s}"
    )

    file = kube_proxy(mode, asked)

    assert file["nodePortAddresses"] == ["primary"]
    assert (file["detectLocalMode"], file["detectLocal"]) == ("InterfaceNamePrefix", {"interfaceNamePrefix": "pod-"})
    assert file["conntrack"]["tcpBeLiberal"] is True
    assert file["conntrack"]["maxPerCore"] == 0
    expected: dict[str, object] = {"minSyncPeriod": "10ms", "masqueradeAll": True, "syncPeriod": "2s"}
    assert file[mode] == (expected | {"localhostNodePorts": False} if mode == "iptables" else expected)


def test_ipvs_mode_has_a_section_of_its_own_and_reads_one_key_of_another() -> None:
    asked = ProxyConfiguration.parse("{masqueradeAll: true, strictARP: true, syncPeriod: 2s}")
    file = kube_proxy("ipvs", asked, scheduler="lc")
    assert file["mode"] == "ipvs"
    assert file["ipvs"] == {"minSyncPeriod": "10ms", "strictARP": True, "syncPeriod": "2s", "scheduler": "lc"}
    assert file["iptables"] == {"masqueradeAll": True}
    assert kube_proxy("ipvs", DEFAULT)["ipvs"] == {"minSyncPeriod": "10ms", "syncPeriod": "10m"}


@pytest.mark.parametrize("mode", [*MODES, "ipvs"])
def test_beside_an_announcer_arp_is_strict_unless_a_requirement_says_otherwise(mode: Mode) -> None:
    proxy = KubeProxy(host(), binary=Path("kube-proxy"), version="1.37.1", mode=mode, strict_arp=True)
    assert proxy.configuration(PLACE)[mode].get("strictARP") == (True if mode == "ipvs" else None)
    if mode == "ipvs":
        proxy.configured = ProxyConfiguration.parse("{strictARP: false}")
        assert proxy.configuration(PLACE)[mode]["strictARP"] is False


@pytest.mark.parametrize("mode", MODES)
def test_strict_arp_is_a_matter_of_ipvs_mode_alone(mode: Mode) -> None:
    strict = ProxyConfiguration.parse("{strictARP: true}")
    assert a_kube_proxy(mode).refuses(strict) == f"kube-proxy has no strictARP in mode {mode}"
    assert a_kube_proxy("ipvs").refuses(strict) is None


def test_a_scheduler_is_a_feature_of_ipvs_mode() -> None:
    assert "scheduler-rr" in features_of("ipvs")
    assert "scheduler-lblcr" in features_of("ipvs", "lblcr")
    assert "scheduler-maglev" in features_of("ipvs", "mh")
    assert sum(name.startswith("scheduler-") for name in features_of("ipvs", "mh")) == 1
    assert "scheduler-random" in features_of("iptables")


@pytest.mark.parametrize("mode", MODES)
def test_kube_proxys_file_is_bare_by_default(mode: Mode) -> None:
    file = kube_proxy(mode, DEFAULT)
    assert file[mode] == {"minSyncPeriod": "10ms"}
    assert not file.keys() & {"nodePortAddresses", "detectLocalMode", "detectLocal"}


def test_kube_proxy_refuses_what_its_mode_does_not_have() -> None:
    on = ProxyConfiguration(localhost_node_ports=True)
    refused = {
        mode: KubeProxy(host(), binary=Path("kube-proxy"), version="1.37.1", mode=mode).refuses(on) for mode in MODES
    }
    assert refused == {"iptables": None, "nftables": "kube-proxy has no localhost node ports in mode nftables"}


@runs("conformance/proxy_config", EVERY_FEATURE)
def test_the_requirements_share_few_configurations(finished: Finished) -> None:
    """Each costs a restart."""
    restarts = finished.facts()["restarts"]
    assert max(Counter(restarts).values()) == 1
    assert len(restarts) <= 8
