# SPDX-License-Identifier: Apache-2.0
"""Which endpoints of a Service port may answer: readiness, terminating fallback, topology hints, and this node.

Sources: https://kubernetes.io/docs/reference/networking/virtual-ips/#traffic-policies,
https://kubernetes.io/docs/concepts/services-networking/topology-aware-routing/#safeguards,
KEP-1669 (terminating endpoints), KEP-2433 (zone hints), KEP-3015 (PreferSameZone and PreferSameNode).
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from dataplane_ref.controller.slices import LOCAL, NO_HINT, READY, SERVING, TERMINATING, USUAL, CompactSlice, Hint

KEY = 18
"""An endpoint in its Service port: 16 bytes of address and 2 of port."""


class Selection(Struct, gc=False):
    """The endpoints of a Service port in one family, ordered by address and port, and who of them may be chosen.

    `packed` is all of `keys`; `cluster` and `local` hold places there. `cluster` is empty exactly when nothing
    anywhere is usable.
    """

    keys: list[bytes]
    packed: bytes
    conditions: bytes
    cluster: Sequence[int]
    local: Sequence[int]


def select(
    slices: Iterable[CompactSlice], name: str, protocol: int, family: int, node: str, zone: str | None
) -> Selection:
    """The endpoints of a Service port, by its name and protocol, as a node in a zone sees them."""
    found = []
    for each in slices:
        if each.family == family:
            for port_name, port_protocol, number in each.ports:
                if port_name == name and port_protocol == protocol:
                    found.append((each, number))
    if len(found) == 1 and found[0][0].plain:
        only, port = found[0]
        packed = only.addresses
        keys = sorted([packed[start : start + 16] + port for start in range(0, len(packed), 16)])
        return Selection(keys, b"".join(keys), only.conditions, range(len(keys)), ())
    return _choose(_joined(found), node, zone)


def _joined(found: list[tuple[CompactSlice, bytes]]) -> dict[bytes, tuple[int, Hint]]:
    """Every endpoint once. One that is listed twice is moving between slices: what says it lives is the newer."""
    joined: dict[bytes, tuple[int, Hint]] = {}
    for each, port in found:
        for place, bits in enumerate(each.conditions):
            key = each.addresses[place * 16 : place * 16 + 16] + port
            hint = each.hints[place] if each.hints else NO_HINT
            before = joined.get(key)
            if before is None:
                joined[key] = bits, hint
            else:
                local = (bits | before[0]) & LOCAL
                best_bits, best_hint = max(before, (bits, hint), key=lambda listing: _liveliness(listing[0]))
                joined[key] = best_bits | local, best_hint
    return joined


def _liveliness(bits: int) -> tuple[bool, bool, bool]:
    return not bits & TERMINATING, bool(bits & READY), bool(bits & SERVING)


def _choose(joined: dict[bytes, tuple[int, Hint]], node: str, zone: str | None) -> Selection:
    keys = sorted(joined)
    conditions = bytes(joined[key][0] for key in keys)
    ready = [place for place, bits in enumerate(conditions) if bits & READY]
    # Serving while terminating: they answer only where nobody ready is left, so that a roll-out loses nothing.
    draining = [place for place, bits in enumerate(conditions) if bits & SERVING and bits & TERMINATING]
    cluster = _near([(place, joined[keys[place]][1]) for place in ready], node, zone) or draining
    local = [place for place in ready if conditions[place] & LOCAL]
    local = local or [place for place in draining if conditions[place] & LOCAL]
    return Selection(keys, b"".join(keys), conditions, cluster, local)


def _near(ready: list[tuple[int, Hint]], node: str, zone: str | None) -> list[int]:
    """Those of the ready endpoints that hints keep for this node, or for its zone.

    All or nothing: a kind of hint counts only if every ready endpoint has one and at least one names us.
    """
    for kind, here in ((0, node), (1, zone)):
        if here and all(hint[kind] for _, hint in ready):
            meant = [place for place, hint in ready if here in hint[kind]]
            if meant:
                return meant
    return [place for place, _ in ready]


def ready_here(slices: Iterable[CompactSlice], family: int) -> int:
    """How many distinct addresses of ready endpoints are on this node, over all ports: health checks say it."""
    here = READY | LOCAL
    return len(
        {
            each.addresses[place * 16 : place * 16 + 16]
            for each in slices
            if each.family == family
            for place, bits in enumerate(each.conditions)
            if bits & here == here
        }
    )


__all__ = ["KEY", "USUAL", "Selection", "ready_here", "select"]
