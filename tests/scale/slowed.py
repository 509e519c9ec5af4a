# SPDX-License-Identifier: Apache-2.0
"""A proxy that has become slower: `-p tests.scale.slowed` puts rules that match nothing in the way of every packet.

To show that `--baseline` notices (docs/scale.md). They are in the table `raw`, which proxies leave alone.
"""

from collections.abc import Generator
from typing import Any

import pytest

from clusters.errors import PlumblineError
from plugins.options import Settings

RULES = 2_000
NOBODY = "203.0.113.9"  # of documentation (RFC 5737)


class Slowed:
    """Whatever the proxy is, and does, but for its start."""

    def __init__(self, proxy: Any, cluster: Any) -> None:
        self._proxy = proxy
        self._cluster = cluster

    def __getattr__(self, name: str) -> Any:
        return getattr(self._proxy, name)

    def start(self) -> None:
        self._proxy.start()
        rules = "".join(f"-A PREROUTING -d {NOBODY} -j DROP\n" for _ in range(RULES))
        for node in self._cluster.nodes:
            command = ["iptables-restore", "--noflush"]
            done = self._cluster.supervisor.run(command, node=node.name, text=f"*raw\n{rules}COMMIT\n")
            if done.status != 0:
                raise PlumblineError(f"{node.name} could not be slowed: {done.err.strip()}")


@pytest.hookimpl(wrapper=True)
def pytest_plumbline_proxy(settings: Settings, cluster: Any) -> Generator[None, Any, Any]:  # noqa: ARG001
    proxy = yield
    return proxy and Slowed(proxy, cluster)
