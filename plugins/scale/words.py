# SPDX-License-Identifier: Apache-2.0
"""Cells in words, with units that people read."""

from plugins.scale import quantities as say
from plugins.scale.cells import Cell


def in_words(cell: Cell) -> str:
    """What came of it, in a phrase."""
    name = f"{cell.chart}{f', {cell.series}' if cell.series else ''}, {say.services(cell.services)}"
    if not cell.is_measured:
        return f"{name}: {cell.outcome}: {cell.reason}"
    said = [say.quantity(cell.median, cell.unit)]
    if cell.ratio is not None:
        said.append(f"{cell.ratio:.2f} × {cell.limited_by}")
    if len(cell.values) > 1:
        said.append(f"spread {cell.spread:.0%} of {len(cell.values)}")
    for number, what in ((cell.failures, "failed"), (cell.censored, "never came")):
        if number:
            said.append(f"{number:,} {what}")
    return f"{name}: {', '.join(said)}"
