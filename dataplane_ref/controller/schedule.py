# SPDX-License-Identifier: Apache-2.0
"""How the members of a set are laid out for each scheduler: `enum scheduler` in dataplane_ref/bpf/types.h."""

from collections.abc import Sequence
from math import gcd

from dataplane_ref.controller.maglev import lookup_table, table_size

# What people write → the name in types.h.
SCHEDULERS = {
    "random": "RANDOM",
    "rr": "ROUND_ROBIN",
    "wrr": "WEIGHTED_ROUND_ROBIN",
    "lc": "LEAST_CONNECTIONS",
    "sh": "SOURCE_HASH",
    "dh": "DESTINATION_HASH",
    "sed": "SHORTEST_EXPECTED_DELAY",
    "nq": "NEVER_QUEUE",
    "maglev": "MAGLEV",
}
UNITS = 1024
"""Most entries of a weighted round."""
HEAVIEST = 65535
"""The greatest weight, as in IPVS."""


def layout(
    scheduler: str, places: Sequence[int], keys: Sequence[bytes], weights: Sequence[int], room: int
) -> list[int]:
    """The members of a set, as places of endpoints, in the order in which the datapath wants them.

    `places` are those of the set, `keys` and `weights` those of all endpoints, `room` the entries that a lookup table
    may have.
    """
    if not places:
        return []
    if scheduler == "wrr":
        return [places[turn] for turn in interleaved([weights[place] for place in places])]
    if scheduler == "maglev":
        own = [keys[place] for place in places]
        slots = lookup_table(own, [weights[place] for place in places], table_size(len(places), room))
        return [places[slot] for slot in slots]
    return list(places)


def interleaved(weights: Sequence[int]) -> list[int]:
    """One round in which each place stands as often as its weight says, spread evenly (smooth weighted round robin).

    A round longer than 1,024 entries is shortened in proportion, everyone keeping at least one.
    """
    divisor = gcd(*weights)
    shares = [weight // divisor for weight in weights]
    total = sum(shares)
    if total > UNITS and len(shares) < UNITS:
        spare = UNITS - len(shares)
        shares = [1 + (share - 1) * spare // (total - len(shares)) for share in shares]
        total = sum(shares)
    elif total > UNITS:
        return list(range(len(shares)))
    if total == len(shares):
        return list(range(len(shares)))
    current = [0] * len(shares)
    order = []
    for _ in range(total):
        best = 0
        for place, share in enumerate(shares):
            current[place] += share
            if current[place] > current[best]:
                best = place
        current[best] -= total
        order.append(best)
    return order


def parse_weights(text: str) -> dict[str, int]:
    """`10.0.0.1=3,fd00::1=2` as address → weight. Raises ValueError, the end of a sentence."""
    weights = {}
    for entry in text.split(","):
        address, _, weight = entry.strip().partition("=")
        if not (weight.isascii() and weight.isdigit() and 1 <= int(weight) <= HEAVIEST):
            raise ValueError(
                f"has {entry.strip()!r}, which must look like 10.0.0.1=3 with a weight of 1 to {HEAVIEST}"
            )
        weights[address] = int(weight)
    return weights
