# SPDX-License-Identifier: Apache-2.0
"""The fake's proxy: the process that is not there, with the manners of one."""

from collections.abc import Mapping, Sequence
from typing import Literal

from clusters.errors import ProxyError
from clusters.proxies.configuration import ProxyConfiguration
from tests.plugin.fake_cluster import IN_A_TRANSITION, FakeCluster

# The first look is the first settle's, and then there is one after each test.
AFTER_THE_SECOND_TEST = 3


class FakeProxy:
    """Implements `clusters.api.Proxy`."""

    name = "fake-proxy"
    version = "0.0"
    mode = "fake"

    def __init__(self, cluster: FakeCluster, settle: Literal["ordered", "converge"]) -> None:
        self._cluster = cluster
        self._settle = settle
        self._checks = 0

    @property
    def settle(self) -> Literal["ordered", "converge"]:
        return self._settle

    def start(self) -> None:
        self._cluster.freeze()

    def refuses(self, configuration: ProxyConfiguration, /) -> str | None:  # noqa: ARG002
        """It takes any, as a command with `{proxy_config}` does, or none, as one without."""
        return "the proxy's configuration cannot be set from here" if "inflexible" in self._cluster.lies else None

    def configure(self, configuration: ProxyConfiguration, /) -> None:
        self._cluster.facts.restarts.append(str(configuration))
        if "rejects-config" in self._cluster.lies:
            raise ProxyError("fake-proxy on node-b ended with status 1; its log ends:\n    no such key")
        self._cluster.configure(configuration)

    def check(self) -> None:
        self._checks += 1
        lies, generations = self._cluster.lies, self._cluster.facts.generations
        if ("dies" in lies and generations >= IN_A_TRANSITION) or (
            "dies-between" in lies and self._checks >= AFTER_THE_SECOND_TEST
        ):
            raise ProxyError("fake-proxy on node-b ended with status 7; its log ends:\n    panic: out of ideas")

    def never_ready(self, nodes: Sequence[str]) -> ProxyError:
        return ProxyError(f"fake-proxy was not ready on {', '.join(nodes)}; its log ends: (nothing was written)")

    def stop(self) -> None:
        """Nothing runs."""

    def rules(self, node: str, /) -> Mapping[str, str]:
        return {"fake list rules": f"the rules of {node}"}

    def log_tail(self, node: str, /) -> str:
        return f"the last words of {node}"
