# SPDX-License-Identifier: Apache-2.0
"""No proxy of ours: the cluster has its own, or the user runs one by hand."""

from collections.abc import Mapping, Sequence
from typing import Literal

from clusters.errors import ProxyError
from clusters.proxies.configuration import ProxyConfiguration


class NoProxy:
    """Starts and stops nothing."""

    name = "none"
    version = "unknown"
    mode = "none"
    settle: Literal["ordered", "converge"] = "converge"
    features: frozenset[str] = frozenset()

    def start(self) -> None:
        """Nothing to start."""

    def refuses(self, _configuration: ProxyConfiguration) -> str | None:
        """Whoever runs it configures it."""
        return "the proxy's configuration cannot be set from here"

    def configure(self, configuration: ProxyConfiguration) -> None:
        """Never asked for: every configuration is refused."""
        raise ProxyError(f"nobody here can configure the proxy ({configuration})")

    def check(self) -> None:
        """Nothing that could have died."""

    def never_ready(self, nodes: Sequence[str]) -> ProxyError:
        """Whatever serves these nodes does not."""
        return ProxyError(f"nothing on {', '.join(nodes)} programs Services; with --proxy=none you start the proxy")

    def stop(self) -> None:
        """Nothing to stop."""

    def log_tail(self, _node: str) -> str:
        """Not ours to read."""
        return ""

    def rules(self, _node: str) -> Mapping[str, str]:
        """Unknown."""
        return {}
