# SPDX-License-Identifier: Apache-2.0
"""How many connections move when one endpoint goes: with Maglev hashing those that it had, and next to none besides.

Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016. The limit is a simulation of
its tables of the same size; hashing by a remainder, computed over the same connections, stands beside it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import md5

from clusters.measure.whom import dial
from dataplane_ref.controller.maglev import SIZES, table_size
from plugins.scale.bench import Bench
from plugins.scale.more import added, endpoints, point
from plugins.world import UnfitError

FEATURE = "scheduler-maglev"
ANNOTATIONS = {"plumbline.dev/scheduler": "maglev"}
CONNECTIONS = 10_000
FIRST_PORT = 20_000
# Of endpoints: with the reference they make tables of 16,381 slots, and the last one of 65,537.
ENDPOINTS = (10, 100, 200)
# IPVS: CONFIG_IP_VS_MH_TAB_INDEX is 12 unless a kernel was built otherwise.
IPVS_SLOTS = 4093
# Of a table of so many slots at most this part of the connections of other endpoints may move: about twice what
# simulations of up to a hundred endpoints give.
MOST_MOVED: Mapping[int, float] = {65_537: 0.01, 16_381: 0.02, 1_021: 0.06}
SIMULATED = "Maglev, simulated"


@dataclass(frozen=True, slots=True)
class Disruption:
    """Who answered each connection, by its source port, before one endpoint went and after it."""

    before: Mapping[int, str]
    after: Mapping[int, str]
    gone: str

    @property
    def collateral(self) -> float:
        """The part of the connections whose endpoint is still there that another one answers now."""
        stay = [port for port, endpoint in self.before.items() if endpoint != self.gone]
        if not stay:
            raise ValueError("no connection had another endpoint than the one that went")
        return sum(self.before[port] != self.after[port] for port in stay) / len(stay)

    @property
    def largest_share(self) -> float:
        """Before, beside an equal one."""
        counts = Counter(self.before.values())
        return max(counts.values()) * len(counts) / len(self.before)


def disrupt(bench: Bench, count: int) -> Disruption:
    """A Service of so many endpoints, of which one in the middle goes. Raises UnfitError, PlumblineError."""
    addresses = endpoints(bench, 0, count)
    gone = addresses[count // 2]
    annotations = ANNOTATIONS if bench.run.proxy.mode == "ebpf" else None
    with added(bench, [addresses], annotations) as numbers:
        (number,) = numbers
        before = _who_answers(bench, number)
        point(bench, {number: [one for one in addresses if one != gone]})
        bench.settle()
        after = _who_answers(bench, number)
    if gone in after.values():
        raise UnfitError("the endpoint that went still answers")
    return Disruption(before, after, gone)


def _who_answers(bench: Bench, number: int) -> Mapping[int, str]:
    """The same connections each time: by their source ports."""
    bench.serve("tell")
    bench.lab.forget_flows()
    ports = range(FIRST_PORT, FIRST_PORT + CONNECTIONS)
    answers = dial(bench.stage.traffic, bench.client, [(bench.service(number), port) for port in ports])
    if failed := answers.count(None):
        raise UnfitError(f"{failed} of {len(answers)} connections failed")
    return {port: one for port, one in zip(ports, answers, strict=True) if one is not None}


def slots(mode: str, count: int) -> int:
    """How large the table of a Service with so many endpoints is."""
    return table_size(count, SIZES[-1]) if mode == "ebpf" else IPVS_SLOTS


def most_moved(size: int) -> float:
    """What may move: as with the largest table that is not larger. Raises ValueError for one that is too small."""
    known = [least for least in MOST_MOVED if least <= size]
    if not known:
        raise ValueError(f"nobody has said what may move with a table of {size} slots")
    return MOST_MOVED[max(known)]


def simulated(count: int, size: int) -> Disruption:
    """Every slot of a table is a connection: of so many endpoints the same one goes."""
    names = [str(number) for number in range(count)]
    gone = names[count // 2]
    before, after = table(names, size), table([one for one in names if one != gone], size)
    return Disruption(dict(enumerate(before)), dict(enumerate(after)), gone)


def dialled(found: Disruption) -> Disruption:
    """The same table asked by as many connections as are dialled, each at the slot of its hash."""
    size = len(found.before)
    slot = {port: _number(f"flow {port}") % size for port in range(FIRST_PORT, FIRST_PORT + CONNECTIONS)}
    before, after = ({port: all_[at] for port, at in slot.items()} for all_ in (found.before, found.after))
    return Disruption(before, after, found.gone)


def by_remainder(count: int) -> Disruption:
    """The same connections where a hash of each, by its remainder, chooses the endpoint."""
    names = [str(number) for number in range(count)]
    gone = names[count // 2]
    rest = [one for one in names if one != gone]
    hashes = {port: _number(f"flow {port}") for port in range(FIRST_PORT, FIRST_PORT + CONNECTIONS)}
    before = {port: names[number % len(names)] for port, number in hashes.items()}
    return Disruption(before, {port: rest[number % len(rest)] for port, number in hashes.items()}, gone)


def table(names: Sequence[str], size: int) -> list[str]:
    """The paper's: endpoints take turns, each the next slot of its own permutation that is free (3.4)."""
    owners: list[str] = [""] * size
    at = {name: _number(f"offset {name}") % size for name in names}
    skip = {name: _number(f"skip {name}") % (size - 1) + 1 for name in names}
    left = size
    while left:
        for name in names[:left]:
            slot = at[name]
            while owners[slot]:
                slot = (slot + skip[name]) % size
            owners[slot] = name
            at[name] = (slot + skip[name]) % size
            left -= 1
    return owners


def _number(text: str) -> int:
    return int.from_bytes(md5(text.encode(), usedforsecurity=False).digest()[:8], "big")


def keep(bench: Bench, found: Mapping[int, Disruption]) -> None:
    """Cells of what moved and of shares, beside simulations, and of what a remainder would have moved."""
    for count, one in found.items():
        size = slots(bench.run.proxy.mode, count)
        ideal = simulated(count, size)
        moved = f"{count} endpoints, table of {size:,} slots"
        for series, value, limit in (
            (f"moved, {moved}", one.collateral, ideal.collateral),
            (f"largest share, {moved}", one.largest_share, dialled(ideal).largest_share),
        ):
            bench.cell_of(
                "maglev",
                series=series,
                unit="ratio",
                better="less",
                values=[value],
                limits=[limit] if limit > 0 else [],
                limited_by=SIMULATED if limit > 0 else "",
                note=f"{CONNECTIONS:,} connections",
            )
        bench.cell_of(
            "maglev",
            series=f"moved, {count} endpoints, by remainder (computed)",
            unit="ratio",
            better="none",
            values=[by_remainder(count).collateral],
        )
