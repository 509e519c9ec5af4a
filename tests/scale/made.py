# SPDX-License-Identifier: Apache-2.0
"""Runs of scale that nobody measured: their shapes are those of the field, their noise is drawn from a seed."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from plugins.scale.cells import Better, Cell, Scale, Unit

SERVICES = (1, 1_000, 5_000, 10_000)
REPEATS = 5
DIRECT = "direct veth"
# Seconds that a connection takes to the last Service, and to any, beside 15 µs directly: (at none, for each Service).
LAST = {"iptables": (33e-6, 6e-9), "nftables": (34e-6, 0.0), "ebpf": (28e-6, 0.0), "ipvs": (36e-6, 0.0)}


@dataclass(slots=True)
class Maker:
    """Makes cells with noise of a given relative size around what is asked for."""

    random: random.Random
    noise: float
    repeats: int = REPEATS

    def values(self, around: float) -> tuple[float, ...]:
        return tuple(around * math.exp(self.random.gauss(0, self.noise)) for _ in range(self.repeats))

    def cell(
        self,
        chart: str,
        series: str,
        services: int,
        around: float,
        *,
        unit: Unit = "s",
        better: Better = "less",
        limit: float | None = None,
        limited_by: str = "",
        percentiles: bool = False,
    ) -> Cell:
        limited = () if limit is None else self.values(limit)
        tail = {"p01": 0.8, "p50": 1.0, "p90": 1.3, "p99": 1.8, "worst": 9.0} if percentiles else {}
        return Cell(
            chart=chart,
            series=series,
            services=services,
            endpoints=2,
            unit=unit,
            better=better,
            values=self.values(around),
            limits=limited,
            limited_by=limited_by if limited else "",
            percentiles={name: around * factor for name, factor in tail.items()},
        )


def scale(
    mode: str = "iptables",
    *,
    services: Sequence[int] = SERVICES,
    seed: int = 0,
    noise: float = 0.01,
    repeats: int = REPEATS,
    slower: float = 1.0,
    hermetic: bool = False,
) -> Scale:
    """A whole run. `slower`: a factor on everything that takes time, but not on its limits."""
    maker = Maker(random.Random(f"{mode} {seed}"), noise, repeats)
    cells = [cell for n in services for cell in _cells(maker, mode, n, slower)]
    names = {"ebpf": "plumbline's reference datapath 0.1.0"}
    return Scale(
        system=f"{names.get(mode, 'kube-proxy 1.37.1')}, mode {mode}",
        mode=mode,
        kernel="User-Mode Linux 6.1.0" if hermetic else "6.12.1",
        hermetic=hermetic,
        cpus=1 if hermetic else 2,
        cpu="AMD EPYC",
        date="2026-11-22T05:00:00Z",
        seed=seed,
        duration=1.0,
        harness={"clock (s)": 4e-8, "share of a direct connect": 0.004, "share of a direct rate": 0.03},
        cells=tuple(cells),
    )


def _cells(maker: Maker, mode: str, n: int, slower: float) -> Iterator[Cell]:
    base, each = LAST.get(mode, LAST["nftables"])
    last, any_ = (base + each * n) * slower, (base + each * n / 2) * slower
    for series, around in (("last Service", last), ("uniform", any_), ("first Service", base * slower)):
        yield maker.cell("first-packet", series, n, around, limit=15e-6, limited_by=DIRECT, percentiles=True)
    for series, around in (("last Service", last), ("uniform", any_)):
        rate = 1 / (around + 35e-6)
        yield maker.cell("rate", series, n, rate, unit="1/s", better="more", limit=20e3, limited_by=DIRECT)
    kinds = {"one connection": (20e-6, 18e-6), "100 requests each": (20.5e-6, 18.2e-6)}
    for series, (around, limit) in {**kinds, "new connections": (last + 35e-6, 47e-6)}.items():
        yield maker.cell("keepalive", series, n, around * slower, limit=limit, limited_by=DIRECT)
    for series in ("iperf3, first Service", "iperf3, last Service"):
        yield maker.cell("throughput", series, n, 17e9, unit="bit/s", better="more", limit=18.5e9, limited_by=DIRECT)
    grows = {"iptables": 30e-6, "nftables": 9e-6, "ipvs": 2e-6}.get(mode, 0.0)
    for series, extra in (("added", 0.002), ("modified", 0.001), ("removed", 0.003)):
        around = (0.004 + extra + grows * n) * slower
        yield maker.cell("update", series, n, around, limit=0.0006, limited_by="the write's own event")
    for series in ("from nothing", "with rules in place"):
        yield maker.cell("cold", series, n, (0.3 + 4 * grows * n) * slower)
    yield maker.cell("memory", "proxy (RSS)", n, 45e6 + 20e3 * n, unit="B")
    yield maker.cell("memory", "BPF maps", n, 1e5 + 500.0 * n, unit="B")
    yield maker.cell("cpu", "1,000 connections/s, uniform", n, 0.02 + each * n * 1000, unit="cores")
    if n == SERVICES[0]:
        for series, around in (("same node", 17e9), ("routed, other node", 14e9)):
            yield maker.cell("hop", series, n, around, unit="bit/s", better="more", limit=18e9, limited_by=DIRECT)


def only(run: Scale, *charts: str) -> Scale:
    """The run with the cells of these charts alone."""
    return replace(run, cells=tuple(cell for cell in run.cells if cell.chart in charts))


def without(run: Scale, chart: str, services: int, *, outcome: str = "unfit", series: str | None = None) -> Scale:
    """The run with cells that were not measured."""

    def changed(cell: Cell) -> Cell:
        if cell.chart != chart or cell.services != services or series not in (None, cell.series):
            return cell
        return replace(
            cell,
            values=(),
            limits=(),
            percentiles={},
            outcome=outcome,  # type: ignore[arg-type]
            reason="the limit itself moved by more than 5%"
            if outcome == "unfit"
            else "--budget=1m has no time for it",
        )

    return replace(run, cells=tuple(changed(cell) for cell in run.cells))
