# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin that breaks the dataplane on purpose, to show which requirements notice.

`pytest -p tests.controls.sabotage --control=NAME …`; `python -m tests.controls` runs all of them.
"""

import copy
import signal
from collections.abc import Callable, Generator
from typing import Any

import pytest

from clusters.kube import ENDPOINT_SLICES, SERVICES, Object, Resource
from clusters.lab.provider import Lab
from clusters.proxies.base import NodeProcesses
from clusters.proxies.configuration import DEFAULT
from plugins.requirements import requirement_of
from plugins.run import Run
from plugins.selection import is_transition
from plugins.services import HEADLESS
from plugins.session import RUN

Write = Callable[[Resource, Object], Object]
HIDING = ("service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless")
EMPTY_TABLES = "*nat\nCOMMIT\n*filter\nCOMMIT\n"
SKIP_SERVICES = ("-t", "nat", "-I", "KUBE-SERVICES", "1", "-j", "RETURN")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--control", choices=tuple(CONTROLS), required=True)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(CONTROLS[config.getoption("--control")]())


class Absent:
    """no proxy at all: every node runs 'sleep infinity'"""

    @pytest.hookimpl(tryfirst=True)
    def pytest_plumbline_await_ready(self) -> bool:
        return True  # nothing will ever answer, so there is nothing to wait for


class Stopped:
    """kube-proxy stopped (SIGSTOP) after its first sync"""

    @pytest.hookimpl(wrapper=True)
    def pytest_plumbline_await_ready(self, run: Run) -> Generator[None, bool | None, bool | None]:
        ready = yield
        _signal_proxies(run, signal.SIGSTOP)
        return ready


class Stale:
    """kube-proxy stopped within each transition, after its first settling: what changes then is not followed"""

    def __init__(self) -> None:
        self._in_transition = False

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        requirement = requirement_of(item)
        self._in_transition = requirement is not None and is_transition(item)
        if requirement is not None and requirement.changes:
            _signal_proxies(item.config.stash[RUN], signal.SIGSTOP)  # its first state has been settled with others'
        try:
            yield
        finally:
            self._in_transition = False
            _signal_proxies(item.config.stash[RUN], signal.SIGCONT)

    def pytest_plumbline_settled(self, run: Run) -> None:
        if self._in_transition:
            _signal_proxies(run, signal.SIGSTOP)


class OneFamily:
    """kube-proxy's IPv6 rules deleted after each settling"""

    def pytest_plumbline_settled(self, run: Run) -> None:
        lab = _lab(run)
        for node in lab.nodes:
            if run.settings.mode == "nftables":
                lab.supervisor.run(["nft", "delete", "table", "ip6", "kube-proxy"], node=node.name)
            else:
                lab.supervisor.run(["ip6tables-restore"], node=node.name, text=EMPTY_TABLES)
            rules = run.proxy.rules(node.name)
            left = rules.get("ip6tables-save", "") + rules.get("nft list ruleset", "")
            if "table ip6 kube-proxy" in left or "-A KUBE-SERVICES" in left:
                raise RuntimeError(f"the control could not remove {node.name}'s IPv6 rules")


class OneNode:
    """kube-proxy's Service rules skipped on all nodes but the first, after each settling (iptables)"""

    def pytest_plumbline_settled(self, run: Run) -> None:
        lab = _lab(run)
        for node in lab.nodes[1:]:
            for program in ("iptables", "ip6tables"):
                done = lab.supervisor.run([program, *SKIP_SERVICES], node=node.name)
                if done.status != 0:
                    raise RuntimeError(f"the control could not disable {node.name}'s rules: {done.err}")


class Told:
    """Tells the proxy of other objects than the test wrote; the model judges by what the test wrote."""

    @pytest.hookimpl(wrapper=True)
    def pytest_plumbline_await_ready(self, run: Run) -> Generator[None, bool | None, bool | None]:
        ready = yield
        client = run.cluster.kube
        for verb in ("create", "replace"):
            if verb not in vars(client):  # it is asked again after each restart
                vars(client)[verb] = self._lying(getattr(client, verb), run)
        return ready

    def _lying(self, write: Write, run: Run) -> Write:
        """A `create` or `replace` that writes a lie and answers with the truth."""

        def wrapped(resource: Resource, body: Object) -> Object:
            # The sentinel, in a namespace of its own, stays honest: or nothing would ever settle.
            if resource not in (SERVICES, ENDPOINT_SLICES) or body["metadata"].get("namespace"):
                return write(resource, body)
            lie = copy.deepcopy(body)
            self.lie(resource, lie, run)
            answer = write(resource, lie)
            truth = {**answer, "metadata": {**answer["metadata"], "labels": body["metadata"].get("labels", {})}}
            if resource is ENDPOINT_SLICES:
                return {**truth, "endpoints": body["endpoints"]}
            spec = {**answer["spec"], "externalIPs": body["spec"].get("externalIPs", [])}
            if body["spec"].get("clusterIP") == HEADLESS:
                spec |= {"clusterIP": HEADLESS, "clusterIPs": [HEADLESS]}
            return {**truth, "spec": spec}

        return wrapped

    def lie(self, resource: Resource, body: Object, run: Run) -> None:
        """Change the object."""
        raise NotImplementedError


class Overlooked(Told):
    """kube-proxy sees every endpoint as ready, no label that hides anything, and headless Services as proxied"""

    def lie(self, resource: Resource, body: Object, run: Run) -> None:
        for label in HIDING:
            body["metadata"].get("labels", {}).pop(label, None)
        if resource is ENDPOINT_SLICES:
            for endpoint in body["endpoints"]:
                endpoint["conditions"] = {"ready": True}
        elif body["spec"].get("clusterIP") == HEADLESS:
            del body["spec"]["clusterIP"]
            backends = [backend for node in run.cluster.nodes for backend in node.backends]
            body["spec"]["externalIPs"] = [ip for backend in backends for ip in backend.addresses.values()]


class Stranger(Told):
    """kube-proxy sees one endpoint more in each slice, which nobody declared"""

    def lie(self, resource: Resource, body: Object, run: Run) -> None:
        if resource is ENDPOINT_SLICES:
            stranger = run.cluster.nodes[0].scout
            address = stranger.addresses[body["addressType"]]
            body["endpoints"].append({"addresses": [address], "nodeName": stranger.node})


class Unconfigured:
    """kube-proxy restarted with its default configuration, whatever was asked for"""

    def pytest_plumbline_await_ready(self, run: Run) -> None:
        proxy = run.proxy
        assert isinstance(proxy, NodeProcesses)
        vars(proxy).setdefault("configure", lambda _: type(proxy).configure(proxy, DEFAULT))


CONTROLS: dict[str, type[Any]] = {
    "absent": Absent,
    "stopped": Stopped,
    "stale": Stale,
    "one-family": OneFamily,
    "one-node": OneNode,
    "overlooked": Overlooked,
    "stranger": Stranger,
    "unconfigured": Unconfigured,
}


def _signal_proxies(run: Run, number: signal.Signals) -> None:
    assert isinstance(run.proxy, NodeProcesses)
    for pid in run.proxy.pids.values():
        _lab(run).supervisor.signal(pid, number)


def _lab(run: Run) -> Lab:
    assert isinstance(run.cluster, Lab)
    return run.cluster
