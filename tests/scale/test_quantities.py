# SPDX-License-Identifier: Apache-2.0
"""Numbers as people read them."""

import math

import pytest

from plugins.scale import quantities as say
from plugins.scale.cells import Unit


@pytest.mark.parametrize(
    ("value", "unit", "told"),
    [
        (28.4e-6, "s", "28.4 µs"),
        (4.2e-8, "s", "42.0 ns"),
        (0.9996, "s", "1,000 ms"),
        (1.0, "s", "1.00 s"),
        (119.9, "s", "120 s"),
        (161.0, "s", "2 min 41 s"),
        (18_000.0, "s", "300 min"),
        (0.0, "s", "0 s"),
        (15_500.0, "1/s", "15.5 k/s"),
        (7.1e6, "1/s", "7.10 M/s"),
        (12.0, "1/s", "12.0/s"),
        (18.04e9, "bit/s", "18.0 Gbit/s"),
        (290e6, "B", "290 MB"),
        (0.0, "B", "0 B"),
        (0.35, "cores", "0.350 cores"),
        (-0.0012, "cores", "-0.00120 cores"),
        (7.7, "ratio", "7.70"),
        (12.0, "count", "12"),
        (1_234_567.0, "count", "1,234,567"),
        (math.nan, "s", "–"),
    ],
)
def test_a_quantity_has_three_digits_and_a_unit(value: float, unit: Unit, told: str) -> None:
    assert say.quantity(value, unit) == told


def test_rounding_does_not_add_a_digit() -> None:
    assert say.number(9.996) == "10.0"
    assert say.number(0.09996) == "0.100"


def test_shares_and_lists() -> None:
    assert (say.percent(0.04), say.percent(0.003), say.percent(1.2), say.percent(0)) == (
        "4 %",
        "0.3 %",
        "120 %",
        "0 %",
    )
    assert say.percent(math.inf) == "–"
    assert (say.listed(["a"]), say.listed(["a", "b"]), say.listed(["a", "b", "c"])) == ("a", "a and b", "a, b and c")
    assert (say.services(1), say.services(10_000)) == ("1 Service", "10,000 Services")
    assert (say.short(1), say.short(2_500), say.short(100_000)) == ("1", "2.5k", "100k")
