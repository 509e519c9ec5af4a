# SPDX-License-Identifier: Apache-2.0
"""Lookup tables in which few slots change their owner when an endpoint comes or goes.

Maglev: Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, 3.4: every endpoint
has a permutation of the slots, and the endpoints take turns, each taking its next slot that is still free. With M
slots and N endpoints shares differ by at most N/M, hence the rule M >= 100 N.

A table of another size is another table: where the number of endpoints crosses what a size is for, nearly every slot
changes its owner. So a size is for many numbers, and small tables are for nodes that have no room for more.
"""

from collections.abc import Sequence

SIZES = (251, 1021, 4093, 16381, 65537)
USUAL = 16381


def table_size(endpoints: int, room: int) -> int:
    """`USUAL` while that is 100 slots for each endpoint, else the largest; within `room` entries, where one is."""
    wanted = USUAL if 100 * endpoints <= USUAL else SIZES[-1]
    affordable = [size for size in SIZES if size <= wanted and size <= room and size >= endpoints]
    return affordable[-1] if affordable else next((size for size in SIZES if size >= endpoints), SIZES[-1])


def lookup_table(keys: Sequence[bytes], weights: Sequence[int], size: int) -> list[int]:
    """For each slot the place (in `keys`) of its owner; shares go by weight. `keys` must differ, and not be empty.

    It depends on keys and weights alone: every node, and every restart, builds the same table.
    """
    from hashlib import blake2b  # which reads OpenSSL: not for every start

    offsets, skips = [], []
    for key in keys:
        digest = blake2b(key, digest_size=16).digest()
        offsets.append(int.from_bytes(digest[:8], "big") % size)
        skips.append(int.from_bytes(digest[8:], "big") % (size - 1) + 1)
    heaviest = max(weights)
    earned = [0] * len(keys)
    slots = [-1] * size
    left = size
    everyone = range(len(keys))
    while left:
        for place in everyone:
            # The heaviest takes a slot each turn, the others in proportion.
            earned[place] += weights[place]
            if earned[place] < heaviest:
                continue
            earned[place] -= heaviest
            slot, skip = offsets[place], skips[place]
            while slots[slot] >= 0:
                slot = (slot + skip) % size
            slots[slot] = place
            offsets[place] = (slot + skip) % size
            left -= 1
            if not left:
                break
    return slots
