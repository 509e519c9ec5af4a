# SPDX-License-Identifier: Apache-2.0
"""Numbers as people read them: three digits, a unit of fitting size, and how one compares with another."""

import math
from collections.abc import Sequence

from plugins.scale.cells import Unit

DIGITS = 3
# Unit → the sizes it is told in, biggest first: (how much of the SI unit one of it is, what it is called).
SIZES: dict[Unit, tuple[tuple[float, str], ...]] = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")),
    "1/s": ((1e6, "M/s"), (1e3, "k/s"), (1.0, "/s")),
    "bit/s": ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s"), (1.0, "bit/s")),
    "B": ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")),
    "cores": ((1.0, "cores"),),
    "ratio": ((1.0, ""),),
    "count": ((1.0, ""),),
}
# Unit → how a value of it is compared with another, with the factor in the middle.
COMPARED: dict[Unit, tuple[str, str]] = {
    "s": ("takes", "as long"),
    "1/s": ("runs at", "the rate"),
    "bit/s": ("runs at", "the throughput"),
    "B": ("takes", "the memory"),
    "cores": ("takes", "the CPU time"),
    "ratio": ("is", "as much"),
    "count": ("is", "as many"),
}
MINUTE = 60.0


def size(value: float, unit: Unit) -> tuple[float, str]:
    """The size in which a value of a unit is told: how much it is, and its name."""
    sizes = SIZES[unit]
    if not value:
        return next(one for one in sizes if one[0] == 1.0)
    return next((one for one in sizes if abs(value) >= one[0]), sizes[-1])


def number(value: float) -> str:
    """Three digits, and thousands with a comma: 0.0123, 1.20, 45.6, 12,300."""
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    # What rounding makes of it decides how many decimals are left: 9.996 is 10.0.
    rounded = float(f"{value:.{DIGITS - 1}e}")
    decimals = DIGITS - 1 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:,.{max(decimals, 0)}f}"


def quantity(value: float, unit: Unit) -> str:
    """A value with its unit: 28.4 µs, 12.0 k/s, 2 min 41 s."""
    if not math.isfinite(value):
        return "–"
    if unit == "count":
        return f"{value:,.0f}" if value == round(value) else number(value)
    if unit == "s" and abs(value) >= 2 * MINUTE:
        minutes, seconds = divmod(round(value), int(MINUTE))
        return f"{minutes:,} min {seconds} s" if seconds else f"{minutes:,} min"
    per, name = size(value, unit)
    told = number(value / per)
    return f"{told}{name}" if name.startswith("/") else f"{told} {name}".rstrip()


def rough(value: float, unit: Unit) -> str:
    """A value with its unit and no more digits than it needs, for axes: 10 ms."""
    per, name = size(value, unit)
    return f"{round(value / per, 9):,.6g}{'' if name.startswith('/') else ' '}{name}".rstrip()


def times(factor: float) -> str:
    """A factor, with the sign for it."""
    return f"{number(factor)} ×"


def percent(share: float) -> str:
    """A share: 4 %, 0.3 %, 120 %."""
    if not math.isfinite(share):
        return "–"
    told = share * 100
    return f"{told:.0f} %" if abs(told) >= 1 or told == 0 else f"{told:.1g} %"


def compared(factor: float, unit: Unit) -> str:
    """How a value compares with another: it takes so many times as long."""
    verb, as_much = COMPARED[unit]
    return f"{verb} {times(factor)} {as_much}"


def services(count: int) -> str:
    return "1 Service" if count == 1 else f"{count:,} Services"


def short(count: int) -> str:
    """A number of Services for an axis: 1, 100, 1k, 2.5k, 100k."""
    if count < 1000:
        return str(count)
    return f"{count / 1000:g}k"


def listed(parts: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
