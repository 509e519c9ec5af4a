# SPDX-License-Identifier: Apache-2.0
"""How a proxy is to be configured, as requirements say it: `proxy-config:{masqueradeAll: true}`.

The keys are those of kube-proxy's configuration file, without its sections, because they are the field's words:
https://kubernetes.io/docs/reference/config-api/kube-proxy-config.v1alpha1/. What only a cluster knows stands as a
placeholder in angle brackets, such as `<lan-ipv4>`, and is filled in before a proxy sees it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Any, Literal, Self, cast, get_args

import yaml

# Placeholder → what a cluster puts in its place.
PLACEHOLDERS: Mapping[str, str] = {
    "lan-ipv4": "the IPv4 range that holds every node's address",
    "lan-ipv6": "the IPv6 range that holds every node's address",
    "second-lan-ipv4": "the IPv4 range that holds every node's second address, and no first one",
    "second-lan-ipv6": "the IPv6 range that holds every node's second address, and no first one",
    "pod-interfaces": "how the names of the nodes' interfaces that lead to pods begin",
    "pod-bridge": "the nodes' bridge that leads to pods",
}
PRIMARY = "primary"
DetectLocalMode = Literal["ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"]
# What two of the modes cannot do without.
DETAIL = {"BridgeInterface": "bridgeInterface", "InterfaceNamePrefix": "interfaceNamePrefix"}
_PERIOD = re.compile(r"[1-9]\d*(ms|s|m)")
_PLACEHOLDER = re.compile(r"<([a-z0-9-]+)>")


@dataclass(frozen=True, slots=True)
class ProxyConfiguration:
    """What a requirement asks of a proxy's configuration; None leaves the proxy's default."""

    node_port_addresses: tuple[str, ...] | None = None
    localhost_node_ports: bool | None = None
    masquerade_all: bool | None = None
    tcp_be_liberal: bool | None = None
    strict_arp: bool | None = None
    detect_local_mode: DetectLocalMode | None = None
    bridge_interface: str | None = None
    interface_name_prefix: str | None = None
    sync_period: str | None = None
    min_sync_period: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """From a YAML flow mapping. Raises ValueError, one sentence without the text itself."""
        try:
            given = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ValueError("is not a YAML flow mapping such as {masqueradeAll: true}") from None
        if not isinstance(given, dict) or not given:
            raise ValueError("is not a YAML flow mapping such as {masqueradeAll: true}")
        for key in given:
            if key not in KEYS:
                raise ValueError(f"has the unknown key {key!r}; known are {', '.join(KEYS)}")
        fields = {KEYS[key][0]: KEYS[key][1](key, value) for key, value in given.items()}
        _check_details(given)
        return cls(**fields)

    def as_dict(self) -> dict[str, Any]:
        """The keys that are set, with plain JSON values: what `parse` reads."""
        values = ((key, getattr(self, field)) for key, (field, _) in KEYS.items())
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values if value is not None}

    def filled_in(self, known: Mapping[str, str]) -> Self:
        """With every placeholder replaced. Raises LookupError with the one (`<name>`) that is not known."""

        def fill(text: str | None) -> str | None:
            named = _PLACEHOLDER.fullmatch(text or "")
            if named and named[1] not in known:
                raise LookupError(text)
            return known[named[1]] if named else text

        ranges = self.node_port_addresses
        return replace(
            self,
            node_port_addresses=None if ranges is None else tuple(cast(str, fill(one)) for one in ranges),
            bridge_interface=fill(self.bridge_interface),
            interface_name_prefix=fill(self.interface_name_prefix),
        )

    def __str__(self) -> str:
        """As the requirement says it: a YAML flow mapping on one line."""
        return f"{{{', '.join(f'{key}: {_plain(value)}' for key, value in self.as_dict().items())}}}"


DEFAULT = ProxyConfiguration()


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{', '.join(value)}]" if isinstance(value, list) else str(value)


def _switch(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"has {key}: {value}, which must be true or false")
    return value


def _period(key: str, value: object) -> str:
    if not isinstance(value, str) or not _PERIOD.fullmatch(value):
        raise ValueError(f"has {key}: {value}, which must be a time such as 1s or 500ms")
    return value


def _word(key: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"has {key}: {value}, which must be a name, or a placeholder such as <pod-bridge>")
    return _known_placeholder(key, value)


def _mode(key: str, value: object) -> str:
    modes = get_args(DetectLocalMode)
    if value not in modes:
        raise ValueError(f"has {key}: {value}, which must be one of {', '.join(modes)}")
    return cast(str, value)


def _ranges(key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
        raise ValueError(f"has {key}: {value}, which must be a list of ranges, or [{PRIMARY}]")
    if PRIMARY in value and value != [PRIMARY]:
        raise ValueError(f"has {key} with {PRIMARY!r} beside ranges, which must stand alone")
    for one in value:
        if one == PRIMARY or _PLACEHOLDER.fullmatch(_known_placeholder(key, one)):
            continue
        try:
            ip_network(one)
        except ValueError:
            raise ValueError(f"has {key} with {one!r}, which is no range such as 192.0.2.0/24") from None
    return tuple(value)


def _known_placeholder(key: str, value: str) -> str:
    named = _PLACEHOLDER.fullmatch(value)
    if named and named[1] not in PLACEHOLDERS:
        known = ", ".join(f"<{name}>" for name in PLACEHOLDERS)
        raise ValueError(f"has {key} with the unknown placeholder {value}; known are {known}")
    return value


def _check_details(given: Mapping[str, Any]) -> None:
    """An interface's name comes with the mode that goes by it, and never without."""
    for mode, detail in DETAIL.items():
        if (given.get("detectLocalMode") == mode) != (detail in given):
            raise ValueError(f"must have detectLocalMode: {mode} and {detail} together")


# Key → the field it sets, and how its value is checked.
KEYS: Mapping[str, tuple[str, Any]] = {
    "nodePortAddresses": ("node_port_addresses", _ranges),
    "localhostNodePorts": ("localhost_node_ports", _switch),
    "masqueradeAll": ("masquerade_all", _switch),
    "tcpBeLiberal": ("tcp_be_liberal", _switch),
    "strictARP": ("strict_arp", _switch),
    "detectLocalMode": ("detect_local_mode", _mode),
    "bridgeInterface": ("bridge_interface", _word),
    "interfaceNamePrefix": ("interface_name_prefix", _word),
    "syncPeriod": ("sync_period", _period),
    "minSyncPeriod": ("min_sync_period", _period),
}
