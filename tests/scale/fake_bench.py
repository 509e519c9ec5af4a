# SPDX-License-Identifier: Apache-2.0
"""As much of a bench as is needed to keep cells."""

from typing import Any

from clusters.measure.services import Shape
from plugins.options import Settings
from plugins.record import Record
from plugins.scale.bench import Bench
from plugins.scale.cells import Cell


def fake_bench(services: int = 1_000) -> tuple[Bench, list[Cell]]:
    """A bench without a lab, and the cells that it has kept."""
    kept: list[Cell] = []
    nothing: Any = None
    bench = Bench(
        settings=Settings(proxy="none", mode="none"),
        run=nothing,
        stage=nothing,
        api=nothing,
        shape=Shape([f"10.128.0.{number}" for number in range(1, 9)], 2),
        duration=1.0,
        keep=kept.append,
        grow=lambda *_: None,
        configure=lambda *_: None,
        services=services,
        record=Record("", "", "", "", {}),
    )
    return bench, kept
