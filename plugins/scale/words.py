# SPDX-License-Identifier: Apache-2.0
"""Cells in words, with units that people read."""

from plugins.scale.cells import Cell, Unit

# From the largest on: what a value must reach for it, and what it is divided by.
SCALES: dict[Unit, tuple[tuple[float, str], ...]] = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")),
    "1/s": ((1.0, "/s"),),
    "bit/s": ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1.0, "bit/s")),
    "B": ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")),
    "cores": ((1.0, "cores"),),
    "ratio": ((1.0, ""),),
    "count": ((1.0, ""),),
}


def value_in_words(value: float, unit: Unit) -> str:
    """Three digits and a unit: 0.0000941 s is "94.1 µs"."""
    scales = SCALES[unit]
    size, name = next(((size, name) for size, name in scales if abs(value) >= size), scales[-1])
    scaled = value / size
    digits = f"{scaled:,.0f}" if abs(scaled) >= 100 else f"{scaled:.3g}"
    return f"{digits} {name}".rstrip()


def services_in_words(services: int) -> str:
    """How many, as people say it."""
    return f"{services:,} Service{'' if services == 1 else 's'}"


def in_words(cell: Cell) -> str:
    """What came of it, in a phrase."""
    name = f"{cell.chart}{f', {cell.series}' if cell.series else ''}, {services_in_words(cell.services)}"
    if not cell.is_measured:
        return f"{name}: {cell.outcome}: {cell.reason}"
    said = [value_in_words(cell.median, cell.unit)]
    if cell.ratio is not None:
        said.append(f"{cell.ratio:.2f} × {cell.limited_by}")
    if len(cell.values) > 1:
        said.append(f"spread {cell.spread:.0%} of {len(cell.values)}")
    for number, what in ((cell.failures, "failed"), (cell.censored, "never came")):
        if number:
            said.append(f"{number:,} {what}")
    return f"{name}: {', '.join(said)}"
