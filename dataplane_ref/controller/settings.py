# SPDX-License-Identifier: Apache-2.0
"""How the datapath is to behave on this node: the proxy's configuration in kube-proxy's words, and what is our own.

https://kubernetes.io/docs/reference/config-api/kube-proxy-config.v1alpha1/ has the first; docs/architecture.md,
"Proxy configuration", says which of its keys count.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from dataplane_ref.controller.packed import network
from dataplane_ref.controller.schedule import SCHEDULERS

SECOND = 1_000_000_000
MARK = 0x2000_0000
MODES = ("ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix")
DETAILS = {"BridgeInterface": "bridgeInterface", "InterfaceNamePrefix": "interfaceNamePrefix"}
IGNORED = ("tcpBeLiberal", "strictARP", "syncPeriod", "minSyncPeriod")  # nothing here goes by them
PRIMARY = "primary"


class SettingsError(ValueError):
    """A setting that cannot be; the text is one sentence."""


class Timeouts(Struct, frozen=True):
    """How long flows live without a packet, in nanoseconds: `struct config` says when each counts."""

    tcp_established_ns: int = 24 * 3600 * SECOND
    tcp_opening_ns: int = 60 * SECOND
    tcp_closing_ns: int = 3600 * SECOND  # as kube-proxy's tcpCloseWaitTimeout
    tcp_closed_ns: int = 10 * SECOND
    udp_ns: int = 30 * SECOND
    udp_stream_ns: int = 180 * SECOND


class Settings(Struct, frozen=True):
    """Everything that does not come from the API or from the node's interfaces."""

    node: str
    cluster_cidrs: tuple[str, ...] = ()
    node_port_addresses: tuple[str, ...] = ()
    localhost_node_ports: bool = False
    masquerade_all: bool = False
    detect_local: str = "ClusterCIDR"
    bridge_interface: str = ""
    interface_name_prefix: str = ""
    scheduler: str = "random"
    masquerade_ports: tuple[int, int] = (1024, 29999)
    node_port_range: tuple[int, int] = (30000, 32767)
    mark: int = MARK
    straight: bool = True
    more_flags: tuple[str, ...] = ()  # further names of `enum config_flag`: RECORD_VERDICTS, ONLY_DECIDE, STATELESS
    timeouts: Timeouts = Timeouts()

    @property
    def detects_by_interface(self) -> bool:
        """Whether pods are known by the interface their packets come in by."""
        return self.detect_local in DETAILS


def from_proxy_config(given: object) -> dict[str, Any]:
    """The fields of Settings that a proxy configuration sets. Raises SettingsError."""
    if not isinstance(given, Mapping):
        raise SettingsError('the proxy configuration must be a JSON object such as {"masqueradeAll": true}')
    fields: dict[str, Any] = {}
    for key, value in given.items():
        if key in READERS:
            name, read = READERS[key]
            fields[name] = read(key, value)
        elif key not in IGNORED:
            raise SettingsError(f"the proxy configuration has the unknown key {key!r}; known are {_words(READERS)}")
    for mode, detail in DETAILS.items():
        if (given.get("detectLocalMode") == mode) != (detail in given):
            raise SettingsError(f"the proxy configuration must have detectLocalMode: {mode} and {detail} together")
    return fields


def read_proxy_config(path: Path) -> dict[str, Any]:
    """The same from a JSON file. Raises SettingsError."""
    import msgspec

    try:
        given = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"the proxy configuration {path} cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise SettingsError(f"the proxy configuration {path} is not JSON: {error}") from None
    return from_proxy_config(given)


def cidrs(text: str, option: str) -> tuple[str, ...]:
    """Ranges with commas between. Raises SettingsError."""
    given = tuple(one.strip() for one in text.split(",") if one.strip())
    for one in given:
        try:
            network(one)
        except ValueError as error:
            raise SettingsError(f"{option}: {error}") from None
    return given


def port_range(text: str, option: str) -> tuple[int, int]:
    """FIRST-LAST. Raises SettingsError."""
    first, _, last = text.partition("-")
    if not (first.isdigit() and last.isdigit() and 0 < int(first) <= int(last) < 65536):
        raise SettingsError(f"{option} must look like 61000-65535, not {text!r}")
    return int(first), int(last)


def check_scheduler(name: str) -> str:
    """The name again. Raises SettingsError."""
    if name not in SCHEDULERS:
        raise SettingsError(f"{name!r} is no scheduler; there are {_words(SCHEDULERS)}")
    return name


def _switch(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise SettingsError(f"the proxy configuration has {key}: {value!r}, which must be true or false")
    return value


def _name(key: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise SettingsError(f"the proxy configuration has {key}: {value!r}, which must be a name")
    return value


def _mode(key: str, value: object) -> str:
    if value not in MODES:
        raise SettingsError(f"the proxy configuration has {key}: {value!r}, which must be one of {_words(MODES)}")
    return str(value)


def _node_port_addresses(key: str, value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise SettingsError(f"the proxy configuration has {key}: {value!r}, which must be a list of ranges")
    if PRIMARY in value and value != [PRIMARY]:
        raise SettingsError(f"the proxy configuration has {key} with 'primary' beside ranges")
    for one in value:
        if one != PRIMARY:
            try:
                network(one)
            except ValueError as error:
                raise SettingsError(f"the proxy configuration has {key}: {error}") from None
    return tuple(value)


def _words(names: Any) -> str:
    return ", ".join(names)


# Key → the field of Settings, and how its value is checked.
READERS: Mapping[str, tuple[str, Callable[[str, object], Any]]] = {
    "nodePortAddresses": ("node_port_addresses", _node_port_addresses),
    "localhostNodePorts": ("localhost_node_ports", _switch),
    "masqueradeAll": ("masquerade_all", _switch),
    "detectLocalMode": ("detect_local", _mode),
    "bridgeInterface": ("bridge_interface", _name),
    "interfaceNamePrefix": ("interface_name_prefix", _name),
}
