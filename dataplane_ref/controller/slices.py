# SPDX-License-Identifier: Apache-2.0
"""An EndpointSlice in 17 bytes per endpoint, which is how the controller keeps a million of them.

https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/ says what the conditions mean, and the API's
reference their defaults: unknown readiness is ready, unknown serving is serving, unknown terminating is not.
"""

from socket import AF_INET, AF_INET6, inet_pton

from msgspec import Struct

from dataplane_ref.controller.objects import Conditions, EndpointSlice, Hints
from dataplane_ref.controller.packed import MAPPED, PROTOCOLS, port

READY, SERVING, TERMINATING, LOCAL = 1, 2, 4, 8
USUAL = READY | SERVING  # what almost every endpoint is
FAMILIES = {"IPv4": 4, "IPv6": 6}

READY_CONDITIONS = Conditions(ready=True, serving=True, terminating=False)

Hint = tuple[frozenset[str], frozenset[str]]
"""Names of the nodes and of the zones an endpoint is meant for."""
NO_HINT: Hint = (frozenset(), frozenset())


class CompactSlice(Struct, gc=False):
    """What is needed of a slice of one family: its ports, and 16 bytes of address and one of conditions per endpoint.

    `hints` is None where no endpoint has any. `plain` says that every endpoint is ready, none is terminating or on
    this node, and none has a hint or stands there twice.
    """

    family: int
    ports: tuple[tuple[str, int, bytes], ...]  # name, protocol, port
    addresses: bytes
    conditions: bytes
    hints: tuple[Hint, ...] | None
    plain: bool


def compact(given: EndpointSlice, node: str) -> CompactSlice | None:
    """A slice as it is kept; None where its addresses are names. Raises ValueError for a broken address or port."""
    family = FAMILIES.get(given.address_type)
    if family is None:
        return None
    ports = tuple(
        (each.name or "", PROTOCOLS[each.protocol or "TCP"], port(each.port))
        for each in given.ports or ()
        if each.port is not None and (each.protocol or "TCP") in PROTOCOLS
    )
    endpoints = given.endpoints or ()
    count = len(endpoints)
    kind = AF_INET if family == 4 else AF_INET6
    try:
        # Only the first of an endpoint's addresses counts: the API calls them fungible, and consumers take that one.
        packed = [inet_pton(kind, each.addresses[0]) for each in endpoints]
    except (OSError, IndexError):
        raise ValueError(f"has an endpoint without an address that is {given.address_type}") from None
    found = [each.conditions for each in endpoints]
    is_usual = found.count(READY_CONDITIONS) == count
    conditions = bytes([USUAL]) * count if is_usual else bytes(map(_bits, found))
    names = [each.node_name for each in endpoints]
    if node in names:
        pairs = zip(conditions, names, strict=True)
        conditions = bytes([bits | LOCAL if name == node else bits for bits, name in pairs])
    hinted = [each.hints for each in endpoints].count(None) < count
    return CompactSlice(
        family=family,
        ports=ports,
        addresses=MAPPED + MAPPED.join(packed) if family == 4 and packed else b"".join(packed),
        conditions=conditions,
        hints=tuple(_hint(each.hints) for each in endpoints) if hinted else None,
        plain=not hinted and conditions.count(USUAL) == count == len(set(packed)),
    )


def _bits(found: Conditions | None) -> int:
    if found is None:
        return USUAL
    if found.ready and found.serving and not found.terminating:
        return USUAL
    bits = READY if found.ready is not False else 0
    if found.serving is not False:
        bits |= SERVING
    return bits | TERMINATING if found.terminating else bits


def _hint(given: Hints | None) -> Hint:
    if given is None:
        return NO_HINT
    return (
        frozenset(each.name for each in given.for_nodes or ()),
        frozenset(each.name for each in given.for_zones or ()),
    )
