# SPDX-License-Identifier: Apache-2.0
"""What objects, labels and ports may be called, and which addresses may serve.

RFC 1035, RFC 1123 and RFC 6335 as Kubernetes applies them
(https://kubernetes.io/docs/concepts/overview/working-with-objects/names/).
Each check returns None or a sentence that says what is allowed.
"""

import ipaddress
import re
import socket
from collections.abc import Mapping, Sequence
from functools import lru_cache

from clusters.apiserver.status import FieldError, JsonObject, invalid_value, required, too_long

_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_DNS_1123 = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_CONFIG_KEY = re.compile(r"[-._a-zA-Z0-9]+")
# First bytes of IPv4 addresses in no special range at all.
_PLAIN = frozenset(range(1, 224)) - {127, 169}
_IANA_PORT = re.compile(r"(?=.*[a-z])[a-z0-9]([a-z0-9]|-(?=[a-z0-9]))*")


def dns_1035_label(text: str) -> str | None:
    """The name of a Service."""
    if len(text) <= 63 and _DNS_1035.fullmatch(text):
        return None
    return (
        "a DNS-1035 label has at most 63 lower case letters, digits and '-', "
        "starts with a letter and does not end with '-'"
    )


def dns_1123_label(text: str) -> str | None:
    """The name of a namespace or of a port."""
    if len(text) <= 63 and _DNS_1123.fullmatch(text):
        return None
    return (
        "a lowercase RFC 1123 label has at most 63 lower case letters, digits and '-', "
        "and neither starts nor ends with '-'"
    )


def dns_1123_subdomain(text: str) -> str | None:
    """The name of most objects."""
    if len(text) <= 253 and _SUBDOMAIN.fullmatch(text):
        return None
    return (
        "a lowercase RFC 1123 subdomain has at most 253 lower case letters, digits, '-' and '.', "
        "and each part starts and ends with a letter or digit"
    )


def port_name(text: str) -> str | None:
    """A named target port (an IANA service name)."""
    if len(text) <= 15 and _IANA_PORT.fullmatch(text):
        return None
    return "a port name has at most 15 lower case letters, digits and single '-', and at least one letter"


def qualified_name(text: str) -> str | None:
    """A label or annotation key: an optional DNS prefix and `/`, then a name of at most 63 characters."""
    prefix, slash, name = text.rpartition("/")
    if (
        (not slash or (prefix and dns_1123_subdomain(prefix) is None))
        and len(name) <= 63
        and _QUALIFIED.fullmatch(name)
    ):
        return None
    return "a qualified name is at most 63 letters, digits, '-', '_' and '.', with an optional DNS prefix and '/'"


def config_key(text: str) -> str | None:
    """A key of a ConfigMap."""
    if len(text) <= 253 and _CONFIG_KEY.fullmatch(text) and text not in (".", ".."):
        return None
    return "a config key has at most 253 letters, digits, '-', '_' and '.', and is neither '.' nor '..'"


def label_errors(labels: Mapping[str, str], field: str) -> list[FieldError]:
    """Every key and value of a label map that the API refuses."""
    errors: list[FieldError] = []
    for key, value in labels.items():
        if problem := qualified_name(key):
            errors.append(invalid_value(field, key, problem))
        if value and (len(value) > 63 or not _QUALIFIED.fullmatch(value)):
            why = "a valid label value is empty, or at most 63 letters, digits, '-', '_' and '.'"
            errors.append(invalid_value(field, value, why))
    return errors


ANNOTATION_BYTES = 1 << 18
"""The most that all annotations of an object may come to."""

_STANDARD_FINALIZERS = ("foregroundDeletion", "kubernetes", "orphan")


def metadata_errors(metadata: JsonObject) -> list[FieldError]:
    """What the API refuses in an object's metadata, besides its name."""
    errors = label_errors(metadata["labels"], "metadata.labels") if metadata.get("labels") else []
    if metadata.get("annotations"):
        errors += _annotation_errors(metadata["annotations"])
    for i, finalizer in enumerate(metadata.get("finalizers") or ()):
        if finalizer not in _STANDARD_FINALIZERS and ("/" not in finalizer or qualified_name(finalizer)):
            why = "name is neither a standard finalizer name nor is it fully qualified"
            errors.append(invalid_value(f"metadata.finalizers[{i}]", finalizer, why))
    if metadata.get("ownerReferences"):
        errors += _owner_errors(metadata["ownerReferences"])
    return errors


def _annotation_errors(annotations: Mapping[str, str]) -> list[FieldError]:
    field = "metadata.annotations"
    errors = [invalid_value(field, key, problem) for key in annotations if (problem := qualified_name(key.lower()))]
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > ANNOTATION_BYTES:
        errors.append(too_long(field, ANNOTATION_BYTES))
    return errors


def _owner_errors(owners: Sequence[JsonObject]) -> list[FieldError]:
    errors = [
        required(f"metadata.ownerReferences[{i}].{field}", "must not be empty")
        for i, owner in enumerate(owners)
        for field in ("apiVersion", "kind", "name", "uid")
        if not owner.get(field)
    ]
    if sum(bool(owner.get("controller")) for owner in owners) > 1:
        why = "only one reference can have controller set to true"
        errors.append(invalid_value("metadata.ownerReferences", owners, why))
    return errors


def port_number(number: int) -> str | None:
    return None if 1 <= number <= 65535 else "must be between 1 and 65535, inclusive"


NO_ADDRESS = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"


@lru_cache(maxsize=65536)
def parsed_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a text is, or None. An object's addresses are looked at several times by who writes it."""
    try:
        # An IPv4 address, which most are, is read by the C library in a twentieth of the time.
        return ipaddress.IPv4Address(socket.inet_pton(socket.AF_INET, text))
    except (OSError, ValueError):
        pass
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def ip_address(text: str) -> str | None:
    if parsed_address(text) is None:
        return NO_ADDRESS
    return None if "%" not in text else "must be an IP address without a zone"


@lru_cache(maxsize=65536)
def serving_address(text: str) -> str | None:
    """An address that may stand for an endpoint or an external IP: none of the special ranges."""
    address = parsed_address(text)
    if address is None or "%" in text:
        return ip_address(text)
    if address.version == 4 and address.packed[0] in _PLAIN:
        return None
    if address.is_unspecified:
        return "may not be unspecified (0.0.0.0 or ::)"
    if address.is_loopback:
        return "may not be in the loopback range (127.0.0.0/8, ::1/128)"
    if address.is_link_local:
        return "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
    if _is_link_local_multicast(address):
        return "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
    return None


def _is_link_local_multicast(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if address.version == 4:
        return int(address) >> 8 == 0xE00000
    return (int(address) >> 112) & 0xFF0F == 0xFF02


def cidr(text: str) -> str | None:
    try:
        ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        return "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
    return None if "/" in text else "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
